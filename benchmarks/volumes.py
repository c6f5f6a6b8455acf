"""Stacks and volumes: a view, a batch, the table of a million frames.

volume() of a stack that crosses shards; gather of frames at random, both ways in which shards are
mapped, in one process and in turn, the copying alone (memcpy) beside them; stacks() of a cache that
is opened for it, whose headers are made up. Run: python -m benchmarks.volumes [--quick]
"""

from __future__ import annotations

import argparse
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

from dicom2cache import Recipe, build
from tests.support.dicom_files import write_series
from trainer_adapter import Cache, open_cache

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


def table(frames: int, folder: Path) -> tuple[float, int]:
    """(seconds of stacks() at first call, stacks) of a cache of made-up headers."""
    cache = folder / "made-up"
    for step in (("plan", frames, cache), ("receipts", cache), ("commit", cache)):
        command = [sys.executable, "-m", "benchmarks.scale", "--step", *map(str, step)]
        subprocess.run(command, check=True, capture_output=True)
    seconds = []
    for _ in range(3):
        opened = open_cache(cache)
        start = time.perf_counter()
        rows = opened.stacks().num_rows
        seconds.append(time.perf_counter() - start)
    return median(seconds), rows


def main() -> None:
    """Print a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a tenth of all")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory(prefix="volumes-") as name:
        folder = Path(name)
        write_series(folder / "in", 128 if quick else 1024)
        cache = folder / "cache"
        build(folder / "in", cache, Recipe(shard_mib=16 if quick else 128), jobs=2)
        opened = open_cache(cache)
        us = view(opened, 2000)
        several = -(-len(opened) // opened.arrays[0].frames_per_shard)
        print(f"volume() of {len(opened)} frames in {several} shards: {us:.1f} us (bar: 50)")
        ways = {"in one range": opened, "shards apart": opened_apart(cache)}
        found = gathers(ways, 5 if quick else 15, 10 if quick else 50)
        for way, (clock, processor) in found.items():
            print(f"gather, {way}: {clock:,.0f} frames/s, {processor:,.0f} by the processor")
        ratio = [a / b for a, b in zip(*(found[way] for way in ways), strict=True)]
        print(f"one range / apart: {ratio[0]:.3f}, {ratio[1]:.3f} by the processor (bar: 1.05)")
        frames = 100_000 if quick else 1_000_000
        seconds, rows = table(frames, folder)
        print(f"stacks() of {frames:,} frames, {rows:,} stacks: {seconds:.2f} s (bar: 1 s)")


if __name__ == "__main__":
    main()
