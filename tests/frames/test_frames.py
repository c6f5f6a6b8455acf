"""What frames/ says of bits, of the full scale of colour, of padding, and of windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataelem import DataElement

from tests.support.caches import built, by_path, failures
from tests.support.dicom_files import CT_IMAGE, pattern, real, write_dicom


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory, config_home: Path) -> Path:
    """RGB of 8, 12 and 16 bits, a palette, and grey of 12 bits."""
    folder = tmp_path_factory.mktemp("colours")
    for bits, dtype in ((8, "uint8"), (12, "uint16"), (16, "uint16")):
        pixels = pattern(f"rgb{bits}", (6, 6, 3), dtype, 1 << bits)
        pixels[0, 0] = (1 << bits) - 1
        write_dicom(
            folder / f"rgb{bits}.dcm", pixels, BitsStored=bits, HighBit=bits - 1,
            SeriesInstanceUID=f"1.2.{bits}",
        )  # fmt: skip
    write_dicom(folder / "grey.dcm", pattern("grey", (6, 6)), BitsStored=12, HighBit=11)
    (folder / "palette.dcm").symlink_to(real("examples_palette.dcm"))
    lut = {
        f"{name}PaletteColorLookupTable{part}": value
        for name in ("Red", "Green", "Blue")
        for part, value in (
            ("Descriptor", [2, 0, 16]), ("Data", np.array([77, 65535], np.uint16).tobytes()),
        )
    }  # fmt: skip
    write_dicom(
        folder / "deep.dcm", np.ones((6, 6), np.uint8), PhotometricInterpretation="PALETTE COLOR",
        SeriesInstanceUID="1.2.3", **lut,
    )  # fmt: skip
    return folder


@pytest.mark.parametrize(
    ("flags", "scales"),
    [
        ((), (255, 4095, 65535)),
        (("--dtype", "float32"), (255, 4095, 65535)),
        (("--colour", "grey"), (255, 4095, 65535)),
        (("--recipe", "lightlytrain"), (255, 255, 255)),
        (("--intensity", "percentiles", "--dtype", "uint16"), (65535,) * 3),
        (("--intensity", "percentiles", "--dtype", "float32"), (1, 1, 1)),
    ],
)
def test_full_scale_of_colour(
    colours: Path, tmp_path: Path, flags: tuple[str, ...], scales: tuple[float, ...]
) -> None:
    """A white pixel is stored as just that, whatever the recipe."""
    found = by_path(built(colours, tmp_path / "cache", *flags))
    for bits, scale in zip((8, 12, 16), scales, strict=True):
        row, pixels = found[f"rgb{bits}.dcm", 0]
        assert (row["bits_stored"], row["full_scale"]) == (bits, scale)
        assert pixels[0, 0].tolist() == ([scale] * 3 if pixels.ndim == 3 else scale)
    row, _ = found["palette.dcm", 0]
    assert (row["bits_stored"], row["full_scale"]) == (8, scales[0])  # 8-bit colours in 16 bits
    row, pixels = found["deep.dcm", 0]
    assert (row["bits_stored"], row["full_scale"]) == (8, scales[2])
    assert pixels[0, 0].max() == scales[2]
    row, _ = found["grey.dcm", 0]
    assert (row["bits_stored"], row["full_scale"]) == (12, None)


def padded(path: Path, value: int, limit: int | None, **elements: Any) -> Path:
    """A CT with pixels of 0 to 99 in a row and a range of padding; HU = stored - 50."""
    ends = {"PixelPaddingValue": value, "PixelPaddingRangeLimit": limit}
    said = {k: DataElement(k, "US", v) for k, v in ends.items() if v is not None}
    given = {
        "Modality": "CT", "SOPClassUID": CT_IMAGE, "ImageType": ["ORIGINAL", "PRIMARY"],
        "RescaleSlope": 1, "RescaleIntercept": -50, **said, **elements,
    }  # fmt: skip
    return write_dicom(path, np.arange(100, dtype=np.uint16).reshape(1, 100), **given)


@pytest.mark.parametrize(
    ("high", "recipe", "named"),
    [
        (2000, (), "int16 (-32768 to 32767): only padding does not, Pixel Padding Value "
                   "(0028,0120) 63536; correct it in the header and the pixels, or give dtype"),
        (2000, ("--size", "8"), "only padding does not, Pixel Padding Value (0028,0120) 63536;"),
        (40000, (), "what the header says of bits, slope and intercept"),  # so do other values
    ],
)  # fmt: skip
def test_padding_that_does_not_fit_is_named(
    tmp_path: Path, high: int, recipe: tuple[str, ...], named: str
) -> None:
    write_dicom(
        tmp_path / "in" / "a.dcm", np.array([[63536, 0], [63536, high]], np.uint16),
        SOPClassUID=CT_IMAGE, Modality="CT", RescaleSlope=1, RescaleIntercept=-1024,
        PixelPaddingValue=DataElement(0x00280120, "US", 63536),
    )  # fmt: skip
    write_dicom(tmp_path / "in" / "b.dcm", np.zeros((2, 2), np.uint8))
    cache = built(tmp_path / "in", tmp_path / "cache", *recipe, status=1)
    assert named in failures(cache)["a.dcm", 0][1]


@pytest.mark.parametrize(
    ("value", "limit", "elements", "said"),
    [
        (0, None, {}, (-50, None)),
        (0, 10, {}, (-50, -40)),
        (10, 0, {}, (-50, -40)),  # a range that runs downward
        (0, 10, {"RescaleSlope": 0.5, "RescaleIntercept": 7}, (7, 12)),
        # turned over: 65535 - 10 to 65535 - 0
        (
            0, 10,
            {"Modality": "MR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4", "RescaleIntercept": 0,
             "PhotometricInterpretation": "MONOCHROME1"},
            (65525, 65535),
        ),
    ],
)  # fmt: skip
def test_both_ends_of_padding(
    tmp_path: Path, value: int, limit: int | None, elements: dict[str, Any], said: tuple[Any, Any]
) -> None:
    padded(tmp_path / "scans" / "a.dcm", value, limit, **elements)
    row, pixels = by_path(built(tmp_path / "scans", tmp_path / "cache"))["a.dcm", 0]
    assert (row["padding_value"], row["padding_limit"]) == said
    low, high = said[0], said[0] if said[1] is None else said[1]
    share = np.count_nonzero((pixels >= low) & (pixels <= high)) / 100
    assert share == pytest.approx(row["padding_fraction"])
    assert share == (0.01 if limit is None else 0.11)


def test_padding_of_windowed_frames_is_0(tmp_path: Path) -> None:
    padded(tmp_path / "scans" / "a.dcm", 0, 10)
    made = built(tmp_path / "scans", tmp_path / "cache", "--window", "soft")
    row, pixels = by_path(made)["a.dcm", 0]
    assert (row["padding_value"], row["padding_limit"]) == (0, None)
    assert not pixels[0, :11].any()
    assert pixels[0, 11] > 0  # -39 HU


@pytest.mark.parametrize(
    ("elements", "said"),
    [
        ({}, (1000, 401)),
        ({"RescaleSlope": 2, "RescaleIntercept": -1024}, (1012.25, 201)),
        # LINEAR_EXACT from 800 to 1200: of stored values from 912 to 1112
        (
            {"RescaleSlope": 2, "RescaleIntercept": -1024, "VOILUTFunction": "LINEAR_EXACT"},
            (1012, 200.5),
        ),
        ({"RescaleSlope": -1, "RescaleIntercept": 4095}, None),  # it would turn over
    ],
)
def test_windows_of_stored_values(tmp_path: Path, elements: dict[str, Any], said: Any) -> None:
    """LINEAR 1000, 401 has its black end at 1000 - 0.5 - 200 (PS3.3 C.11.2.1.2.1)."""
    write_dicom(
        tmp_path / "scans" / "a.dcm", pattern("a", (4, 4)), Modality="DX", WindowCenter=1000,
        WindowWidth=401, **elements,
    )  # fmt: skip
    made = built(tmp_path / "scans", tmp_path / "cache", "--intensity", "stored")
    row, pixels = by_path(made)["a.dcm", 0]
    assert pixels.tolist() == pattern("a", (4, 4)).tolist()
    assert row["unit"] == "stored"
    if said is None:
        assert row["windows"] is None
        return
    (window,) = row["windows"]
    assert (window["center"], window["width"]) == said
    slope, intercept = elements.get("RescaleSlope", 1), elements.get("RescaleIntercept", 0)
    half, one = (0.5, 1) if window["function"] == "LINEAR" else (0, 0)
    for sign in (-1, 1):  # both ends, as modality values
        end = said[0] - half + sign * (said[1] - one) / 2
        assert slope * end + intercept == 1000 - half + sign * (401 - one) / 2
