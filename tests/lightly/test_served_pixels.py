"""What is served of caches of every recipe: against numpy, and the recipe `lightlytrain`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.caches import built
from tests.support.dicom_files import pattern, real, uid, write_dicom
from trainer_adapter import open_cache
from trainer_adapter.lightly import api


def test_stored_values_are_served_as_the_recipe_would_store_them(
    tmp_path: Path, cache: Path, recipe_cache: Path
) -> None:
    """CT, colour, and 8-bit grey: two programs, and no value differs."""
    found = 0
    for name in ("ct", "rgb_color", "palette_color", "jpeg2k"):
        for k in range(4):
            path = str(cache.parent / "scans" / name / f"IM{k}.dcm")
            assert np.array_equal(api.load(path, cache), api.load(path, recipe_cache))
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
        ({"Modality": "US", "PhotometricInterpretation": "MONOCHROME1"}, "uint8"),
        (
            {"Modality": "CR", "PhotometricInterpretation": "MONOCHROME1", "PixelPaddingValue": 9},
            "uint8",
        ),
        (
            {
                "Modality": "DX",
                "WindowCenter": 800,
                "WindowWidth": 900,
                "PhotometricInterpretation": "MONOCHROME1",
                "PixelPaddingValue": 0,
                "PixelPaddingRangeLimit": 999,
            },
            "uint16",
        ),
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
    served = api.load(file, plain)
    assert np.array_equal(served, api.load(file, shares))
    assert served.max() > served.min()


COLOURS = {8: "uint8", 12: "uint16", 16: "uint16"}


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory, config_home: Path) -> Path:
    """RGB of 8, 12 and 16 bits."""
    folder = tmp_path_factory.mktemp("colours") / "scans"
    for bits, kind in COLOURS.items():
        write_dicom(
            folder / f"{bits}.dcm", pattern(f"rgb{bits}", (24, 20, 3), kind, 1 << bits),
            BitsStored=bits, HighBit=bits - 1, SeriesInstanceUID=f"1.2.{bits}",
        )  # fmt: skip
    return folder


@pytest.mark.parametrize(
    "flags",
    [(), ("--dtype", "float32"), ("--dtype", "int32"), ("--recipe", "lightlytrain"),
     ("--intensity", "percentiles", "--dtype", "uint16"),
     ("--intensity", "percentiles", "--dtype", "float32"),
     ("--intensity", "stored", "--dtype", "float64")],
)  # fmt: skip
def test_colour_is_the_same_from_every_cache(
    colours: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    """The file's samples by their bit depth, in numpy's arithmetic."""
    made = built(colours, tmp_path / "cache", *flags)
    for bits, kind in COLOURS.items():
        samples = pattern(f"rgb{bits}", (24, 20, 3), kind, 1 << bits)
        wanted = np.floor(samples / (2**bits - 1) * 255 + 0.5)
        assert np.array_equal(api.load(colours / f"{bits}.dcm", made), wanted)


def test_rescaled_eight_bits_are_neither_black_nor_white(tmp_path: Path) -> None:
    """Counts of nuclear medicine and an MR, by the recipes and from a plain cache."""
    pixels = pattern("nm", (32, 32), "uint8", 256)
    for modality, slope in (("NM", 1 / 256), ("MR", 12.5), ("US", 0.1)):
        write_dicom(
            tmp_path / "scans" / f"{modality}.dcm", pixels, Modality=modality,
            RescaleSlope=slope, RescaleIntercept=0, SeriesInstanceUID=uid(modality),
        )  # fmt: skip
    low, high = np.percentile(pixels, [0.5, 99.5], method="nearest").astype(float)
    spread = np.clip((pixels - low) / (high - low), 0, 1) * 255
    for name, flags in {"plain": (), "recipe": ("--recipe", "lightlytrain")}.items():
        made = built(tmp_path / "scans", tmp_path / name, *flags)
        for modality in ("NM", "MR", "US"):
            image = api.load(tmp_path / "scans" / f"{modality}.dcm", made)[..., 0]
            assert np.abs(image - spread).max() <= 1.5  # the stack's percentiles interpolate


@pytest.mark.parametrize("flags", [(), ("--intensity", "stored")])
@pytest.mark.parametrize("rescale", [{}, {"RescaleSlope": 2, "RescaleIntercept": -100}])
def test_a_radiograph_has_its_window_in_a_cache_of_stored_values_too(
    tmp_path: Path, flags: tuple[str, ...], rescale: dict[str, Any]
) -> None:
    pixels = pattern("dx", (32, 32), top=1024)
    file = write_dicom(
        tmp_path / "dx.dcm", pixels, Modality="DX", WindowCenter=500, WindowWidth=401, **rescale,
    )  # fmt: skip
    made = built(file, tmp_path / "cache", *flags)
    value = pixels * float(rescale.get("RescaleSlope", 1)) + rescale.get("RescaleIntercept", 0)
    share = np.clip((value - 499.5) / 400 + 0.5, 0, 1)  # PS3.3 C.11.2.1.2.1
    assert np.array_equal(api.load(file, made)[..., 0], np.floor(share * 255 + 0.5))


def test_a_window_that_nothing_is_in_hu_for_is_refused(
    scans: Path, cache: Path, recipe_cache: Path
) -> None:
    file = scans / "ct" / "IM0.dcm"
    said = "windowed when it was built.*build it without the recipe for other windows"
    with pytest.raises(ValueError, match=said):
        api.load(file, recipe_cache, window="brain")
    with pytest.raises(ValueError, match=said):
        api.mean_std(recipe_cache, window="brain")
    with pytest.raises(ValueError, match=said):
        api.serve(recipe_cache, window="brain")
    with pytest.raises(ValueError, match="nothing in it is in HU"):
        api.serve(open_cache(cache).select(modality="MR"), window="brain")
    assert api.load(file, recipe_cache).shape == (128, 128, 3)


def test_mean_and_std_are_those_of_what_names_names(cache: Path) -> None:
    """Dose is left out unless it is asked for."""
    opened = open_cache(cache).select(modality=["MR", "RTDOSE"])
    with api.serve(opened) as served:
        for kind in ("image", "dose"):
            images = [served.load(name) / 255 for name in api.names(opened, kind)]
            mean = np.mean([i.mean((0, 1)) for i in images], axis=0)
            assert served.mean_std(kind)["mean"] == pytest.approx(mean.tolist())
        assert served.mean_std() == api.mean_std(opened)
    assert api.mean_std(opened) == api.mean_std(opened.select(kind="image"), kind=None)


@pytest.mark.parametrize("windows", [["lung", "soft"], ["lung", "soft", "bone", "brain"]])
def test_mean_and_std_of_as_many_channels_as_windows(cache: Path, windows: list[str]) -> None:
    chosen = open_cache(cache).select(modality="CT")
    found = api.mean_std(chosen, window=windows)
    one = [api.mean_std(chosen, window=w)["mean"][0] for w in windows]
    assert found["mean"] == pytest.approx(one)
    with pytest.raises(ValueError, match=r"images of 1 and of \d channels"):
        api.mean_std(open_cache(cache).select(modality=["CT", "MR"]), window=windows)


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
    found = api.mean_std(made, window="soft")
    assert found["mean"] == pytest.approx([(128 + 255) / 2 / 255] * 3)
    assert found["std"] == pytest.approx([(255 - 128) / 2 / 255] * 3)


def test_a_mask_has_no_mean(tmp_path: Path) -> None:
    made = built(real("liver_1frame.dcm"), tmp_path / "cache")
    with pytest.raises(ValueError, match="no images to take mean and std of"):
        api.mean_std(made)
