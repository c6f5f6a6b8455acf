"""How a frame was acquired: clocks, diffusion as each maker writes it, who it is of."""

from __future__ import annotations

import math
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from dicom2cache.headers.acquisition import acquired_of, born_of, diffusion_of, person_of
from tests.support.caches import run_cli, stored
from tests.support.dicom_files import write_dicom

AXIAL = [1, 0, 0, 0, 1, 0]
SAME = math.sqrt(0.5)


def _mr(maker: str, *private: tuple[int, str, int, str, Any], **elements: Any) -> Dataset:
    """An MR header; `private` are (group, creator, element, VR, value), in block 0x12."""
    ds = Dataset()
    ds.Modality, ds.Manufacturer = "MR", maker
    for group, creator, element, vr, value in private:
        if creator:
            ds[group, 0x12] = DataElement((group, 0x12), "LO", creator)
        block = 0x12 if creator else 0x10
        ds.add_new((group, block << 8 | element), vr, value)
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds


SIEMENS, PARAMETERS, GE = "SIEMENS MR HEADER", "GEMS_PARM_01", "GEMS_ACQU_01"
PHILIPS, PHILIPS_MR = "Philips Imaging DD 001", "Philips MR Imaging DD 001"


def _ge(x: float, y: float, z: float, b: Any = 1000, **elements: Any) -> Dataset:
    elements = {
        "PatientPosition": "HFS",
        "ImageOrientationPatient": AXIAL,
        "InPlanePhaseEncodingDirection": "COL",
        **elements,
    }
    return _mr(
        "GE MEDICAL SYSTEMS",
        (0x0043, PARAMETERS, 0x39, "IS", [b, 8, 0, 0]),
        (0x0019, GE, 0xBB, "DS", x),
        (0x0019, GE, 0xBC, "DS", y),
        (0x0019, GE, 0xBD, "DS", z),
        **elements,
    )


@pytest.mark.parametrize(
    ("ds", "b_value", "gradient"),
    [
        # the standard's own elements win
        (_mr("SIEMENS", (0x0019, SIEMENS, 0x0C, "IS", 5), DiffusionBValue=1000.0,
             DiffusionGradientOrientation=[0.0, 1.0, 0.0]), 1000, [0, 1, 0]),
        (_mr("SIEMENS", (0x0019, SIEMENS, 0x0C, "IS", 750),
             (0x0019, SIEMENS, 0x0E, "FD", [0.0, SAME, SAME])), 750, [0, SAME, SAME]),
        (_mr("SIEMENS", (0x0019, SIEMENS, 0x0C, "IS", 0)), 0, None),
        # anonymisers leave VR UN, whose bytes are what they were
        (_mr("SIEMENS", (0x0019, SIEMENS, 0x0C, "UN", b"750 "),
             (0x0019, SIEMENS, 0x0E, "UN", struct.pack("<3d", 1.0, 0.0, 0.0))), 750, [1, 0, 0]),
        (_mr("Philips Medical Systems", (0x2001, PHILIPS, 0x03, "FL", 800.0),
             (0x2005, PHILIPS_MR, 0xB0, "FL", 0.6), (0x2005, PHILIPS_MR, 0xB1, "FL", 0.0),
             (0x2005, PHILIPS_MR, 0xB2, "FL", -0.8)), 800, [0.6, 0, -0.8]),
        # zeros are no direction: without diffusion, or the mean of several
        (_mr("Philips", (0x2001, PHILIPS, 0x03, "FL", 0.0), (0x2005, PHILIPS_MR, 0xB0, "FL", 0.0),
             (0x2005, PHILIPS_MR, 0xB1, "FL", 0.0), (0x2005, PHILIPS_MR, 0xB2, "FL", 0.0)),
         0, None),
        (_mr("UIH", (0x0065, "", 0x09, "FD", 600.0), (0x0065, "", 0x37, "FD", [0.0, 0.0, -1.0])),
         600, [0, 0, -1]),
        # GE: relative to the image; the sign of a gradient has no meaning
        (_ge(1, 0, 0), 1000, [-1, 0, 0]),
        (_ge(0, 0.6, 0.8), 1000, [0, -0.6, 0.8]),
        (_ge(0.6, 0.8, 0, InPlanePhaseEncodingDirection="ROW"), 1000, [-0.8, 0.6, 0]),
        (_ge(1, 0, 0, b=1000000750), 750, [-1, 0, 0]),
        # a shorter vector is a smaller b-value: 1000 * 0.7071^2, to the nearest 5
        (_ge(0.7071, 0, 0), 500, [-1, 0, 0]),
        (_ge(0, 0, 0, b=0), 0, None),
        # what is not known to be right is not told
        (_ge(1, 0, 0, PatientPosition="FFS"), 1000, None),
        (_ge(1, 0, 0, ImageOrientationPatient=[0, 1, 0, 0, 0, -1]), 1000, None),
        (_ge(1, 0, 0, InPlanePhaseEncodingDirection=None), 1000, None),
        # another maker's elements say nothing, nor do those of a CT
        (_mr("ACME", (0x0019, SIEMENS, 0x0C, "IS", 750)), None, None),
        (_mr("SIEMENS", (0x0019, "ANOTHER", 0x0C, "IS", 750)), None, None),
        (_mr("SIEMENS", (0x0019, SIEMENS, 0x0C, "IS", 750), Modality="CT"), None, None),
        # damaged
        (_mr("SIEMENS", (0x0019, SIEMENS, 0x0C, "UN", b"\xff\xfe"),
             (0x0019, SIEMENS, 0x0E, "UN", b"1234567")), None, None),
    ],
)  # fmt: skip
def test_diffusion(ds: Dataset, b_value: float | None, gradient: list[float] | None) -> None:
    found_b_value, found, _ = diffusion_of(ds)
    assert found_b_value == b_value
    assert (found is None) == (gradient is None)
    if found and gradient:
        assert found == pytest.approx(gradient, abs=1e-6)
        assert math.hypot(*found) == pytest.approx(1)


def test_a_turned_image_turns_its_gradients() -> None:
    c, s = math.cos(math.radians(20)), math.sin(math.radians(20))
    _, found, _ = diffusion_of(_ge(0, 1, 0, ImageOrientationPatient=[1, 0, 0, 0, c, s]))
    assert found == pytest.approx([0, -c, -s])


def test_axes_that_are_not_known_tell_directions_apart_all_the_same() -> None:
    assert diffusion_of(_ge(0, 0.6, 0.8, PatientPosition="FFS")) == (1000, None, [0, 0.6, 0.8])
    assert diffusion_of(_ge(0, 0.6, 0.8))[2] is None


@pytest.mark.parametrize(
    ("elements", "seconds"),
    [
        ({"AcquisitionDateTime": "20200102030405.25"}, 0),
        ({"AcquisitionDateTime": "20200102030405.250000+0100"}, 0),
        ({"AcquisitionDate": "20200102", "AcquisitionTime": "030405.25"}, 0),
        ({"AcquisitionDate": "20200102", "AcquisitionTime": "030406.75"}, 1.5),
        ({"AcquisitionDate": "20200103", "AcquisitionTime": "030405.25"}, 86400),
        ({"AcquisitionTime": "03:04:05"}, None),  # not of this century's standard
        ({"AcquisitionDate": "20209902", "AcquisitionTime": "030405"}, None),
        ({}, None),
    ],
)
def test_acquired(elements: dict[str, str], seconds: float | None) -> None:
    first, ds = Dataset(), Dataset()
    first.AcquisitionDateTime = "20200102030405.25"
    for keyword, value in elements.items():
        ds.add_new(keyword, "LO", value)
    found, reference = acquired_of(ds), acquired_of(first)
    assert reference is not None
    assert found == (None if seconds is None else reference + 1000 * seconds)


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("DOE^JANE^^", True),
        (" Doe ^ Jane ", True),
        ("Doe, Jane", True),  # as people type it
        ("\uff24\uff4f\uff45^Jane", True),  # full width
        ("Doe^Janet", False),
        ("Doe", False),
    ],
)
def test_variants_of_a_name_are_one(name: str, same: bool) -> None:
    ds, other = Dataset(), Dataset()
    ds.PatientName, other.PatientName = "Doe^Jane", name
    assert (person_of(other) == person_of(ds)) is same


def test_a_person_has_a_name_and_a_birth_date() -> None:
    ds = Dataset()
    assert (person_of(ds), born_of(ds)) == (None, None)
    ds.PatientID, ds.PatientName, ds.PatientBirthDate = "ANON", "^^", "19500101"
    assert (person_of(ds), born_of(ds)) == (None, "19500101")


@pytest.mark.parametrize("patient", [None, "ANON"])
def test_no_name_comes_to_a_disk(tmp_path: Path, patient: str | None) -> None:
    for k in range(2):
        write_dicom(
            tmp_path / "in" / f"{k}.dcm", np.zeros((4, 4), np.uint16), PatientID=patient,
            PatientName=f"Canary^{k}", PatientBirthDate=f"1947112{k}", AcquisitionDate="20191231",
            AcquisitionTime="235959.123", ImagePositionPatient=[0, 0, k],
            ImageOrientationPatient=AXIAL,
        )  # fmt: skip
    cache = tmp_path / "cache"
    for step in (["plan", tmp_path / "in", cache], ["convert", cache], ["commit", cache]):
        assert run_cli(*step).returncode == 0
        written = [p for p in cache.rglob("*") if p.is_file()]
        assert any(p.name == "files.arrow" for p in written) == (step[0] != "commit")
        for path in written:
            # of digits only, a canary may be in a digest by chance
            data = re.sub(rb"[0-9a-f]{32,}", b"", path.read_bytes())
            for canary in (
                b"anary",
                b"ANARY",
                b"1947112",
                b"person",
                b"born",
                b"acquired",
                b"gradient_said",
                b"235959",
            ):
                assert canary not in data, path
    # told apart all the same
    assert sorted(row["stack"] for row, _ in stored(cache)) == [0, 1]
