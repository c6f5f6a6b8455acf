"""The first value that a VOI LUT maps: its sign, by the three cases of PS3.3 C.11.2.1.1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataelem import DataElement
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tests.pixels.cases import item
from tests.support.caches import built, by_path
from tests.support.dicom_files import CT_IMAGE, write_dicom

RAMP = np.linspace(0, 65535, 2048).astype("<u2").tobytes()
"""entry k is about 32 k"""
TO_NEGATIVE = {"RescaleSlope": 1, "RescaleIntercept": -1024, "RescaleType": "HU"}
STORED = np.array([[0, 512, 1024, 2047]], np.uint16)
AFTER_LUT = {
    "ModalityLUTSequence": [
        item(LUTDescriptor=[4096, 0, 16], ModalityLUTType="US",
             LUTData=(np.arange(4096) + 40000).astype("<u2").tobytes())
    ]
}  # fmt: skip


def voi(first: int, vr: str) -> list[Any]:
    entry = item(LUTData=RAMP)
    entry.add(DataElement(0x00283002, vr, [2048, first, 16]))
    return [entry]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize(
    ("first", "elements", "pixels", "entries"),
    [
        # after a rescale whose output may be below 0: SS
        (-1024, TO_NEGATIVE, STORED, [0, 512, 1024, 2047]),
        # nothing is rescaled: the pixels' own sign
        (-1024, {}, (STORED.astype(np.int16) - 1024).astype(np.int16), [0, 512, 1024, 2047]),
        (512, {}, STORED, [0, 0, 512, 1535]),
        # unsigned pixels that reach the first value, and would not if it were below 0
        (40000 - 65536, {}, STORED + np.uint16(40000), [0, 512, 1024, 2047]),
        # after a modality LUT: US, whatever the sign of the pixels
        (40000 - 65536, AFTER_LUT, STORED.astype(np.int16), [0, 512, 1024, 2047]),
        # the letter says SS, since the rescale may give -1; only the other reading meets the values
        (40000 - 65536, {"RescaleSlope": 30, "RescaleIntercept": -1}, STORED // 30 + 1334,
         [19, 529, 1039, 2047]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("vr", ["SS", "US"])
def test_the_sign_of_the_first_value(
    tmp_path: Path, syntax: str, first: int, elements: dict[str, Any], pixels: Any,
    entries: list[int], vr: str,
) -> None:  # fmt: skip
    bits = {"BitsStored": 12, "HighBit": 11} if pixels.max() < 4096 else {}
    source = write_dicom(
        tmp_path / "a.dcm", pixels, syntax=syntax, SOPClassUID=CT_IMAGE, Modality="CT", **elements,
        **bits, VOILUTSequence=voi(first if vr == "SS" else first & 0xFFFF, vr),
    )  # fmt: skip
    cache = built(source, tmp_path / "cache", "--window", "dicom", "--dtype", "float32")
    _, found = by_path(cache)["a.dcm", 0]
    ramp = np.frombuffer(RAMP, "<u2") / 65535
    assert found[0] == pytest.approx(ramp[entries])


def test_an_empty_voi_lut_is_none(tmp_path: Path) -> None:
    source = write_dicom(
        tmp_path / "a.dcm", STORED, VOILUTSequence=[item()], WindowCenter=512.5, WindowWidth=1025
    )
    cache = built(source, tmp_path / "cache", "--window", "dicom", "--dtype", "float32")
    _, found = by_path(cache)["a.dcm", 0]
    assert found[0].tolist() == [0, 0.5, 1, 1]
