"""Stored values to values: against Python integers, fractions and NumPy by hand."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dicom2cache.errors import FrameError
from dicom2cache.pixels.intensity import (
    ModalityLut,
    apply_lut,
    mask_stored,
    padding_mask,
    rescale,
    to_dtype,
)
from dicom2cache.pixels.statistics import statistics
from tests.support.dicom_files import pattern


def _masked(raw: int, bits_stored: int, high_bit: int, signed: bool) -> int:
    """PS3.5 8.1.1 in words: the BitsStored bits that end at HighBit, as two's complement."""
    bits = raw >> (high_bit + 1 - bits_stored) & ((1 << bits_stored) - 1)
    return bits - (1 << bits_stored) if signed and bits >> (bits_stored - 1) else bits


_LAYOUTS = [
    (allocated, stored, high, signed)
    for allocated in (8, 16, 32)
    for stored in range(1, allocated + 1)
    for high in range(stored - 1, allocated)
    for signed in (False, True)
    if allocated < 32 or high in (stored - 1, 31)  # 32 bits: the low and the top placement
]


def test_mask_stored_for_every_layout() -> None:
    for allocated, stored, high, signed in _LAYOUTS:
        edges = [0, 1, (1 << allocated) - 1, 1 << (allocated - 1), 1 << high, (1 << high) - 1]
        some = pattern("mask", (64,), f"u{allocated // 8}", 1 << allocated).tolist()
        raw = list(range(256)) if allocated == 8 else edges + some
        expected = [_masked(v, stored, high, signed) for v in raw]
        found = mask_stored(np.array(raw, f"u{allocated // 8}"), stored, high, signed)
        assert found.tolist() == expected, (allocated, stored, high, signed)
        assert found.dtype.kind == ("i" if signed else "u")


@pytest.mark.parametrize(
    ("raw", "stored", "high", "signed", "value"),
    [
        (0xF123, 12, 11, False, 0x123),  # an overlay in the high bits
        (0x1230, 12, 15, False, 0x123),  # HighBit 15: the value is shifted up
        (0x0800, 12, 11, True, -2048),  # bits above the sign bit are not sign extension
        (0xF800, 12, 11, True, -2048),
        (0x07FF, 12, 11, True, 2047),
        (0x8000, 16, 15, True, -32768),
        (0xFFFF, 16, 15, False, 65535),
    ],
)
def test_mask_stored_literal(raw: int, stored: int, high: int, signed: bool, value: int) -> None:
    assert mask_stored(np.array([raw], np.uint16), stored, high, signed).tolist() == [value]


_LIMITS = {"uint8": (0, 255), "int16": (-32768, 32767), "uint16": (0, 65535),
           "int32": (-(2**31), 2**31 - 1)}  # fmt: skip


@given(
    values=st.lists(st.integers(-32768, 32767), min_size=1, max_size=8),
    slope=st.integers(-70000, 70000),
    intercept=st.integers(-(2**33), 2**33),
    dtype=st.sampled_from(sorted(_LIMITS)),
)
def test_whole_rescale_is_exact_or_refused(
    values: list[int], slope: int, intercept: int, dtype: str
) -> None:
    expected = [slope * v + intercept for v in values]
    low, high = _LIMITS[dtype]
    stored = np.array(values, np.int16)
    if min(expected) < low or max(expected) > high:
        with pytest.raises(FrameError, match=f"do not fit {dtype}"):
            rescale(stored, float(slope), float(intercept), dtype)
    else:
        found = rescale(stored, float(slope), float(intercept), dtype)
        assert (found.tolist(), found.dtype) == (expected, np.dtype(dtype))


@given(
    values=st.lists(st.integers(0, 65535), min_size=1, max_size=8),
    slope=st.floats(-1e4, 1e4),
    intercept=st.floats(-1e6, 1e6),
)
def test_fractional_rescale_is_rounded_to_float32_once(
    values: list[int], slope: float, intercept: float
) -> None:
    assume(not (slope.is_integer() and intercept.is_integer()))  # those are exact or refused
    found = rescale(np.array(values, np.uint16), slope, intercept, "float32")
    for value, stored in zip(found.tolist(), values, strict=True):
        exact = Fraction(slope) * stored + Fraction(intercept)
        # Two float64 operations and one rounding to float32: half a unit in the last place of
        # float32 (2^-150 among its subnormals), and next to nothing.
        scale = max(abs(Fraction(slope) * stored), abs(Fraction(intercept)), Fraction(1, 2**120))
        assert abs(Fraction(value) - exact) <= abs(exact) / 2**24 + scale / 2**51 + Fraction(
            1, 2**150
        )


def test_fractions_are_refused_by_whole_dtypes() -> None:
    with pytest.raises(FrameError, match=r"slope 0\.5"):
        rescale(np.array([2], np.uint16), 0.5, 0.0, "int16")


@pytest.mark.parametrize(
    ("values", "dtype", "reason"),
    [
        (np.array([2**24 + 1]), "float32", "does not fit float32 truly"),  # not a float32
        (np.array([1e39]), "float32", "does not fit float32 truly"),  # would be infinite
        (np.array([-1]), "uint8", "does not fit uint8 truly"),  # would wrap to 255
        (np.array([256]), "uint8", "does not fit uint8 truly"),  # would wrap to 0
        (np.array([0.5]), "int16", "does not fit int16 truly"),  # would be cut to 0
        (np.array([np.nan]), "int16", "does not fit int16 truly"),
    ],
)
def test_to_dtype_refuses_what_it_would_change(values: np.ndarray, dtype: str, reason: str) -> None:
    with pytest.raises(FrameError, match=reason):
        to_dtype(values, dtype)


def test_to_dtype_keeps_nan_and_infinity_of_floats() -> None:
    values = np.array([np.nan, np.inf, -np.inf, 1.5])
    assert np.array_equal(to_dtype(values, "float32"), values.astype("f4"), equal_nan=True)


@pytest.mark.parametrize(
    ("first", "entries", "stored", "expected"),
    [
        (0, [10, 20, 30], [0, 1, 2], [10, 20, 30]),
        (5, [10, 20, 30], [0, 5, 6, 7, 99], [10, 10, 20, 30, 30]),  # outside: first or last
        (-2, [10, 20, 30], [-32768, -2, -1, 0, 32767], [10, 10, 20, 30, 30]),  # negative first
        (-32768, [7, 8], [-32768, -32767, 0], [7, 8, 8]),  # where int16 arithmetic overflows
    ],
)
def test_modality_lut(
    first: int, entries: list[int], stored: list[int], expected: list[int]
) -> None:
    lut = ModalityLut(first, np.array(entries, np.int32))
    assert apply_lut(np.array(stored, np.int16), lut).tolist() == expected


@pytest.mark.parametrize(
    ("value", "limit", "signed", "padding"),
    [
        (-2000, None, True, [-2000]),
        (63536, None, True, [-2000]),  # declared as US on signed data: modulo 65536
        (63536, None, False, [63536]),
        (0, 100, False, [0, 100]),  # a range, both ends
        (100, 0, False, [0, 100]),  # downward, as for MONOCHROME1
        (63536, 65535, True, [-2000, -1]),
    ],
)
def test_padding(value: int, limit: int | None, signed: bool, padding: list[int]) -> None:
    dtype = np.int16 if signed else np.uint16
    info = np.iinfo(dtype)
    stored = np.arange(info.min, info.max + 1).astype(dtype)
    found = stored[padding_mask(stored, value, limit, 16, signed)]
    if limit is None:
        assert found.tolist() == padding
    else:
        assert [int(found.min()), int(found.max())] == padding
        assert len(found) == padding[1] - padding[0] + 1


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32"])
def test_statistics_leave_padding_out(dtype: str) -> None:
    values = pattern("statistics", (40, 60), "int32", 250).astype(dtype)
    mask = pattern("padding", (40, 60), "uint8", 3) == 0
    found = statistics(values, mask)
    kept = values[~mask].astype(np.float64)
    assert (found.min, found.max) == (kept.min(), kept.max())
    assert found.mean == pytest.approx(kept.mean(), rel=1e-12)
    assert found.std == pytest.approx(kept.std(), rel=1e-9)
    assert found.padding_fraction == mask.sum() / mask.size
    ranked = np.sort(kept)
    for percent, value in zip((0.5, 1, 50, 99, 99.5), found.percentiles, strict=True):
        place = round(percent / 100 * (len(ranked) - 1))
        assert value in ranked[max(0, place - 1) : place + 2]


def test_statistics_of_extremes_do_not_wrap() -> None:
    for dtype in ("int16", "uint16"):
        info = np.iinfo(dtype)
        values = np.full((512, 512), info.min, dtype)
        values[:256] = info.max
        found = statistics(values, None)
        assert found.mean == (info.min + info.max) / 2
        assert found.std == (info.max - info.min) / 2


def test_statistics_of_nothing_but_padding_are_null() -> None:
    found = statistics(np.zeros((4, 4), np.int16), np.ones((4, 4), bool))
    assert (found.min, found.mean, found.percentiles) == (None, None, (None,) * 5)
    assert found.padding_fraction == 1


def test_statistics_leave_nan_out() -> None:
    found = statistics(np.array([[np.nan, 1.0], [3.0, np.inf]], np.float32), None)
    assert (found.min, found.max, found.mean, found.std) == (1, 3, 2, 1)
