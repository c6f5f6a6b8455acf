"""Where frames lie in shards, and their copies from the memory map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer_adapter.format.root import Array
from trainer_adapter.reading.chunks import Chunk, hold_header, scratch_slot, unpack
from trainer_adapter.reading.shards import ShardStore
from trainer_adapter.reading.spots import Corners, Spots, part_of, rows_of


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
        held = self._store.held(array, shards, places)
        if out.shape[1:] == spec.slot and out.dtype == spec.dtype and out.flags.carray:
            rows = self._store.rows(array, 0, spec.slots, list(held.values()))
            if rows is not None:
                at = spots.shard * spec.frames_per_shard + spots.slot
                np.take(rows, at, axis=0, out=out, mode="clip")  # other modes copy into a buffer
                return
        height, width = out.shape[1:3]
        for target, shard, slot in zip(out, shards, places, strict=True):
            np.copyto(target, held[shard][slot, :height, :width])

    def crops(self, out: NDArray[Any], spots: Spots, corners: Corners) -> None:
        """Crops of frames into `out`, (b, h, w[, C]); uncompressed, only their rows are touched."""
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

    def frame(self, array: int, shard: int, slot: int) -> NDArray[Any]:
        """One slot, (H, W[, C]) read-only: a view of the map, or decompressed anew."""
        spec = self._store.root.arrays[array]
        if spec.codec == "none":
            view: NDArray[Any] = self._store.slots(array, shard, slot)[slot]
            return view
        chunk = self._chunk(array, shard, slot)
        hold_header(chunk, spec)
        fresh = np.empty(spec.slot, spec.dtype)
        unpack(chunk, spec, fresh)
        fresh.flags.writeable = False
        return fresh

    def _chunk(self, array: int, shard: int, slot: int) -> Chunk:
        return self._store.packed(array, shard, slot).chunk(slot)


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
