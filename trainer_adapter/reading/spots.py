"""Where the frames of a batch lie, and how they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from trainer_adapter.format.members import Array
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

    def taken(self, which: Ints) -> Spots:
        """Those that are at these places."""
        return Spots(
            self.array[which], self.shard[which], self.slot[which], self.height[which],
            self.width[which],
        )  # fmt: skip

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

    def taken(self, which: Ints) -> Corners:
        """Those that are at these places."""
        fill = self.fill[which] if isinstance(self.fill, np.ndarray) else self.fill
        return Corners(self.top[which], self.left[which], fill)

    def part(self, some: slice) -> Corners:
        """Some of them."""
        fill = self.fill[some] if isinstance(self.fill, np.ndarray) else self.fill
        return Corners(self.top[some], self.left[some], fill)


class Box(NamedTuple):
    """A patch whose slices lie one behind the other in an uncompressed array."""

    array: int
    row: int
    """of the first slice that there is"""
    slices: int
    """how many there are"""
    before: int
    """how many are not there before them"""
    height: int
    width: int
    """of the slices"""
    top: int
    left: int
    fill: float


class Frame(Protocol):
    """How frame k is had, (H, W[, C])."""

    def __call__(self, k: int, target: NDArray[Any] | None = None) -> NDArray[Any]:
        """In `target`, contiguous and of its shape and dtype; else somewhere, to be read.

        There it is good until the thread asks for another.
        """


class Reading(Protocol):
    """One way to copy."""

    def whole(self, out: NDArray[Any], spots: Spots) -> None:
        """Frames of one array and size into `out`, (b, H, W[, C])."""

    def frames(self, spots: Spots) -> Frame:
        """How each of these frames is had, one by one."""

    def crops(self, out: NDArray[Any], spots: Spots, corners: Corners) -> None:
        """Crops of frames of one dtype and number of channels into `out`, (b, h, w[, C])."""

    def patches(
        self, out: NDArray[Any], spots: Spots, corners: Corners, boxes: Sequence[Box | None]
    ) -> Callable[[int], None]:
        """How patch k of `out`, (b, d, h, w), is copied, for any thread to call.

        `spots` and `corners` are of all their slices, (b * d,), as for crops; `boxes` of them.
        """


def rows_of(out: NDArray[Any], spots: Spots, corners: Corners) -> Iterator[Any]:
    """(target, array, shard, slot, height, width, top, left, fill) of each frame."""
    columns = (spots.array, spots.shard, spots.slot, spots.height, spots.width)
    fill = np.broadcast_to(corners.fill, len(out)).tolist()
    return zip(out, *(c.tolist() for c in (*columns, corners.top, corners.left)), fill, strict=True)


def boxes_of(
    spots: Spots, corners: Corners, depth: int, height: int, arrays: Sequence[Array]
) -> list[Box | None]:
    """Patches of `depth` slices, `height` rows each; None for one that is to be read by slices."""
    row = spots.shard * np.array([a.frames_per_shard for a in arrays])[spots.array] + spots.slot
    inside = (corners.top < spots.height) & (corners.top + height > 0)
    alike = (spots.array, spots.height, spots.width, corners.top, corners.left)
    follows = np.diff(row) == 1
    for column in alike:
        follows &= column[1:] == column[:-1]
    follows |= ~inside[1:] | ~inside[:-1]
    plain = np.array([a.codec == "none" for a in arrays])[spots.array]
    straight = np.append(follows, True).reshape(-1, depth)[:, :-1].all(axis=1)
    inside = inside.reshape(-1, depth)
    before, slices = inside.argmax(axis=1), inside.sum(axis=1)
    at = np.arange(len(before)) * depth + before
    straight &= plain[at] & (slices > 0)
    columns = (
        spots.array[at], row[at], slices, before, spots.height[at], spots.width[at],
        corners.top[at], corners.left[at], np.broadcast_to(corners.fill, len(row))[at],
    )  # fmt: skip
    found = zip(straight.tolist(), *(c.tolist() for c in columns), strict=True)
    return [Box(*box) if is_straight else None for is_straight, *box in found]


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
