"""Colour: YBR against exact rational arithmetic over all of 256^3, palettes by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import examples
from pydicom.dataelem import DataElement

from dicom2cache.pixels.colour import (
    Palette,
    palette_to_rgb,
    rgb_to_grey,
    ybr_422_to_full,
    ybr_full_to_rgb,
)
from tests.support.caches import built, by_path
from tests.support.dicom_files import write_dicom


def test_ybr_to_rgb_is_the_exact_inverse_rounded_for_all_of_256_cubed() -> None:
    # PS3.3 C.7.6.3.1.2 defines Y = .299 R + .587 G + .114 B, and CB, CR as B - Y, R - Y over 1.772,
    # 1.402. Its inverse in whole numbers, halves rounded up, so that no float is trusted:
    c = np.arange(256, dtype=np.int64) - 128
    red = (2 * 1402 * c + 1000) // 2000
    blue = (2 * 1772 * c + 1000) // 2000
    # 0.114 * 1.772 / 0.587 = 202008 / 587000, 0.299 * 1.402 / 0.587 = 419198 / 587000
    green = (-2 * (202008 * c[:, None] + 419198 * c[None, :]) + 587000) // (2 * 587000)
    cb, cr = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    for y in range(256):
        ybr = np.stack([np.full_like(cb, y), cb, cr], axis=-1).astype(np.uint8)
        expected = np.stack([y + red[cr], y + green, y + blue[cb]], axis=-1).clip(0, 255)
        assert np.array_equal(ybr_full_to_rgb(ybr), expected), f"Y = {y}"


@pytest.mark.parametrize(
    ("ybr", "rgb"),
    [
        ((0, 128, 128), (0, 0, 0)),
        ((255, 128, 128), (255, 255, 255)),
        ((76, 85, 255), (254, 0, 0)),  # pure red, clipped at 254 by rounding of Y
        ((150, 44, 21), (0, 255, 1)),  # pure green
        ((29, 255, 107), (0, 0, 254)),  # pure blue
        ((0, 178, 78), (0, 19, 89)),  # green is 18.5: up, where floats give 18.499...
    ],
)
def test_primaries(ybr: tuple[int, ...], rgb: tuple[int, ...]) -> None:
    assert ybr_full_to_rgb(np.array([ybr], np.uint8)).tolist() == [list(rgb)]


def test_chroma_of_422_serves_two_pixels_side_by_side() -> None:
    flat = np.array([10, 11, 50, 60, 12, 13, 51, 61], np.uint8)  # Y1 Y2 Cb Cr, twice
    assert ybr_422_to_full(flat, 1, 4).tolist() == [
        [[10, 50, 60], [11, 50, 60], [12, 51, 61], [13, 51, 61]]
    ]


@pytest.mark.parametrize(
    ("first", "index", "red"),
    [
        (0, [0, 1, 2], [10, 20, 30]),
        (0, [3, 255], [30, 30]),  # beyond the last entry: the last
        (10, [0, 9, 10, 11, 12, 13], [10, 10, 10, 20, 30, 30]),  # below the first mapped: the first
    ],
)
def test_palette_is_clamped(first: int, index: list[int], red: list[int]) -> None:
    entries = np.array([[10, 1, 2], [20, 3, 4], [30, 5, 6]], np.uint8)
    found = palette_to_rgb(np.array([index], np.uint8), Palette(first, entries))
    assert found[0, :, 0].tolist() == red
    assert found.shape == (1, len(index), 3)


def test_index_of_16_bits_does_not_wrap_in_a_short_palette() -> None:
    entries = np.arange(768, dtype=np.uint8).reshape(256, 3)
    found = palette_to_rgb(np.array([[256, 511, 65535]], np.uint16), Palette(0, entries))
    assert found.tolist() == [[entries[255].tolist()] * 3]


def test_luminance() -> None:
    rgb = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [7, 7, 7]]], np.uint8)
    # 76.245, 149.685, 29.07
    assert rgb_to_grey(rgb).tolist() == [[76, 150, 29, 255, 7]]


@pytest.mark.parametrize(
    ("bits", "entries", "dtype", "expected"),
    [
        (16, [0x0000, 0x2500, 0xFF00], "uint8", [0x00, 0x25, 0xFF]),  # low bytes 0: 8-bit colours
        (16, [0x0000, 0x2525, 0xFFFF], "uint8", [0x00, 0x25, 0xFF]),  # doubled bytes
        (16, [0x0000, 0x2534, 0xFFFF], "int32", [0x0000, 0x2534, 0xFFFF]),  # true 16 bits
        (8, [0x0000, 0x0025, 0x00FF], "uint8", [0x00, 0x25, 0xFF]),  # 8-bit entries in 16-bit words
    ],
)
def test_depth_of_palette_entries(
    tmp_path: Path, bits: int, entries: list[int], dtype: str, expected: list[int]
) -> None:
    words = np.array(entries, "<u2").tobytes()
    elements = {}
    for colour in ("Red", "Green", "Blue"):
        elements[f"{colour}PaletteColorLookupTableDescriptor"] = [3, 0, bits]
        elements[f"{colour}PaletteColorLookupTableData"] = words
    source = write_dicom(
        tmp_path / "palette.dcm", np.array([[0, 1], [2, 2]], np.uint8),
        PhotometricInterpretation="PALETTE COLOR", **elements,
    )  # fmt: skip
    _, pixels = by_path(built(source, tmp_path / "cache"))["palette.dcm", 0]
    dtype = "uint16" if dtype == "int32" else dtype
    assert pixels.dtype == np.dtype(dtype)
    assert pixels[..., 1].tolist() == [expected[:2], [expected[2]] * 2]


def test_grey_of_a_colour_file(tmp_path: Path) -> None:
    cache = built(Path(examples.get_path("rgb_color")), tmp_path / "cache", "--colour", "grey")
    row, pixels = by_path(cache)["examples_rgb_color.dcm", 0]
    assert (pixels.shape, pixels.dtype) == ((240, 320), np.uint8)
    assert pixels[100, 60] == 77  # .299 * 165 + .587 * 47 + .114 * 3 = 77.266
    assert pixels[145, 152] == 56  # .299 * 101 + .587 * 38 + .114 * 30 = 55.925
    assert row["photometric"] == "RGB"


@pytest.mark.parametrize(("vr", "first"), [("SS", -100), ("US", 65436)])
def test_first_mapped_value_has_the_sign_of_the_pixels(tmp_path: Path, vr: str, first: int) -> None:
    elements: dict[str, Any] = {}
    for k, colour in enumerate(("Red", "Green", "Blue")):
        keyword = f"{colour}PaletteColorLookupTableDescriptor"
        elements[keyword] = DataElement(0x00281101 + k, vr, [4, first, 16])
        entries = np.array([10, 300, 7000, 65535], "<u2")
        elements[f"{colour}PaletteColorLookupTableData"] = entries.tobytes()
    source = write_dicom(
        tmp_path / "p.dcm", np.array([[-101, -100, -99, -98, -97, 5]], np.int16),
        PhotometricInterpretation="PALETTE COLOR", **elements,
    )  # fmt: skip
    _, pixels = by_path(built(source, tmp_path / "cache"))["p.dcm", 0]
    assert pixels[0, :, 1].tolist() == [10, 10, 300, 7000, 65535, 65535]
