"""Where frames lie in shards, and their copies from the memory map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer_adapter.format.members import Array
from trainer_adapter.reading.chunks import Chunk, hold_header, scratch_slot, unpack
from trainer_adapter.reading.shards import ShardStore
from trainer_adapter.reading.spots import (
    Box,
    Corners,
    Frame,
    Spots,
    part_of,
    rows_of,
    slice_by_slice,
)


class Mapped:
    """From the memory map."""

    def __init__(self, store: ShardStore) -> None:
        self._store = store

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._store,)

    def whole(self, out: NDArray[Any], spots: Spots) -> None:
        """Frames of one array and size into `out`, (b, H, W[, C])."""
        if not len(out):
            return
        array = int(spots.array[0])
        spec = self._store.root.arrays[array]
        if spec.codec != "none":
            unpack_whole(out, spots, spec, self._chunk)
            return
        shards, places = spots.shard.tolist(), spots.slot.tolist()
        rows, held = self._store.together(array, shards, places)
        straight = out.shape[1:] == spec.slot and out.dtype == spec.dtype and out.flags.carray
        if straight and rows is not None:
            at = spots.shard * spec.frames_per_shard + spots.slot
            rows.take(at, 0, out, "clip")  # other modes copy into a buffer
            return
        height, width = out.shape[1:3]
        for target, shard, slot in zip(out, shards, places, strict=True):
            np.copyto(target, held[shard][slot, :height, :width])

    def frames(self, spots: Spots) -> Frame:
        """How each of these frames is had, one by one."""
        return frames_by(spots, self._store.root.arrays, self._slot, self._chunk)

    def crops(self, out: NDArray[Any], spots: Spots, corners: Corners) -> None:
        """Crops of frames into `out`, (b, h, w[, C]); uncompressed, only their rows are touched."""
        if len(out) and self._inside(out, spots, corners):
            return
        for target, array, shard, slot, height, width, top, left, fill in rows_of(
            out, spots, corners
        ):
            y, to_y, rows = part_of(height, top, out.shape[1])
            x, to_x, columns = part_of(width, left, out.shape[2])
            if (rows, columns) != out.shape[1:3]:
                target[...] = fill
                target = target[to_y : to_y + rows, to_x : to_x + columns]
            if target.size:
                spec = self._store.root.arrays[array]
                if spec.codec == "none":
                    frame = self._store.slots(array, shard, slot)[slot]
                else:
                    frame = scratch_slot(self._chunk(array, shard, slot), spec)
                np.copyto(target, frame[y : y + rows, x : x + columns])

    def _inside(self, out: NDArray[Any], spots: Spots, corners: Corners) -> bool:
        """Copy crops that all lie in frames of one range of addresses; False if they do not."""
        array, (height, width) = int(spots.array[0]), out.shape[1:3]
        top, left, spec = corners.top, corners.left, self._store.root.arrays[array]
        beyond = (spots.array != array) | (top < 0) | (left < 0)
        beyond |= (top + height > spots.height) | (left + width > spots.width)
        if spec.codec != "none" or beyond.any():
            return False
        rows, _ = self._store.together(array, spots.shard.tolist(), spots.slot.tolist())
        if rows is None:
            return False
        at = spots.shard * spec.frames_per_shard + spots.slot
        for target, k, y, x in zip(out, at.tolist(), top.tolist(), left.tolist(), strict=True):
            np.copyto(target, rows[k, y : y + height, x : x + width])
        return True

    def patches(
        self, out: NDArray[Any], spots: Spots, corners: Corners, boxes: Sequence[Box | None]
    ) -> Callable[[int], None]:
        """How patch k of `out`, (b, d, h, w), is copied, for any thread to call.

        At once where it is a box in one range of addresses; only its rows are touched.
        """
        one_by_one = slice_by_slice(partial(Mapped.crops, self), out, spots, corners)
        _, depth, height, width = out.shape

        def copy(k: int) -> None:
            box, target, there = boxes[k], out[k], None
            if box is not None:
                there = self._store.stretch(box.array, box.row, box.slices)
            if box is None or there is None:
                one_by_one(k)
                return
            y, x = box.top, box.left
            inside = 0 <= y <= box.height - height and 0 <= x <= box.width - width
            if inside and box.slices == depth:  # as nearly always
                copy_rows(target, there[:, y : y + height, x : x + width])
                return
            y, to_y, rows = part_of(box.height, box.top, height)
            x, to_x, columns = part_of(box.width, box.left, width)
            if (box.slices, rows, columns) != target.shape:
                target[...] = box.fill
                target = target[box.before :, to_y : to_y + rows, to_x : to_x + columns]
                target = target[: box.slices]
            if columns:
                copy_rows(target, there[:, y : y + rows, x : x + columns])

        return copy

    def frame(self, array: int, shard: int, slot: int) -> NDArray[Any]:
        """One slot, (H, W[, C]) read-only: a view of the map, or decompressed anew."""
        spec = self._store.root.arrays[array]
        if spec.codec == "none":
            return self._slot(array, shard, slot)
        chunk = self._chunk(array, shard, slot)
        hold_header(chunk, spec)
        fresh = np.empty(spec.slot, spec.dtype)
        unpack(chunk, spec, fresh)
        fresh.flags.writeable = False
        return fresh

    def _slot(self, array: int, shard: int, slot: int) -> NDArray[Any]:
        view: NDArray[Any] = self._store.slots(array, shard, slot)[slot]
        return view

    def _chunk(self, array: int, shard: int, slot: int) -> Chunk:
        return self._store.packed(array, shard, slot).chunk(slot)


def copy_rows(target: NDArray[Any], source: NDArray[Any]) -> None:
    """Copy a (d, h, w) into another, row by row: NumPy takes a fifth longer for their numbers."""
    row = _row(source.shape[2] * source.itemsize)
    np.copyto(target.view(row), source.view(row))


@cache
def _row(nbytes: int) -> np.dtype[np.void]:
    return np.dtype((np.void, nbytes))


def frames_by(
    spots: Spots,
    specs: Sequence[Array],
    slot_of: Callable[[int, int, int], NDArray[Any]],
    chunk_of: Callable[[int, int, int], Chunk],
) -> Frame:
    """Frames out of slots, or of chunks; straight into their targets where they fill their slot."""
    arrays, shards, slots, heights, widths = (
        c.tolist() for c in (spots.array, spots.shard, spots.slot, spots.height, spots.width)
    )

    def frame(k: int, target: NDArray[Any] | None = None) -> NDArray[Any]:
        spec = specs[arrays[k]]
        if spec.codec == "none":
            found = slot_of(arrays[k], shards[k], slots[k])
        else:
            chunk = chunk_of(arrays[k], shards[k], slots[k])
            if target is not None and target.shape == spec.slot:
                unpack(chunk, spec, target)
                return target
            found = scratch_slot(chunk, spec)
        found = found[: heights[k], : widths[k]]
        if target is None:
            return found
        np.copyto(target, found)
        return target

    return frame


def unpack_whole(
    out: NDArray[Any], spots: Spots, spec: Array, chunk_of: Callable[[int, int, int], Chunk]
) -> None:
    """Compressed frames of one array and size into `out`, straight where they fill their slot."""
    array, (height, width) = int(spots.array[0]), out.shape[1:3]
    straight = out.shape[1:] == spec.slot and out.flags.c_contiguous
    for target, shard, slot in zip(out, spots.shard.tolist(), spots.slot.tolist(), strict=True):
        chunk = chunk_of(array, shard, slot)
        if straight:
            unpack(chunk, spec, target)
        else:
            np.copyto(target, scratch_slot(chunk, spec)[:height, :width])
