"""Stored values to values with a unit, pure. No wrap, no saturation, no silent rounding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom2cache.errors import FrameError


class DoesNotFit(FrameError):
    """A value that a dtype cannot hold; what to do about it hangs on who chose the dtype."""


@dataclass(frozen=True)
class ModalityLut:
    """A modality LUT sequence, PS3.3 C.11.1."""

    first: int
    """stored value that the first entry is for"""
    entries: NDArray[Any]
    """(n,) values"""


def mask_stored(raw: NDArray[Any], bits_stored: int, high_bit: int, signed: bool) -> NDArray[Any]:
    """The BitsStored bits that end at HighBit, sign extended where signed (PS3.5 8.1.1).

    `raw` is an integer array; the result has the same width, signed or unsigned.
    """
    width = raw.dtype.itemsize * 8
    unsigned = raw.view(f"u{raw.dtype.itemsize}")
    target = f"{'i' if signed else 'u'}{raw.dtype.itemsize}"
    if bits_stored == width:
        return unsigned.view(target)
    # Up to the top, then down: the shift down drops what lay below, and extends the sign.
    up, down = width - 1 - high_bit, width - bits_stored
    shifted = np.left_shift(unsigned, up) if up else unsigned
    masked: NDArray[Any] = np.right_shift(shifted.view(target), down)
    return masked


def clean_ends(
    raw: NDArray[Any], bits_stored: int, high_bit: int, signed: bool
) -> tuple[int, int] | None:
    """(least, greatest) value of `raw`, if `mask_stored` would change none of them; else None.

    Both are of use later: no pass over the pixels is spent on the question alone. None too where
    all bits are of the value: then nothing has to be looked at.
    """
    if high_bit != bits_stored - 1 or bits_stored == raw.dtype.itemsize * 8:
        return None
    values = raw.view(f"{'i' if signed else 'u'}{raw.dtype.itemsize}")
    low, high = int(values.min()), int(values.max())
    least, most = (
        (-1 << (bits_stored - 1), 1 << (bits_stored - 1)) if signed else (0, 1 << bits_stored)
    )
    return (low, high) if least <= low and high < most else None


def has_other_bits(
    raw: NDArray[Any], masked: NDArray[Any], bits_stored: int, high_bit: int, declared: int
) -> bool:
    """True if bits outside of BitsStored are set, but for `declared` overlays and sign extension.

    `masked` is what `mask_stored` made of `raw` (PS3.5 8.1.1, PS3.3 C.9.2).
    """
    width = raw.dtype.itemsize * 8
    if bits_stored == width:
        return False
    unsigned = raw.view(f"u{raw.dtype.itemsize}")
    low = high_bit + 1 - bits_stored
    outside = ~(((1 << bits_stored) - 1) << low | declared) & ((1 << width) - 1)
    if not int(np.bitwise_or.reduce(unsigned, axis=None)) & outside:
        return False
    if masked.dtype.kind != "i":
        return True
    kind = unsigned.dtype.type
    extended = np.left_shift(masked, low).view(unsigned.dtype)
    other = unsigned & kind(outside)
    return bool(((other != 0) & (other != (extended & kind(outside)))).any())


def apply_lut(stored: NDArray[Any], lut: ModalityLut) -> NDArray[Any]:
    """Entries of the modality LUT; values outside take its first or last (PS3.3 C.11.1.1.1)."""
    place = stored.astype(np.int64) - lut.first
    return lut.entries[np.clip(place, 0, len(lut.entries) - 1)]


def rescale(
    stored: NDArray[Any],
    slope: float,
    intercept: float,
    dtype: str,
    own: bool = False,
    ends: tuple[int, int] | None = None,
) -> NDArray[Any]:
    """slope * stored + intercept as `dtype`, computed exactly or in float64 and rounded once.

    With `own` the memory of `stored` may become the result's: fresh memory costs page faults.
    `ends` are the least and the greatest of `stored`, where they are known. Raises FrameError if a
    value does not fit `dtype` truly.
    """
    target = np.dtype(dtype)
    if stored.dtype.kind == "f":
        if (slope, intercept) == (1.0, 0.0):
            return to_dtype(stored, dtype)
        return to_dtype(stored.astype(np.float64) * slope + intercept, dtype, rounded=True)
    if not (float(slope).is_integer() and float(intercept).is_integer()):
        if target.kind != "f":
            raise DoesNotFit(
                f"slope {slope!r}, intercept {intercept!r} give fractions, which {dtype} cannot "
                "hold"
            )
        return to_dtype(stored.astype(np.float64) * slope + intercept, dtype, rounded=True)
    m, b = int(slope), int(intercept)
    if (m, b) == (1, 0) and stored.dtype == target:
        return stored
    if target.kind == "f":
        return to_dtype(stored.astype(np.float64) * m + b, dtype)
    limits = np.iinfo(target)
    low, high = rescaled_ends(ends or (int(stored.min()), int(stored.max())), m, b)
    if low < limits.min or high > limits.max:
        raise DoesNotFit(
            f"values from {low} to {high} do not fit {dtype} ({limits.min} to {limits.max})"
        )
    # Whole numbers modulo 2^bits: since the result fits, wrapped intermediate values cannot matter.
    bits = target.itemsize * 8
    same = stored.dtype.itemsize == target.itemsize
    result = stored.view(target) if same else stored.astype(target)
    out = result if not same or (own and result.flags.writeable) else None
    if m != 1:
        result = out = np.multiply(result, _modular(m, bits, target), out=out)
    if b:
        result = np.add(result, _modular(b, bits, target), out=out)
    return result


def rescaled_ends(ends: tuple[int, int], slope: float, intercept: float) -> tuple[int, int]:
    """(least, greatest) value after `rescale` by whole numbers."""
    made = sorted(int(slope) * end + int(intercept) for end in ends)
    return made[0], made[1]


def _modular(value: int, bits: int, dtype: np.dtype[Any]) -> Any:
    return np.array(value % (1 << bits), dtype=f"u{bits // 8}").view(dtype)


def to_dtype(values: NDArray[Any], dtype: str, rounded: bool = False) -> NDArray[Any]:
    """`values` as `dtype`, exactly, or to the nearest float where `rounded`.

    Raises FrameError if a value is lost.
    """
    target = np.dtype(dtype)
    if values.dtype == target:
        return values
    with np.errstate(over="ignore", invalid="ignore"):
        result = values.astype(target)
        if rounded and target.kind == "f":
            lost = np.isinf(result) & ~np.isinf(values)
        else:
            back = result.astype(values.dtype) if target.kind == "f" else result
            lost = back != values
            if values.dtype.kind == "f" and target.kind == "f":
                lost &= ~np.isnan(values)
            elif values.dtype.kind in "iu" and target.kind in "iu":
                limits = np.iinfo(target)
                lost = (values < limits.min) | (values > limits.max)
    if lost.any():
        worst = values[lost][0].item()
        raise DoesNotFit(f"value {worst} does not fit {dtype} truly")
    return result


def wrapped(value: float, bits_allocated: int, signed: bool) -> int:
    """A declared whole number modulo 2^BitsAllocated: real files declare 63536 on signed data."""
    v = int(value) % (1 << bits_allocated)
    return v - (1 << bits_allocated) if signed and v >> (bits_allocated - 1) else v


def padding_mask(
    stored: NDArray[Any], value: float, limit: float | None, bits_allocated: int, signed: bool
) -> NDArray[np.bool_]:
    """Where stored values are padding (PS3.3 C.7.5.1.1.2; of float pixels C.7.6.24).

    Whole numbers count as `wrapped`. The limit may lie below the value: then the range runs
    downward.
    """
    first, last = value, value if limit is None else limit
    if stored.dtype.kind in "iu":
        first, last = (wrapped(v, bits_allocated, signed) for v in (first, last))
    if first == last:
        return np.asarray(stored == first)
    low, high = min(first, last), max(first, last)
    return np.asarray((stored >= low) & (stored <= high))
