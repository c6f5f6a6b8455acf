"""DICOM segmentations (PS3.3 A.51) of images, written with pydicom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from tests.support.dicom_files import uid, write_dicom

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"


def write_segmentation(
    path: Path,
    images: Sequence[Path],
    masks: NDArray[Any],
    labels: Sequence[str],
    *,
    kind: str = "BINARY",
    referenced: bool = True,
    empty: bool = False,
    **elements: Any,
) -> Path:
    """A segmentation of single-frame `images` in `path`.

    `masks`: (segments, images, H, W), 0 and 1 of BINARY, 0 to 255 of FRACTIONAL; (images, H, W) of
    segment numbers for LABELMAP. `referenced`: frames name their images. Frames without pixels are
    left out, unless `empty`. `elements` replace or add elements by keyword.
    """
    sources = [dcmread(image, stop_before_pixels=True) for image in images]
    first = sources[0]
    planes = masks[None] if kind == "LABELMAP" else masks
    frames, groups = [], []
    for segment, of_segment in enumerate(planes, 1):
        for source, plane in zip(sources, of_segment, strict=True):
            if plane.any() or empty:
                frames.append(plane)
                number = None if kind == "LABELMAP" else segment
                groups.append(_group(source, number, referenced))
    shared = item(
        PixelMeasuresSequence=[item(PixelSpacing=first.PixelSpacing)],
        PlaneOrientationSequence=[item(ImageOrientationPatient=first.ImageOrientationPatient)],
    )
    told = {
        keyword: first[keyword].value
        for keyword in ("StudyInstanceUID", "PatientID", "FrameOfReferenceUID")
        if keyword in first
    }
    told |= {
        "SOPInstanceUID": uid(f"segmentation {path.name}"),
        "SeriesInstanceUID": uid(f"segmentations {path.name}"),
    }
    segments = dict(enumerate(labels, 1))
    return write_frames(path, np.stack(frames), groups, shared, segments, kind, **told | elements)


def write_frames(
    path: Path,
    pixels: NDArray[Any],
    groups: Sequence[Dataset],
    shared: Dataset,
    labels: Mapping[int, str],
    kind: str,
    **elements: Any,
) -> Path:
    """A segmentation of `pixels`, (n, H, W), with a functional group for each, and one for all.

    Those of FRACTIONAL are 0 to 255; of LABELMAP the numbers of `labels`.
    """
    told: dict[str, Any] = {"NumberOfFrames": len(pixels), "ImageType": ["DERIVED", "PRIMARY"]}
    if kind == "BINARY":
        packed = np.packbits(pixels.ravel(), bitorder="little").tobytes()
        told |= {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0,
                 "PixelData": packed + bytes(len(packed) % 2)}  # fmt: skip
    elif kind == "FRACTIONAL":
        told |= {"MaximumFractionalValue": 255, "SegmentationFractionalType": "PROBABILITY"}
    return write_dicom(
        path, pixels.astype(np.uint8), **{
            "SOPClassUID": LABEL_MAP if kind == "LABELMAP" else SEGMENTATION, "Modality": "SEG",
            "SegmentationType": kind, "SegmentSequence": [_segment(*s) for s in labels.items()],
            "SharedFunctionalGroupsSequence": [shared],
            "PerFrameFunctionalGroupsSequence": list(groups),
        } | told | elements,
    )  # fmt: skip


def item(**elements: Any) -> Dataset:
    """An item of a sequence."""
    found = Dataset()
    for keyword, value in elements.items():
        setattr(found, keyword, value)
    return found


def _segment(number: int, label: str) -> Dataset:
    codes = {
        keyword: [item(CodeValue=value, CodingSchemeDesignator="SCT", CodeMeaning=meaning)]
        for keyword, value, meaning in (
            ("SegmentedPropertyCategoryCodeSequence", "123037004", "Anatomical Structure"),
            ("SegmentedPropertyTypeCodeSequence", "10200004", "Liver"),
        )
    }
    return item(
        SegmentNumber=number, SegmentLabel=label, SegmentAlgorithmType="MANUAL", **codes
    )  # fmt: skip


def _group(source: Dataset, segment: int | None, referenced: bool) -> Dataset:
    group = Dataset()
    group.PlanePositionSequence = [Dataset()]
    group.PlanePositionSequence[0].ImagePositionPatient = source.ImagePositionPatient
    if segment is not None:
        group.SegmentIdentificationSequence = [Dataset()]
        group.SegmentIdentificationSequence[0].ReferencedSegmentNumber = segment
    if referenced:
        image, derived = Dataset(), Dataset()
        image.ReferencedSOPClassUID = source.SOPClassUID
        image.ReferencedSOPInstanceUID = source.SOPInstanceUID
        derived.SourceImageSequence = [image]
        group.DerivationImageSequence = [derived]
    return group
