"""Segmentations joined to their images, from files to the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from tests.support.caches import built, stored
from tests.support.dicom_files import CT_IMAGE, real, uid, write_dicom

SLICES, SIZE = 4, 32


def write_ct(folder: Path, spacing: tuple[float, float] = (0.8, 0.8)) -> list[Dataset]:
    """A CT of 4 slices of 32 x 32, 2 mm apart, oblique; what highdicom needs is said."""
    a = np.radians(20)
    turned = [1, 0, 0, 0, float(np.cos(a)), float(np.sin(a))]
    normal = np.cross(turned[:3], turned[3:])
    for k in range(SLICES):
        position = [float(v) for v in [-30, -40, 50] + 2.0 * k * normal]
        write_dicom(
            folder / f"ct{k}.dcm", np.full((SIZE, SIZE), k, np.uint16), SOPClassUID=CT_IMAGE,
            Modality="CT", SOPInstanceUID=uid(f"ct {k}"), SeriesInstanceUID=uid("ct"),
            ImagePositionPatient=position, ImageOrientationPatient=turned,
            PixelSpacing=list(spacing), SliceThickness=2, FrameOfReferenceUID=uid("space"),
            InstanceNumber=k + 1, RescaleSlope=1, RescaleIntercept=-1024, PatientName="A^B",
            PatientBirthDate="", PatientSex="", StudyID="1", StudyDate="20200101",
            StudyTime="120000", AccessionNumber="", ReferringPhysicianName="", SeriesNumber=1,
        )  # fmt: skip
    return [dcmread(folder / f"ct{k}.dcm") for k in range(SLICES)]


def write_seg(
    path: Path, sources: list[Dataset], pixels: NDArray[Any], labels: list[str], kind: str,
    **options: Any,
) -> None:  # fmt: skip
    """What highdicom makes of `pixels`."""
    described = [
        highdicom.seg.SegmentDescription(
            number, label, codes.SCT.Tissue, codes.SCT.Liver,
            highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
        ) for number, label in enumerate(labels, 1)
    ]  # fmt: skip
    seg = highdicom.seg.Segmentation(
        sources, pixels, kind, described, uid(f"seg series {path.name}"), 2,
        uid(f"seg {path.name}"), 1, "maker", "model", "1", "serial", **options,
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    seg.save_as(path)


def drawn() -> NDArray[np.uint8]:
    """(4, 32, 32): segment 1 in slices 0 to 2, segment 2 in slice 2 alone."""
    found = np.zeros((SLICES, SIZE, SIZE), np.uint8)
    for k in range(3):
        found[k, 4 + k : 14, 6:20] = 1
    found[2, 20:25, 20:30] = 2
    return found


def masks_of(cache: Path) -> dict[tuple[str, int, int], tuple[dict[str, Any], NDArray[Any]]]:
    """{(image, its frame, segment): (row, pixels)} of the masks of a cache."""
    found = {}
    for row, pixels in stored(cache):
        if row["kind"] == "mask":
            key = row["image_sop_uid"], row["image_frame"], row["segment"]
            assert key not in found
            found[key] = row, pixels
    return found


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_what_highdicom_writes_is_joined(tmp_path: Path, kind: str) -> None:
    sources, pixels = write_ct(tmp_path / "in"), drawn()
    options: dict[str, Any] = {"fractional_type": "PROBABILITY"} if kind == "FRACTIONAL" else {}
    write_seg(tmp_path / "in/seg.dcm", sources, pixels, ["liver", "cyst"], kind, **options)
    found = masks_of(built(tmp_path / "in", tmp_path / "cache"))
    assert {row["image_by"] for row, _ in found.values()} == {"reference"}
    if kind == "LABELMAP":
        assert set(found) >= {(uid(f"ct {k}"), 0, None) for k in range(3)}
        for k, counts in ((0, [140, 0]), (1, [126, 0]), (2, [112, 50])):
            row, stored_pixels = found[uid(f"ct {k}"), 0, None]
            np.testing.assert_array_equal(stored_pixels, pixels[k])
            told = dict(
                zip([s["number"] for s in row["segments"]], row["mask_counts"], strict=True)
            )
            assert [told[1], told[2]] == counts
        return
    assert set(found) == {*((uid(f"ct {k}"), 0, 1) for k in range(3)), (uid("ct 2"), 0, 2)}
    assert {key[0]: row["mask_counts"] for key, (row, _) in found.items() if key[2] == 1} == {
        uid("ct 0"): [140], uid("ct 1"): [126], uid("ct 2"): [112]
    }  # fmt: skip
    full = 255 if kind == "FRACTIONAL" else 1
    for (sop, _, segment), (_, stored_pixels) in found.items():
        k = [uid(f"ct {k}") for k in range(SLICES)].index(sop)
        np.testing.assert_array_equal(stored_pixels, full * (pixels[k] == segment))


@pytest.mark.parametrize("name", ["liver", "liver_1frame", "liver_expb", "liver_expb_1frame"])
def test_pydicoms_livers_are_joined_with_the_slices_that_they_mark(
    tmp_path: Path, name: str
) -> None:
    """Each frame, by what it refers to, and where that is not said by where it lies.

    Those of one frame have the items of three: it is the first one's, as its pixels are.
    """
    source = dcmread(real(f"{name}.dcm"))
    frames = int(source.get("NumberOfFrames", 1))
    (measures,) = source.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    expected = set()
    for k, group in enumerate(source.PerFrameFunctionalGroupsSequence):
        position = group.PlanePositionSequence[0].ImagePositionPatient
        reference = group.DerivationImageSequence[0].SourceImageSequence[0]
        write_dicom(
            tmp_path / f"in/{k}.dcm", np.full((512, 512), k, np.uint16), SOPClassUID=CT_IMAGE,
            SOPInstanceUID=reference.ReferencedSOPInstanceUID, Modality="CT",
            PatientID=source.PatientID, FrameOfReferenceUID=source.FrameOfReferenceUID,
            ImagePositionPatient=position, ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            PixelSpacing=measures.PixelSpacing, SliceThickness=1,
        )  # fmt: skip
        if k < frames:
            expected.add((reference.ReferencedSOPInstanceUID, 0, 1))
    source.save_as(tmp_path / "in/seg.dcm")
    found = masks_of(built(tmp_path / "in", tmp_path / "cache"))
    assert set(found) == expected
    assert {row["image_by"] for row, _ in found.values()} == {"reference"}
    for group in source.PerFrameFunctionalGroupsSequence:
        del group.DerivationImageSequence
    del source.ReferencedSeriesSequence
    source.save_as(tmp_path / "in/seg.dcm")
    again = masks_of(built(tmp_path / "in", tmp_path / "again"))
    assert set(again) == expected
    assert {row["image_by"] for row, _ in again.values()} == {"geometry"}
    for key, (_, pixels) in found.items():
        np.testing.assert_array_equal(again[key][1], pixels)
