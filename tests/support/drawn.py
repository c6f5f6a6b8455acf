"""CT series, and segmentations drawn on them, written by pydicom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.support.dicom_files import CT_IMAGE, uid, write_dicom
from tests.support.segmentations import item, write_frames

AXIAL = [1, 0, 0, 0, 1, 0]


def write_ct(
    folder: Path,
    name: str,
    count: int,
    shape: tuple[int, int] = (16, 12),
    space: str = "",
    **elements: Any,
) -> list[Path]:
    """A CT `name` of slices 2 mm apart: pixel (y, x) of slice k is 1000 k + 20 y + x."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    return [
        write_dicom(
            folder / f"{name}{k}.dcm", (1000 * k + 20 * y + x).astype(np.uint16),
            SOPClassUID=CT_IMAGE, Modality="CT", SeriesInstanceUID=uid(name),
            ImagePositionPatient=[0, 0, 2 * k], ImageOrientationPatient=AXIAL, PixelSpacing=[1, 1],
            FrameOfReferenceUID=uid(f"space {space or name}"), SliceThickness=2,
            InstanceNumber=k + 1,
            **{"SOPInstanceUID": uid(f"{name}{k}")} | elements,
        )
        for k in range(count)
    ]  # fmt: skip


def write_seg(
    path: Path,
    planes: Sequence[tuple[int, str, float, NDArray[Any]]],
    labels: dict[int, str],
    kind: str = "BINARY",
    spacing: float = 1,
    thickness: float = 2,
    **elements: Any,
) -> Path:
    """A segmentation of (segment, SOP Instance UID of the image, its z in mm, (H, W) pixels).

    Of a LABELMAP the pixels are the numbers of `labels`, and each plane's own number is left out.
    """
    pixels = np.stack([p for *_, p in planes]).astype(np.uint8)
    groups = []
    for number, image, z, _ in planes:
        group = item(
            PlanePositionSequence=[item(ImagePositionPatient=[0, 0, z])],
            DerivationImageSequence=[item(SourceImageSequence=[item(
                ReferencedSOPClassUID=CT_IMAGE, ReferencedSOPInstanceUID=image)])],
        )  # fmt: skip
        if kind != "LABELMAP":
            group.SegmentIdentificationSequence = [item(ReferencedSegmentNumber=number)]
        groups.append(group)
    shared = item(
        PlaneOrientationSequence=[item(ImageOrientationPatient=AXIAL)],
        PixelMeasuresSequence=[item(PixelSpacing=[spacing, spacing], SliceThickness=thickness)],
    )
    told: dict[str, Any] = {"SeriesInstanceUID": uid(f"series {path.name}")}
    if kind == "FRACTIONAL":
        told["MaximumFractionalValue"] = 200
    return write_frames(path, pixels, groups, shared, labels, kind, **told | elements)
