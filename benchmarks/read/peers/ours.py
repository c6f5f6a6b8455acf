"""This project: CacheLoader, and FrameDataset in a stock DataLoader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.read.peers.common import Options, Reader, cropped, in_dataloader
from benchmarks.read.workloads import Workload

PACKAGES = ("dicom2cache", "torch", "pyarrow")
SETTINGS = (
    "CacheLoader(cache, batch, shuffle=True) with its defaults, or with `threads`; "
    "`crop=(512, 512)` where a crop is wanted, except in the row without crop reading"
)


def build(frames: Path, folder: Path, work: Workload) -> None:
    """A cache with one array, shards of 128 MiB as is the default."""
    from benchmarks.read.stock import write_cache
    from dicom2cache.planning.arrays import array_spec

    spec = array_spec(work.dtype, work.shape, work.frames, 128 << 20)
    write_cache(folder / "cache", spec, np.load(frames, mmap_mode="r"))


def opened(folder: Path, work: Workload, options: Options) -> Reader:
    """CacheLoader, or with `workers` FrameDataset in a DataLoader."""
    import torch

    from trainer_adapter import CacheLoader, FrameDataset, open_cache

    cache = open_cache(folder / "cache")
    if "workers" in options:
        crop = (lambda image: cropped(image[0], work)) if work.crop else None  # of (1, H, W)
        samples = in_dataloader(FrameDataset(cache, transform=crop), work, options)
        return lambda order: map(lambda b: (b.image, b.index), samples(order))
    in_read = (work.crop, work.crop) if work.crop and not options.get("whole") else None
    loader = CacheLoader(
        cache, work.batch, shuffle=True, drop_last=True, crop=in_read,
        threads=options.get("threads"),
    )  # fmt: skip

    def served(batch: Any) -> tuple[Any, Any]:
        if options.get("whole"):
            return torch.stack([cropped(image, work) for image in batch.image]), batch.index
        return batch.image, batch.index

    return lambda order: map(served, loader)  # which holds no batch, as a generator would
