"""The frame that most files have, from its bytes to its values where they lie, in one pass.

Uncompressed, grey, whole numbers of 8 or 16 bits, to be stored as such under whole slopes: it needs
none of the stages that others go through, and what it becomes is the same bit by bit. Whatever is
not so plain, or does not fit, goes the long way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom2cache import syntaxes
from dicom2cache.frames.decode import Room, Source
from dicom2cache.frames.ranges import stored_range
from dicom2cache.pixels import kernel
from dicom2cache.pixels.intensity import wrapped
from dicom2cache.pixels.statistics import Statistics, grid_step, nearest, of_whole
from dicom2cache.recipes.recipe import Treatment
from dicom2cache.records import FrameRow, Header

_SYNTAXES = (syntaxes.IMPLICIT_LE, syntaxes.EXPLICIT_LE)


@dataclass(frozen=True)
class Plain:
    """A frame in the dtype of its array, and what statistics and flags it has."""

    pixels: NDArray[Any]
    """(H, W)"""
    statistics: Statistics
    flags: tuple[str, ...]


def plain_frame(
    source: Source, row: FrameRow, room: Room, treatments: Sequence[Treatment], dtype: str
) -> Plain | None:
    """The frame in `dtype`, made in `room` if there is any; None if it must go the long way.

    Raises as `Source.read`.
    """
    header = source.header
    if kernel.compiled is None or not _is_plain(header, row, treatments[header["rule"] or 0]):
        return None
    line = _line(
        row["slope"], row["intercept"], dtype, header["bits_allocated"], stored_range(header)
    )
    if line is None:
        return None
    m, b, fits = line
    padding = _padding(header, *fits)
    bits, lowest = header["bits_stored"], header["high_bit"] + 1 - header["bits_stored"]
    pixels = source.native_bytes(row["frame"], room).view(dtype)
    pixels = pixels.reshape(header["height"], header["width"])
    found = kernel.compiled.grey(
        pixels, bits, lowest, bool(header["signed"]), (header["overlay_bits"] or 0) & 0xFFFF,
        m & 0xFFFF, b & 0xFFFF, None if fits == stored_range(header) else fits,
        _ends(padding, m, b) if padding else None, grid_step(pixels.shape), nearest,
    )  # fmt: skip
    if found is None:
        return None
    flags = (*source.late_elements, "high-bits") if found[-1] else source.late_elements
    declared = None if header["padding_value"] is None else pixels.size
    return Plain(pixels, of_whole(found, declared), flags)


def _is_plain(header: Header, row: FrameRow, treatment: Treatment) -> bool:
    """True if nothing but a line leads from stored bits to values."""
    bits, high = header["bits_stored"], header["high_bit"]
    return (
        header["transfer_syntax"] in _SYNTAXES
        and header["pixel_keyword"] == "PixelData"
        and header["bits_allocated"] in (8, 16)
        and header["samples"] == 1
        and 0 < bits <= high + 1 <= header["bits_allocated"]
        and header["kind"] != "mask"
        and not header["palette_bits"]
        and not header["parts"]
        and not header["waveforms"]
        and header["photometric"] != "YBR_FULL_422"
        and header["lut_low"] is None
        and not treatment.graded
        and row["scale_y"] is None
        and row["mapped_low"] is None
        and "overlay" not in (header["flags"] or ())
        and math.isfinite(header["padding_value"] or 0)
        and math.isfinite(header["padding_limit"] or 0)
        and header["height"] * header["width"] > 0
    )


_Line = tuple[int, int, tuple[int, int]]


@lru_cache(maxsize=64)
def _line(
    slope: float | None, intercept: float | None, dtype: str, bits: int, stored: tuple[int, int]
) -> _Line | None:
    """(slope, intercept, stored values that `dtype` has a place for); None if they are not whole,
    or of another width than `bits`."""
    target = np.dtype(dtype)
    if target.char not in "BhH" or target.itemsize * 8 != bits:
        return None
    if not slope or intercept is None or not (slope.is_integer() and intercept.is_integer()):
        return None
    m, b = int(slope), int(intercept)
    limits, (least, most) = np.iinfo(target), stored
    first, last = (limits.min - b, limits.max - b) if m > 0 else (b - limits.max, b - limits.min)
    low, high = max(least, -(-first // abs(m))), min(most, last // abs(m))
    return (m, b, (low, high)) if low <= high else None


def _padding(header: Header, low: int, high: int) -> tuple[int, int] | None:
    """Ends of stored values that are padding, of those in [low, high]."""
    value, limit = header["padding_value"], header["padding_limit"]
    if value is None:
        return None
    ends = sorted(
        wrapped(v, header["bits_allocated"], bool(header["signed"]))
        for v in (value, value if limit is None else limit)
    )
    first, last = max(ends[0], low), min(ends[1], high)
    return (first, last) if first <= last else None


def _ends(stored: tuple[int, int], m: int, b: int) -> tuple[int, int]:
    one, other = (m * end + b for end in stored)
    return min(one, other), max(one, other)
