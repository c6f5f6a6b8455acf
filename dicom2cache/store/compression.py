"""Slots to compressed chunks and back, pure: Zarr's own `blosc` codec, which every reader has.

Levels, blocks and shuffles follow from measurements (docs/compression.md).
"""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom2cache.records import ArraySpec

_BLOCK = 1 << 19  # fixed, so that it does not hang on the version of Blosc
_SHUFFLES = ("noshuffle", "shuffle", "bitshuffle")  # as Blosc numbers them
_HEADER = struct.Struct("<BBBBIII")  # version, of the codec, flags, typesize, nbytes, block, cbytes
_FORMATS = {"lz4": 1, "zstd": 4}
"""in the upper 3 bits of Blosc's flags"""
CHUNK_HEADER = _HEADER.size


def _shuffle(spec: ArraySpec) -> int:
    if spec.dtype == "uint8":  # bits of bytes: larger, and half as fast to read
        return 0
    if spec.dtype.startswith("float"):
        return 1
    # Blosc shuffles the bits of eights of values; a block with a rest is left as it is.
    return 2 if math.prod(spec.slot) % 8 == 0 or spec.slot_bytes >= 8 * _BLOCK else 1


def _level(spec: ArraySpec) -> int:
    if spec.codec == "lz4":
        return 5
    # Of Blosc: its n is zstd's 2n - 1. After bits were shuffled, 3 saves no more than 1.
    return 1 if _shuffle(spec) == 2 else 2


def zarr_codecs(spec: ArraySpec) -> list[dict[str, Any]]:
    """What follows `bytes` among the inner codecs of the array (Zarr v3 blosc codec)."""
    if spec.codec == "none":
        return []
    about = {
        "typesize": np.dtype(spec.dtype).itemsize,
        "cname": spec.codec,
        "clevel": _level(spec),
        "shuffle": _SHUFFLES[_shuffle(spec)],
        "blocksize": _BLOCK,
    }
    return [{"name": "blosc", "configuration": about}]


def pack(slot: NDArray[Any], spec: ArraySpec) -> bytes:
    """The chunk of a contiguous slot in the array's dtype; the same bytes each time."""
    packed: bytes = _blosc().compress(
        slot, spec.codec.encode(), _level(spec), _shuffle(spec), _BLOCK
    )
    return packed


def chunk_bytes(head: bytes, spec: ArraySpec) -> int | None:
    """Size of the compressed chunk of the array that begins so, with its header; None: of none."""
    if len(head) < CHUNK_HEADER:
        return None
    version, _, flags, itemsize, size, _, length = _HEADER.unpack_from(head)
    known = version == 2 and flags >> 5 in _FORMATS.values()
    right = (itemsize, size) == (np.dtype(spec.dtype).itemsize, spec.slot_bytes)
    return int(length) if known and right and length > CHUNK_HEADER else None


def unpack(chunk: bytes, spec: ArraySpec) -> NDArray[Any]:
    """The slot of a chunk. Raises ValueError if it is not one of the array."""
    slot = np.empty(spec.slot, spec.dtype)
    if spec.codec == "none":
        if len(chunk) != slot.nbytes:
            raise ValueError(f"{len(chunk)} bytes, {slot.nbytes} expected")
        return np.frombuffer(chunk, spec.dtype).reshape(spec.slot)
    # Blosc takes its header at its word, and so it is checked first.
    said = _HEADER.unpack_from(chunk) if len(chunk) >= _HEADER.size else None
    if said is None or (said[0], said[2] >> 5, said[3], said[4], said[6]) != (
        2, _FORMATS[spec.codec], slot.itemsize, slot.nbytes, len(chunk),
    ):  # fmt: skip
        raise ValueError(f"not a chunk of {slot.nbytes} bytes by {spec.codec}")
    try:
        _blosc().decompress(chunk, slot)
    except RuntimeError as e:
        raise ValueError(f"does not decompress: {e}") from e
    return slot


def _blosc() -> Any:
    from numcodecs import blosc

    blosc.use_threads = False  # with threads inside, the output differs from run to run
    return blosc
