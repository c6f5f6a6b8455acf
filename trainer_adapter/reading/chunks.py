"""Compressed chunks to slots, straight into the buffer that wants them.

Blosc runs here without threads of its own, and without the lock of the interpreter: the threads
of a CacheLoader decompress side by side.
"""

from __future__ import annotations

import struct
import threading
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer_adapter.errors import DamagedError, MissingCodecError
from trainer_adapter.format.files import REMEDY
from trainer_adapter.format.members import Array

_HEADER = struct.Struct("<BBBBIII")  # version, of the codec, flags, typesize, nbytes, block, cbytes
_VERSION = 2
_FORMATS = {"lz4": 1, "zstd": 4}
"""in the upper 3 bits of the flags"""
_MOST_EXPANSION = 1 << 16
"""zeros by zstd: four bytes for 128 KiB"""
MOST_OVERHEAD = 16
"""bytes by which a chunk may be larger than its slot"""


class Chunk(NamedTuple):
    """A compressed slot."""

    data: NDArray[np.uint8]
    path: Path
    """of its shard"""
    slot: int


def unpack(chunk: Chunk, spec: Array, out: NDArray[Any]) -> None:
    """Decompress into `out`: contiguous, writable, of a slot's bytes.

    Raises DamagedError if that is not what the chunk holds, MissingCodecError without numcodecs.
    """
    hold_header(chunk, spec)
    _decompress(chunk, out)


def _decompress(chunk: Chunk, out: NDArray[Any]) -> None:
    try:
        _blosc().decompress(chunk.data, out)
    except (RuntimeError, ValueError) as e:
        raise _damaged(chunk, f"does not decompress ({e})") from e


def hold_header(chunk: Chunk, spec: Array) -> None:
    """Hold the header of a chunk to its array, before memory is asked for. Raises DamagedError."""
    # Blosc takes the sizes in the header at their word: it would read or write beyond the buffers.
    data = chunk.data
    said = _HEADER.unpack_from(data.data) if len(data) >= _HEADER.size else None
    if said is None or (said[0], said[2] >> 5, said[3], said[4], said[6]) != (
        _VERSION, _FORMATS[spec.codec], spec.dtype.itemsize, spec.slot_bytes, len(data),
    ):  # fmt: skip
        raise _damaged(chunk, f"is no chunk of {spec.slot_bytes} bytes by {spec.codec}")
    if spec.slot_bytes > _MOST_EXPANSION * len(data):
        raise _damaged(chunk, f"cannot be {spec.slot_bytes} bytes, compressed to {len(data)}")


def _damaged(chunk: Chunk, what: str) -> DamagedError:
    return DamagedError(f"{chunk.path}: the frame in slot {chunk.slot} {what}; {REMEDY}")


@cache
def _blosc() -> Any:
    try:
        from numcodecs import blosc
    except ImportError as e:
        raise MissingCodecError(
            "the frames of this cache are compressed; install numcodecs to read them"
        ) from e
    blosc.use_threads = False  # those are one pool for the process, behind a lock
    return blosc


class Scratch(threading.local):
    """Memory of one slot for each thread, for what does not go straight into a batch."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def of(self, nbytes: int) -> NDArray[np.uint8]:
        """(nbytes,); good until the thread asks again."""
        if self._bytes.nbytes < nbytes:
            self._bytes = np.empty(nbytes, np.uint8)
        return self._bytes[:nbytes]


_SLOT = Scratch()


def scratch_slot(chunk: Chunk, spec: Array) -> NDArray[Any]:
    """The slot of a chunk, (H, W[, C]); good until the thread asks for another."""
    hold_header(chunk, spec)
    slot = _SLOT.of(spec.slot_bytes).view(spec.dtype).reshape(spec.slot)
    _decompress(chunk, slot)
    return slot
