"""The frame that most files have, from its bytes to its values where they lie, in one pass.

Grey, whole numbers of 8 or 16 bits, to be stored as such under whole slopes, uncompressed or of a
codestream without loss; and RGB of 8 bits, uncompressed or as a decoder gives it. It needs none of
the stages that others go through, and what it becomes is the same bit by bit. Whatever is not so
plain, or does not fit, goes the long way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dicom2cache import syntaxes
from dicom2cache.frames.coded import Decoded
from dicom2cache.frames.decode import Room, Source
from dicom2cache.frames.ranges import stored_range
from dicom2cache.frames.samples import is_lossy
from dicom2cache.pixels import kernel
from dicom2cache.pixels.intensity import wrapped
from dicom2cache.pixels.statistics import Statistics, grid_step, nearest, of_whole
from dicom2cache.recipes.recipe import Treatment
from dicom2cache.records import FrameRow, Header

_NATIVE = (syntaxes.IMPLICIT_LE, syntaxes.EXPLICIT_LE)
_COLOUR = (syntaxes.SYNTAXES.keys() - syntaxes.NATIVE).union(_NATIVE)
_GREY = _COLOUR - syntaxes.ALWAYS_LOSSY


@dataclass(frozen=True)
class Plain:
    """A frame in the dtype of its array, and what statistics and flags it has."""

    pixels: NDArray[Any]
    """(H, W) or (H, W, 3)"""
    statistics: Statistics
    codec: str
    flags: tuple[str, ...]


class _Bits(NamedTuple):
    """Samples of a frame, and where stored values are in them."""

    samples: NDArray[Any]
    """of the frame's width, in memory that may be written to"""
    stored: int
    """bits of a value"""
    lowest: int
    within: tuple[int, int]
    """values that need not be looked for"""
    codec: str
    flags: tuple[str, ...]
    flags_after: tuple[str, ...] = ()
    """those that follow after one of its bits"""


def plain_frame(
    source: Source, row: FrameRow, room: Room, treatments: Sequence[Treatment], dtype: str
) -> Plain | Decoded | None:
    """The frame in `dtype`, made in `room` if there is any.

    If it must go the long way what was decoded of it, or None. Raises as `Source.read`.
    """
    header, treatment = source.header, treatments[source.header["rule"] or 0]
    if kernel.compiled is None or not _is_plain(header, row):
        return None
    if header["samples"] == 3:
        return _rgb(source, row, room) if _is_rgb(header, treatment, dtype) else None
    if treatment.graded or not _is_grey(header):
        return None
    line = _line(
        row["slope"], row["intercept"], dtype, header["bits_allocated"], stored_range(header)
    )
    if line is None:
        return None
    decoded = None
    if header["transfer_syntax"] in _NATIVE:
        lowest = header["high_bit"] + 1 - header["bits_stored"]
        native = source.native_bytes(row["frame"], room)
        found = _Bits(native, header["bits_stored"], lowest, stored_range(header), "native",
                      source.late_elements)  # fmt: skip
    else:
        decoded = source.decoded(row["frame"], room)
        bits = _bits_of(decoded, source)
        if bits is None:
            return decoded
        found = bits
    return _grey(header, found, line, dtype) or decoded


def _grey(header: Header, found: _Bits, line: _Line, dtype: str) -> Plain | None:
    """None, and no sample is changed, where one does not fit `dtype`."""
    m, b, fits = line
    padding = _padding(header, *fits)
    pixels = found.samples.view(dtype).reshape(header["height"], header["width"])
    made = kernel.compiled.grey(
        pixels, found.stored, found.lowest, bool(header["signed"]),
        (header["overlay_bits"] or 0) & 0xFFFF, m & 0xFFFF, b & 0xFFFF,
        None if fits == found.within else fits, _ends(padding, m, b) if padding else None,
        grid_step(pixels.shape), nearest,
    )  # fmt: skip
    if made is None:
        return None
    flags = (*found.flags, "high-bits") if made[-1] else found.flags
    declared = None if header["padding_value"] is None else pixels.size
    said = of_whole(made, declared)
    return Plain(pixels, said, found.codec, (*flags, *found.flags_after))


def _bits_of(decoded: Decoded, source: Source) -> _Bits | None:
    """Of a codestream, what `samples.stored_samples` would make values of without a word.

    None for all else: what may overshoot, has a sign where the header has none, or fewer bits than
    a signed value has.
    """
    header, samples = source.header, decoded.pixels
    width, bits, signed = header["bits_allocated"], header["bits_stored"], header["signed"]
    usable = samples.flags.c_contiguous and samples.flags.writeable and samples.dtype.isnative
    if 8 * samples.itemsize != width or not usable or is_lossy(decoded, header):
        return None
    flags, after, every = decoded.flags, source.odd_items, stored_range(header)
    if not decoded.precision:  # words as they were written
        written = header["transfer_syntax"] in syntaxes.AS_WRITTEN
        lowest = header["high_bit"] + 1 - bits if written else 0
        return _Bits(samples, bits, lowest, every, decoded.codec, flags, after)
    if decoded.precision > width:
        return None
    if samples.dtype.kind == "i":  # the codestream says its sign, and may exceed BitsStored
        whole = -1 << width - 1, (1 << width - 1) - 1
        return _Bits(samples, width, 0, whole, decoded.codec, flags, after) if signed else None
    if samples.dtype.kind != "u" or (signed and decoded.precision < bits):
        return None
    return _Bits(samples, bits, 0, every, decoded.codec, flags, after)


def _rgb(source: Source, row: FrameRow, room: Room) -> Plain | Decoded:
    header = source.header
    if header["transfer_syntax"] in _NATIVE:
        native = source.native_bytes(row["frame"], room)
        pixels, codec = native.reshape(header["height"], header["width"], 3), "native"
        flags = source.late_elements
    else:
        decoded = source.decoded(row["frame"], room)
        pixels, codec = decoded.pixels, decoded.codec
        if decoded.photometric != "RGB" or not 0 < decoded.precision <= 8:
            return decoded
        if not kernel.takes(pixels, "B"):
            return decoded
        flags = (*decoded.flags, *source.odd_items)
    made = kernel.compiled.whole(pixels, None, grid_step(pixels.shape), nearest)
    return Plain(pixels, of_whole(made, None), codec, flags)


def _is_plain(header: Header, row: FrameRow) -> bool:
    """True if nothing but a line, or nothing at all, leads from stored bits to values."""
    return (
        header["transfer_syntax"] in (_GREY if header["samples"] == 1 else _COLOUR)
        and header["pixel_keyword"] == "PixelData"
        and header["kind"] != "mask"
        and not header["palette_bits"]
        and not header["parts"]
        and not header["waveforms"]
        and row["scale_y"] is None
        and row["mapped_low"] is None
        and "overlay" not in (header["flags"] or ())
        and header["height"] * header["width"] > 0
    )


def _is_grey(header: Header) -> bool:
    bits, high = header["bits_stored"], header["high_bit"]
    return (
        header["bits_allocated"] in (8, 16)
        and header["samples"] == 1
        and 0 < bits <= high + 1 <= header["bits_allocated"]
        and header["photometric"] != "YBR_FULL_422"
        and header["lut_low"] is None
        and math.isfinite(header["padding_value"] or 0)
        and math.isfinite(header["padding_limit"] or 0)
    )


def _is_rgb(header: Header, treatment: Treatment, dtype: str) -> bool:
    """True of a byte for each colour, pixel by pixel, which is stored as it is: a share too."""
    native = header["transfer_syntax"] in _NATIVE
    return (
        (not native or (header["photometric"] == "RGB" and not header["planar"]))
        and header["bits_allocated"] == header["bits_stored"] == header["high_bit"] + 1 == 8
        and not header["signed"]
        and treatment.colour != "grey"
        and dtype == "uint8"
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
