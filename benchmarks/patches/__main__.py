"""Random 3-D patches of 32 x 128 x 128 int16, warm, two processors: CacheLoader and its peers.

All in one run and in turn, the median of rounds; MONAI and torchio by the number of workers that
serves them best, MONAI as its tutorials have it and tuned.
Run: python -m benchmarks.patches [--quick]
"""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.figures import arguments, least, plain, tell
from benchmarks.patches import readers
from benchmarks.patches.volumes import made_up, write
from dicom2cache import Recipe, build

BARS = {
    "memcpy": 0.7, "rows alone": None, "MONAI": 10, "tuned MONAI": 10, "torchio": 5, "nnU-Net": 3,
}  # fmt: skip
_PEERS = {
    "memcpy": "`np.copyto` of as many bytes in one piece",
    "rows alone": "`np.copyto` of the rows of patches, 256 bytes each",
    "MONAI": "MONAI's `RandCropByPosNegLabeld` over a `CacheDataset`, as its tutorials have it",
    "tuned MONAI": "the same, tuned as its users do not write it",
    "torchio": "torchio's `Queue`",
    "nnU-Net": "nnU-Net's data set in blosc2",
}


def rate(batches: Iterator[Any], seconds: float) -> float:
    """Patches a second, for about so long."""
    expected = (readers.BATCH, 1, *readers.PATCH)
    start, count = time.perf_counter(), 0
    while (took := time.perf_counter() - start) < seconds or not count:
        batch = next(batches)
        assert tuple(batch.shape) == expected, batch.shape
        assert str(batch.dtype).removeprefix("torch.") == "int16", batch.dtype
        count += len(batch)
        del batch
    return count / took


def main() -> None:
    """Print a line for each way, and the ratios against their bars."""
    parser = arguments(__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer volumes and rounds")
    asked = parser.parse_args()
    quick = asked.quick
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)  # each way has its own threads or workers
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: readers.PROCESSORS])
    count, slices, rounds, seconds = (3, 64, 3, 0.7) if quick else (8, 128, 7, 2.0)
    with tempfile.TemporaryDirectory(prefix="patches-") as name:
        folder = Path(name)
        volumes = [made_up(k, slices) for k in range(count)]
        for k, volume in enumerate(volumes):
            write(folder / "in", k, volume)
        cache = folder / "cache"
        build(folder / "in", cache, Recipe(), jobs=readers.PROCESSORS)
        readers.nnunet_files(folder / "nnunet", volumes)
        ways = {
            "memcpy": readers.memcpy(cache),
            "rows alone": readers.rows(cache),
            "CacheLoader": readers.ours(cache, None),
            "CacheLoader, foreground": readers.ours(cache, readers.ABOVE),
            "nnU-Net": readers.nnunet(folder / "nnunet"),
            **{
                f"{'tuned ' * tuned}MONAI, {workers} workers": readers.monai(
                    volumes, workers, tuned
                )
                for tuned in (False, True)
                for workers in (0, readers.PROCESSORS)
            },
            **{
                f"torchio, {workers} workers": readers.torchio(volumes, workers)
                for workers in range(readers.PROCESSORS + 1)
            },
        }
        found: dict[str, list[float]] = {way: [] for way in ways}
        for k in range(rounds + 1):
            for way, batches in ways.items():
                speed = rate(batches, seconds)
                if k:  # the first round warms up
                    found[way].append(speed)
    size = 2 * readers.PATCH[0] * readers.PATCH[1] * readers.PATCH[2]
    for way, speeds in found.items():
        speed = median(speeds)
        print(f"{way}: {speed:,.0f} patches/s, {speed * size / 1e9:.2f} GB/s "
              f"({min(speeds):,.0f} to {max(speeds):,.0f})")  # fmt: skip
    mine, figures = found["CacheLoader"], []
    for peer, bar in BARS.items():
        theirs = [max(s) for s in zip(*(v for w, v in found.items() if w.startswith(peer)),
                                      strict=True)]  # fmt: skip
        own = found["CacheLoader, foreground"] if "MONAI" in peer else mine
        ratio = median(a / b for a, b in zip(own, theirs, strict=True))
        what = f"random 3-D patches of 32x128x128 int16, times as fast as {_PEERS[peer]}"
        figures.append(plain(what, ratio) if bar is None else least(what, ratio, bar))
    tell("patches", f"{'QUICK=1 ' * asked.quick}make bench-patches", figures, asked.keep)


if __name__ == "__main__":
    main()
