"""The examples of pydicom, pixel by pixel: literal values, worked out by hand from the files."""

from __future__ import annotations

import hmac
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import examples

from tests.support.caches import attributes, by_path, failures, table

Found = dict[tuple[str, int], tuple[dict[str, Any], NDArray[Any]]]


@pytest.fixture(scope="module")
def found(examples_cache: Path) -> Found:
    return by_path(examples_cache)


def _frame(found: Found, name: str, frame: int = 0) -> tuple[dict[str, Any], NDArray[Any]]:
    return found[Path(examples.get_path(name)).name, frame]


@pytest.mark.parametrize(
    ("name", "frame", "shape", "dtype", "unit", "kind", "total"),
    [
        ("ct", 0, (128, 128), "int16", "HU", "image", -1950906),  # 14826310 - 1024 * 128 * 128
        ("mr", 0, (64, 64), "int16", "US", "image", 2125338),  # no rescale: as stored
        ("overlay", 0, (300, 484), "int16", "US", "image", 27833052),  # 12 bits fit int16
        ("rgb_color", 0, (240, 320, 3), "uint8", None, "image", 7895026),  # colour has no unit
        ("palette_color", 0, (350, 800, 3), "uint8", None, "image", 17214150),  # entries >> 8
        ("jpeg2k", 0, (480, 640, 3), "uint8", None, "image", 31821736),  # RCT undone once
        ("ybr_color", 0, (240, 320, 3), "uint8", None, "image", 2182169),
        ("ybr_color", 29, (240, 320, 3), "uint8", None, "image", 2441113),  # the last frame
    ],
)
def test_shape_type_unit_and_sum(
    found: Found, name: str, frame: int, shape: tuple[int, ...], dtype: str,
    unit: str | None, kind: str, total: int,
) -> None:  # fmt: skip
    row, pixels = _frame(found, name, frame)
    assert (pixels.shape, pixels.dtype) == (shape, np.dtype(dtype))
    assert (row["unit"], row["kind"]) == (unit, kind)
    assert int(pixels.sum(dtype=np.int64)) == total


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("ct", (0, 0), -849),  # bytes AF 00 = 175, 175 - 1024
        ("ct", (0, 5), -872),  # bytes 98 00 = 152
        ("ct", (64, 64), 904),  # 1928 - 1024
        ("ct", (127, 127), -115),  # 909 - 1024
        ("mr", (0, 0), 905),  # bytes 89 03
        ("mr", (0, 5), 404),  # bytes 94 01
        ("mr", (63, 63), 862),
        ("overlay", (0, 2), 3),  # bytes 03 00
        ("overlay", (150, 242), 136),
        ("overlay", (299, 483), 6),
        ("rgb_color", (100, 60), (165, 47, 3)),
        ("rgb_color", (79, 10), (255, 254, 0)),  # colour and not grey: order of the channels
        ("rgb_color", (145, 152), (101, 38, 30)),
        ("palette_color", (0, 0), (37, 62, 94)),  # index 244: 9472, 15872, 24064, each / 256
        ("palette_color", (175, 400), (1, 1, 1)),  # index 1: 256, 256, 256
        ("palette_color", (349, 799), (0, 0, 0)),  # index 0
        ("jpeg2k", (161, 18), (255, 247, 0)),
        ("jpeg2k", (290, 305), (177, 18, 0)),
        ("jpeg2k", (300, 300), (65, 65, 65)),
        ("ybr_color", (0, 0), (3, 0, 5)),
        ("ybr_color", (20, 190), (73, 143, 119)),  # the most colourful pixel of the clip
    ],
)
def test_literal_pixels(
    found: Found, name: str, place: tuple[int, int], value: int | tuple[int, ...]
) -> None:
    _, pixels = _frame(found, name)
    assert np.array_equal(pixels[place], value)


def test_dose_is_scaled_once_in_double_precision(found: Found) -> None:
    # Dose Grid Scaling (3004,000E) 1e-6; stored 1249000, 975000, 799000 at these places.
    for frame, place, value in (
        (0, (0, 0), 1.249), (7, (5, 5), 0.975), (14, (9, 9), 0.799),
    ):  # fmt: skip
        row, pixels = _frame(found, "rt_dose", frame)
        assert (pixels.shape, pixels.dtype, row["kind"]) == ((10, 10), np.float32, "dose")
        assert row["unit"] == "relative"  # Dose Units (3004,0002) is RELATIVE, not GY
        assert pixels[place] == np.float32(value)
    raw = np.frombuffer(examples.rt_dose.PixelData, "<u4").reshape(15, 10, 10)
    for frame in range(15):
        row, pixels = _frame(found, "rt_dose", frame)
        assert np.array_equal(pixels, (raw[frame] * np.float64("1e-6")).astype(np.float32))
        # Image Position -761.87 and Grid Frame Offset Vector 0, 5, 10, ...
        assert row["position"] == pytest.approx([189.43125, 199.43125, -761.87 + 5 * frame])
        assert (row["stack_index"], row["stack_regular"]) == (frame, True)


def test_every_ybr_frame_is_what_libjpeg_makes_of_it_through_pillow(found: Found) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clip = examples.ybr_color.pixel_array  # pydicom decodes by Pillow and converts to RGB
    assert clip.shape == (30, 240, 320, 3)
    for frame in range(30):
        row, pixels = _frame(found, "ybr_color", frame)
        assert np.array_equal(pixels, clip[frame]), f"frame {frame}"
        assert (row["photometric"], row["lossy"]) == ("YBR_FULL_422", True)


def test_jpeg_2000_equals_pillow(found: Found) -> None:
    _, pixels = _frame(found, "jpeg2k")
    assert np.array_equal(pixels, examples.jpeg2k.pixel_array)


@pytest.mark.parametrize(
    ("name", "column", "value"),
    [
        ("ct", "slope", 1.0),
        ("ct", "intercept", -1024.0),
        ("ct", "min", -896.0),  # 128 - 1024
        ("ct", "max", 1167.0),  # 2191 - 1024
        ("ct", "mean", -1950906 / 16384),
        ("ct", "spacing_y", 0.661468),
        ("ct", "spacing_tag", "PixelSpacing"),
        ("ct", "thickness", 5.0),
        ("ct", "kvp", 120.0),
        ("ct", "age", 0.0),  # 000Y is said, and is not the same as null
        ("ct", "position", [-158.135803, -179.035797, -75.699997]),
        ("ct", "orientation", [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]),
        ("ct", "padding_value", -3024.0),  # -2000 stored
        ("ct", "padding_fraction", 0.0),
        ("ct", "windows", None),
        ("ct", "image_type", "ORIGINAL\\PRIMARY\\AXIAL"),
        ("ct", "transfer_syntax", "1.2.840.10008.1.2.1"),
        ("ct", "codec", "native"),
        ("ct", "sop_uid", "1.3.6.1.4.1.5962.1.1.1.1.1.20040119072730.12322"),
        ("ct", "accession", None),  # empty in the file
        ("ct", "polarity", "normal"),
        ("ct", "lossy", False),
        ("mr", "echo_time", 240.0),
        ("mr", "windows", [{"center": 600.0, "width": 1600.0, "function": "LINEAR",
                            "explanation": None}]),
        ("overlay", "age", 58.0),
        ("rgb_color", "polarity", None),
        ("rgb_color", "slope", None),
        ("rgb_color", "modality", "US"),
        ("palette_color", "photometric", "PALETTE COLOR"),  # of the file, not of what is stored
        ("palette_color", "instance", 24),
        ("jpeg2k", "lossy", False),  # (0028,2110) is 00 and the syntax reversible
        ("jpeg2k", "photometric", "YBR_RCT"),
        ("rt_dose", "slope", 1e-6),
        ("rt_dose", "modality", "RTDOSE"),
    ],
)  # fmt: skip
def test_columns(found: Found, name: str, column: str, value: object) -> None:
    row, _ = _frame(found, name)
    assert row[column] == value


def test_two_windows_keep_their_order(found: Found) -> None:
    row, _ = _frame(found, "overlay")
    assert [(w["center"], w["width"]) for w in row["windows"]] == [(450.0, 790.0), (200.0, 443.0)]


def test_what_has_no_pixels_is_said_and_is_no_error(examples_cache: Path) -> None:
    assert failures(examples_cache) == {
        ("DICOMDIR", None): ("no-pixels", "Media Storage Directory Storage has no pixel data"),
        ("rtplan.dcm", None): ("no-pixels", "RT Plan Storage has no pixel data"),
    }  # fmt: skip
    assert attributes(examples_cache)["counts"] == {
        "files": 11, "files_stored": 9, "files_no_pixels": 2, "files_not_dicom": 0,
        "files_duplicate": 0, "files_excluded": 0, "files_failed": 0,
        "frames_stored": 51,  # 6 + 15 dose + 30 colour
        "frames_failed": 0, "frames_limited": 0,
    }  # fmt: skip


def test_statistics_are_of_all_stored_values(examples_cache: Path, found: Found) -> None:
    for number, about in enumerate(attributes(examples_cache)["arrays"]):
        values = np.concatenate(
            [p.ravel().astype(np.float64) for r, p in found.values() if r["array"] == number]
        )
        said = about["statistics"]
        assert (said["count"], said["min"], said["max"]) == (
            values.size, values.min(), values.max(),
        )  # fmt: skip
        assert said["mean"] == pytest.approx(values.mean(), rel=1e-12)
        assert said["std"] == pytest.approx(values.std(), rel=1e-9)


# Patient ID, name and accession number of the example files, those long enough to mean something.
_PLAIN = (
    "021234567", "Sssssss^Jsssss", "8000000000330109", "CompressedSamples", "11-05-25-142825",
    "id11111", "Lastname^Firstname", "642341", "03028041970546", "id00001", "tPhantom30sep",
)  # fmt: skip


def test_no_plain_patient_data_anywhere(examples_cache: Path) -> None:
    paths = [path for path in examples_cache.rglob("*") if path.is_file()]
    assert {path.name for path in paths} >= {"zarr.json", "0.parquet", "c.0.0.0"}
    for path in paths:
        data = path.read_bytes()
        assert not [p for p in _PLAIN if p.encode() in data], path
    for name in ("frames", "failures"):  # compressed in Parquet: look at the values too
        text = repr(table(examples_cache, name))
        assert not [p for p in _PLAIN if p in text], name
    for row in table(examples_cache, "frames"):
        short = {"1CT1", "4MR1", "13US1", "204", "PLA", "OB^^^^"}  # too short to look for in bytes
        assert short.isdisjoint(v for v in row.values() if isinstance(v, str))


def test_patient_hash_is_an_hmac_of_the_users_key(found: Found, config_home: Path) -> None:
    key_file = config_home / "dicom2cache" / "patient.key"
    assert key_file.stat().st_mode & 0o777 == 0o600
    key = key_file.read_bytes()
    row, _ = _frame(found, "overlay")
    assert row["patient"] == hmac.digest(key, b"021234567", "sha256").hex()[:32]
    assert row["accession"] == hmac.digest(key, b"8000000000330109", "sha256").hex()[:32]
    # One patient, two files: the join that the hash is for.
    assert _frame(found, "rgb_color")[0]["patient"] == _frame(found, "jpeg2k")[0]["patient"]
