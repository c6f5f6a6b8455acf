"""Where the frames of a batch lie, and how they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trainer_adapter.order.permutations import Ints


def part_of(size: int, start: int, length: int) -> tuple[int, int, int]:
    """(first in the frame, first in the crop, length) of what a crop has of a frame."""
    first = max(0, start)
    return first, first - start, max(0, min(size, start + length) - first)


@dataclass(frozen=True)
class Spots:
    """Where the frames of a batch lie, (b,) each."""

    array: Ints
    shard: Ints
    slot: Ints
    height: Ints
    width: Ints

    def part(self, some: slice) -> Spots:
        """Some of them."""
        return Spots(
            self.array[some], self.shard[some], self.slot[some], self.height[some], self.width[some]
        )


@dataclass(frozen=True)
class Corners:
    """Where the crops of a batch lie in their frames, (b,) each; may be outside."""

    top: Ints
    left: Ints
    fill: float | NDArray[Any] = 0.0
    """value of what lies outside, one or (b,)"""

    def repeated(self, times: int) -> Corners:
        """Each of them for so many frames."""
        fill = self.fill if np.ndim(self.fill) == 0 else np.repeat(self.fill, times)
        return Corners(np.repeat(self.top, times), np.repeat(self.left, times), fill)

    def part(self, some: slice) -> Corners:
        """Some of them."""
        fill = self.fill[some] if isinstance(self.fill, np.ndarray) else self.fill
        return Corners(self.top[some], self.left[some], fill)


class Reading(Protocol):
    """One way to copy."""

    def whole(self, out: NDArray[Any], spots: Spots) -> None:
        """Frames of one array and size into `out`, (b, H, W[, C])."""

    def crops(self, out: NDArray[Any], spots: Spots, corners: Corners) -> None:
        """Crops of frames of one dtype and number of channels into `out`, (b, h, w[, C])."""

    def patches(self, out: NDArray[Any], spots: Spots, corners: Corners) -> Callable[[int], None]:
        """How patch k of `out`, (b, d, h, w), is copied, for any thread to call.

        `spots` and `corners` are of all their slices, (b * d,), as for crops.
        """


def rows_of(out: NDArray[Any], spots: Spots, corners: Corners) -> Iterator[Any]:
    """(target, array, shard, slot, height, width, top, left, fill) of each frame."""
    columns = (spots.array, spots.shard, spots.slot, spots.height, spots.width)
    fill = np.broadcast_to(corners.fill, len(out)).tolist()
    return zip(out, *(c.tolist() for c in (*columns, corners.top, corners.left)), fill, strict=True)


def slice_by_slice(
    crops: Callable[[NDArray[Any], Spots, Corners], None],
    out: NDArray[Any],
    spots: Spots,
    corners: Corners,
) -> Callable[[int], None]:
    """Patches as so many crops: what `patches` is where nothing better can be done."""
    depth = out.shape[1]

    def copy(k: int) -> None:
        some = slice(k * depth, (k + 1) * depth)
        crops(out[k], spots.part(some), corners.part(some))

    return copy
