"""LitData: optimized chunks, local."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.read.peers.common import Options, Reader, cropped
from benchmarks.read.workloads import Workload

PACKAGES = ("litdata", "torch")
SETTINGS = (
    "optimize() to tensors in chunks of 64 MB, no compression; StreamingDataset(shuffle=True) in "
    "StreamingDataLoader; its own order"
)


class _Sample:
    """Sample `k` of the frames; pickles as the path."""

    def __init__(self, frames: Path) -> None:
        self.frames = frames

    def __call__(self, k: int) -> dict[str, Any]:
        import torch

        frame = np.array(np.load(self.frames, mmap_mode="r")[k])
        return {"image": torch.from_numpy(frame), "index": k}


def build(frames: Path, folder: Path, work: Workload) -> None:
    """Chunks of the frames."""
    import litdata

    litdata.optimize(
        fn=_Sample(frames), inputs=list(range(work.frames)), output_dir=str(folder / "chunks"),
        chunk_bytes="64MB", num_workers=1, verbose=False,
    )  # fmt: skip


def opened(folder: Path, work: Workload, options: Options) -> Reader:
    """The chunks in StreamingDataLoader; a random crop is cut from each decoded sample."""
    import litdata

    class Cropped(litdata.StreamingDataset):  # type: ignore[misc]
        def __getitem__(self, at: Any) -> Any:
            sample = super().__getitem__(at)
            return {**sample, "image": cropped(sample["image"], work)}

    made = Cropped if work.crop else litdata.StreamingDataset
    dataset = made(str(folder / "chunks"), shuffle=True, drop_last=True)
    workers = int(options.get("workers", 0))
    batches = litdata.StreamingDataLoader(
        dataset, batch_size=work.batch, num_workers=workers, drop_last=True,
        persistent_workers=workers > 0,
    )  # fmt: skip

    def read(order: Any) -> Iterator[Any]:
        return ((b["image"], b["index"]) for b in batches)

    return read
