"""Size, fit and spacing: geometry by hand, pixels against Pillow and area means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.caches import built, by_path, failures
from tests.support.dicom_files import CT_IMAGE, pattern, write_dicom

CT = {
    "SOPClassUID": CT_IMAGE,
    "Modality": "CT",
    "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
    "RescaleSlope": 1,
    "RescaleIntercept": -1024,
}


def converted(tmp_path: Path, pixels: Any, *flags: str, **elements: Any) -> Any:
    """(row, pixels) of the one frame that a file of these pixels becomes."""
    source = write_dicom(tmp_path / "a.dcm", pixels, **elements)
    return by_path(built(source, tmp_path / "cache", *flags))["a.dcm", 0]


# 30 rows x 60 columns in a square of 20: what is stored of it, by hand.
@pytest.mark.parametrize(
    ("fit", "scale", "offset"),
    [
        ("pad", (1 / 3, 1 / 3), (5, 0)),  # 10 x 20 in the middle
        ("crop", (2 / 3, 2 / 3), (0, -10)),  # 20 x 40, the middle of it
        ("stretch", (2 / 3, 1 / 3), (0, 0)),
    ],
)
def test_geometry(
    tmp_path: Path, fit: str, scale: tuple[float, float], offset: tuple[int, int]
) -> None:
    row, pixels = converted(
        tmp_path, pattern("a", (30, 60), "uint8", 256), "--size", "20", "--fit", fit,
        PixelSpacing=[0.5, 0.5], ImagePositionPatient=[0, 0, 7],
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
    )  # fmt: skip
    assert pixels.shape == (row["height"], row["width"]) == (20, 20)
    assert (row["source_height"], row["source_width"]) == (30, 60)
    assert (row["scale_y"], row["scale_x"]) == pytest.approx(scale)
    assert (row["offset_y"], row["offset_x"]) == offset
    assert row["spacing_y"] == pytest.approx(0.5 / scale[0])
    # Pixel (0, 0) spans 0 to 1: its centre 0.5 lies at (0.5 - offset) / scale of the source, whose
    # own first centre is at 0.5.
    y, x = (((0.5 - o) / s - 0.5) * 0.5 for o, s in zip(offset, scale, strict=True))
    assert row["position"] == pytest.approx([x, y, 7])


def test_non_square_pixels_keep_their_shape_in_millimetres(tmp_path: Path) -> None:
    pixels = np.full((40, 40), 9, np.uint8)
    row, found = converted(tmp_path, pixels, "--size", "40", PixelSpacing=[0.5, 1.0])  # 20 x 40 mm
    assert np.count_nonzero((found == 9).any(axis=1)) == 20  # rows
    assert (row["scale_y"], row["scale_x"], row["offset_y"]) == (0.5, 1.0, 10)
    assert row["spacing_y"] == row["spacing_x"] == 1.0


def test_spacing_then_size(tmp_path: Path) -> None:
    row, found = converted(
        tmp_path, pattern("b", (64, 64), "uint16"), "--spacing", "1", "--size", "40,24",
        PixelSpacing=[0.5, 0.5], **CT,
    )  # fmt: skip
    # 32 x 32 of 1 mm: 4 rows of air on either side, 4 columns cut off on either side.
    assert found.shape == (40, 24)
    assert (row["offset_y"], row["offset_x"]) == (4, -4)
    assert (row["spacing_y"], row["spacing_x"]) == (1.0, 1.0)
    assert (found[:4] == -1000).all()
    assert (found[-4:] == -1000).all()
    assert row["padding_fraction"] == pytest.approx(8 / 40)
    assert row["min"] > -1000  # what was added is no part of the statistics


def test_spacing_alone_gives_each_file_its_own_size(tmp_path: Path) -> None:
    _, found = converted(
        tmp_path, np.full((64, 50), 7, np.uint8), "--spacing", "0.75", PixelSpacing=[0.5, 0.3]
    )
    assert found.shape == (43, 20)  # 32 mm and 15 mm over 0.75: 42.67, 20
    assert (found == 7).all()


def test_a_file_without_spacing_is_refused_by_name(tmp_path: Path) -> None:
    write_dicom(tmp_path / "in" / "a.dcm", np.zeros((4, 4), np.uint8))
    write_dicom(tmp_path / "in" / "b.dcm", np.zeros((4, 4), np.uint8), PixelSpacing=[1, 1])
    cache = built(tmp_path / "in", tmp_path / "cache", "--spacing", "1", status=1)
    ((path, (outcome, reason)),) = failures(cache).items()
    assert (path, outcome) == (("a.dcm", None), "failed")
    assert "Pixel Spacing (0028,0030)" in reason


def test_whole_factors_are_area_means_in_the_middle(tmp_path: Path) -> None:
    """Pillow's triangle filter over a gradient gives its mean, whatever the factor."""
    ramp = np.repeat(np.arange(256, dtype=np.uint16)[None] * 16, 256, axis=0)
    _, found = converted(tmp_path, ramp, "--size", "64")
    means = ramp.reshape(64, 4, 64, 4).mean(axis=(1, 3))
    assert np.array_equal(found[:, 2:-2], np.floor(means + 0.5)[:, 2:-2])


def test_pixels_are_pillows(tmp_path: Path) -> None:
    pixels = pattern("c", (100, 90), "uint16")
    _, found = converted(tmp_path, pixels, "--size", "33,44", "--fit", "stretch", **CT)
    plane = Image.fromarray(pixels.astype(np.float32) - 1024)
    theirs = np.asarray(plane.resize((44, 33), Image.Resampling.BILINEAR))
    assert np.array_equal(found, np.floor(theirs.astype(np.float64) + 0.5))


def test_padding_does_not_bleed_into_the_image(tmp_path: Path) -> None:
    pixels = np.full((64, 64), 1024 + 40, np.int16)  # 40 HU
    pixels[:, :33] = -2000
    row, found = converted(
        tmp_path, pixels, "--size", "32", **CT, PixelPaddingValue=-2000, PixelRepresentation=1
    )
    # Plain interpolation would give values between -3024 and 40 along the border.
    assert set(np.unique(found)) == {-3024, 40}
    assert (row["min"], row["max"]) == (40, 40)
    assert row["padding_fraction"] == 0.5  # 16 of 32 columns


def test_no_value_is_lost_where_nothing_changes(tmp_path: Path) -> None:
    pixels = pattern("d", (20, 20), "uint16", 65536)
    row, found = converted(tmp_path, pixels, "--size", "24")
    assert row["scale_y"] == pytest.approx(24 / 20)
    row, found = converted(tmp_path, pixels, "--size", "20", "--overwrite")
    assert np.array_equal(found, pixels)
    assert (row["scale_y"], row["offset_x"], row["padding_fraction"]) == (1, 0, None)


def test_colour_and_masks(tmp_path: Path) -> None:
    colour = np.zeros((8, 8, 3), np.uint8)
    colour[:, 4:] = (200, 100, 50)
    _, found = converted(tmp_path, colour, "--size", "4,8", "--pad", "9")
    assert found.shape == (4, 8, 3)
    assert (found[:, :2] == 9).all()
    assert (found[:, 6:] == 9).all()
    assert found[1, 5].tolist() == [200, 100, 50]


def test_masks_take_the_nearest_label(tmp_path: Path) -> None:
    labels = np.repeat(np.repeat(np.array([[1, 7], [3, 250]], np.uint8), 8, 0), 8, 1)
    row, found = converted(
        tmp_path, labels, "--size", "9", "--window", "100,200", "--dtype", "float32",
        SOPClassUID="1.2.840.10008.5.1.4.1.1.66.7", Modality="SEG", SegmentationType="LABELMAP",
    )  # fmt: skip
    assert (row["kind"], row["unit"], found.dtype) == ("mask", "labelmap", np.uint8)
    assert set(np.unique(found)) == {1, 3, 7, 250}  # no label between them, none windowed
    assert found[[0, 0, 8, 8], [0, 8, 0, 8]].tolist() == [1, 7, 3, 250]


def test_windows_are_applied_after_resizing(tmp_path: Path) -> None:
    """The mean of -1000 HU and 1000 HU is 0 HU, whose grey in a soft window is not their mean's."""
    pixels = np.zeros((2, 2), np.uint16)
    pixels[:, 0], pixels[:, 1] = 24, 2024
    _, found = converted(tmp_path, pixels, "--size", "1", "--window", "40,400", **CT)
    assert found.tolist() == [[102]]  # (0 - (-160)) / 400 * 255
