"""Size, fit and spacing, pure: where a frame lies in what is stored, and its pixels there.

Coordinates count from the outer corner of the first pixel: that pixel spans 0 to 1. A point y of
the source is at scale_y * y + offset_y in what is stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Placement:
    """Where n frames lie in what is stored."""

    height: Ints
    """(n,) rows that are stored"""
    width: Ints
    scale_y: Floats
    """(n,) stored pixels per source pixel: whole scaled rows / rows of the source"""
    scale_x: Floats
    offset_y: Floats
    """(n,) stored pixels before the first row of the source; below 0: cropped"""
    offset_x: Floats


def place(
    height: Ints,
    width: Ints,
    spacing_y: Floats,
    spacing_x: Floats,
    aspect: Floats,
    size: tuple[int, int] | None,
    fit: str,
    spacing: float | None,
) -> Placement:
    """The placement of n frames of (height, width) pixels, `spacing_y` x `spacing_x` mm apart.

    With `spacing`, all have spacings, and these fix the scale; `size` then pads or crops. `pad` and
    `crop` keep shapes as they are in millimetres; without spacings a pixel is `aspect` times as
    high as wide, and where that is not known either, square.
    """
    if spacing is not None:
        tall, wide = _at_least_1(height * spacing_y / spacing), _at_least_1(
            width * spacing_x / spacing
        )  # fmt: skip
    elif size is None:
        tall, wide = height, width
    elif fit == "stretch":
        tall, wide = np.full_like(height, size[0]), np.full_like(width, size[1])
    else:
        unsaid = np.where(np.isnan(aspect), 1.0, aspect)
        aspect = np.where(np.isnan(spacing_y * spacing_x), unsaid, spacing_y / spacing_x)
        by_rows, by_columns = size[0] / (height * aspect), size[1] / width
        factor = (
            np.minimum(by_rows, by_columns) if fit == "pad" else np.maximum(by_rows, by_columns)
        )
        tall, wide = _at_least_1(height * aspect * factor), _at_least_1(1.0 * width * factor)
    rows, columns = (tall, wide) if size is None else (np.full_like(tall, size[0]),
                                                       np.full_like(wide, size[1]))  # fmt: skip
    return Placement(
        height=rows,
        width=columns,
        scale_y=tall / height,
        scale_x=wide / width,
        offset_y=((rows - tall) // 2).astype(np.float64),
        offset_x=((columns - wide) // 2).astype(np.float64),
    )


def _at_least_1(sides: NDArray[Any]) -> Ints:
    return np.maximum(1, np.floor(sides + 0.5)).astype(np.int64)


@dataclass(frozen=True)
class Canvas:
    """The placement of one frame."""

    height: int
    width: int
    scale_y: float
    scale_x: float
    offset_y: float
    offset_x: float

    def scaled(self, rows: int, columns: int) -> tuple[int, int]:
        """Size of the whole source, (rows, columns) pixels, at this scale."""
        return round(rows * self.scale_y), round(columns * self.scale_x)

    def lay(self, scaled: NDArray[Any], fill: Any) -> NDArray[Any]:
        """The scaled source, (h, w[, C]), cut to the canvas, `fill` around it."""
        out = np.full((self.height, self.width, *scaled.shape[2:]), fill, scaled.dtype)
        (to_y, from_y), (to_x, from_x) = (
            _overlap(int(offset), full, side)
            for offset, full, side in (
                (self.offset_y, scaled.shape[0], self.height),
                (self.offset_x, scaled.shape[1], self.width),
            )
        )
        out[to_y, to_x] = scaled[from_y, from_x]
        return out


def _overlap(offset: int, length: int, side: int) -> tuple[slice, slice]:
    """(where in the canvas, where from in the source)."""
    first, last = max(0, offset), min(side, offset + length)
    return slice(first, last), slice(first - offset, last - offset)


def resample(values: NDArray[Any], rows: int, columns: int) -> NDArray[np.float64]:
    """(H, W) values to (rows, columns), antialiased by Pillow's triangle filter in float32.

    Its weights are never below 0: no value leaves the range of what it came from.
    """
    from PIL import Image

    plane = Image.fromarray(np.ascontiguousarray(values, np.float32))
    scaled = plane.resize((columns, rows), Image.Resampling.BILINEAR)
    # Not even by the rounding of float32.
    return np.clip(np.asarray(scaled, np.float64), values.min(), values.max())


def resample_valid(
    values: NDArray[Any], valid: NDArray[np.bool_], rows: int, columns: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(values, valid) of (rows, columns): only valid pixels count, as they weigh.

    A result is valid where at least half of its weight is; elsewhere its value means nothing.
    """
    if valid.all():
        return resample(values, rows, columns), np.ones((rows, columns), bool)
    if not valid.any():
        return np.zeros((rows, columns)), np.zeros((rows, columns), bool)
    weight = resample(valid, rows, columns)
    total = resample(np.where(valid, values, 0), rows, columns)
    some = weight > 0
    mean = np.divide(total, weight, out=np.zeros_like(total), where=some)
    return np.clip(mean, values[valid].min(), values[valid].max()), weight >= 0.5


def nearest(values: NDArray[Any], rows: int, columns: int) -> NDArray[Any]:
    """(H, W) labels to (rows, columns): each takes the pixel that its centre lies in."""
    y = ((np.arange(rows) + 0.5) * values.shape[0] / rows).astype(np.int64)
    x = ((np.arange(columns) + 0.5) * values.shape[1] / columns).astype(np.int64)
    picked: NDArray[Any] = values[y[:, None], x]
    return picked
