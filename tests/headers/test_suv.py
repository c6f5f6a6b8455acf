"""SUV by body weight: factors by hand, and every input that is missing or mad is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

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
        # to the second, and the other is more exact
        (
            {"RadiopharmaceuticalStartDateTime": "20240301090000",
             "RadiopharmaceuticalStartTime": "090000.730000"},
            {},
            FACTOR,
        ),
        # so on both sides of midnight
        (
            {"RadiopharmaceuticalStartDateTime": "20240301000000",
             "RadiopharmaceuticalStartTime": "235959.5"},
            {"SeriesTime": "010000"},
            FACTOR,
        ),
        # the time alone, before midnight of the day before
        (
            {"RadiopharmaceuticalStartTime": "233000"},
            {"SeriesTime": "003000", "AcquisitionTime": "003100"},
            FACTOR,
        ),
        # the same moment by another clock: 0800 at UTC is 0900 in the zone of the file
        (
            {"RadiopharmaceuticalStartDateTime": "20240301080000.000+0000"},
            {"TimezoneOffsetFromUTC": "+0100"},
            FACTOR,
        ),
        (
            {"RadiopharmaceuticalStartDateTime": "20240301090000+0100"},
            {"TimezoneOffsetFromUTC": "+0100"},
            FACTOR,
        ),
        # no offset: by the clock of the file, whatever its zone
        (
            {"RadiopharmaceuticalStartDateTime": "20240301090000"},
            {"TimezoneOffsetFromUTC": "-0330"},
            FACTOR,
        ),
        # past midnight at UTC, which is the evening before
        (
            {"RadiopharmaceuticalStartDateTime": "20240302030000-0000",
             "RadiopharmaceuticalStartTime": "210000"},
            {"TimezoneOffsetFromUTC": "-0600", "SeriesTime": "220000", "AcquisitionTime": "220000"},
            FACTOR,
        ),
        # the zone of the series times is that of an Acquisition DateTime that says the same
        (
            {"RadiopharmaceuticalStartDateTime": "20240301080000+0000"},
            {"AcquisitionDateTime": "20240301101000.000+0100"},
            FACTOR,
        ),
        # Acquisition DateTime alone, with an offset
        (
            {},
            {"AcquisitionDate": None, "AcquisitionTime": None, "TimezoneOffsetFromUTC": "+0100",
             "AcquisitionDateTime": "20240301091000+0000"},
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
        (
            {"RadiopharmaceuticalStartTime": None},
            {},
            "RadiopharmaceuticalStartDateTime (0018,1078) is absent and "
            "RadiopharmaceuticalStartTime (0018,1072) is absent",
        ),
        (
            {"RadiopharmaceuticalStartDateTime": "20240301080000+0000"},
            {},
            "without TimezoneOffsetFromUTC (0008,0201) nothing says in which zone",
        ),
        (
            {"RadiopharmaceuticalStartDateTime": "20240301080000+0000"},
            {"TimezoneOffsetFromUTC": "+1"},
            "TimezoneOffsetFromUTC (0008,0201) is +1; legal: -1200 to +1400",
        ),
        ({}, {"AcquisitionDate": None}, "suv: AcquisitionDate (0008,0022) is absent; legal"),
        (
            {},
            {"SeriesDate": None, "SeriesTime": None},
            "SeriesDate (0008,0021) is absent and SeriesTime (0008,0031) is absent",
        ),
        ({}, {"Units": None}, "Units (0054,1001) is absent"),
        (
            {},
            {"Units": None, "RescaleType": "BQML", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.130"},
            "SOPClassUID (0008,0016) is 1.2.840.10008.5.1.4.1.1.130, an enhanced PET",
        ),
        ({}, {"CorrectedImage": None}, "CorrectedImage (0028,0051) is absent"),
        (
            {
                "RadiopharmaceuticalStartDateTime": "20240301110000",
                "RadiopharmaceuticalStartTime": None,
            },
            {},
            "-3600 s before the scan",
        ),
        (
            {
                "RadiopharmaceuticalStartDateTime": "20240301090000",
                "RadiopharmaceuticalStartTime": "080000",
            },
            {},
            "RadiopharmaceuticalStartDateTime (0018,1078) is 20240301090000 and "
            "RadiopharmaceuticalStartTime (0018,1072) is 080000; legal: the same time of day",
        ),
        ({"RadiopharmaceuticalStartDateTime": "20240201090000"}, {}, "half-lives"),
        ({}, {"CorrectedImage": ["DECY"]}, "CorrectedImage (0028,0051)"),
        ({}, {"DecayCorrection": "NONE"}, "DecayCorrection (0054,1102) is NONE"),
        ({}, {"Units": "PROPCNTS"}, "Units (0054,1001) is PROPCNTS"),
        (
            {},
            {"Units": "CNTS"},
            "CNTS, and there is neither a SUV Scale Factor (7053,xx00) nor an Activity "
            "Concentration Scale Factor (7053,xx09)",
        ),
        ({}, {"Units": "GML", "SUVType": "LBM"}, "SUVType (0054,1006) is LBM"),
        ({}, {"SeriesTime": None}, "suv: SeriesTime (0008,0031) is absent; legal: a date and"),
        (
            {},
            {"SeriesTime": "120000"},
            "SeriesTime (0008,0031) 12:00:00 is after AcquisitionTime (0008,0032) 10:10:00, and "
            "there is no FrameReferenceTime (0054,1300) and no ActualFrameDuration (0018,1242)",
        ),
        (
            {},
            {"SeriesDate": "20300102"},
            "SeriesDate (0008,0021) 2030-01-02 is after AcquisitionDate (0008,0022) ",
        ),
        (
            {},
            {"SeriesTime": "120000", "FrameReferenceTime": 100},
            "10:10:00, and there is no ActualFrameDuration (0018,1242) above 0",
        ),
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


def philips(block: int, direct: Any, activity: Any, vr: str = "DS") -> dict[str, Any]:
    """The maker's private elements in a block of his, as he writes them or as UN."""
    said: dict[str, Any] = {
        "creator": DataElement(0x70530000 | block, "LO", "Philips PET Private Group")
    }
    for element, found in ((0x00, direct), (0x09, activity)):
        if found is not None:
            made = str(found).encode() if vr == "UN" else found
            said[f"factor{element}"] = DataElement(0x70530000 | block << 8 | element, vr, made)
    return said


@pytest.mark.parametrize(
    ("private", "factor", "flag"),
    [
        (philips(0x10, 0.0005, 1.2), 0.0005, "suv-factor-philips"),
        (philips(0x11, 0.0005, 1.2), 0.0005, "suv-factor-philips"),  # the block has moved
        (philips(0x10, "0.0005 ", 0, "UN"), 0.0005, "suv-factor-philips"),
        (philips(0x10, 0, 1.25), 1.25 * FACTOR, "activity-factor-philips"),  # 0 is none
        (philips(0x20, None, 1.25, "UN"), 1.25 * FACTOR, "activity-factor-philips"),
    ],
)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_counts_by_the_makers_factor(
    tmp_path: Path, private: dict[str, Any], factor: float, flag: str, syntax: str
) -> None:
    row, pixels = suv(tmp_path, Units="CNTS", syntax=syntax, **private)
    assert (row["unit"], row["flags"]) == ("SUVbw", [flag])
    np.testing.assert_allclose(pixels, PIXELS * 2.5 * factor, rtol=2e-6)


def test_the_factor_is_flagged_where_it_is_used(tmp_path: Path) -> None:
    source = pet(tmp_path / "a.dcm", Units="CNTS", **philips(0x10, 0.0005, 0))
    row, _ = by_path(built(source, tmp_path / "cache"))["a.dcm", 0]
    assert (row["unit"], row["flags"]) == ("CNTS", None)


@pytest.mark.parametrize("direct", [0, None, -1, "none"])
def test_factors_that_are_none(tmp_path: Path, direct: Any) -> None:
    write_dicom(tmp_path / "in" / "ct.dcm", PIXELS)
    private = philips(0x10, direct, 0, "UN" if isinstance(direct, str) else "DS")
    pet(tmp_path / "in" / "a.dcm", Units="CNTS", **private)
    cache = built(tmp_path / "in", tmp_path / "cache", "--intensity", "suv", status=1)
    assert "(7053,xx00)" in failures(cache)["a.dcm", None][1]


def test_without_the_recipe_pet_stays_in_its_unit(tmp_path: Path) -> None:
    source = pet(tmp_path / "a.dcm", {"RadionuclideTotalDose": 350})
    row, pixels = by_path(built(source, tmp_path / "cache"))["a.dcm", 0]
    assert (row["unit"], pixels.tolist()) == ("BQML", [[0.0, 2500.0], [5000.0, 10000.0]])


def test_weight_and_dose_are_not_in_the_cache(tmp_path: Path) -> None:
    source = pet(tmp_path / "a.dcm", PatientWeight=71.25)
    cache = built(source, tmp_path / "cache", "--intensity", "suv")
    assert not [p for p in cache.rglob("*") if p.is_file() and b"71.25" in p.read_bytes()]
