"""The limit: np.copyto of the same frames, in random order, into one reused buffer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.read.peers.common import Options, Reader, corner, full_batches
from benchmarks.read.workloads import Workload

PACKAGES = ("numpy",)
SETTINGS = "one thread, from a map of the .npy that all are built from; `ram`: from memory instead"


def build(frames: Path, folder: Path, work: Workload) -> None:
    """Nothing: the frames are read where they are."""
    (folder / "frames.npy").symlink_to(frames)


def opened(folder: Path, work: Workload, options: Options) -> Reader:
    """Copies of the frames at `order`, all into the same buffer."""
    frames = np.load(folder / "frames.npy", mmap_mode="r")
    if options.get("ram"):
        frames = np.array(frames)
    out, c = np.empty(work.batch_shape, work.dtype), work.crop

    def read(order: Any) -> Iterator[Any]:
        for indices in full_batches(order, work):
            for target, i in zip(out, indices.tolist(), strict=True):
                frame = frames[i]
                if c:
                    top, left = corner(work)
                    frame = frame[top : top + c, left : left + c]
                np.copyto(target, frame)
            yield out, indices

    return read
