"""SUV by body weight: factors by hand, and every input that is missing or mad is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from tests.support.caches import built, by_path, failures
from tests.support.dicom_files import write_dicom

# 70 kg, 350 MBq of F-18 injected an hour before the scan: 2^(-3600 / 6586.2) of it are left.
LEFT = 350e6 * 2 ** (-3600 / 6586.2)
FACTOR = 70_000 / LEFT
PET: dict[str, Any] = {
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.128",
    "Modality": "PT",
    "Units": "BQML",
    "CorrectedImage": ["DECY", "ATTN", "SCAT"],
    "DecayCorrection": "START",
    "PatientWeight": 70,
    "SeriesDate": "20240301",
    "SeriesTime": "100000",
    "AcquisitionDate": "20240301",
    "AcquisitionTime": "101000",
    "RescaleSlope": 2.5,
    "RescaleIntercept": 0,
}
INJECTED: dict[str, Any] = {
    "RadiopharmaceuticalStartTime": "090000.000000",
    "RadionuclideTotalDose": 350e6,
    "RadionuclideHalfLife": 6586.2,
}
PIXELS = np.array([[0, 1000], [2000, 4000]], np.uint16)


def pet(path: Path, injected: dict[str, Any] | None = None, **elements: Any) -> Path:
    item = Dataset()
    for keyword, value in {**INJECTED, **(injected or {})}.items():
        if value is not None:
            setattr(item, keyword, value)
    said = {k: v for k, v in {**PET, **elements}.items() if v is not None}
    return write_dicom(path, PIXELS, RadiopharmaceuticalInformationSequence=[item], **said)


def suv(tmp_path: Path, injected: dict[str, Any] | None = None, **elements: Any) -> Any:
    source = pet(tmp_path / "a.dcm", injected, **elements)
    return by_path(built(source, tmp_path / "cache", "--intensity", "suv"))["a.dcm", 0]


@pytest.mark.parametrize(
    ("injected", "elements", "factor"),
    [
        ({}, {}, FACTOR),
        ({"RadiopharmaceuticalStartDateTime": "20240301090000"}, {}, FACTOR),
        # the time alone, before midnight of the day before
        (
            {"RadiopharmaceuticalStartTime": "233000"},
            {"SeriesTime": "003000", "AcquisitionTime": "003100"},
            FACTOR,
        ),
        ({}, {"DecayCorrection": "ADMIN"}, 70_000 / 350e6),
        ({}, {"Units": "GML"}, 1.0),
        # The series was made anew at noon: 10 minutes of a frame whose average count rate is at
        # its Frame Reference Time, 5 min less 1.579 s (0.0631 of a decay constant in the frame).
        (
            {},
            {"SeriesTime": "120000", "AcquisitionTime": "100000", "FrameReferenceTime": 298421.417,
             "ActualFrameDuration": "600000"},
            FACTOR,
        ),
    ],
)  # fmt: skip
def test_factor(
    tmp_path: Path, injected: dict[str, Any], elements: dict[str, Any], factor: float
) -> None:
    row, pixels = suv(tmp_path, injected, **elements)
    assert (row["unit"], pixels.dtype) == ("SUVbw", np.float32)
    np.testing.assert_allclose(pixels, PIXELS * 2.5 * factor, rtol=2e-6)
    assert row["slope"] == pytest.approx(2.5 * factor, rel=2e-6)


@pytest.mark.parametrize(
    ("injected", "elements", "named"),
    [
        ({}, {"PatientWeight": None}, "PatientWeight (0010,1030) is absent; legal: 0.5 to 500 kg"),
        ({}, {"PatientWeight": 0}, "PatientWeight (0010,1030) is 0"),
        ({}, {"PatientWeight": 70000}, "PatientWeight (0010,1030) is 70000"),
        ({"RadionuclideTotalDose": 350}, {}, "RadionuclideTotalDose (0018,1074) is 350"),  # MBq
        ({"RadionuclideHalfLife": None}, {}, "RadionuclideHalfLife (0018,1075) is absent"),
        ({"RadiopharmaceuticalStartTime": None}, {}, "RadiopharmaceuticalStartTime (0018,1072)"),
        ({"RadiopharmaceuticalStartDateTime": "20240301110000"}, {}, "-3600 s before the scan"),
        ({"RadiopharmaceuticalStartDateTime": "20240201090000"}, {}, "half-lives"),
        ({}, {"CorrectedImage": ["DECY"]}, "CorrectedImage (0028,0051)"),
        ({}, {"DecayCorrection": "NONE"}, "DecayCorrection (0054,1102) is NONE"),
        ({}, {"Units": "CNTS"}, "Units (0054,1001) is CNTS"),
        ({}, {"Units": "GML", "SUVType": "LBM"}, "SUVType (0054,1006) is LBM"),
        ({}, {"SeriesTime": None}, "suv: SeriesTime (0008,0031) is absent; legal: a date and"),
        ({}, {"SeriesTime": "120000"}, "SeriesTime (0008,0031) 12:00:00 is after"),
    ],
)
def test_what_is_missing_or_mad_is_refused_by_name(
    tmp_path: Path, injected: dict[str, Any], elements: dict[str, Any], named: str
) -> None:
    folder = tmp_path / "in"
    pet(folder / "a.dcm", injected, **elements)
    write_dicom(folder / "ct.dcm", PIXELS, Modality="CT")
    cache = built(folder, tmp_path / "cache", "--intensity", "suv", status=1)
    ((path, (outcome, reason)),) = failures(cache).items()
    assert (path, outcome) == (("a.dcm", None), "failed")
    assert named in reason


def test_without_the_recipe_pet_stays_in_its_unit(tmp_path: Path) -> None:
    source = pet(tmp_path / "a.dcm", {"RadionuclideTotalDose": 350})
    row, pixels = by_path(built(source, tmp_path / "cache"))["a.dcm", 0]
    assert (row["unit"], pixels.tolist()) == ("BQML", [[0.0, 2500.0], [5000.0, 10000.0]])


def test_weight_and_dose_are_not_in_the_cache(tmp_path: Path) -> None:
    source = pet(tmp_path / "a.dcm", PatientWeight=71.25)
    cache = built(source, tmp_path / "cache", "--intensity", "suv")
    assert not [p for p in cache.rglob("*") if p.is_file() and b"71.25" in p.read_bytes()]
