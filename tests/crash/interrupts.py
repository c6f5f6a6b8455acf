"""Ctrl-C and SIGTERM to a run and its workers at random moments, imports included."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.crash.world import STORED, World
from tests.support.caches import command
from tests.support.processes import session

_SAID = "interrupted; run the same command again to go on"
_PROGRESS = ("listing: ", "reading headers: ", "converting: ")
_IMPORTED = 0.15  # seconds before which Python itself may not be up, and is ended without a word


def interrupts(world: World, count: int, seed: int) -> Iterator[str]:
    """Interrupt `count` builds; what was wrong, "" where nothing was."""
    rng = random.Random(seed)
    takes = {}
    for jobs in (1, 2):
        cache, start = world.fresh(), time.monotonic()
        assert _started(world, cache, jobs).wait() == STORED
        takes[jobs] = time.monotonic() - start
        world.drop(cache)
    for k in range(count):
        jobs, number = 1 + k % 2, (signal.SIGINT, signal.SIGTERM)[k // 2 % 2]
        after = rng.uniform(_IMPORTED, 0.95 * takes[jobs])
        cache = world.fresh()
        wrong = _one(world, cache, jobs, number, after, again=k % 4 == 3)
        world.drop(cache)
        what = f"{number.name} to {jobs} jobs after {after:.2f} s"
        yield f"{what}: {'; '.join(wrong)}" if wrong else ""


def _started(world: World, cache: Path, jobs: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("build", world.source, cache, "--jobs", jobs, *world.recipes["new"]),
        start_new_session=True, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def _one(
    world: World, cache: Path, jobs: int, number: signal.Signals, after: float, again: bool
) -> list[str]:
    before = set(os.listdir("/dev/shm"))  # of a process that had the same number, and was killed
    run = _started(world, cache, jobs)
    time.sleep(after)
    known = session(run.pid)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(run.pid, number)
    try:
        _, said = run.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        return [f"goes on: {run.communicate()[1][-500:]}"]
    wrong = []
    lines = [line for line in said.splitlines() if line and not line.startswith(_PROGRESS)]
    right = ([_SAID],) if run.returncode == 130 else ([],)
    if run.returncode not in (0, STORED, 130) or lines not in right:
        wrong.append(f"exit status {run.returncode}: {said[-1500:]}")
    ends = time.monotonic() + 10
    while (left := session(run.pid)) and time.monotonic() < ends:
        time.sleep(0.05)
    if left:
        wrong.append(f"processes are left: {left}")
        os.killpg(run.pid, signal.SIGKILL)
    pids = {run.pid, *known}
    while (files := _shared(pids) - before) and time.monotonic() < ends:
        time.sleep(0.05)
    wrong += [f"left in /dev/shm: {sorted(files)}"] if files else []
    if again:
        status = world.do(*world.build(cache))
        found = world.wrong(cache)
        wrong += [f"run again: {status} {found}"] if status != STORED or found else []
    return wrong


def _shared(pids: set[int]) -> set[str]:
    """What joblib left in shared memory: its names have the process in them."""
    names = os.listdir("/dev/shm")
    parts = [f"{mark}{pid}{mark}" for pid in pids for mark in "-_"]
    return {name for name in names if any(part in name for part in parts)}
