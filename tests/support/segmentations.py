"""DICOM segmentations (PS3.3 A.51) of images, written with pydicom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import pack_bits
from pydicom.uid import ExplicitVRLittleEndian

from tests.support.dicom_files import uid

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
    ds = Dataset()
    ds.SOPClassUID = LABEL_MAP if kind == "LABELMAP" else SEGMENTATION
    ds.SOPInstanceUID = uid(f"segmentation {path.name}")
    ds.SeriesInstanceUID = uid(f"segmentations {path.name}")
    ds.Modality, ds.SegmentationType = "SEG", kind
    ds.ImageType = ["DERIVED", "PRIMARY"]
    for keyword in ("StudyInstanceUID", "PatientID", "FrameOfReferenceUID"):
        if keyword in first:
            setattr(ds, keyword, first[keyword].value)
    ds.SegmentSequence = [_segment(k, label) for k, label in enumerate(labels, 1)]
    shared = Dataset()
    shared.PixelMeasuresSequence = [Dataset()]
    shared.PixelMeasuresSequence[0].PixelSpacing = first.PixelSpacing
    shared.PlaneOrientationSequence = [Dataset()]
    orientation = first.ImageOrientationPatient
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = orientation
    ds.SharedFunctionalGroupsSequence = [shared]
    planes = masks[None] if kind == "LABELMAP" else masks
    frames, groups = [], []
    for segment, of_segment in enumerate(planes, 1):
        for source, plane in zip(sources, of_segment, strict=True):
            if plane.any() or empty:
                frames.append(plane)
                number = None if kind == "LABELMAP" else segment
                groups.append(_group(source, number, referenced))
    ds.PerFrameFunctionalGroupsSequence = groups
    stored = np.stack(frames)
    ds.NumberOfFrames, ds.Rows, ds.Columns = stored.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.PixelRepresentation = 0
    bits = 1 if kind == "BINARY" else 8
    ds.BitsAllocated = ds.BitsStored = bits
    ds.HighBit = bits - 1
    if kind == "FRACTIONAL":
        ds.SegmentationFractionalType, ds.MaximumFractionalValue = "PROBABILITY", 255
    data = pack_bits(stored.astype(np.uint8)) if bits == 1 else stored.astype(np.uint8).tobytes()
    ds.add_new("PixelData", "OB", data + bytes(len(data) % 2))
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def _segment(number: int, label: str) -> Dataset:
    ds = Dataset()
    ds.SegmentNumber, ds.SegmentLabel, ds.SegmentAlgorithmType = number, label, "MANUAL"
    for keyword, code in (
        ("SegmentedPropertyCategoryCodeSequence", ("123037004", "SCT", "Anatomical Structure")),
        ("SegmentedPropertyTypeCodeSequence", ("10200004", "SCT", "Liver")),
    ):
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code
        setattr(ds, keyword, [item])
    return ds


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
