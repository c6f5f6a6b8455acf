"""One shard: written slot after slot, then the index, durable before it is named; and read back."""

from __future__ import annotations

import errno
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from dicom2cache.errors import FrameError
from dicom2cache.pixels import kernel
from dicom2cache.records import ArraySpec
from dicom2cache.sources.system import next_data, pread
from dicom2cache.store.compression import CHUNK_HEADER, pack, unpack
from dicom2cache.store.direct import DirectFile
from dicom2cache.store.layout import MISSING

with warnings.catch_warnings():  # of its slow fallback: said once, by who converts
    warnings.simplefilter("ignore", RuntimeWarning)
    import google_crc32c

_BLOCK = 1 << 22


def crc32c(data: Any) -> int:
    """CRC-32C (RFC 3720) of contiguous bytes or an array."""
    if kernel.compiled is not None:
        found: int | None = kernel.compiled.crc32c(data)
        if found is not None:
            return found
    if google_crc32c.implementation != "c":
        data = bytes(data)  # the fallback takes no arrays
    return int(google_crc32c.value(data))


def without_compiled_crc32c() -> str | None:
    """What to say where google-crc32c is its pure Python fallback: checksums are all that takes
    time then."""
    if google_crc32c.implementation == "c":
        return None
    return (
        "google-crc32c has no compiled part here: checksums take a hundred times as long. Install "
        "a wheel of it for this machine, or libcrc32c and a C compiler, and reinstall it"
    )


def extended(crc: int, data: Any) -> int:
    """CRC-32C of what had `crc`, followed by these bytes."""
    return int(google_crc32c.extend(crc, bytes(data)))


def in_slot(pixels: NDArray[Any], spec: ArraySpec) -> NDArray[Any]:
    """The contiguous slot of the array that holds a frame, (H, W[, C]) in the array's dtype.

    Raises FrameError if the slot cannot hold it.
    """
    fits = pixels.ndim == len(spec.slot) and all(map(int.__le__, pixels.shape, spec.slot))
    if not fits or pixels.shape[2:] != spec.slot[2:] or pixels.dtype != np.dtype(spec.dtype):
        raise FrameError(
            f"the frame became {pixels.shape} {pixels.dtype}, but it was planned into a slot of "
            f"{spec.slot} {spec.dtype}; please report"
        )
    if pixels.shape == spec.slot:
        return np.ascontiguousarray(pixels)
    slot = np.zeros(spec.slot, spec.dtype)
    slot[tuple(map(slice, pixels.shape))] = pixels
    return slot


@dataclass(frozen=True)
class Chunk:
    """What a shard holds of one frame."""

    data: NDArray[Any] | bytes
    """the slot itself where the array is not compressed"""
    crc32c: int
    """of the slot"""


def chunk_of(pixels: NDArray[Any], spec: ArraySpec) -> Chunk:
    """The chunk of a frame, (H, W[, C]) in the array's dtype. Raises as `in_slot`."""
    slot = in_slot(pixels, spec)
    return Chunk(slot if spec.codec == "none" else pack(slot, spec), crc32c(slot))


class ShardWriter:
    """Writes the slots of one shard in order; memory is one slot and two of DirectFile's buffers.

    `frame` or `missing` is called once for each slot, then `finish`. The file is removed if the
    block ends otherwise.
    """

    def __init__(self, path: Path, spec: ArraySpec) -> None:
        self.path, self.spec = path, spec
        self._index = np.full((spec.frames_per_shard, 2), MISSING, "<u8")
        self._at = self._end = 0
        self._slot_bytes = spec.slot_bytes
        self._room: NDArray[np.uint8] | None = None  # that was given
        self.chunks_crc32c: int | None = None if spec.codec == "none" else 0
        """of all compressed chunks so far: what a chunk is made of is more than its slot"""
        self._file = DirectFile(path)
        self._finished = False

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._file.close()
        if not self._finished:
            self.path.unlink(missing_ok=True)

    def room(self) -> NDArray[np.uint8] | None:
        """The next slot's bytes, if a frame may be made right there; valid until `frame`."""
        room = self._file.room(self._slot_bytes) if self.spec.codec == "none" else None
        if room is None:
            return None
        self._room = np.frombuffer(room, np.uint8)
        return self._room

    def frame(self, chunk: Chunk) -> None:
        """Write the chunk of a frame into the next slot."""
        room, self._room = self._room, None
        if room is not None and _fills(chunk.data, room):  # it was made right there
            size = len(room)
            self._file.wrote(size)
        else:
            whole: Any = chunk.data
            data = memoryview(whole).cast("B")
            size = len(data)
            self._file.write(data)
            if self.chunks_crc32c is not None:
                self.chunks_crc32c = extended(self.chunks_crc32c, data)
        self._index[self._at] = self._end, size
        self._at += 1
        self._end += size

    def missing(self) -> None:
        """Leave the next slot to a frame that failed: "missing" in the index.

        Uncompressed it keeps its place. A hole in the file reads as zeros, and costs nothing where
        a header lies about its size.
        """
        self._room = None
        if self.spec.codec == "none":
            self._file.skip(self._slot_bytes)
            self._end += self._slot_bytes
        self._at += 1

    def finish(self) -> tuple[int, int]:
        """Write the index and make all durable: (size in bytes, CRC-32C of the index)."""
        index = self._index.tobytes()
        checksum = crc32c(index)
        self._file.write(memoryview(index + checksum.to_bytes(4, "little")))
        size = self._file.finish()
        self._finished = True
        return size, checksum


def _fills(data: NDArray[Any] | bytes, room: NDArray[np.uint8]) -> bool:
    """True if contiguous data lie in all of the room."""
    if not isinstance(data, np.ndarray) or data.nbytes != room.nbytes:
        return False
    return data.base is room or _address(data) == _address(room)


def _address(data: NDArray[Any]) -> int:
    return int(data.__array_interface__["data"][0])


def read_index(file: BinaryIO, spec: ArraySpec) -> tuple[NDArray[np.uint64], int, bool]:
    """(entries (n, 2): offset and length, bytes before them, whether their CRC-32C matches).

    Raises ValueError if the file is shorter than its index.
    """
    size = 16 * spec.frames_per_shard + 4
    start = file.seek(0, os.SEEK_END) - size
    if start < 0:
        raise ValueError(f"{start + size} bytes, too few for an index")
    file.seek(start)
    tail = file.read()
    raw, stated = tail[:-4], int.from_bytes(tail[-4:], "little")
    return np.frombuffer(raw, "<u8").reshape(-1, 2), start, crc32c(raw) == stated


def filled_gap(
    file: int, spec: ArraySpec, slots: int, used: NDArray[np.integer[Any]]
) -> int | None:
    """The first slot without a frame that holds not only zeros; None if there is none.

    Of an uncompressed shard of so many slots, open as `file`; `used` are those that hold a frame.
    Holes are not read.
    """
    size = spec.slot_bytes
    for slot in np.setdiff1d(np.arange(slots), used).tolist():
        at, end = slot * size, (slot + 1) * size
        while (at := _next_data(file, at)) < end and (
            block := pread(file, min(_BLOCK, end - at), at)
        ):
            if block.strip(b"\0"):
                return int(slot)
            at += len(block)
    return None


def _next_data(file: int, at: int) -> int:
    """Where the file has data from `at` on, if its file system tells holes apart."""
    try:
        return next_data(file, at)
    except OSError as e:
        return 1 << 62 if e.errno == errno.ENXIO else at  # no data any more


def read_slot(file: BinaryIO, spec: ArraySpec, entry: NDArray[np.uint64]) -> NDArray[Any]:
    """The slot that an entry of the index names. Raises ValueError if its chunk is none."""
    offset, length = entry.tolist()
    if max(offset, length) >= 1 << 62 or length > spec.slot_bytes + CHUNK_HEADER:
        raise ValueError(f"{length} bytes at {offset}, which is no chunk")
    file.seek(offset)
    return unpack(file.read(length), spec)
