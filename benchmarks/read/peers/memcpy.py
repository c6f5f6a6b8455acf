"""The limit: np.copyto of the same frames, in random order, into one reused buffer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.read.peers.common import Options, Reader, corner, full_batches
from benchmarks.read.workloads import Workload

PACKAGES = ("numpy",)
SETTINGS = (
    "one thread, np.copyto of each frame (of the crop's rows of it, where one is wanted), from a "
    "map of the .npy that all are built from; `ram`: from memory instead; `whole`: as many bytes "
    "from a random place, in one piece for a batch, or for each crop"
)


def build(frames: Path, folder: Path, work: Workload) -> None:
    """Nothing: the frames are read where they are."""
    (folder / "frames.npy").symlink_to(frames)


def opened(folder: Path, work: Workload, options: Options) -> Reader:
    """Copies of the frames at `order`, all into the same buffer."""
    frames = np.load(folder / "frames.npy", mmap_mode="r")
    if options.get("ram"):
        frames = np.array(frames)
    out, c = np.empty(work.batch_shape, work.dtype), work.crop
    pieces = out.reshape(work.batch if c else 1, -1)
    pixels, rng = frames.reshape(-1), np.random.default_rng(0)

    def read_whole(order: Any) -> Iterator[Any]:
        for indices in full_batches(order, work):
            starts = rng.integers(0, pixels.size - pieces.shape[1], len(pieces))
            for target, start in zip(pieces, starts.tolist(), strict=True):
                np.copyto(target, pixels[start : start + pieces.shape[1]])
            yield out, indices

    if options.get("whole"):
        return read_whole

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
