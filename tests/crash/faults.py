"""Disks that fail: the Nth call of a kind on the cache's paths fails, once or from then on."""

from __future__ import annotations

import errno
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.crash.disk import KINDS, Disk
from tests.crash.kills import damage
from tests.crash.world import STORED, World, in_process

NUMBERS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
REMEDIES = ("run the same command again", "give another path", "--overwrite", "`dicom2cache ")
_COMMANDS = ("plan", "convert", "commit", "build", "overwrite", "repair")


class Commands:
    """The commands of a cache, each with what is there before it."""

    def __init__(self, world: World) -> None:
        self.world = world
        planned, converted = (world.folder / name for name in ("planned", "converted"))
        assert world.do("plan", *world.build(planned)[1:]) in (0, STORED)
        shutil.copytree(planned, converted)
        assert world.do("convert", converted, *in_process(1)) in (0, STORED)
        damaged = shutil.copytree(world.folder / "new", world.folder / "damaged")
        damage(damaged)
        self.before = {
            "repair": damaged, "convert": planned, "commit": converted,
            "overwrite": world.folder / "old",
        }  # fmt: skip
        self._counts: dict[tuple[str, int], dict[str, int]] = {}

    def arguments(self, command: str, cache: Path, jobs: int) -> tuple[object, ...]:
        """The command line."""
        build = self.world.build(cache, jobs=jobs)
        return {
            "plan": ("plan", *build[1:]), "build": build, "overwrite": (*build, "--overwrite"),
            "convert": ("convert", cache, *in_process(jobs)), "commit": ("commit", cache),
            "repair": ("repair", cache, *in_process(jobs)),
        }[command]  # fmt: skip

    def place(self, command: str) -> Path:
        """A path for a cache, with what the command needs."""
        cache = self.world.fresh()
        if command in self.before:
            shutil.copytree(self.before[command], cache)
        return cache

    def counts(self, command: str, jobs: int) -> dict[str, int]:
        """How often an undisturbed one makes each kind of call."""
        if (command, jobs) not in self._counts:
            cache = self.place(command)
            disk = Disk(cache, self.world.folder / "counters")
            assert self.world.do(*self.arguments(command, cache, jobs), disk=disk) in (0, STORED)
            self._counts[command, jobs] = disk.counts()
            self.world.drop(cache)
        return self._counts[command, jobs]


def faults(world: World, count: int, seed: int) -> Iterator[str]:
    """Let `count` commands meet a fault, each followed by itself without; what was wrong."""
    rng = random.Random(seed)
    commands = Commands(world)
    for _ in range(count):
        command, jobs = rng.choice(_COMMANDS), rng.choice((1, 1, 1, 2))
        kind, number = rng.choice(KINDS), rng.choice(NUMBERS)
        made = commands.counts(command, jobs)[kind]
        nth, times = rng.randint(1, max(1, made)), rng.choice((1, 10**9))
        wrong = _one(commands, command, jobs, Disk(
            world.folder, world.folder / "counters", "fail", kind, nth, times, number
        ))  # fmt: skip
        name = errno.errorcode[number]
        what = (
            f"{command}, {jobs} jobs, {kind} {nth} of {made} {name} {'once' if times == 1 else ''}"
        )
        yield f"{what}: {wrong}" if wrong else ""


def _one(commands: Commands, command: str, jobs: int, disk: Disk) -> str:
    world, wrong = commands.world, []
    cache = commands.place(command)
    before = {p.name for p in cache.parent.iterdir()}
    disk = Disk(cache, disk.counters, "fail", disk.kind, disk.nth, disk.times, disk.number)
    run = world.start(*commands.arguments(command, cache, jobs), disk=disk)
    status, said = run.wait(120), run.output()
    if status not in (0, STORED, 2):
        wrong.append(f"exit status {status}: {said[-500:]}")
    if "Traceback" in said:
        wrong.append(f"a traceback: {said[-700:]}")
    if status == 2:
        lines = [line for line in said.splitlines() if line.startswith("dicom2cache: ")]
        if not lines or str(cache) not in lines[-1]:
            wrong.append(f"no path: {said[-500:]}")
        if not lines or not any(remedy in said for remedy in REMEDIES):
            wrong.append(f"no remedy: {said[-500:]}")
    if {p.name for p in cache.parent.iterdir()} - before - {"cache"}:
        wrong.append("something beside the cache")
    if command != "repair" and (cache / "zarr.json").exists():
        found = world.wrong(cache, build=False)
        if found and command == "overwrite":
            found = world.wrong(cache, "old", build=False)
        wrong += [f"half a cache: {found}"] if found else []
    again = commands.arguments(command, cache, 1)
    for rest in (again, commands.arguments("build", cache, 1)):
        run = world.start(*rest)
        if run.wait() not in (0, STORED):
            wrong.append(f"run again: {run.output()[-500:]}")
    found = world.wrong(cache)
    wrong += [found] if found else []
    world.drop(cache)
    return "; ".join(wrong)
