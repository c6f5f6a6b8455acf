"""What it costs that a reader trusts nothing: opening a million frames, and frames' checksums.

Run: python -m benchmarks.read.checks. The same cache with and without digests of its columns, and
the same batches by each `check`, in turn; medians. CPU time, but for what comes from the disk.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.figures import arguments, most, plain, tell
from benchmarks.machine import in_turn
from benchmarks.read.stock import write_cache
from dicom2cache.planning.arrays import array_spec
from dicom2cache.store.layout import attributes_sha256
from trainer_adapter import open_cache

BATCH, ROUNDS = 64, 5


def without_digests(cache: Path) -> None:
    """Make it a cache of before: no digests of columns in the root."""
    document = json.loads((cache / "zarr.json").read_bytes())
    about = copy.deepcopy(document["attributes"]["dicom2cache"])
    for entry in about["tables"]["frames"]:
        entry.pop("columns", None)
        entry.pop("footer", None)
    about["sha256"] = attributes_sha256(about)
    document["attributes"]["dicom2cache"] = about
    (cache / "zarr.json").write_text(json.dumps(document))


def open_seconds(cache: Path, cold: bool) -> float:
    """CPU seconds of open_cache in a fresh process, its imports done.

    `cold`: seconds by the clock, tables from the disk.
    """
    if cold:
        for path in [cache / "zarr.json", *cache.glob("*/*.parquet")]:
            file = os.open(path, os.O_RDONLY)
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)
    command = [sys.executable, "-m", "benchmarks.read.checks", "--open", str(cache)]
    said = subprocess.run(command, check=True, capture_output=True).stdout.split()
    return float(said[not cold])


def measure(here: Path, frames: int) -> dict[str, float]:
    """Seconds of opening, and of checking as multiples of not checking."""
    million = array_spec("int16", (512, 512), 1_000_000, 128 << 20)
    write_cache(here / "with digests", million, None)
    shutil.copytree(here / "with digests", here / "without")
    without_digests(here / "without")
    found = {}
    for cold in (False, True):
        for name in ("with digests", "without"):
            opened = [open_seconds(here / name, cold) for _ in range(ROUNDS)]
            state = "cold, s" if cold else "warm, CPU s"
            found[f"open 1,000,000 frames, {name}, {state}"] = median(opened)
    spec = array_spec("int16", (512, 512), frames, 64 << 20)
    pixels = np.random.default_rng(0).integers(-1024, 3000, (frames, 512, 512), np.int16)
    write_cache(here / "frames", spec, pixels)
    order = np.random.default_rng(1).permutation(frames)[: frames // BATCH * BATCH]
    out = np.empty((BATCH, 512, 512), np.int16)

    def epoch(check: str, known: bool) -> float:
        cache = open_cache(here / "frames", check=check)
        for _ in range(1 + known):
            start = time.process_time()
            for k in range(0, len(order), BATCH):
                cache.gather(order[k : k + BATCH], out)
        return time.process_time() - start

    epoch("never", known=False)
    seconds = in_turn(
        {
            "never": lambda: epoch("never", known=True),
            "never, first epoch": lambda: epoch("never", known=False),
            "first-touch, first epoch": lambda: epoch("first-touch", known=False),
            "first-touch": lambda: epoch("first-touch", known=True),
            "always": lambda: epoch("always", known=True),
        },
        ROUNDS,
    )
    found |= {f"gather, check={n} / never": s / seconds["never"] for n, s in seconds.items()}
    return found


def main() -> None:
    """Measure and print."""
    parser = arguments("What checks of a cache cost.")
    parser.add_argument("--frames", type=int, default=1024)
    parser.add_argument("--open", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.open:
        start, used = time.perf_counter(), time.process_time()
        cache = open_cache(given.open)
        print(time.perf_counter() - start, time.process_time() - used)
        assert len(cache) == 1_000_000
        return
    with tempfile.TemporaryDirectory() as temporary:
        found = measure(Path(temporary), given.frames)
    warm = "open 1,000,000 frames, with digests, warm, CPU s"
    figures = [
        most(n.removesuffix(", CPU s"), v, 0.3, unit="s of CPU") if n == warm
        else plain(n.removesuffix(" s").removesuffix(", CPU").removesuffix(","), v,
                   unit="s" if n.startswith("open") else "")
        for n, v in found.items()
    ]  # fmt: skip
    tell("read_checks", "python -m benchmarks.read.checks --keep", figures, given.keep)


if __name__ == "__main__":
    main()
