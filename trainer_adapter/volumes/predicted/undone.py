"""Labels of stored pixels to those of the source: what the recipe resized or cropped is undone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer_adapter.errors import VolumeError
from trainer_adapter.reading.opened import Core
from trainer_adapter.volumes.stacks import Ints

_PLACES = ("scale_y", "offset_y", "scale_x", "offset_x")
Floats = NDArray[np.float64]


def hold_labels(core: Core, frames: Ints, labels: Any, name: str) -> NDArray[Any]:
    """The labels as an array. Raises ValueError for what are none of these stored frames."""
    found = np.asarray(labels)
    places = core.places
    shape = len(frames), int(places.height[frames[0]]), int(places.width[frames[0]])
    if found.shape != shape or found.dtype.kind not in "bui":
        raise ValueError(
            f"{name}: labels {found.shape} {found.dtype}; legal: {shape}, whole numbers, one slice "
            "for each stored frame, in the order of `volume`"
        )
    if found.size and not 0 <= int(found.min()) <= int(found.max()) < 1 << 16:
        raise ValueError(f"{name}: labels {found.min()} to {found.max()}; legal: 0 to 65535")
    return found.astype(np.uint8 if found.max(initial=0) < 256 else np.uint16)


def undone(core: Core, frames: Ints, labels: NDArray[Any]) -> NDArray[Any]:
    """(d, h, w): at each pixel of the source the label of the stored one that its centre lies in.

    `labels`: (d, H, W) of the stored frames. 0 where the source was cropped away.
    """
    placed = placing(core, frames)
    sizes = _sizes(core, frames)
    if (placed == [1, 0, 1, 0]).all() and labels.shape[1:] == sizes:
        return labels
    made = np.zeros((len(labels), *sizes), labels.dtype)
    for plane, target, (scale_y, offset_y, scale_x, offset_x) in zip(
        labels, made, placed.tolist(), strict=True
    ):
        y, inside_y = _along(sizes[0], scale_y, offset_y, plane.shape[0])
        x, inside_x = _along(sizes[1], scale_x, offset_x, plane.shape[1])
        target[np.ix_(inside_y, inside_x)] = plane[np.ix_(y[inside_y], x[inside_x])]
    return made


def back(core: Core, frames: Ints) -> Floats:
    """(4, 4): (column, row, slice, 1) of the source to those of the stored frames.

    Raises VolumeError where the frames of the stack do not all lie alike in theirs.
    """
    placed = placing(core, frames)
    if (placed != placed[0]).any():
        raise VolumeError("its frames were resized or cropped in different ways")
    scale_y, offset_y, scale_x, offset_x = placed[0].tolist()
    found = np.eye(4)
    found[0, 0], found[0, 3] = scale_x, scale_x / 2 + offset_x - 0.5
    found[1, 1], found[1, 3] = scale_y, scale_y / 2 + offset_y - 0.5
    return found


def placing(core: Core, frames: Ints) -> Floats:
    """(d, 4) scale_y, offset_y, scale_x, offset_x of frames."""
    columns = []
    for name, usual in zip(_PLACES, (1.0, 0.0) * 2, strict=True):
        column = core.said(name, frames).fill_null(usual)
        columns.append(column.to_numpy(zero_copy_only=False).astype(np.float64))
    return np.stack(columns, axis=1)


def _sizes(core: Core, frames: Ints) -> tuple[int, int]:
    """(h, w) of the source of frames. Raises VolumeError where they differ."""
    stored = core.places.height[frames], core.places.width[frames]
    sides = []
    for name, usual in zip(("source_height", "source_width"), stored, strict=True):
        column = core.said(name, frames).to_numpy(zero_copy_only=False).astype(np.float64)
        column = np.unique(np.where(np.isnan(column), usual, column).astype(np.int64))
        if len(column) > 1:
            raise VolumeError(f"the images of the stack had several sizes: {column.tolist()}")
        sides.append(int(column[0]))
    return sides[0], sides[1]


def _along(size: int, scale: float, offset: float, stored: int) -> tuple[Ints, NDArray[np.bool_]]:
    """(size,) which stored pixel the centre of each source pixel lies in, and whether in one."""
    at = np.floor(scale * (np.arange(size) + 0.5) + offset)
    inside = (at >= 0) & (at < stored)
    return np.where(inside, at, 0).astype(np.int64), inside
