"""What values mean: units that are implied, several in a file, and those of parametric maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.pixels.cases import item
from tests.support.caches import built, by_path
from tests.support.dicom_files import CT_IMAGE, write_dicom

ENHANCED_CT, LEGACY_CT = f"{CT_IMAGE}.1", f"{CT_IMAGE}.2"
MAP = "1.2.840.10008.5.1.4.1.1.30"
LINE = {"RescaleSlope": 1, "RescaleIntercept": -1024}
PIXELS = np.array([[24, 1064], [1104, 2000]], np.uint16)
_CT = {"SOPClassUID": CT_IMAGE, "Modality": "CT", **LINE}


@pytest.mark.parametrize(
    ("elements", "unit", "flags"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"]}, "HU", None),
        ({}, "HU", None),  # Image Type is missing: Rescale Type would be, if it were not HU
        ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL"]}, "HU", ["unit-implied"]),
        ({"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, "HU", ["unit-implied"]),
        ({"ImageType": ["DERIVED", "PRIMARY"], "RescaleType": "HU"}, "HU", None),
        ({"ImageType": ["DERIVED", "PRIMARY"], "RescaleType": "US"}, "US", None),
        ({"RescaleType": "hu"}, "HU", None),  # LO has both cases
        ({"RescaleType": " Hu "}, "HU", None),
        ({"RescaleType": ["HU", "US"]}, "HU", ["unit-several"]),
        ({"RescaleType": ["US", "HU"]}, "US\\HU", None),  # as it is written: neither is known
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "US", None),
        ({"ImageType": ["DERIVED", "PRIMARY", "LOCALIZER"]}, "US", None),
        ({"MultienergyCTAcquisition": "YES"}, "US", ["unit-missing"]),
        ({"MultienergyCTAcquisition": "YES", "RescaleType": "MGML"}, "MGML", None),
        ({"MultienergyCTAcquisition": "NO"}, "HU", None),
        ({"RescaleSlope": None, "RescaleIntercept": None}, "US", None),  # nothing is rescaled
        ({"RescaleSlope": None}, "HU", ["rescale-one-sided"]),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "US", None),  # a screen of a CT
        ({"SOPClassUID": ENHANCED_CT}, "US", ["unit-missing"]),  # to be said in each group
        ({"SOPClassUID": LEGACY_CT}, "US", ["unit-missing"]),
        ({"SOPClassUID": ENHANCED_CT, "RescaleType": "HU"}, "HU", None),
        ({"Modality": "MR"}, "HU", None),  # the SOP class decides, never the modality
    ],
)
def test_the_unit_of_ct(
    tmp_path: Path, elements: dict[str, Any], unit: str, flags: list[str] | None
) -> None:
    said = {k: v for k, v in {**_CT, **elements}.items() if v is not None}
    source = write_dicom(tmp_path / "a.dcm", PIXELS, **said)
    row, _ = by_path(built(source, tmp_path / "cache"))["a.dcm", 0]
    assert (row["unit"], row["flags"]) == (unit, flags)


@pytest.mark.parametrize("recipe", ["mixed", "lightlytrain"])
def test_derived_ct_is_windowed_like_the_original(tmp_path: Path, recipe: str) -> None:
    for number, kind in enumerate(("ORIGINAL", "DERIVED")):
        write_dicom(
            tmp_path / "in" / f"{kind}.dcm", PIXELS + number * 0, ImageType=[kind, "PRIMARY"],
            SeriesInstanceUID=f"1.2.{number}", **_CT,
        )  # fmt: skip
    found = by_path(built(tmp_path / "in", tmp_path / "cache", "--recipe", recipe))
    (_, original), (_, derived) = found["ORIGINAL.dcm", 0], found["DERIVED.dcm", 0]
    assert original.tolist() == derived.tolist()


def group(slope: float, intercept: float, unit: str | None, z: float) -> Any:
    transform = item(RescaleSlope=slope, RescaleIntercept=intercept)
    if unit is not None:
        transform.RescaleType = unit
    position = item(ImagePositionPatient=[0, 0, z])
    return item(PixelValueTransformationSequence=[transform], PlanePositionSequence=[position])


def test_several_units_in_one_file_are_several_stacks(tmp_path: Path) -> None:
    pixels = np.array([[[1000]], [[1000]], [[2048]], [[2048]]], np.uint16)
    groups = [group(0.5, 0, "normalized", z) for z in (0, 3)]
    groups += [group(1.5, -3142, "mrad", z) for z in (0, 3)]
    source = write_dicom(
        tmp_path / "mp.dcm", pixels, SOPClassUID="1.2.840.10008.5.1.4.1.1.4.1", Modality="MR",
        PerFrameFunctionalGroupsSequence=groups,
    )  # fmt: skip
    found = by_path(built(source, tmp_path / "cache"))
    rows = [found["mp.dcm", k] for k in range(4)]
    assert [r["unit"] for r, _ in rows] == ["normalized", "normalized", "mrad", "mrad"]
    assert [p.tolist() for _, p in rows] == [[[500.0]], [[500.0]], [[-70.0]], [[-70.0]]]
    stacks = [r["stack"] for r, _ in rows]
    assert stacks[0] == stacks[1] != stacks[2] == stacks[3]
    assert all("units-differ" in r["flags"] for r, _ in rows)
    for k in range(4):  # what a recipe makes of all values has one unit
        row, _ = by_path(built(source, tmp_path / "s", "--intensity", "stored", "--overwrite"))[
            "mp.dcm", k
        ]
        assert (row["unit"], row["slope"]) == ("stored", 1.0)


def test_frames_in_hu_of_a_file_of_several_units_are_padded_with_air(tmp_path: Path) -> None:
    pixels = np.full((2, 2, 4), 1064, np.uint16)
    source = write_dicom(
        tmp_path / "e.dcm", pixels, SOPClassUID=ENHANCED_CT, Modality="CT",
        PerFrameFunctionalGroupsSequence=[group(1, -1024, "HU", 0), group(1, 0, "MGML", 0)],
    )  # fmt: skip
    found = by_path(built(source, tmp_path / "cache", "--size", "4"))
    assert [found["e.dcm", k][1][0, 0] for k in (0, 1)] == [-1000, 0]
    assert found["e.dcm", 0][1].dtype == np.int16  # as all of HU


@pytest.mark.parametrize("recipe", ["mixed", "lightlytrain"])
def test_no_window_of_hu_is_laid_on_a_file_of_several_units(tmp_path: Path, recipe: str) -> None:
    """Each unit is a stack, and goes by its own percentiles."""
    pixels = np.array([[[0, 1000]], [[0, 1000]], [[3, 7]], [[3, 7]]], np.uint16).repeat(8, axis=1)
    groups = [group(1, -1024, "HU", z) for z in (0, 1)]
    groups += [group(0.5, 0, "MGML", z) for z in (0, 1)]
    source = write_dicom(
        tmp_path / "e.dcm", pixels, SOPClassUID=ENHANCED_CT, Modality="CT",
        PerFrameFunctionalGroupsSequence=groups,
    )  # fmt: skip
    found = by_path(built(source, tmp_path / "cache", "--recipe", recipe))
    rows = [found["e.dcm", k] for k in range(4)]
    assert [(r["rule"], r["unit"]) for r, _ in rows] == [(0, "window")] * 4
    ends = [(r["window_low"], r["window_high"]) for r, _ in rows]
    assert ends == [(-1024, -24)] * 2 + [(1.5, 3.5)] * 2
    assert all((pixels.min(), pixels.max()) == (0, 255) for _, pixels in rows)


def test_a_type_that_one_group_lacks_is_flagged(tmp_path: Path) -> None:
    groups = [group(2, 0, None, z) for z in (0, 1)]
    source = write_dicom(
        tmp_path / "e.dcm", np.full((2, 1, 1), 5, np.uint16), SOPClassUID=ENHANCED_CT,
        Modality="CT", PerFrameFunctionalGroupsSequence=groups,
    )  # fmt: skip
    row, pixels = by_path(built(source, tmp_path / "cache"))["e.dcm", 0]
    assert (pixels.item(), row["unit"], row["flags"]) == (10, "US", ["unit-missing"])


def mapping(slope: float, unit: str, ends: tuple[float, float] = (0, 65535), **said: Any) -> Any:
    return item(
        RealWorldValueSlope=float(slope), RealWorldValueIntercept=said.pop("b", 0.0),
        RealWorldValueFirstValueMapped=ends[0], RealWorldValueLastValueMapped=ends[1],
        MeasurementUnitsCodeSequence=[item(CodeValue=unit, CodingSchemeDesignator="UCUM")], **said,
    )  # fmt: skip


IDENTITY = [item(RescaleSlope=1, RescaleIntercept=0, RescaleType="US")]
ENTRIES = [0.1 * k * k for k in range(1100)]
TABLE = item(
    RealWorldValueFirstValueMapped=0, RealWorldValueLastValueMapped=1099,
    RealWorldValueLUTData=ENTRIES, MeasurementUnitsCodeSequence=[item(CodeValue="ms")],
)  # fmt: skip
SHORT = item(
    RealWorldValueFirstValueMapped=0, RealWorldValueLastValueMapped=9,
    RealWorldValueLUTData=ENTRIES[:9],
)  # fmt: skip


def parametric(path: Path, shared: list[Any] | None, own: list[list[Any] | None]) -> Path:
    """A map of frames of 500 and 1000 beside the identity that the standard demands."""
    frames = []
    for k, found in enumerate(own):
        frame = item(PlanePositionSequence=[item(ImagePositionPatient=[0, 0, k])])
        frame.PixelValueTransformationSequence = IDENTITY
        if found:
            frame.RealWorldValueMappingSequence = found
        frames.append(frame)
    whole = item(FrameVOILUTSequence=[item(WindowCenter=600.5, WindowWidth=101)])
    if shared:
        whole.RealWorldValueMappingSequence = shared
    pixels = np.array([[[500]], [[1000]]], np.uint16)
    return write_dicom(
        path, pixels, SOPClassUID=MAP, Modality="MR", SharedFunctionalGroupsSequence=[whole],
        PerFrameFunctionalGroupsSequence=frames,
    )  # fmt: skip


ADC, FA = mapping(1e-6, "mm2/s"), mapping(1e-4, "1", b=0.25)


@pytest.mark.parametrize(
    ("shared", "own", "values", "units", "flags"),
    [
        ([ADC], [None, None], [0.0005, 0.001], ["mm2/s"] * 2, None),
        (None, [[ADC], [ADC]], [0.0005, 0.001], ["mm2/s"] * 2, None),
        (None, [[ADC], [FA]], [0.0005, 0.35], ["mm2/s", "1"], ["units-differ"]),
        ([ADC], [None, [FA]], [0.0005, 0.35], ["mm2/s", "1"], ["units-differ"]),
        ([TABLE], [None, None], [25000, 100000], ["ms"] * 2, None),
        # a table that is too short, or of a frame; of two parts of the range neither is the whole
        ([SHORT], [None, None], [500, 1000], ["US"] * 2, ["real-world-unused"]),
        (None, [[TABLE], [TABLE]], [500, 1000], ["US"] * 2, ["real-world-unused"]),
        ([mapping(1, "a", (0, 700)), mapping(2, "a", (701, 65535))], [None, None], [500, 1000],
         ["US"] * 2, ["real-world-unused"]),
        # the same values in two units
        ([ADC, mapping(1, "um2/s")], [None, None], [0.0005, 0.001], ["mm2/s"] * 2,
         ["real-world-several"]),
    ],
)  # fmt: skip
def test_real_world_values_of_parametric_maps(
    tmp_path: Path, shared: Any, own: Any, values: list[float], units: list[str], flags: Any
) -> None:
    found = by_path(built(parametric(tmp_path / "m.dcm", shared, own), tmp_path / "cache"))
    rows = [found["m.dcm", k] for k in (0, 1)]
    assert [p.item() for _, p in rows] == pytest.approx(values, rel=1e-6)
    assert [r["unit"] for r, _ in rows] == units
    assert [r["flags"] for r, _ in rows] == [flags] * 2


@pytest.mark.parametrize("places", [{}, {"SpacingBetweenSlices": 3}])
def test_frames_that_say_nothing_but_their_real_world_values(
    tmp_path: Path, places: dict[str, Any]
) -> None:
    groups = [item(RealWorldValueMappingSequence=[m]) for m in (ADC, FA)]
    geometry = {"ImagePositionPatient": [0, 0, 1], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    source = write_dicom(
        tmp_path / "m.dcm", np.array([[[500]], [[1000]]], np.uint16), SOPClassUID=MAP,
        Modality="MR", PerFrameFunctionalGroupsSequence=groups, **geometry, **places,
    )  # fmt: skip
    found = by_path(built(source, tmp_path / "cache"))
    rows = [found["m.dcm", k] for k in (0, 1)]
    assert [p.item() for _, p in rows] == pytest.approx([0.0005, 0.35], rel=1e-6)
    assert [r["unit"] for r, _ in rows] == ["mm2/s", "1"]
    assert [r["flags"] for r, _ in rows] == [["units-differ"]] * 2
    positions = [[0, 0, 1], [0, 0, 4]] if places else [None, None]
    assert [r["position"] for r, _ in rows] == positions


def test_one_mapping_for_two_frames_is_of_neither(tmp_path: Path) -> None:
    source = write_dicom(
        tmp_path / "m.dcm", np.array([[[500]], [[1000]]], np.uint16), SOPClassUID=MAP,
        Modality="MR", PerFrameFunctionalGroupsSequence=[item(RealWorldValueMappingSequence=[ADC])],
    )  # fmt: skip
    found = by_path(built(source, tmp_path / "cache"))
    assert [found["m.dcm", k][1].item() for k in (0, 1)] == [500, 1000]
    assert found["m.dcm", 0][0]["flags"] == ["real-world-unused"]


HALVES = item(
    RealWorldValueFirstValueMapped=400, RealWorldValueLastValueMapped=700,
    RealWorldValueLUTData=[k / 2 for k in range(400, 701)],
    MeasurementUnitsCodeSequence=[item(CodeValue="ms")],
)  # fmt: skip


@pytest.mark.parametrize(
    ("mapped", "last"), [(mapping(0.5, "ms", (0, 700)), 500.0), (HALVES, 350.0)]
)
def test_stored_values_that_have_no_real_one_are_flagged(
    tmp_path: Path, mapped: Any, last: float
) -> None:
    source = parametric(tmp_path / "m.dcm", [mapped], [None, None])
    found = by_path(built(source, tmp_path / "cache"))
    rows = [found["m.dcm", k] for k in (0, 1)]
    assert [p.item() for _, p in rows] == [250.0, last]
    assert [r["unit"] for r, _ in rows] == ["ms", "ms"]
    assert [r["flags"] for r, _ in rows] == [None, ["real-world-range"]]


def test_windows_of_a_map_are_in_its_own_unit(tmp_path: Path) -> None:
    source = parametric(tmp_path / "m.dcm", None, [[ADC], [FA]])
    found = by_path(built(source, tmp_path / "cache"))
    # LINEAR 600.5, 101 goes from 550 to 650
    for k, low, high in ((0, 0.00055, 0.00065), (1, 0.305, 0.315)):
        (window,) = found["m.dcm", k][0]["windows"]
        assert window["function"] == "LINEAR_EXACT"
        ends = [window["center"] + side * window["width"] / 2 for side in (-1, 1)]
        assert ends == pytest.approx([low, high])


SEGMENTS = [
    item(
        SegmentNumber=n, SegmentLabel=label,
        SegmentedPropertyCategoryCodeSequence=[
            item(CodeValue="123037004", CodingSchemeDesignator="SCT", CodeMeaning="Anatomy")
        ],
        SegmentedPropertyTypeCodeSequence=[
            item(CodeValue=code, CodingSchemeDesignator="SCT", CodeMeaning=label.title())
        ],
    )
    for n, label, code in ((1, "liver", "10200004"), (2, "spleen", "78961009"))
]  # fmt: skip
LIVER, SPLEEN = (
    {"number": n, "label": label, "category": "SCT:123037004", "type": f"SCT:{code}",
     "type_meaning": label.title()}
    for n, label, code in ((1, "liver", "10200004"), (2, "spleen", "78961009"))
)  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "segments", "full"),
    [
        ("LABELMAP", [[LIVER, SPLEEN]] * 2, None),
        ("BINARY", [[SPLEEN], [LIVER]], None),
        ("FRACTIONAL", [[SPLEEN], [LIVER]], 100.0),
    ],
)
def test_what_masks_show(
    tmp_path: Path, kind: str, segments: list[Any], full: float | None
) -> None:
    sop = f"1.2.840.10008.5.1.4.1.1.66.{7 if kind == 'LABELMAP' else 4}"
    frames = [item(SegmentIdentificationSequence=[item(ReferencedSegmentNumber=n)]) for n in (2, 1)]
    source = write_dicom(
        tmp_path / "s.dcm", np.array([[[2, 0]], [[0, 1]]], np.uint8), SOPClassUID=sop,
        Modality="SEG", SegmentationType=kind, SegmentSequence=SEGMENTS, MaximumFractionalValue=100,
        PerFrameFunctionalGroupsSequence=[] if kind == "LABELMAP" else frames,
    )  # fmt: skip
    found = by_path(built(source, tmp_path / "cache"))
    rows = [found["s.dcm", k][0] for k in (0, 1)]
    assert [r["segments"] for r in rows] == segments
    assert [r["full_scale"] for r in rows] == [full] * 2


def test_a_character_set_that_nobody_knows_is_flagged(tmp_path: Path) -> None:
    for name, charset in (("known", "GB18030"), ("unknown", "KLINGON")):
        write_dicom(tmp_path / "in" / f"{name}.dcm", PIXELS, SpecificCharacterSet="GB18030")
        path = tmp_path / "in" / f"{name}.dcm"
        path.write_bytes(path.read_bytes().replace(b"GB18030 ", charset.ljust(8).encode()))
    found = by_path(built(tmp_path / "in", tmp_path / "cache"))
    assert found["known.dcm", 0][0]["flags"] is None
    assert found["unknown.dcm", 0][0]["flags"] == ["charset-unknown"]
