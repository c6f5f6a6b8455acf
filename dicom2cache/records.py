"""The frozen records and columnar schemas that the stages hand on to each other.

A million headers are a million rows of an Arrow table, not a million objects: `FILES` has a row for
each source file, `FRAMES` (the plan) a row for each frame to be stored, in the order of the cache.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that may be DICOM."""

    root: int
    """id of the source folder"""
    path: str
    """below that folder, with /"""
    size: int
    """in bytes"""
    mtime_ns: int
    """in nanoseconds"""
    inode: int = 0
    """in its folder, files of neighbouring inodes lie close on a disk"""


@dataclass(frozen=True)
class ArraySpec:
    """One Zarr array of the cache."""

    name: str
    """its folder, such as int16_512x512"""
    dtype: str
    """NumPy name"""
    slot: tuple[int, ...]
    """(H, W) or (H, W, C)"""
    slots: int
    """length of the first axis"""
    frames_per_shard: int
    codec: str = "none"
    """`none`, `lz4` or `zstd`; in a plan `auto` too"""

    @property
    def slot_bytes(self) -> int:
        """Size of a slot in bytes."""
        return np.dtype(self.dtype).itemsize * math.prod(self.slot)

    @property
    def shards(self) -> int:
        """Number of shard files."""
        return -(-self.slots // self.frames_per_shard)


@dataclass(frozen=True)
class ShardTask:
    """One shard to be written: the unit of work."""

    array: int
    shard: int
    start: int
    """first row of the plan's frame table"""
    stop: int
    """row after the last"""
    cost: float
    """in uncompressed bytes, compressed ones weighted by their codec"""

    @property
    def name(self) -> str:
        """Name of its receipt, such as 3.17."""
        return f"{self.array}.{self.shard}"


@dataclass(frozen=True)
class Plan:
    """What is to be stored and where.

    The law: every frame of every file in `files` is in exactly one row of `frames`, and every
    (array, row) with row < slots is taken exactly once, whatever the order of the files.
    """

    arrays: tuple[ArraySpec, ...]
    files: pa.Table
    """FILES, only those that are stored"""
    frames: pa.Table
    """FRAMES, in the order of the cache"""
    rejects: pa.Table
    """REJECTS"""
    wasted_bytes: int
    """bytes of slots that no frame covers"""


COMPRESSED = ("lz4", "zstd")
CODECS = ("none", *COMPRESSED, "auto")
LARGEST = 2**31 - 1 - 16
"""bytes of a slot that Blosc can hold"""


def codec_of(wanted: str, slot_bytes: int) -> str:
    """The codec that an array gets: none where Blosc could not hold a slot."""
    return "none" if slot_bytes > LARGEST else wanted
