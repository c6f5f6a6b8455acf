"""What a stored frame becomes: literal values, and the converter's recipe for the same files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from caches import built
from dicom_files import pattern, real, write_dicom

from dicom2cache.window import PRESETS as CONVERTERS
from trainer_adapter import lightly, open_cache
from trainer_adapter.lightly_look import PRESETS, look
from trainer_adapter.lightly_pixels import Facts, image_of

CT = Facts("image", "HU", "CT", "normal", None, -1000.0, 900.0, None)
MR = Facts("image", "US", "MR", "normal", None, 10.0, 110.0, (60.0, 10.0, "LINEAR"))
HU = np.array([[-1351, -1350, -600, 150, 40, 300], [-160, 240, -450, 1050, -32768, 32767]])


def test_three_windows_of_hu_are_three_channels() -> None:
    image = image_of(HU.astype(np.int16), CT, look(), rgb=True)
    assert image.dtype == np.uint8
    assert image[0].tolist() == [
        [0, 0, 0], [0, 0, 0], [128, 0, 0], [255, 198, 102], [236, 128, 83], [255, 255, 128],
    ]  # fmt: skip
    assert image[1].tolist() == [
        [202, 0, 49], [255, 255, 117], [153, 0, 0], [255, 255, 255], [0, 0, 0], [255, 255, 255],
    ]  # fmt: skip


@pytest.mark.parametrize(("rgb", "shape"), [(True, (2, 6, 3)), (False, (2, 6, 1))])
def test_one_window_is_grey_and_repeated_for_rgb(rgb: bool, shape: tuple[int, ...]) -> None:
    image = image_of(HU.astype(np.int16), CT, look("soft"), rgb)
    assert image.shape == shape
    assert image[1, :, 0].tolist() == [0, 255, 0, 255, 0, 255]
    assert (image == image[..., :1]).all()


def test_float32_is_from_0_to_1() -> None:
    image = image_of(HU.astype(np.int16), CT, look((0, 600), "float32"), rgb=True)
    assert image.dtype == np.float32
    assert image[0, :, 1].tolist() == [0, 0, 0, 0.75, np.float32(340 / 600), 1]


def test_any_number_of_windows_where_rgb_is_not_asked_for() -> None:
    looks = look(["lung", "soft", "bone", (40, 80)])
    assert image_of(HU.astype(np.int16), CT, looks, rgb=False).shape == (2, 6, 4)
    with pytest.raises(ValueError, match="4 channels where LightlyTrain asks for RGB"):
        image_of(HU.astype(np.int16), CT, looks, rgb=True)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32", "float32"])
def test_other_units_are_spread_between_their_percentiles(dtype: str) -> None:
    frame = np.array([[0, 10, 35, 60], [85, 110, 111, 1000]], dtype)
    image = image_of(frame, MR, look(), rgb=False)  # its window is no radiograph's
    assert image[..., 0].tolist() == [[0, 0, 64, 128], [191, 255, 255, 255]]


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_inverted_polarity_is_turned_over_and_padding_stays_black(dtype: str) -> None:
    frame = np.array([[0, 10, 35, 110]], dtype)
    facts = replace(MR, polarity="inverted", padding=0.0)
    assert image_of(frame, facts, look(), rgb=False)[..., 0].tolist() == [[0, 255, 191, 0]]


def test_padding_far_outside_of_a_type_is_no_error() -> None:
    facts = replace(CT, padding=-1e6)
    assert image_of(HU.astype(np.int16), facts, look(), rgb=True)[0, 2, 0] == 128


def test_a_radiograph_has_the_window_that_its_maker_chose() -> None:
    frame = np.array([[55, 56, 60, 64, 65]], np.uint16)
    facts = replace(MR, modality="DX", voi=(60.0, 9.0, "LINEAR"))  # from 55.5 to 63.5
    assert image_of(frame, facts, look(), False)[0, :, 0].tolist() == [0, 16, 143, 255, 255]


def test_eight_bits_of_a_screen_and_shares_stay_as_they_are() -> None:
    frame = np.arange(6, dtype=np.uint8).reshape(2, 3)
    for unit in ("US", "window"):
        image = image_of(frame, replace(MR, unit=unit), look(), rgb=False)
        assert image[..., 0].tolist() == [[0, 1, 2], [3, 4, 5]]
        assert not np.shares_memory(image, frame)
    wide = np.array([[[0, 257, 65535]]], np.uint16)  # colour of 16 bits
    assert image_of(wide, replace(MR, unit=None), look(), True).tolist() == [[[0, 1, 255]]]


def test_nothing_but_padding_and_nan_are_black() -> None:
    facts = replace(MR, low=None, high=None)
    assert not image_of(np.full((2, 2), 7, np.uint16), facts, look(), True).any()
    assert not image_of(np.full((2, 2), np.nan, np.float32), MR, look(), True).any()


def test_masks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a mask.*select\(kind='image'\)"):
        image_of(np.zeros((2, 2), np.uint8), replace(MR, kind="mask"), look(), True)


def test_presets_are_those_of_the_converter() -> None:
    assert PRESETS == CONVERTERS


@pytest.mark.parametrize("said", ["chest", (40,), (40, 0), ["soft", "chest"]])
def test_an_illegal_window_is_named(said: Any) -> None:
    with pytest.raises(ValueError, match=r"window .*legal: .*lung, soft"):
        look(said)


def test_an_illegal_dtype_is_named() -> None:
    with pytest.raises(ValueError, match="dtype 'int16'; legal: uint8, float32"):
        look(dtype="int16")


def test_stored_values_are_served_as_the_recipe_would_store_them(
    tmp_path: Path, cache: Path, recipe_cache: Path
) -> None:
    """CT, colour, and 8-bit grey: two programs, and no value differs."""
    found = 0
    for name in ("ct", "rgb_color", "palette_color", "jpeg2k"):
        for k in range(4):
            path = str(cache.parent / "scans" / name / f"IM{k}.dcm")
            assert np.array_equal(lightly.load(path, cache), lightly.load(path, recipe_cache))
            found += 1
    assert found == 16


@pytest.mark.parametrize(
    ("elements", "dtype"),
    [
        ({"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -1024}, "uint16"),
        ({"Modality": "DX", "WindowCenter": 800, "WindowWidth": 900}, "uint16"),
        (
            {
                "Modality": "CR",
                "WindowCenter": 800,
                "WindowWidth": 900,
                "VOILUTFunction": "SIGMOID",
            },
            "uint16",
        ),
        (
            {
                "Modality": "XA",
                "WindowCenter": 800,
                "WindowWidth": 900,
                "PhotometricInterpretation": "MONOCHROME1",
            },
            "uint16",
        ),
        ({"Modality": "US"}, "uint8"),
        (
            {
                "Modality": "CT",
                "RescaleSlope": 1,
                "RescaleIntercept": -1024,
                "PixelPaddingValue": 77,
            },
            "uint16",
        ),
        ({"Modality": "CT", "RescaleSlope": 0.5, "RescaleIntercept": -1024}, "uint16"),
    ],
)
def test_a_written_file_is_served_as_the_recipe_would_store_it(
    tmp_path: Path, elements: dict[str, Any], dtype: str
) -> None:
    top = 256 if dtype == "uint8" else 4096
    pixels = pattern("a", (40, 50), dtype, top)
    file = write_dicom(
        tmp_path / "a.dcm", pixels, ImageType=["ORIGINAL", "PRIMARY"], **elements,
        **({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"} if elements["Modality"] == "CT" else {}),
    )  # fmt: skip
    plain = built(file, tmp_path / "plain")
    shares = built(file, tmp_path / "shares", "--recipe", "lightlytrain")
    assert open_cache(plain).column("unit")[0].as_py() != "window"
    assert open_cache(shares).column("unit")[0].as_py() == "window"
    served = lightly.load(file, plain)
    assert np.array_equal(served, lightly.load(file, shares))
    assert served.max() > served.min()


def test_mean_and_std_are_those_of_the_images(tmp_path: Path) -> None:
    """Two images of one value each: the mean of both, and half their difference."""
    for k, hu in enumerate((40, 240)):  # soft tissue: 128 and 255
        write_dicom(
            tmp_path / "scans" / f"{k}.dcm",
            np.full((8, 8), hu + 1024, np.uint16),
            SOPClassUID="1.2.840.10008.5.1.4.1.1.2",
            Modality="CT",
            ImageType=["ORIGINAL", "PRIMARY"],
            RescaleSlope=1,
            RescaleIntercept=-1024,
        )
    made = built(tmp_path / "scans", tmp_path / "cache")
    found = lightly.mean_std(made, window="soft")
    assert found["mean"] == pytest.approx([(128 + 255) / 2 / 255] * 3)
    assert found["std"] == pytest.approx([(255 - 128) / 2 / 255] * 3)


def test_a_mask_has_no_mean(tmp_path: Path) -> None:
    made = built(real("liver_1frame.dcm"), tmp_path / "cache")
    with pytest.raises(ValueError, match="no images to take mean and std of"):
        lightly.mean_std(made)
