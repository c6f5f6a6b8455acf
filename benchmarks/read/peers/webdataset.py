"""WebDataset: tar shards, local."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.read.peers.common import Options, Reader, cropped
from benchmarks.read.workloads import Workload

PACKAGES = ("webdataset", "torch")
SETTINGS = (
    "tar shards of up to 64 MB with one .npy and one .cls for each sample, decode() as documented; "
    "shards shuffled, then samples in a buffer of 256; batched in WebLoader"
)


def build(frames: Path, folder: Path, work: Workload) -> None:
    """Tar shards of the frames."""
    import webdataset

    pattern = str(folder / "shard-%06d.tar")
    with webdataset.ShardWriter(pattern, maxsize=64e6, verbose=0) as writer:
        for k, frame in enumerate(np.load(frames, mmap_mode="r")[: work.frames]):
            writer.write({"__key__": f"{k:08d}", "npy": np.array(frame), "cls": k})


def opened(folder: Path, work: Workload, options: Options) -> Reader:
    """The shards in WebLoader, collated as tensors by the DataLoader."""
    import torch
    import webdataset

    workers = int(options.get("workers", 0))
    shards = sorted(map(str, folder.glob("shard-*.tar")))
    dataset = (
        webdataset.WebDataset(shards, shardshuffle=len(shards))
        .shuffle(256)
        .decode()
        .to_tuple("npy", "cls")
        .map_tuple(lambda image: torch.from_numpy(cropped(image, work)), None)
    )
    batches = webdataset.WebLoader(
        dataset, batch_size=work.batch, num_workers=workers, persistent_workers=workers > 0
    )

    def read(order: Any) -> Iterator[Any]:
        return iter(batches)

    return read
