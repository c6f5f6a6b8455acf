"""Frames that are there twice, under two names: the same patient in an archive of several."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from trainer_adapter.reading.split.columns import Frames, found, numbers

_PIXELS = 64
"""of a smaller frame others may have the same by chance"""
_MANY = 4
"""a frame of more members than these may be a picture of the device, and not of a patient"""
_ALIKE = ("height", "width", "min", "max", "mean", "std")


@dataclass(frozen=True)
class Copies:
    """Pairs of members that have the same frames."""

    first: NDArray[np.int64]
    """(p,) a member"""
    second: NDArray[np.int64]
    """(p,) another one, whose first such frame comes later"""
    frames: NDArray[np.int64]
    """(p,) how many frames of the second are frames of the first too"""
    samples: NDArray[np.int64]
    """(p, 2) sample indices of one such frame, in the first and in the second"""
    common: int
    """how many images were left out, since they are of many members that have others besides"""


def copies(frames: Frames, member: NDArray[np.int64]) -> Copies:
    """Which members, (n,) a number for each frame of a whole cache, have equal frames.

    Equal are frames of one CRC-32C of the slot, size, least, greatest and mean value, and standard
    deviation. No evidence are masks, frames of one value or none, and of less than 64 pixels; nor
    is a frame of more than four members, for those of whose frames at most half are such ones:
    a test pattern, a phantom, a page that says that there is no image.
    """
    none = np.empty(0, np.int64)
    nothing = Copies(none, none, none, np.empty((0, 2), np.int64), 0)
    crc = found(frames, "crc32c")
    if crc is None:
        return nothing
    low, high = numbers(frames, "min"), numbers(frames, "max")
    pixels = numbers(frames, "height") * numbers(frames, "width")
    kinds = found(frames, "kind")
    holds = (high > low) & (pixels >= _PIXELS)
    if kinds is not None:
        holds &= ~pc.equal(kinds, "mask").fill_null(False).to_numpy()
    at = np.flatnonzero(holds)
    at = _of_several(at, np.asarray(crc.to_numpy())[at], member)
    if not len(at):
        return nothing
    keys = np.stack([numbers(frames, name)[at] for name in _ALIKE])
    keys = np.concatenate([np.asarray(crc.to_numpy(), np.float64)[at][None], keys])
    order = np.lexsort(keys)
    at, keys = at[order], keys[:, order]
    image = np.cumsum(np.r_[False, (keys[:, 1:] != keys[:, :-1]).any(axis=0)])
    # A row for each image and member, with the first of its frames: lexsort and unique are stable.
    order = np.lexsort((at, member[at], image))
    at, image = at[order], image[order]
    starts = np.flatnonzero(
        np.r_[True, (image[1:] != image[:-1]) | (member[at][1:] != member[at][:-1])]
    )
    counts = np.diff(np.r_[starts, len(at)])
    at, image = at[starts], image[starts]
    several = np.bincount(image)[image] > 1
    at, image, counts = at[several], image[several], counts[several]
    if not len(at):
        return nothing
    kept, common = _without_common(at, image, counts, member)
    return _pairs(at[kept], image[kept], counts[kept], member, common)


def _of_several(
    at: NDArray[np.int64], crc: NDArray[np.uint32], member: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Those frames whose CRC is one of frames of another member too."""
    order = np.argsort(crc, kind="stable")
    at, crc = at[order], crc[order]
    starts = np.flatnonzero(np.r_[True, crc[1:] != crc[:-1]])[: len(crc)]
    if not len(starts):
        return at
    least, most = (f.reduceat(member[at], starts) for f in (np.minimum, np.maximum))
    sizes = np.diff(np.r_[starts, len(crc)])
    kept: NDArray[np.int64] = at[np.repeat(least != most, sizes)]
    return kept


def _without_common(
    at: NDArray[np.int64],
    image: NDArray[np.int64],
    counts: NDArray[np.int64],
    member: NDArray[np.int64],
) -> tuple[NDArray[np.bool_], int]:
    """Rows of an image and a member that are evidence, and how many images have none."""
    of = member[at]
    many = np.bincount(image)[image] > _MANY
    shared = np.bincount(of[many], counts[many], minlength=member.max() + 1)
    mostly = shared[of] * 2 > np.bincount(member)[of]
    kept = ~many | mostly
    alone = np.bincount(image[kept], minlength=image.max() + 1)[image] < 2
    left_out = len(np.unique(image[many & alone]))
    return kept & ~alone, left_out


def _pairs(
    at: NDArray[np.int64],
    image: NDArray[np.int64],
    counts: NDArray[np.int64],
    member: NDArray[np.int64],
    common: int,
) -> Copies:
    """Of each image its first member with each other one, and how many images two have so."""
    order = np.lexsort((at, image))
    at, image, counts = at[order], image[order], counts[order]
    starts = np.flatnonzero(np.r_[True, image[1:] != image[:-1]])[: len(image)]
    origin = np.repeat(at[starts], np.diff(np.r_[starts, len(at)]))
    other = at != origin
    first, second = member[origin[other]], member[at[other]]
    pairs, place, number = np.unique(
        np.stack([first, second]), axis=1, return_index=True, return_inverse=True
    )
    frames = np.bincount(number.ravel(), counts[other]).astype(np.int64)
    samples = np.stack([origin[other][place], at[other][place]], axis=1)
    return Copies(pairs[0], pairs[1], frames[: pairs.shape[1]], samples, common)
