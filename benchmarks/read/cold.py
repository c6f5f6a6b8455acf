"""Reading a cache that is not in memory: CacheLoader in random order against its files in order.

Each measurement is a process of its own, which drops the files from the page cache and sees by
mincore that they are gone before it starts the clock.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.read.peers import ours
from benchmarks.read.workloads import SLICES, Workload

HOW = {
    "files in order, read()": "",
    "CacheLoader, random": "random auto",
    "CacheLoader, random, read=map": "random map",
    "CacheLoader, random, read=pread": "random pread",
    "CacheLoader, sequential": "sequential auto",
}


def files_of(cache: Path) -> list[Path]:
    """Every shard of a cache, in order."""
    return sorted(cache.glob("*/c.*"), key=lambda p: int(p.name.split(".")[1]))


def drop(files: list[Path]) -> float:
    """Drop files from the page cache; the share of their pages that are in memory all the same."""
    for path in files:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)  # pages that are not written yet are not dropped
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)
    return float(np.mean([resident(path) for path in files]))


def resident(path: Path) -> float:
    """The share of a file's pages that are in memory."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as pages:
        view = np.frombuffer(pages, np.uint8)
        found = np.zeros(-(-len(view) // mmap.PAGESIZE), np.uint8)
        failed = ctypes.CDLL(None, use_errno=True).mincore(
            ctypes.c_void_p(view.ctypes.data),
            ctypes.c_size_t(len(view)),
            ctypes.c_void_p(found.ctypes.data),
        )
        del view
        if failed:
            raise OSError(ctypes.get_errno(), "mincore", str(path))
        return float((found & 1).mean())


def measure(cache: Path, how: str, batch: int) -> dict[str, float]:
    """Bytes per second of one cold pass, in this process, and what was in memory before it."""
    from trainer_adapter import CacheLoader, open_cache

    files = files_of(cache)
    order, _, read = how.partition(" ")
    loader = CacheLoader(open_cache(cache), batch, shuffle=order == "random", read=read or "auto")
    warm, done = drop(files), 0
    start = time.perf_counter()
    if how:
        for found in loader:
            done += found.image.nbytes
    else:
        buffer = bytearray(8 << 20)
        for path in files:
            with path.open("rb", buffering=0) as file:
                while size := file.readinto(buffer):
                    done += size
    return {"speed": done / (time.perf_counter() - start), "resident": warm}


def cold(here: Path, frames: Path, work: Workload, rounds: int) -> list[dict[str, Any]]:
    """A row for each way: MiB/s in each round, in turn; or why there are none."""
    (here / "cold").mkdir()
    ours.build(frames, here / "cold", work)
    os.sync()
    rows: list[dict[str, Any]] = [{"name": name, "rounds": []} for name in HOW]
    for _ in range(rounds):
        for row in rows:
            command = [sys.executable, "-m", "benchmarks.read.cold", str(here / "cold" / "cache")]
            ran = subprocess.run([*command, HOW[row["name"]]], check=False, capture_output=True)
            if ran.returncode:
                row["failed"] = ran.stderr.decode(errors="replace").strip()[-300:]
                continue
            found = json.loads(ran.stdout)
            if found["resident"] > 0.01:
                row["failed"] = f"{found['resident']:.0%} of the files stayed in memory"
            row["rounds"].append(found["speed"] / 2**20)
    for row in rows:
        if row["rounds"]:
            row |= {"median": median(row["rounds"])}
            row |= {"min": min(row["rounds"]), "max": max(row["rounds"])}
    return rows


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), sys.argv[2], SLICES.batch)))
