"""Frames that do not inherit their file's position, and pixels that are not square."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.tag import Tag

from tests.pixels.cases import item
from tests.support.caches import built, by_path
from tests.support.dicom_files import CT_IMAGE, write_dicom

AXIAL, FEET_FIRST = [1, 0, 0, 0, 1, 0], [1, 0, 0, 0, -1, 0]
DOSE, NM = "1.2.840.10008.5.1.4.1.1.481.2", "1.2.840.10008.5.1.4.1.1.20"
PLANE = {"ImagePositionPatient": [1, 2, 40], "ImageOrientationPatient": AXIAL}


def rows(tmp_path: Path, count: int, **elements: Any) -> list[dict[str, Any]]:
    pixels = np.arange(count * 4, dtype=np.uint16).reshape(count, 2, 2)
    source = write_dicom(tmp_path / "a.dcm", pixels, **elements)
    found = by_path(built(source, tmp_path / "cache"))
    return [found["a.dcm", k][0] for k in range(count)]


@pytest.mark.parametrize(
    ("elements", "places"),
    [
        ({"SpacingBetweenSlices": 0.5}, [40, 40.5, 41]),
        ({"SpacingBetweenSlices": 0.5, "ImageOrientationPatient": FEET_FIRST}, [40, 39.5, 39]),
        ({"SliceLocationVector": [7, 9, 12]}, [40, 42, 45]),
        ({"SliceLocationVector": [7, 9]}, None),  # of other frames
        ({}, None),
        ({"SpacingBetweenSlices": -0.5}, None),  # illegal but in nuclear medicine
        ({"SpacingBetweenSlices": 0.5, "FrameTime": 33}, None),  # a cine at one place
        # cines that do not say how long a frame lasts (PS3.3 C.7.6.5), and moments
        ({"SpacingBetweenSlices": 0.5, "CineRate": 20}, None),
        ({"SpacingBetweenSlices": 0.5, "RecommendedDisplayFrameRate": 20}, None),
        ({"SpacingBetweenSlices": 0.5, "NumberOfTemporalPositions": 3}, None),
        ({"SpacingBetweenSlices": 0.5, "NumberOfTemporalPositions": 1}, [40, 40.5, 41]),
        ({"SpacingBetweenSlices": 0.5, "FrameIncrementPointer": Tag(0x00181065)}, None),
        ({"SpacingBetweenSlices": 0.5, "FrameIncrementPointer": Tag(0x00182005)}, [40, 40.5, 41]),
    ],
)
def test_frames_have_positions_of_their_own_or_none(
    tmp_path: Path, elements: dict[str, Any], places: list[float] | None
) -> None:
    said = {"SOPClassUID": CT_IMAGE, "Modality": "CT", **PLANE, **elements}
    found = [r["position"] for r in rows(tmp_path, 3, **said)]
    assert found == ([[1, 2, z] for z in places] if places else [None] * 3)


def test_one_frame_has_the_position_of_its_file(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, 1, NumberOfFrames=1, **PLANE)
    assert row["position"] == [1, 2, 40]


def test_a_position_that_all_frames_share_holds_for_each(tmp_path: Path) -> None:
    shared = item(PlanePositionSequence=[item(ImagePositionPatient=[5, 6, 7])])
    found = rows(tmp_path, 2, SharedFunctionalGroupsSequence=[shared], **PLANE)
    assert [r["position"] for r in found] == [[5, 6, 7]] * 2


@pytest.mark.parametrize(
    ("offsets", "cosines", "places"),
    [
        ([0, 2, 5], AXIAL, [40, 42, 45]),
        ([0, 2, 5], FEET_FIRST, [40, 38, 35]),  # along the normal
        ([0, -2, -5], AXIAL, [40, 38, 35]),
        ([40, 42, 45], AXIAL, [40, 42, 45]),  # z coordinates
        ([40, 42, 45], [-1, 0, 0, 0, -1, 0], [40, 42, 45]),  # prone: z is the normal, too
        ([40, 42, 45], FEET_FIRST, None),  # illegal in another orientation: two readings
        ([7, 9, 12], AXIAL, None),  # neither
    ],
)
def test_dose_planes(
    tmp_path: Path, offsets: list[float], cosines: list[float], places: list[float] | None
) -> None:
    found = rows(
        tmp_path, 3, SOPClassUID=DOSE, Modality="RTDOSE", DoseGridScaling=1, DoseUnits="GY",
        GridFrameOffsetVector=offsets, ImagePositionPatient=[1, 2, 40],
        ImageOrientationPatient=cosines, FrameIncrementPointer=Tag(0x3004000C),
    )  # fmt: skip
    assert [r["position"] for r in found] == ([[1, 2, z] for z in places] if places else [None] * 3)


def nuclear(tmp_path: Path, count: int, kind: str, **elements: Any) -> list[dict[str, Any]]:
    detector = item(ImagePositionPatient=[-280, -280, 500], ImageOrientationPatient=AXIAL)
    return rows(
        tmp_path, count, SOPClassUID=NM, Modality="NM",
        ImageType=["ORIGINAL", "PRIMARY", kind, "EMISSION"], PixelSpacing=[4, 4],
        DetectorInformationSequence=[detector], **elements,
    )  # fmt: skip


@pytest.mark.parametrize(("step", "places"), [(-4, [500, 496, 492]), (4, [500, 504, 508])])
def test_reconstructed_slices(tmp_path: Path, step: float, places: list[float]) -> None:
    found = nuclear(tmp_path, 3, "RECON TOMO", SpacingBetweenSlices=step, SliceVector=[1, 2, 3])
    assert [r["position"] for r in found] == [[-280, -280, z] for z in places]
    assert [r["orientation"] for r in found] == [AXIAL] * 3


def test_gates_are_moments_and_not_places(tmp_path: Path) -> None:
    found = nuclear(
        tmp_path, 6, "RECON GATED TOMO", SpacingBetweenSlices=4, RRIntervalVector=[1] * 6,
        TimeSlotVector=[1, 1, 1, 2, 2, 2], SliceVector=[1, 2, 3, 1, 2, 3],
    )  # fmt: skip
    assert [r["position"][2] for r in found] == [500, 504, 508] * 2
    assert [r["temporal_index"] for r in found] == [1, 1, 1, 2, 2, 2]
    first, second = {r["stack"] for r in found[:3]}, {r["stack"] for r in found[3:]}
    assert len(first) == len(second) == 1
    assert first != second


def test_views_from_angles_are_no_volume(tmp_path: Path) -> None:
    found = nuclear(tmp_path, 4, "TOMO", AngularViewVector=[1, 2, 4, 3])
    assert [r["stack_regular"] for r in found] == [None] * 4
    assert [r["stack_index"] for r in found] == [0, 1, 3, 2]  # in the order of their angles
    assert len({r["stack"] for r in found}) == 1


def test_windows_and_detectors_are_images_of_their_own(tmp_path: Path) -> None:
    found = nuclear(
        tmp_path, 4, "WHOLE BODY", EnergyWindowVector=[1, 1, 2, 2], DetectorVector=[1, 2, 1, 2]
    )
    assert [(r["energy_window"], r["detector"]) for r in found] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert [r["position"] for r in found] == [None] * 4  # of a projection
    assert len({r["stack"] for r in found}) == 4


CM, SECONDS, CM_PER_S = 3, 4, 7


def region(x: tuple[int, float], y: tuple[int, float]) -> Any:
    return item(
        PhysicalUnitsXDirection=x[0], PhysicalDeltaX=x[1],
        PhysicalUnitsYDirection=y[0], PhysicalDeltaY=y[1],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("regions", "spacing"),
    [
        ([region((CM, 0.02), (CM, 0.05))], (0.5, 0.2)),
        ([region((CM, 0.02), (CM_PER_S, 0.05))], (None, None)),
        ([region((SECONDS, 0.02), (CM, 0.05))], (None, None)),
        ([region((CM, 0.02), (CM, -0.05))] * 2, (0.5, 0.2)),  # B-mode, and colour over it
        ([region((CM, 0.02), (CM, 0.05)), region((SECONDS, 0.02), (CM, 0.05))], (None, None)),
        ([region((CM, 0.02), (CM, 0.05)), region((CM, 0.03), (CM, 0.05))], (None, None)),
    ],
)
def test_spacing_of_ultrasound(tmp_path: Path, regions: list[Any], spacing: Any) -> None:
    (row,) = rows(tmp_path, 1, NumberOfFrames=1, SequenceOfUltrasoundRegions=regions)
    assert (row["spacing_y"], row["spacing_x"]) == pytest.approx(spacing)


@pytest.mark.parametrize(
    ("ratio", "elements", "height", "aspect"),
    [
        ([2, 1], {}, 60, 1.0),  # twice as high as wide: 15 rows of 60 columns become square
        ([1, 1], {}, 30, 1.0),
        ([2, 1], {"PixelSpacing": [1, 1]}, 30, 2.0),  # millimetres are known, and hold
        ([0, 1], {}, 30, None),  # illegal
    ],
)
def test_pixels_that_are_not_square_keep_their_shape(
    tmp_path: Path, ratio: list[int], elements: dict[str, Any], height: int, aspect: float | None
) -> None:
    disc = np.zeros((32, 64), np.uint8)
    disc[1:31, 2:62] = 255
    source = write_dicom(tmp_path / "a.dcm", disc, PixelAspectRatio=ratio, **elements)
    row, pixels = by_path(built(source, tmp_path / "cache", "--size", "64"))["a.dcm", 0]
    assert ((pixels[:, 32] > 127).sum(), (pixels[32] > 127).sum()) == (height, 60)
    assert row["pixel_aspect"] == aspect
    row, pixels = by_path(built(source, tmp_path / "plain"))["a.dcm", 0]
    assert (row["pixel_aspect"], pixels.shape) == (
        None if aspect is None else ratio[0] / ratio[1], (32, 64)
    )  # fmt: skip
