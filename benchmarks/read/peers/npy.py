"""One big .npy, mapped, in a stock DataLoader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.read.peers.common import Options, Reader, cropped, in_dataloader
from benchmarks.read.workloads import Workload

PACKAGES = ("numpy", "torch")
SETTINGS = (
    'np.load(mmap_mode="c"), since torch warns of read-only arrays; samples are views, which the '
    "DataLoader collates into a new batch; crops are views too, so only their rows are touched"
)


def build(frames: Path, folder: Path, work: Workload) -> None:
    """Nothing: the frames are in one .npy already."""
    (folder / "frames.npy").symlink_to(frames)


class OneMap:
    """A dataset over one map."""

    def __init__(self, path: Path, work: Workload) -> None:
        self.map, self.work = np.load(path, mmap_mode="c"), work

    def __len__(self) -> int:
        return len(self.map)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        import torch

        return torch.from_numpy(cropped(self.map[i], self.work)), i


def opened(folder: Path, work: Workload, options: Options) -> Reader:
    """The map in a DataLoader."""
    return in_dataloader(OneMap(folder / "frames.npy", work), work, options)
