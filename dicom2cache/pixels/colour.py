"""Colour, pure: YBR and palette to RGB, RGB to grey. uint8 or uint16 in, the same out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_C = np.arange(256, dtype=np.int64) - 128


def _rounded(numerator: NDArray[np.int64], denominator: int) -> NDArray[np.int16]:
    """The fraction to the nearest whole number, halves up; exact, where a float can miss a half."""
    return ((2 * numerator + denominator) // (2 * denominator)).astype(np.int16)


# Y is whole, so that rounding Y + x is Y + rounding x: one table for each chroma value is exact.
# PS3.3 C.7.6.3.1.2, inverse of YBR_FULL.
_RED = _rounded(1402 * _C, 1000)
_BLUE = _rounded(1772 * _C, 1000)
# 0.114 * 1.772 / 0.587 and 0.299 * 1.402 / 0.587, of Cb and of Cr
_GREEN = _rounded(-202008 * _C[:, None] - 419198 * _C[None, :], 587000)


@dataclass(frozen=True)
class Palette:
    """A palette colour lookup table, PS3.3 C.7.6.3.1.5 and C.7.6.3.1.6."""

    first: int
    """stored value that the first entry is for"""
    entries: NDArray[Any]
    """(n, 3) uint8 or uint16, red, green, blue"""


def ybr_full_to_rgb(ybr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(..., 3) uint8 YBR_FULL to (..., 3) uint8 RGB (PS3.3 C.7.6.3.1.2)."""
    y, cb, cr = (ybr[..., k] for k in range(3))
    wide = y.astype(np.int16)
    rgb = np.empty(ybr.shape, np.int16)
    rgb[..., 0] = wide + _RED[cr]
    rgb[..., 1] = wide + _GREEN[cb, cr]
    rgb[..., 2] = wide + _BLUE[cb]
    return np.clip(rgb, 0, 255).astype(np.uint8)


def ybr_422_to_full(flat: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    """Native YBR_FULL_422 (Y1 Y2 Cb Cr, ...) to (rows, columns, 3) uint8 YBR_FULL.

    Each chroma pair serves two pixels side by side (PS3.3 C.7.6.3.1.2); `columns` is even.
    """
    quads = flat.reshape(rows, columns // 2, 4)
    full = np.empty((rows, columns, 3), np.uint8)
    full[:, 0::2, 0] = quads[..., 0]
    full[:, 1::2, 0] = quads[..., 1]
    for channel in (1, 2):
        full[:, 0::2, channel] = full[:, 1::2, channel] = quads[..., channel + 1]
    return full


def palette_to_rgb(index: NDArray[Any], palette: Palette) -> NDArray[Any]:
    """(H, W) stored values to (H, W, 3) RGB in the palette's dtype.

    Values below the first mapped one take the first entry, those beyond the last take the last
    (PS3.3 C.7.6.3.1.5).
    """
    place = index.astype(np.int64) - palette.first
    return palette.entries[np.clip(place, 0, len(palette.entries) - 1)]


def rgb_to_grey(rgb: NDArray[Any]) -> NDArray[Any]:
    """(H, W, 3) RGB to (H, W) luminance, the Y of PS3.3 C.7.6.3.1.2, in the same dtype."""
    r, g, b = (rgb[..., k].astype(np.float64) for k in range(3))
    return np.floor(0.299 * r + 0.587 * g + 0.114 * b + 0.5).astype(rgb.dtype)
