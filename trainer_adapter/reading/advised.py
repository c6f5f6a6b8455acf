"""Frames from the memory map, after the kernel was told which bytes a batch will touch."""

from __future__ import annotations

import ctypes
import mmap
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer_adapter.order.permutations import Ints
from trainer_adapter.reading.mapped import Mapped
from trainer_adapter.reading.shards import Packed, ShardStore, span_of
from trainer_adapter.reading.spots import Box, Corners, Frame, Spots

_PAGE = mmap.PAGESIZE
_ADVISED_AT_ONCE = 128 << 10  # Linux cuts longer requests down to the device's read-ahead
_PROBED = 1  # a system call each; what is cold in part is found within a few batches


class Advised(Mapped):
    """From the memory map, after telling the kernel what a batch will touch (madvise, mincore).

    With `probe`, a batch whose first frame is in memory is taken to be there as a whole: warm
    data then cost no system call for each frame.
    """

    def __init__(self, store: ShardStore, probe: bool, unseen: int = 0) -> None:
        """`unseen`: bytes that are taken for cold first, where mincore does not say."""
        super().__init__(store)
        self._probe, self._libc = probe, ctypes.CDLL(None, use_errno=True)
        self._unseen = unseen
        self._told: dict[tuple[int, int], weakref.ref[Any]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Advised, (self._store, self._probe, self._unseen)

    def whole(self, out: NDArray[Any], spots: Spots) -> None:
        """Frames of one array and size into `out`, (b, H, W[, C])."""
        if len(out) and not self.there(spots):
            self._advise(spots, np.zeros_like(spots.height), spots.height)
        super().whole(out, spots)

    def frames(self, spots: Spots) -> Frame:
        """How each of these frames is had, one by one; all are asked for now."""
        self._advise(spots, np.zeros_like(spots.height), spots.height)
        return super().frames(spots)

    def crops(self, out: NDArray[Any], spots: Spots, corners: Corners) -> None:
        """Crops of frames into `out`, (b, h, w[, C]); only their rows are read."""
        if len(out) and not self._starts(spots, corners, out.shape[1]):
            self._advise(*self._rows(spots, corners, out.shape[1]))
        super().crops(out, spots, corners)

    def patches(
        self, out: NDArray[Any], spots: Spots, corners: Corners, boxes: Sequence[Box | None]
    ) -> Callable[[int], None]:
        """How patch k of `out`, (b, d, h, w), is copied; the rows of all are asked for now."""
        if not self._probe or self._unseen > 0 or not self._sees(boxes[0], out.shape[2]):
            self._advise(*self._rows(spots, corners, out.shape[2]))
        return super().patches(out, spots, corners, boxes)

    def _sees(self, box: Box | None, rows: int) -> bool:
        """Whether a patch, by its first slice, is in memory."""
        if box is None:
            return False
        shard, slot = divmod(box.row, self._store.root.arrays[box.array].frames_per_shard)
        first, last = max(0, box.top), min(box.height, box.top + rows)
        offset, length = self._span(box.array, shard, slot, first, last - first)
        return self._resident((self._start(box.array, shard) + offset, length))

    def _starts(self, spots: Spots, corners: Corners, rows: int) -> bool:
        """Whether the first of these crops is in memory, and that says something of all others."""
        if not self._probe or self._unseen > 0:
            return False
        columns = spots.array, spots.shard, spots.slot, spots.height, corners.top
        array, shard, slot, height, top = (int(column[0]) for column in columns)
        first, last = (min(max(0, y), height) for y in (top, top + rows))
        offset, length = self._span(array, shard, slot, first, last - first)
        return self._resident((self._start(array, shard) + offset, length))

    def _rows(self, spots: Spots, corners: Corners, rows: int) -> tuple[Spots, Ints, Ints]:
        """(spots, first row, how many of them) of crops."""
        first = np.clip(corners.top, 0, spots.height)
        return spots, first, np.clip(corners.top + rows, 0, spots.height) - first

    def there(self, spots: Spots) -> bool:
        """Whether the first of these frames is in memory, and that says something of all others."""
        if not self._probe or self._unseen > 0:
            return False
        columns = spots.array, spots.shard, spots.slot, spots.height
        array, shard, slot, height = (int(column[0]) for column in columns)
        offset, length = self._span(array, shard, slot, 0, height)
        return self._resident((self._start(array, shard) + offset, length))

    def _start(self, array: int, shard: int) -> int:
        """Address of the shard's map; no read-ahead from it, for what a batch needs is told."""
        found = self._store.mapped(array, shard)
        data = found.data if isinstance(found, Packed) else found
        start = int(data.__array_interface__["data"][0])
        told = self._told.get((array, shard))
        if not self._probe and (told is None or told() is not found):
            self._libc.madvise(
                ctypes.c_void_p(start // _PAGE * _PAGE),
                ctypes.c_size_t(data.nbytes + start % _PAGE),
                mmap.MADV_RANDOM,
            )
            self._told[array, shard] = weakref.ref(found)
        return start

    def _advise(self, spots: Spots, first: Ints, count: Ints) -> None:
        some = slice(_PROBED)
        if self._is_there(spots.part(some), first[some], count[some]):
            return
        for page, length in self._ranges(spots.array, spots.shard, spots.slot, first, count):
            self._unseen -= length
            for k in range(0, length, _ADVISED_AT_ONCE):
                part = min(_ADVISED_AT_ONCE, length - k)
                self._libc.madvise(
                    ctypes.c_void_p(page + k), ctypes.c_size_t(part), mmap.MADV_WILLNEED
                )

    def _is_there(self, spots: Spots, first: Ints, count: Ints) -> bool:
        """Whether rows of a few frames are in memory, and that says something of all others."""
        if not self._probe or self._unseen > 0:
            return False
        ranges = self._ranges(spots.array, spots.shard, spots.slot, first, count)
        return all(map(self._resident, ranges))

    def _ranges(self, *columns: Ints) -> Iterator[tuple[int, int]]:
        """(page, length) in memory of what is touched of each frame."""
        for array, shard, slot, y, rows in zip(*(c.tolist() for c in columns), strict=True):
            offset, length = self._span(array, shard, slot, y, rows)
            start = self._start(array, shard) + offset
            page = start // _PAGE * _PAGE
            yield page, start + length - page

    def _span(self, array: int, shard: int, slot: int, y: int, rows: int) -> tuple[int, int]:
        """(offset, length) in the shard of what is touched for `rows` of a slot."""
        spec = self._store.root.arrays[array]
        if spec.codec != "none":  # a chunk is decompressed as a whole
            packed = self._store.mapped(array, shard)
            assert isinstance(packed, Packed)
            return span_of(packed.path, packed.index, slot) if rows else (0, 0)
        row = spec.slot_bytes // spec.slot[0]
        return slot * spec.slot_bytes + y * row, rows * row

    def _resident(self, span: tuple[int, int]) -> bool:
        """Whether the page in the middle of a span is in memory."""
        middle = (span[0] + span[1] // 2) // _PAGE * _PAGE
        found = ctypes.c_ubyte()
        failed = self._libc.mincore(
            ctypes.c_void_p(middle), ctypes.c_size_t(_PAGE), ctypes.byref(found)
        )
        return not failed and bool(found.value & 1)
