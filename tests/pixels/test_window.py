"""Windows, by the formulas of PS3.3 C.11.2 worked out by hand, and through the whole path."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dicom2cache import Recipe
from dicom2cache.errors import FrameError, RecipeError
from dicom2cache.pixels.window import (
    PRESETS,
    VoiLut,
    Window,
    apply_voi_lut,
    apply_window,
    parse_window,
    to_range,
)
from tests.support.caches import built, by_path, run_cli, run_here, table
from tests.support.dicom_files import write_dicom


@pytest.mark.parametrize(
    ("window", "x", "y"),
    [
        (Window(2048, 4096, "LINEAR"), 0, 0),  # PS3.3 C.11.2.1.2.1, note 4: y = x / 4095
        (Window(2048, 4096, "LINEAR"), 1, 1 / 4095),
        (Window(2048, 4096, "LINEAR"), 4095, 1),
        (Window(2048, 1, "LINEAR"), 2047, 0),  # note 4: a threshold
        (Window(2048, 1, "LINEAR"), 2048, 1),
        (Window(0, 100, "LINEAR"), -50, 0),
        (Window(0, 100, "LINEAR"), 49, 1),
        (Window(0, 100, "LINEAR"), -0.5, 0.5),
        (Window(40, 400, "LINEAR_EXACT"), -160, 0),
        (Window(40, 400, "LINEAR_EXACT"), 240, 1),
        (Window(40, 400, "LINEAR_EXACT"), 140, 0.75),
        (Window(0, 1, "LINEAR_EXACT"), 0, 0.5),
        (Window(100, 50, "SIGMOID"), 100, 0.5),
        (Window(100, 50, "SIGMOID"), 112.5, 1 / (1 + np.exp(-1))),
        (Window(0, 1, "SIGMOID"), -1e6, 0),  # must not overflow
    ],
)
def test_formula(window: Window, x: float, y: float) -> None:
    assert apply_window(np.array([x]), window)[0] == pytest.approx(y, abs=1e-12)


@pytest.mark.parametrize(
    "window", [Window(0, 0.5, "LINEAR"), Window(0, 0, "SIGMOID"), Window(0, 1, "CUBIC")]
)
def test_illegal_windows_are_refused(window: Window) -> None:
    with pytest.raises(FrameError, match="Window Width"):
        apply_window(np.zeros(1), window)


def test_voi_lut_clamps() -> None:
    lut = VoiLut(-2, np.array([0, 10, 200, 255]), 8)
    found = apply_voi_lut(np.array([-100.0, -2, -1, 0, 1, 100]), lut)
    np.testing.assert_allclose(found * 255, [0, 0, 10, 200, 255, 255])


def test_to_range() -> None:
    unit = np.array([0, 0.5, 1])
    assert to_range(unit, "uint8").tolist() == [0, 128, 255]
    assert to_range(unit, "uint16").tolist() == [0, 32768, 65535]
    assert to_range(unit, "float32").tolist() == [0, 0.5, 1]


@pytest.mark.parametrize("said", ["lng", "40", "40,0", "40,-1", "", 3, ["a", 1], [1, 2, 3]])
def test_nonsense_names_what_is_legal(said: object) -> None:
    with pytest.raises(RecipeError, match=r"legal: CENTER,WIDTH .* lung"):
        parse_window(said)


def test_recipe() -> None:
    recipe = Recipe.from_dict({"window": ["lung", [40, 400], "dicom"]})
    assert recipe.intensity == "window"
    assert recipe.window == ("lung", "40,400", "dicom")
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert PRESETS["lung"] == (-600, 1500)
    for wrong in ({"intensity": "window"}, {"intensity": "stored", "window": ["lung"]}):
        with pytest.raises(RecipeError, match="legal: intensity window"):
            Recipe.from_dict(wrong)


HU = np.array([[-1350, -600, 150], [-160, 40, 240]])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    stored = (HU + 1350).astype(np.uint16)
    write_dicom(
        folder / "ct.dcm", stored, Modality="CT", RescaleSlope=1, RescaleIntercept=-1350,
        RescaleType="HU", WindowCenter=[40, 300], WindowWidth=[400, 1500],
        VOILUTFunction="LINEAR_EXACT",
    )  # fmt: skip
    write_dicom(
        folder / "mono1.dcm", np.array([[0, 100], [200, 255]], np.uint8), Modality="CR",
        PhotometricInterpretation="MONOCHROME1", WindowCenter=100, WindowWidth=200,
        VOILUTFunction="LINEAR_EXACT", PixelPaddingValue=255,
    )  # fmt: skip
    return folder


def test_several_windows_are_channels(source: Path, tmp_path: Path) -> None:
    flags = ("--window", "lung", "--window", "40,400", "--window", "dicom")
    found = by_path(built(source, tmp_path / "cache", *flags, "--where", 'modality == "CT"'))
    row, pixels = found["ct.dcm", 0]
    assert pixels.dtype == np.uint8
    assert pixels[..., 0].tolist() == [[0, 128, 255], [202, 236, 255]]  # 1190, 1390 of 1500
    assert pixels[..., 1].tolist() == [[0, 0, 198], [0, 128, 255]]  # 310 of 400
    assert pixels[..., 2].tolist() == pixels[..., 1].tolist()  # the file's own first window
    assert (row["unit"], row["slope"], row["intercept"]) == ("window", None, None)
    assert row["windows"][1]["center"] == 300


def test_monochrome1_is_inverted_after_the_window_and_padding_is_0(
    source: Path, tmp_path: Path
) -> None:
    flags = ("--window", "dicom", "--dtype", "float32", "--where", 'modality == "CR"')
    cache = built(source, tmp_path / "cache", *flags)
    row, pixels = by_path(cache)["mono1.dcm", 0]
    np.testing.assert_allclose(pixels, [[1, 0.5], [0, 0]], atol=1e-7)
    assert (row["polarity"], row["padding_value"], row["padding_fraction"]) == ("normal", 0, 0.25)
    kept = built(source, tmp_path / "kept", *flags, "--monochrome1", "keep")
    row, pixels = by_path(kept)["mono1.dcm", 0]
    np.testing.assert_allclose(pixels, [[0, 0.5], [1, 0]], atol=1e-7)
    assert row["polarity"] == "inverted"


def test_a_file_without_a_window_says_so(examples_cache: Path, tmp_path: Path) -> None:
    write_dicom(tmp_path / "in" / "plain.dcm", np.zeros((4, 4), np.uint8))
    ran = run_here("build", tmp_path / "in", tmp_path / "cache", "--window", "dicom")
    assert ran.returncode == 2
    assert "no Window Center (0028,1050)" in ran.stderr


def test_colour_and_dose_are_not_windowed(tmp_path: Path) -> None:
    from pydicom import examples

    paths = [Path(examples.get_path(name)) for name in ("rgb_color", "rt_dose", "ct")]
    cache = built(*paths, tmp_path / "cache", "--window", "soft")
    units = {row["modality"]: row["unit"] for row in table(cache, "frames")}
    assert units == {"US": None, "RTDOSE": "relative", "CT": "window"}
    assert run_cli("verify", cache, "--deep", "1").returncode == 0
