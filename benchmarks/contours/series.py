"""A CT series and a structure set over it, as files: what all ways read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

SIDE, STEP, SPACING = 512, 3.0, 0.9765625
"""pixels; mm from slice to slice; mm between pixels"""
_HALF = SIDE * SPACING / 2


def uid(text: str) -> str:
    """A UID that follows from a text."""
    return str(generate_uid(entropy_srcs=["contours", text]))


def write(folder: Path, slices: int, structures: int) -> tuple[Path, Path]:
    """(folder of the series, structure set): organs of some 20 to 170 mm, one in four a ring."""
    series = folder / "ct"
    series.mkdir(parents=True)
    for k in range(slices):
        _save(_slice(k), series / f"{k:03}.dcm")
    random = np.random.default_rng(0)
    structure_set = folder / "rt.dcm"
    shapes = [_contours(random, slices, number % 4 == 3) for number in range(structures)]
    _save(_structures(shapes, slices), structure_set)
    return series, structure_set


def _save(ds: Dataset, path: Path) -> None:
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.save_as(path, enforce_file_format=True)


def _common(modality: str, sop_class: str, name: str) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, uid(name)
    ds.StudyInstanceUID, ds.FrameOfReferenceUID = uid("study"), uid("space")
    ds.SeriesInstanceUID, ds.Modality, ds.PatientID = uid(modality), modality, "1"
    ds.PatientName, ds.PatientBirthDate, ds.PatientSex = "A^B", "19700101", "O"
    ds.StudyDate, ds.StudyTime, ds.StudyID = "20200101", "120000", "1"
    ds.AccessionNumber = ds.StudyDescription = ""
    return ds


def _slice(k: int) -> Dataset:
    ds = _common("CT", "1.2.840.10008.5.1.4.1.1.2", f"slice {k}")
    ds.InstanceNumber, ds.SliceThickness = k + 1, STEP
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.ImagePositionPatient = [-_HALF, -_HALF, k * STEP]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.Rows, ds.Columns = [SPACING, SPACING], SIDE, SIDE
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
    ds.PixelData = np.full((SIDE, SIDE), k, np.int16).tobytes()
    return ds


def _contours(random: Any, slices: int, is_ring: bool) -> list[NDArray[np.float64]]:
    """An organ's, wavy circles of a millimetre from point to point, (n, 3) in mm."""
    radius = random.uniform(10, 85)
    middle = random.uniform(-0.5, 0.5, 2) * (_HALF - radius)
    centre, found = random.uniform(0.3, 0.7) * slices * STEP, []
    phase = random.uniform(0, 6, 3)
    for k in range(slices):
        squared = radius**2 - (k * STEP - centre) ** 2
        for part in (1.0, 0.6) if is_ring else (1.0,):
            if squared > 4:
                size = part * squared**0.5
                angle = np.linspace(0, 2 * np.pi, max(12, int(2 * np.pi * size)), endpoint=False)
                wave = size * (1 + 0.05 * np.sin(3 * angle + phase[0]))
                flat = middle + np.stack([np.cos(angle), np.sin(angle)], 1) * wave[:, None]
                found.append(np.column_stack([flat, np.full(len(angle), k * STEP)]))
    return found


def _structures(shapes: list[list[NDArray[np.float64]]], slices: int) -> Dataset:
    ds = _common("RTSTRUCT", "1.2.840.10008.5.1.4.1.1.481.3", "structures")
    ds.StructureSetLabel, ds.StructureSetDate, ds.StructureSetTime = "made", "20200101", "120000"
    space, study, series = Dataset(), Dataset(), Dataset()
    space.FrameOfReferenceUID = uid("space")
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = "1.2.3", uid("study")
    series.SeriesInstanceUID = uid("CT")
    series.ContourImageSequence = [_image(k) for k in range(slices)]
    study.RTReferencedSeriesSequence = [series]
    space.RTReferencedStudySequence = [study]
    ds.ReferencedFrameOfReferenceSequence = [space]
    ds.StructureSetROISequence, ds.ROIContourSequence, ds.RTROIObservationsSequence = [], [], []
    for number, contours in enumerate(shapes, 1):
        roi, drawn, observed = Dataset(), Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ROIGenerationAlgorithm = number, f"roi {number}", "MANUAL"
        roi.ReferencedFrameOfReferenceUID = uid("space")
        drawn.ReferencedROINumber, drawn.ROIDisplayColor = number, [255, 0, 0]
        drawn.ContourSequence = [_contour(points) for points in contours]
        observed.ObservationNumber = observed.ReferencedROINumber = number
        observed.RTROIInterpretedType, observed.ROIInterpreter = "ORGAN", ""
        ds.StructureSetROISequence.append(roi)
        ds.ROIContourSequence.append(drawn)
        ds.RTROIObservationsSequence.append(observed)
    return ds


def _image(k: int) -> Dataset:
    ds = Dataset()
    ds.ReferencedSOPClassUID, ds.ReferencedSOPInstanceUID = (
        "1.2.840.10008.5.1.4.1.1.2", uid(f"slice {k}"),
    )  # fmt: skip
    return ds


def _contour(points: NDArray[np.float64]) -> Dataset:
    ds = Dataset()
    ds.ContourImageSequence = [_image(round(points[0, 2] / STEP))]
    ds.ContourGeometricType, ds.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
    ds.ContourData = [f"{v:.4f}" for v in points.ravel()]
    return ds
