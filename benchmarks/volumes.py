"""Stacks and volumes: a view, a batch; the table of a million frames, and their sides.

volume() of a stack that crosses shards; gather of frames at random, both ways in which shards are
mapped, in one process and in turn, the copying alone (memcpy) beside them; stacks() and split() of
a cache that is opened for it, whose headers are made up; balancing many groups by their classes.
Run: python -m benchmarks.volumes [--quick]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.figures import arguments, least, most, plain, tell
from dicom2cache import Recipe, build
from tests.support.dicom_files import write_series
from trainer_adapter import Cache, open_cache
from trainer_adapter.reading.split import sides

BATCH = 64


def opened_apart(cache: Path) -> Cache:
    """The cache with a map of its own for each shard, all of them there."""
    with mock.patch("trainer_adapter.reading.shards.reserve", return_value=None):
        opened = open_cache(cache)
        for k in range(len(opened)):
            opened[k]
    return opened


def view(opened: Cache, times: int) -> float:
    """Microseconds of volume()."""
    volume = opened.volume(0)
    assert not volume.flags.owndata
    assert len(volume) == len(opened)
    start = time.perf_counter()
    for _ in range(times):
        opened.volume(0)
    return (time.perf_counter() - start) / times * 1e6


def gathers(ways: dict[str, Cache], rounds: int, batches: int) -> dict[str, tuple[float, float]]:
    """Frames a second of each way, by the clock and by the processor; the median of rounds."""
    opened = next(iter(ways.values()))
    _, height, width = opened.volume(0).shape
    out = np.empty((BATCH, height, width), opened.arrays[0].dtype)
    rng = np.random.default_rng(0)
    wanted = [rng.integers(0, len(opened), BATCH) for _ in range(batches)]
    whole = opened.volume(0)

    def memcpy(indices: Any) -> None:
        for target, k in zip(out, indices.tolist(), strict=True):
            np.copyto(target, whole[k])

    does: dict[str, Callable[[Any], Any]] = {
        name: partial(cache.gather, out=out) for name, cache in ways.items()
    }
    does["a loop of np.copyto"] = memcpy
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in does}
    for k in range(rounds + 1):
        for name, do in does.items():
            clock, processor = time.perf_counter(), time.process_time()
            for indices in wanted:
                do(indices)
            if k:  # the first round warms up
                times[name].append((time.perf_counter() - clock, time.process_time() - processor))
    frames = BATCH * batches
    return {
        name: (frames / median(t[0] for t in of), frames / median(t[1] for t in of))
        for name, of in times.items()
    }


def made_up(frames: int, folder: Path) -> Path:
    """A cache of made-up headers."""
    cache = folder / "made-up"
    for step in (("plan", frames, cache), ("receipts", cache), ("commit", cache)):
        command = [sys.executable, "-m", "benchmarks.scale", "--step", *map(str, step)]
        subprocess.run(command, check=True, capture_output=True)
    return cache


def table(cache: Path) -> tuple[float, int]:
    """(seconds of stacks() at first call, stacks)."""
    seconds = []
    for _ in range(3):
        opened = open_cache(cache)
        start = time.perf_counter()
        rows = opened.stacks().num_rows
        seconds.append(time.perf_counter() - start)
    return median(seconds), rows


def divided(cache: Path, **how: Any) -> tuple[float, int]:
    """(seconds of split() of a cache that was just opened, patients)."""
    seconds = []
    for _ in range(3):
        opened = open_cache(cache)
        start = time.perf_counter()
        found = opened.split(**how)
        seconds.append(time.perf_counter() - start)
    return median(seconds), sum(found.table["patients"].to_pylist())


def balanced(groups: int) -> float:
    """Seconds of balancing so many groups of one to 200 frames of five classes."""
    rng = np.random.default_rng(0)
    counts = rng.multinomial(1, [0.5, 0.3, 0.1, 0.07, 0.03], groups).astype(np.float64)
    counts *= rng.integers(1, 200, (groups, 1))
    keys = [f"patient {k}" for k in range(groups)]
    start = time.perf_counter()
    sides.balanced(counts, sides.cuts(None, None), keys, 1, False)
    return time.perf_counter() - start


def main() -> None:
    """Print a line for each figure."""
    parser = arguments(__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of all")
    asked = parser.parse_args()
    quick = asked.quick
    with tempfile.TemporaryDirectory(prefix="volumes-") as name:
        folder = Path(name)
        write_series(folder / "in", 128 if quick else 1024)
        cache = folder / "cache"
        build(folder / "in", cache, Recipe(shard_mib=16 if quick else 128), jobs=2)
        opened = open_cache(cache)
        us = view(opened, 2000)
        several = -(-len(opened) // opened.arrays[0].frames_per_shard)
        what = f"`cache.volume(stack)` of {len(opened):,} frames in {several} shards"
        figures = [most(what, us, 50, unit="us")]
        ways = {"in one range": opened, "shards apart": opened_apart(cache)}
        found = gathers(ways, 5 if quick else 15, 10 if quick else 50)
        for way, (clock, processor) in found.items():
            print(f"gather, {way}: {clock:,.0f} frames/s, {processor:,.0f} by the processor")
        ratio = [a / b for a, b in zip(*(found[way] for way in ways), strict=True)]
        what = "`gather` from one address range, times as fast as from shards mapped apart"
        figures.append(least(what, ratio[0], 1.05, f"{ratio[1]:.2f} by CPU time"))
        frames = 100_000 if quick else 1_000_000
        cache = made_up(frames, folder)
        seconds, rows = table(cache)
        what = f"`cache.stacks()` of {frames:,} frames, {rows:,} stacks"
        figures.append(most(what, seconds, 1, unit="s"))
        ways_to: list[dict[str, str]] = [{}, {"stratify": "modality"}]
        for how in ways_to:
            seconds, patients = divided(cache, **how)
            said = ", ".join(f"{k}={v!r}" for k, v in how.items())
            what = f"`cache.split({said})` of {frames:,} frames, {patients:,} patients"
            figures.append(plain(what, seconds, unit="s"))
        groups = 30_000 if quick else 300_000
        what = f"balancing {groups:,} groups of five classes"
        figures.append(most(what, balanced(groups), 3, unit="s"))
    tell("volumes", f"{'QUICK=1 ' * quick}make bench-volumes", figures, asked.keep)


if __name__ == "__main__":
    main()
