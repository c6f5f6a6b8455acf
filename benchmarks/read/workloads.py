"""Frames that every contender serves, and how a batch is known to hold just them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Workload:
    """Frames of one kind, read in full shuffle, in batches."""

    name: str
    shape: tuple[int, ...]
    """(H, W) or (H, W, C)"""
    dtype: str
    frames: int
    batch: int
    crop: int = 0
    """side of the random square that is kept of each frame; 0: all of it"""

    @property
    def title(self) -> str:
        """As the tables have it."""
        sides = "x".join(map(str, self.shape))
        crop = f", random {self.crop} crop" if self.crop else ""
        return f"{sides} {self.dtype}{crop}, batch {self.batch}"

    @property
    def frame_bytes(self) -> int:
        """Bytes of a whole frame."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """(b, H, W[, C]) of a batch."""
        if self.crop:
            return (self.batch, self.crop, self.crop, *self.shape[2:])
        return (self.batch, *self.shape)


SLICES = Workload("slices", (512, 512), "int16", 4096, 64)
PHOTOS = Workload("photos", (224, 224, 3), "uint8", 4096, 64)
RADIOGRAPHS = Workload("radiographs", (2048, 2048), "uint16", 256, 8, crop=512)
BATCHES = (16, 256)
"""other sizes of batches, for memcpy and CacheLoader alone"""
WORKLOADS = {w.name: w for w in (SLICES, PHOTOS, RADIOGRAPHS)}


def write_frames(work: Workload, path: Path) -> None:
    """`work.frames` frames to one .npy, no two alike: shapes with the noise of a few bits.

    As scanners give them: pure noise would be unfair to codecs.
    """
    rng = np.random.default_rng(0)
    height, width = work.shape[:2]
    y, x = np.mgrid[0:height, 0:width] / height
    top = 240 if work.dtype == "uint8" else 3000
    shapes = ((np.sin(5 * x) * np.cos(7 * y) + 1) / 2 * top).astype(np.int16)
    noise = np.abs(rng.normal(0, 4, (height + 64, width))).clip(0, 15).astype(np.int16)
    out = np.lib.format.open_memmap(path, "w+", work.dtype, (work.frames, *work.shape))
    for k in range(work.frames):
        plane = np.roll(shapes, 11 * k, axis=1)
        plane += noise[k % 64 : k % 64 + height]
        plane = plane.astype(work.dtype)
        out[k] = plane if len(work.shape) == 2 else np.stack([plane, plane[::-1], plane.T], 2)
        # No image has the same corner as another.
        out[k].reshape(-1)[:8] = np.frombuffer(f"{k:08d}".encode(), np.uint8)
    out.flush()


def untrue(work: Workload, frames: NDArray[Any], batches: Iterator[Any]) -> str:
    """What is wrong with an epoch of (image, index) batches; empty if nothing is.

    Each frame must come once, whole frames equal to `frames` by CRC-32; of crops one in 8 is
    searched for in its frame, so that it does not matter how a contender draws its places.
    """
    seen: list[int] = []
    for image, index in batches:
        pixels, numbers = np.asarray(image), [int(i) for i in index]
        if pixels.shape[1:] != work.batch_shape[1:]:
            return f"batch of {pixels.shape}"
        if pixels.dtype != work.dtype:  # a wider one may hold the same numbers
            narrow = pixels.astype(work.dtype)
            if not np.array_equal(narrow, pixels):
                return f"batch of {pixels.dtype}, with other numbers"
            pixels = narrow
        for got, k in zip(pixels, numbers, strict=True):
            if work.crop:
                true = len(seen) % 8 > 0 or crop_place(got, frames[k]) is not None
            else:
                true = crc32(np.ascontiguousarray(got).data) == crc32(frames[k].data)
            if not true:
                return f"frame {k} has other pixels"
            seen.append(k)
    return "" if sorted(seen) == list(range(len(frames))) else "not every frame once"


def crop_place(crop: NDArray[Any], frame: NDArray[Any]) -> tuple[int, int] | None:
    """(top, left) of where a crop lies in its frame; None if nowhere."""
    h, w = crop.shape
    rows, columns = frame.shape[0] - h + 1, frame.shape[1] - w + 1
    found = np.ones((rows, columns), bool)
    for d in range(6):
        found &= frame[:rows, d : d + columns] == crop[0, d]
        found &= frame[d : d + rows, :columns] == crop[d, 0]
    for top, left in np.argwhere(found).tolist():
        if np.array_equal(frame[top : top + h, left : left + w], crop):
            return top, left
    return None
