"""CT with discs of two classes, and their DICOM segmentations: what masks are trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.support.dicom_files import CT_IMAGE, uid, write_dicom
from tests.support.segmentations import write_segmentation

SIZE = 112
NAMES = ("bright", "dark")
"""the labels of the segments, 1 and 2"""


def drawn(k: int) -> NDArray[np.uint8]:
    """(SIZE, SIZE): picture `k`, 1 in a disc of one side and 2 in one of the other."""
    random = np.random.default_rng(k)
    y, x = np.mgrid[:SIZE, :SIZE]
    labels = np.zeros((SIZE, SIZE), np.uint8)
    sides = [28, SIZE - 28] if random.random() < 0.5 else [SIZE - 28, 28]
    for label, middle in enumerate(sides, 1):
        radius, at = random.uniform(18, 25), random.uniform(28, SIZE - 28)
        labels[(y - at) ** 2 + (x - middle) ** 2 < radius**2] = label
    return labels


def write_discs(
    folder: Path, count: int, begin: int = 0, names: Sequence[str] = NAMES, **segmentation: Any
) -> list[Path]:
    """CT slices of one patient in `folder`/ct, and the segmentation in `folder`/seg.dcm."""
    random = np.random.default_rng(begin + 1000)
    files, labels = [], [drawn(begin + k) for k in range(count)]
    for k, picture in enumerate(labels):
        hu = np.choose(picture, [40, 190, -110]) + random.normal(0, 15, picture.shape)
        files.append(
            write_dicom(
                folder / "ct" / f"{folder.name}{k:02}.dcm",
                (hu + 1024).astype(np.uint16), Modality="CT", SOPClassUID=CT_IMAGE,
                ImageType=["ORIGINAL", "PRIMARY", "AXIAL"], PixelSpacing=[1, 1],
                StudyInstanceUID=uid(folder.name), SeriesInstanceUID=uid(f"{folder.name} ct"),
                FrameOfReferenceUID=uid(f"{folder.name} frame"), RescaleIntercept=-1024,
                RescaleSlope=1, PatientID=folder.name, ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
                ImagePositionPatient=[0, 0, 3 * k], SliceThickness=3,
            )
        )  # fmt: skip
    masks = np.stack([[picture == label for picture in labels] for label in (1, 2)])
    write_segmentation(folder / "seg.dcm", files, masks, names, **segmentation)
    return files
