"""What the image pixel module leaves out or gets wrong, where one reading is left; overlays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom.dataelem import DataElement

from tests.pixels.cases import item
from tests.support.caches import built, by_path, failures
from tests.support.dicom_files import CT_IMAGE, write_dicom

EIGHT = np.array([[0, 63], [128, 255]], np.uint8)
INCOMPLETE = "pixel-module-incomplete"
SIXTEEN = np.array([[0, 63], [128, 60000]], np.uint16)


@pytest.mark.parametrize(
    ("pixels", "elements", "flags"),
    [
        (EIGHT, {"HighBit": 8}, ["high-bit"]),
        (EIGHT, {"HighBit": 0}, ["high-bit"]),
        (SIXTEEN, {"HighBit": 11}, ["high-bit"]),
        (SIXTEEN, {"HighBit": 16}, ["high-bit"]),
        (EIGHT, {"HighBit": None}, None),
        (EIGHT, {"PixelRepresentation": None}, [INCOMPLETE]),  # type 1: unsigned
        (EIGHT, {"PixelRepresentation": ""}, [INCOMPLETE]),
        (SIXTEEN, {"BitsStored": 0}, [INCOMPLETE]),  # as allocated
        (SIXTEEN, {"BitsStored": None}, [INCOMPLETE]),
        (EIGHT, {"NumberOfFrames": 0}, [INCOMPLETE]),  # a single frame
        (EIGHT, {"NumberOfFrames": ""}, None),  # as absent
        (EIGHT, {"NumberOfFrames": 0, "BitsStored": 0, "PixelRepresentation": None}, [INCOMPLETE]),
        (EIGHT, {"PhotometricInterpretation": None}, ["photometric-missing"]),
        (EIGHT, {"PhotometricInterpretation": ""}, ["photometric-missing"]),
        (
            EIGHT,
            {"PhotometricInterpretation": None, "SamplesPerPixel": None, "HighBit": 8},
            ["photometric-missing", "high-bit"],
        ),
        (EIGHT, {"ModalityLUTSequence": [item()]}, ["rescale-empty"]),
        (EIGHT, {"ModalityLUTSequence": []}, None),
        (
            EIGHT,
            {"ModalityLUTSequence": [item()], "RescaleSlope": "", "RescaleIntercept": ""},
            ["rescale-empty"],
        ),
    ],
)
def test_one_reading_is_left(
    tmp_path: Path, pixels: Any, elements: dict[str, Any], flags: list[str] | None
) -> None:
    source = write_dicom(tmp_path / "a.dcm", pixels, **elements)
    row, found = by_path(built(source, tmp_path / "cache"))["a.dcm", 0]
    assert (found.tolist(), row["flags"], row["unit"]) == (pixels.tolist(), flags, "US")
    assert row["photometric"] == "MONOCHROME2"


def test_an_empty_modality_lut_leaves_the_rescale_beside_it(tmp_path: Path) -> None:
    source = write_dicom(
        tmp_path / "a.dcm", EIGHT, SOPClassUID=CT_IMAGE, Modality="CT", RescaleSlope=2,
        RescaleIntercept=-10, ModalityLUTSequence=[item()],
    )  # fmt: skip
    row, found = by_path(built(source, tmp_path / "cache"))["a.dcm", 0]
    assert found.tolist() == [[-10, 116], [246, 500]]
    assert (row["unit"], row["flags"]) == ("HU", ["rescale-empty"])


def test_the_high_bit_of_a_codestream_is_not_asked_for(tmp_path: Path) -> None:
    pixels = np.array([[0, 4095]] * 8, np.uint16)
    source = write_dicom(
        tmp_path / "a.dcm", pixels, syntax="1.2.840.10008.1.2.4.80", BitsStored=12, HighBit=16,
        encoded=[bytes(imagecodecs.jpegls_encode(pixels))],
    )  # fmt: skip
    row, found = by_path(built(source, tmp_path / "cache"))["a.dcm", 0]
    assert (found.tolist(), row["flags"]) == (pixels.tolist(), ["high-bit"])


@pytest.mark.parametrize(
    ("elements", "named"),
    [
        ({"BitsStored": 12, "HighBit": 16}, "HighBit (0028,0102) 16"),  # 11 or 15
        ({"BitsStored": 12, "HighBit": 7}, "HighBit (0028,0102) 7"),
        ({"BitsStored": 17, "HighBit": 16}, "BitsStored (0028,0101) 17"),
        ({"PixelRepresentation": 2}, "PixelRepresentation (0028,0103) is 2; legal: 0, unsigned"),
        ({"PixelRepresentation": [0, 1]}, "PixelRepresentation (0028,0103) is [0, 1]; legal"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": None}, "(0028,0004)"),
        ({"ModalityLUTSequence": [item(LUTDescriptor=[4, 0, 16])]}, "LUTData (0028,3006) is"),
    ],
)
def test_several_readings_are_refused(tmp_path: Path, elements: Any, named: str) -> None:
    write_dicom(tmp_path / "in" / "a.dcm", SIXTEEN, **elements)
    write_dicom(tmp_path / "in" / "b.dcm", EIGHT)
    cache = built(tmp_path / "in", tmp_path / "cache", status=1)
    assert named in failures(cache)["a.dcm", None][1]


def overlay(group: int, allocated: int, plane: bool = True) -> dict[str, Any]:
    tag = group << 16
    said = {
        f"{group}-bits": DataElement(tag | 0x0100, "US", allocated),
        f"{group}-bit": DataElement(tag | 0x0102, "US", 0 if allocated == 1 else 12),
    }
    if plane:
        said[f"{group}-data"] = DataElement(tag | 0x3000, "OW", bytes(2))
    return said


BLACK, FLAT = np.zeros((2, 2), np.uint8), np.full((2, 2, 3), 7, np.uint8)


@pytest.mark.parametrize(
    ("pixels", "elements", "flags"),
    [
        (EIGHT, overlay(0x6000, 1), ["overlay"]),
        (EIGHT, overlay(0x601E, 1), ["overlay"]),
        (BLACK, overlay(0x6000, 1), ["overlay", "overlay-only"]),
        (FLAT, overlay(0x6002, 1), ["overlay", "overlay-only"]),
        (BLACK, {}, None),
        (SIXTEEN & np.uint16(4095), {"BitsStored": 12, "HighBit": 11} | overlay(0x6000, 16, False),
         None),  # in the pixels: its bits are declared
    ],
)  # fmt: skip
def test_overlays_are_flagged(
    tmp_path: Path, pixels: Any, elements: dict[str, Any], flags: list[str] | None
) -> None:
    source = write_dicom(tmp_path / "a.dcm", pixels, **elements)
    row, found = by_path(built(source, tmp_path / "cache"))["a.dcm", 0]
    assert (np.array_equal(found, pixels), row["flags"]) == (True, flags)
