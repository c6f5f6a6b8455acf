"""Kills of the whole process group, at every publishing step and at random ones, with readers."""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

from tests.crash.disk import PUBLISHING, Disk
from tests.crash.world import STORED, Run, World, in_process, reader

_STORIES = (
    "build", "build", "two jobs", "two builds", "two parts", "overwrite", "overwrite", "repair",
)  # fmt: skip


def steps(world: World) -> list[tuple[str, int]]:
    """(kind, number) of every call of a build of one process that publishes something."""
    cache = world.fresh()
    disk = Disk(cache.parent, world.folder / "counters")
    assert world.do(*world.build(cache), disk=disk) == STORED
    counts = disk.counts()
    world.drop(cache)
    return [(kind, n) for kind in PUBLISHING for n in range(1, counts[kind] + 1)]


def kills(world: World, count: int, seed: int) -> Iterator[str]:
    """Kill `count` runs, each followed by the same command; what was wrong, "" where nothing was.

    The first ones die before each publishing step of a build, or at random ones of these if there
    are more; three in eight at any call of several processes.
    """
    rng = random.Random(seed)
    every = steps(world)
    first = every if len(every) <= count * 5 // 8 else rng.sample(every, count * 5 // 8)
    for kind, n in first:
        said = _one(world, "build", kind, n)
        yield f"killed before {kind} {n}: {said}" if said else ""
    for _ in range(count - len(first)):
        story = rng.choice(_STORIES)
        n = rng.randrange(1, 700)
        said = _one(world, story, "any", n)
        yield f"{story}, killed before call {n}: {said}" if said else ""


def _one(world: World, story: str, kind: str, n: int) -> str:
    cache = world.fresh()
    disk = Disk(cache.parent, world.folder / "counters", "kill", kind, n)
    whole = {world.digests["new"]}
    runs: list[tuple[object, ...]] = [world.build(cache, jobs=2 if story == "two jobs" else 1)]
    if story == "overwrite":
        shutil.copytree(world.folder / "old", cache)
        whole.add(world.digests["old"])
        runs = [(*world.build(cache), "--overwrite")]
    elif story == "repair":
        shutil.copytree(world.folder / "new", cache)
        damage(cache)
        runs = [("repair", cache, *in_process(1))]
    elif story == "two builds":
        runs *= 2
    elif story == "two parts":
        assert world.do("plan", *world.build(cache)[1:]) in (0, STORED)
        runs = [("convert", cache, "--part", f"{k}/2", *in_process(1)) for k in (0, 1)]
    with reader(world, cache, whole, moving=story in ("overwrite", "repair")) as wrong:
        begun = [world.start(*runs[0], disk=disk), *(world.start(*run) for run in runs[1:])]
        killed = begun[0].wait()
        others = [run.wait() for run in begun[1:]]
        if killed not in (-signal.SIGKILL, 0, STORED):
            wrong.append(f"exit status {killed}: {begun[0].output()[-300:]}")
        wrong += [f"the other one: {s}" for s in others if s not in (0, STORED)]
        wrong += _half(world, cache, story)
        again = runs if story == "two parts" else runs[:1]
        if story == "overwrite" and (cache / "zarr.json").exists() and not world.wrong(cache):
            again = []  # it was through
        for run in again:
            wrong += _again(world.start(*run))
        if story == "two parts":
            wrong += _again(world.start("commit", cache))
    found = world.wrong(cache)
    world.drop(cache)
    return "; ".join([*wrong, *([found] if found else [])])


def _half(world: World, cache: Path, story: str) -> list[str]:
    """What is wrong if there is a root: then all must be there, but for build/."""
    if story == "repair" or not (cache / "zarr.json").exists():
        return []
    found = [world.wrong(cache, recipe, build=False) for recipe in world.expected]
    return [] if "" in found[: 2 if story == "overwrite" else 1] else [f"half a cache: {found[0]}"]


def damage(cache: Path) -> None:
    """A shard lost, one cut short, a bit in a third, and a table."""
    shards = cache / "int16_512x512"
    (shards / "c.0.0.0").unlink()
    with (shards / "c.1.0.0").open("r+b") as file:
        file.truncate(1000)
    for path in (shards / "c.2.0.0", cache / "frames" / "0.parquet"):
        data = bytearray(path.read_bytes())
        data[len(data) // 3] ^= 4
        path.write_bytes(data)


def _again(run: Run) -> list[str]:
    status = run.wait()
    return [] if status in (0, STORED) else [f"run again: {status}: {run.output()[-300:]}"]
