"""RT Structure Sets for tests, written with pydicom, and the shapes in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from tests.support.dicom_files import uid, write_dicom

RT_STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
CLOSED, XOR = "CLOSED_PLANAR", "CLOSEDPLANAR_XOR"


def write_structures(
    path: Path, structures: Sequence[tuple[str, Sequence[Dataset]]], **elements: Any
) -> Path:
    """A structure set of (name, contours), numbered from 1; `elements` as of `write_dicom`."""
    space = Dataset()
    space.FrameOfReferenceUID = uid("frame of reference")
    study, series = Dataset(), Dataset()
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = "1.2.3", uid("study")
    series.SeriesInstanceUID = uid("series")
    study.RTReferencedSeriesSequence = [series]
    space.RTReferencedStudySequence = [study]
    listed, drawn, observed = [], [], []
    for number, (name, contours) in enumerate(structures, 1):
        roi, contoured, observation = Dataset(), Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, name
        roi.ReferencedFrameOfReferenceUID = uid("frame of reference")
        roi.ROIGenerationAlgorithm = "MANUAL"
        contoured.ReferencedROINumber = number
        contoured.ROIDisplayColor = [255, 0, number]
        contoured.ContourSequence = list(contours)
        observation.ObservationNumber = observation.ReferencedROINumber = number
        observation.RTROIInterpretedType = "ORGAN"
        listed.append(roi)
        drawn.append(contoured)
        observed.append(observation)
    said = {
        "SOPClassUID": RT_STRUCTURE_SET, "Modality": "RTSTRUCT", "StructureSetLabel": "test",
        "SeriesInstanceUID": uid("structures"),
        "ReferencedFrameOfReferenceSequence": [space], "StructureSetROISequence": listed,
        "ROIContourSequence": drawn, "RTROIObservationsSequence": observed,
    }  # fmt: skip
    return write_dicom(path, **(said | elements))


def contour(points: Any, geometry: str = CLOSED, **elements: Any) -> Dataset:
    """A contour of points in mm, (n, 3)."""
    xyz = np.asarray(points, np.float64).reshape(-1, 3)
    ds = Dataset()
    ds.ContourGeometricType = geometry
    ds.NumberOfContourPoints = len(xyz)
    ds.ContourData = [f"{v:.10g}" for v in xyz.ravel()]
    for keyword, value in elements.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def circle(x: float, y: float, z: float, radius: float, count: int = 200) -> NDArray[np.float64]:
    """Points on a circle in a plane z, (count, 3)."""
    angle = 2 * np.pi * np.arange(count) / count
    flat = [x + radius * np.cos(angle), y + radius * np.sin(angle), np.full(count, z)]
    return np.stack(flat, axis=1)


def box(left: float, top: float, right: float, bottom: float, z: float = 0.0) -> Any:
    """The corners of a rectangle in a plane z, (4, 3)."""
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return np.array([(x, y, z) for x, y in corners])
