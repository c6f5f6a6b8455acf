"""Power cuts: a run on a loop device is stopped at any call, and the device's image copied.

What was not written by then is lost in the copy: the system's cache lies above the device. Root.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.crash.disk import Disk
from tests.crash.world import STORED, World

_MIB = {"ext4": 64, "xfs": 320, "btrfs": 256}
_OPTIONS = {
    "ext4": ("commit=1", "commit=60", "commit=60,data=writeback", "commit=60,noauto_da_alloc"),
    "xfs": ("defaults",), "btrfs": ("commit=1", "commit=60", "commit=60,flushoncommit"),
}  # fmt: skip


def power(world: World, count: int, seed: int, file_system: str) -> Iterator[str]:
    """Cut the power `count` times; what was wrong, "" where nothing was."""
    rng = random.Random(seed)
    empty, disk = world.folder / "empty.img", world.folder / "disk"
    disk.mkdir()
    with empty.open("wb") as file:
        file.truncate(_MIB[file_system] << 20)
    subprocess.run([f"mkfs.{file_system}", "-q", empty], check=True, stdout=subprocess.DEVNULL)
    for _ in range(count):
        options, jobs = rng.choice(_OPTIONS[file_system]), rng.choice((1, 1, 2))
        n, written = rng.randrange(1, 1000), rng.random() < 0.5
        wrong = _one(world, empty, disk, options, jobs, n, rng if written else None)
        yield f"{options}, {jobs} jobs, cut before call {n}: {wrong}" if wrong else ""


def _one(
    world: World, empty: Path, disk: Path, options: str, jobs: int, n: int,
    rng: random.Random | None,
) -> str:  # fmt: skip
    before, after = world.folder / "before.img", world.folder / "after.img"
    _copy(empty, before)
    cache, wrong = disk / "cache", []
    with _mounted(before, disk, options) as device:
        fault = Disk(disk, world.folder / "counters", "stop", "any", n)
        run = world.start(*world.build(cache, jobs=jobs), disk=fault)
        ended = _stopped(run.pid)
        if rng is not None:  # the system writes when, and what, it likes
            for path in sorted(cache.rglob("*")):
                if rng.random() < 0.5:
                    with contextlib.suppress(OSError), open(path, "rb") as file:
                        os.fsync(file.fileno())
        _copy_at_rest(device, before, after)
        if not ended:
            run.kill()
            os.waitpid(run.pid, 0)
    with _mounted(after, disk, options):
        there = (cache / "zarr.json").exists()
        if ended and not there:
            wrong.append("the build had ended, and is lost")
        if there:
            found = world.wrong(cache, build=False)
            wrong += [f"half a cache: {found}"] if found else []
            run = world.start("verify", cache)
            wrong += [f"verify: {run.output()[-300:]}"] if run.wait() else []
        again = world.start(*world.build(cache))
        if again.wait() != STORED:
            wrong.append(f"run again: {again.output()[-500:]}")
        found = world.wrong(cache)
        wrong += [found] if found else []
    return "; ".join(wrong)


def _stopped(pid: int) -> bool:
    """Wait until the process is stopped; True if it ended before."""
    return not os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])


def _copy(image: Path, to: Path) -> None:
    subprocess.run(["cp", "--sparse=always", image, to], check=True)


def _copy_at_rest(device: str, image: Path, to: Path) -> None:
    """Copy the image of a device to which nothing is written meanwhile."""
    statistics = Path("/sys/block", Path(device).name, "stat")
    for _ in range(100):
        before = statistics.read_text().split()
        _copy(image, to)
        after = statistics.read_text().split()
        if before[4] == after[4] and after[8] == "0":  # writes, and what is under way
            return
    raise RuntimeError(f"{device}: never at rest")


@contextlib.contextmanager
def _mounted(image: Path, folder: Path, options: str) -> Iterator[str]:
    device = subprocess.run(
        ["losetup", "--find", "--show", image], check=True, capture_output=True, text=True
    ).stdout.strip()
    try:
        subprocess.run(["mount", "-o", options, device, folder], check=True)
        try:
            yield device
        finally:
            for _ in range(100):  # a process that was killed may hold a file a little longer
                if subprocess.run(["umount", folder], check=False).returncode == 0:
                    break
                time.sleep(0.1)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def may_mount() -> bool:
    """True if this user can mount, and has what makes file systems."""
    return os.geteuid() == 0 and shutil.which("losetup") is not None
