"""What CacheLoader takes before its first batch, and beside its batches: a process for each.

Run by benchmarks.read; python -m benchmarks.read.limits CACHE BATCH gives one measurement.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.machine import private_mib
from dicom2cache.planning.arrays import array_spec

MILLION = 1_000_000
BATCHES = 400
"""batches that are read while memory is watched"""


def write_million(path: Path, frames: int = MILLION) -> None:
    """A cache of `frames` frames of 32x32 uint8, 256 in a shard, as many as of 512x512 int16."""
    from benchmarks.read.stock import write_cache

    spec = array_spec("uint8", (32, 32), frames, 256 << 10)
    pixels = np.broadcast_to(np.arange(32, dtype=np.uint8), (frames, 32, 32))
    write_cache(path, spec, pixels)


def measure(cache: Path, batch: int) -> dict[str, float]:
    """Seconds to the first batch, and the greatest private memory (MiB) of some epochs."""
    from trainer_adapter import CacheLoader, open_cache

    imported = peak = private_mib()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, private_mib())

    watcher = threading.Thread(target=watch)
    start = time.perf_counter()
    opened = open_cache(cache)
    constructing = time.perf_counter()
    loader = CacheLoader(opened, batch, shuffle=True)
    first = next(iter(loader))
    now = time.perf_counter()
    assert len(first.image) == batch
    del first
    watcher.start()
    buffers: dict[int, int] = {}
    left = BATCHES
    while left > 0:
        for found in loader:
            buffers[found.image.data_ptr()] = found.image.nbytes
            left -= 1
            if not left:
                break
    done.set()
    watcher.join()
    leased = sum(buffers.values()) / 2**20
    return {
        "first batch, s": now - constructing, "with open_cache, s": now - start,
        "private, MiB": peak, "after imports, MiB": imported,
        "leased, MiB": leased, "buffers": len(buffers),
        "beside leased, MiB": peak - leased,
        "beside leased and imports, MiB": peak - leased - imported,
    }  # fmt: skip


def fresh(cache: Path, batch: int, rounds: int) -> dict[str, Any]:
    """Each figure: median, min and max over fresh processes."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.read.limits", str(cache)]
    found: list[dict[str, float]] = []
    for _ in range(rounds):
        ran = subprocess.run([*command, str(batch)], check=True, capture_output=True)
        found.append(json.loads(ran.stdout))
    return {
        name: {"median": median(values), "min": min(values), "max": max(values)}
        for name, values in ((n, [f[n] for f in found]) for n in found[0])
    }


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]))))
