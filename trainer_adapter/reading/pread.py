"""Copies of frames by system calls, for network file systems."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer_adapter.errors import DamagedError
from trainer_adapter.format.files import read_into
from trainer_adapter.reading.chunks import Chunk, Scratch, scratch_slot
from trainer_adapter.reading.mapped import frames_by, unpack_whole
from trainer_adapter.reading.shards import ShardStore, index_bytes, span_of
from trainer_adapter.reading.spots import (
    Box,
    Corners,
    Frame,
    Spots,
    part_of,
    rows_of,
    slice_by_slice,
)

_OPEN_FILES = 64
_CHUNK, _SLOT = Scratch(), Scratch()


class _File:
    """An open file, closed when nothing refers to it: another thread may be reading."""

    def __init__(self, fd: int, path: Path) -> None:
        self.fd, self.path = fd, path
        self.index = np.empty((0, 2), np.int64)

    def __del__(self) -> None:
        os.close(self.fd)

    def read(self, out: memoryview, offset: int) -> None:
        """Fill `out` from `offset`. Raises DamagedError where the file ends."""
        read_into(self.fd, out, offset, self.path)


class Pread:
    """By system calls into the batch itself; a few files are kept open."""

    def __init__(self, store: ShardStore) -> None:
        self._store = store
        self._lock, self._process = threading.Lock(), os.getpid()
        self._files: OrderedDict[tuple[int, int], _File] = OrderedDict()

    def __reduce__(self) -> tuple[Any, ...]:
        return Pread, (self._store,)

    def _file(self, array: int, shard: int) -> _File:
        if self._process != os.getpid():  # a fork may have copied a lock that a thread held
            self._lock, self._process = threading.Lock(), os.getpid()
        with self._lock:
            found = self._files.get((array, shard))
            if found is not None:
                self._files.move_to_end((array, shard))
                return found
        opened = self._open(array, shard)
        with self._lock:
            self._files[array, shard] = opened
            if len(self._files) > _OPEN_FILES:
                self._files.popitem(last=False)
        return opened

    def _open(self, array: int, shard: int) -> _File:
        self._store.check_current()
        path, facts = self._store.place(array, shard)
        with self._store.opened(array, shard) as descriptor:
            file = _File(os.dup(descriptor), path)
        tail = np.zeros(min(facts.bytes, index_bytes(self._store.root.arrays[array])), np.uint8)
        file.read(tail.data, facts.bytes - len(tail))
        file.index = self._store.checked(array, shard, facts.bytes, tail)
        return file

    def _chunk(self, array: int, shard: int, slot: int) -> Chunk:
        file = self._file(array, shard)
        offset, length = span_of(file.path, file.index, slot)
        data = _CHUNK.of(length)
        file.read(data.data, offset)
        chunk = Chunk(data, file.path, slot)
        if self._store.checks.due((array, shard), slot):
            pixels = scratch_slot(chunk, self._store.root.arrays[array])
            self._hold(array, shard, slot, pixels, file)
        return chunk

    def _checked(self, array: int, shard: int, slot: int) -> NDArray[Any] | None:
        """The whole of an uncompressed slot, if it is to be checked; good until the next."""
        file = self._file(array, shard)
        if not self._store.checks.due((array, shard), slot):
            return None
        spec = self._store.root.arrays[array]
        data = _SLOT.of(spec.slot_bytes)
        file.read(data.data, slot * spec.slot_bytes)
        self._hold(array, shard, slot, data, file)
        return data.view(spec.dtype).reshape(spec.slot)

    def _hold(self, array: int, shard: int, slot: int, pixels: NDArray[Any], file: _File) -> None:
        try:
            self._store.checks.hold((array, shard), slot, pixels, file.path)
        except DamagedError:
            with self._lock:  # a shard that was mended since is opened anew
                self._files.pop((array, shard), None)
            raise

    def whole(self, out: NDArray[Any], spots: Spots) -> None:
        """Frames of one array and size into `out`, (b, H, W[, C])."""
        spec = self._store.root.arrays[int(spots.array[0])] if len(out) else None
        if spec is not None and spec.codec != "none":
            unpack_whole(out, spots, spec, self._chunk)
            return
        self.crops(out, spots, Corners(np.zeros_like(spots.height), np.zeros_like(spots.height)))

    def patches(
        self, out: NDArray[Any], spots: Spots, corners: Corners, boxes: Sequence[Box | None]
    ) -> Callable[[int], None]:
        """How patch k of `out`, (b, d, h, w), is read, for any thread to call."""
        return slice_by_slice(self.crops, out, spots, corners)

    def frames(self, spots: Spots) -> Frame:
        """How each of these frames is read, one by one."""
        return frames_by(spots, self._store.root.arrays, self._slot, self._chunk)

    def _slot(self, array: int, shard: int, slot: int) -> NDArray[Any]:
        """An uncompressed slot; good until the next."""
        found = self._checked(array, shard, slot)
        if found is not None:
            return found
        spec = self._store.root.arrays[array]
        data = _SLOT.of(spec.slot_bytes)
        self._file(array, shard).read(data.data, slot * spec.slot_bytes)
        return data.view(spec.dtype).reshape(spec.slot)

    def crops(self, out: NDArray[Any], spots: Spots, corners: Corners) -> None:
        """Crops of frames into `out`, (b, h, w[, C]); uncompressed, only their rows are read."""
        for target, array, shard, slot, height, width, top, left, fill in rows_of(
            out, spots, corners
        ):
            spec = self._store.root.arrays[array]
            y, to_y, rows = part_of(height, top, out.shape[1])
            x, to_x, columns = part_of(width, left, out.shape[2])
            if (rows, columns) != out.shape[1:3]:
                target[...] = fill
                target = target[to_y : to_y + rows, to_x : to_x + columns]
            if not target.size:
                continue
            if spec.codec != "none":
                frame = scratch_slot(self._chunk(array, shard, slot), spec)
                np.copyto(target, frame[y : y + rows, x : x + columns])
                continue
            whole = self._checked(array, shard, slot)
            if whole is not None:
                np.copyto(target, whole[y : y + rows, x : x + columns])
                continue
            offset = slot * spec.slot_bytes + y * (spec.slot_bytes // spec.slot[0])
            if columns == spec.slot[1] and target.flags.c_contiguous:
                lines = target
            else:
                lines = np.empty((rows, *spec.slot[1:]), spec.dtype)
            self._file(array, shard).read(lines.data.cast("B"), offset)
            if lines is not target:
                np.copyto(target, lines[:, x : x + columns])
