"""What a stored frame becomes: literal values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dicom2cache.pixels.window import PRESETS as CONVERTERS
from trainer_adapter.lightly.look import PRESETS, look
from trainer_adapter.lightly.pixels import Facts, image_of

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


SCREEN = replace(MR, modality="US", plain=True, bits=8)
COLOUR = Facts("image", None, "ES", None, None, 0.0, 255.0, None)


def test_eight_bits_of_a_screen_and_shares_stay_as_they_are() -> None:
    frame = np.arange(6, dtype=np.uint8).reshape(2, 3)
    for facts in (SCREEN, replace(SCREEN, bits=None), replace(MR, unit="window")):
        image = image_of(frame, facts, look(), rgb=False)
        assert image[..., 0].tolist() == [[0, 1, 2], [3, 4, 5]]
        assert not np.shares_memory(image, frame)
    wide = frame.astype(np.float32)  # a cache of another type, the same picture
    assert image_of(wide, SCREEN, look(), False)[..., 0].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    "change",
    [{"plain": False}, {"bits": 4}, {"modality": "NM"}, {"modality": None}, {"unit": "OD"},
     {"kind": "dose"}],
)  # fmt: skip
def test_eight_bits_that_are_no_screen_are_spread(change: dict[str, Any]) -> None:
    frame = np.array([[10, 60, 110]], np.uint8)
    image = image_of(frame, replace(SCREEN, **change), look(), rgb=False)
    assert image[..., 0].tolist() == [[0, 128, 255]]


def test_a_screen_that_is_dark_on_bright_is_turned_over_with_its_padding_black() -> None:
    frame = np.array([[0, 10, 255, 3]], np.uint8)
    facts = replace(SCREEN, polarity="inverted", padding=0.0)
    assert image_of(frame, facts, look(), False)[..., 0].tolist() == [[0, 245, 0, 252]]
    upright = replace(SCREEN, padding=255.0)
    assert image_of(frame, upright, look(), False)[..., 0].tolist() == [[0, 10, 0, 3]]


@pytest.mark.parametrize(
    ("values", "dtype", "scale", "served"),
    [
        ([0, 128, 255], "uint8", 255, [0, 128, 255]),
        ([0, 128, 255], "uint8", None, [0, 128, 255]),  # a cache that does not say
        ([0, 257, 65535], "uint16", 65535, [0, 1, 255]),
        ([0, 2048, 4095], "uint16", 4095, [0, 128, 255]),
        ([0, 128, 255], "uint16", 255, [0, 128, 255]),
        ([0, 8, 15], "uint8", 15, [0, 136, 255]),
        ([0, 128, 255], "float32", 255, [0, 128, 255]),
        ([0, 0.5, 1], "float32", 1, [0, 128, 255]),
        ([0, 128, 300], "int32", 255, [0, 128, 255]),  # beyond its bits: cut off
    ],
)
def test_colour_by_its_full_scale(
    values: list[float], dtype: str, scale: float | None, served: list[int]
) -> None:
    frame, facts = np.array([[values]], dtype), replace(COLOUR, full_scale=scale)
    assert image_of(frame, facts, look(), True).tolist() == [[served]]
    share = image_of(frame, facts, look(dtype="float32"), True)[0, 0]
    assert share.tolist() == pytest.approx([min(v / (scale or 255), 1) for v in values], abs=1e-6)


def test_colour_of_unknown_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="colour in uint16 whose bits the cache does not record"):
        image_of(np.zeros((2, 2, 3), np.uint16), COLOUR, look(), True)


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_all_of_a_range_is_padding(dtype: str) -> None:
    frame = np.array([[-50, -40, -39, 240]], dtype)
    facts = replace(CT, padding=-50.0, padding_limit=-40.0)
    assert image_of(frame, facts, look("soft"), False)[..., 0].tolist() == [[0, 0, 77, 255]]
    turned = replace(facts, polarity="inverted")
    assert image_of(frame, turned, look("soft"), False)[..., 0].tolist() == [[0, 0, 178, 0]]


def test_nothing_but_padding_and_nan_are_black() -> None:
    facts = replace(MR, low=None, high=None)
    assert not image_of(np.full((2, 2), 7, np.uint16), facts, look(), True).any()
    assert not image_of(np.full((2, 2), np.nan, np.float32), MR, look(), True).any()


def test_masks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a mask.*select\(kind='image'\)"):
        image_of(np.zeros((2, 2), np.uint8), replace(MR, kind="mask"), look(), True)


def test_presets_are_those_of_the_converter() -> None:
    assert PRESETS == CONVERTERS


@pytest.mark.parametrize(
    "said",
    ["chest", (40,), (40, 0), ["soft", "chest"], 40, [], (), (float("nan"), 100),
     (40, float("inf")), "40,400", [(40, 400), 40]],
)  # fmt: skip
def test_an_illegal_window_is_named(said: Any) -> None:
    with pytest.raises(ValueError, match=r"window .*legal: .*lung, soft"):
        look(said)


def test_an_illegal_dtype_is_named() -> None:
    with pytest.raises(ValueError, match="dtype 'int16'; legal: uint8, float32"):
        look(dtype="int16")
