"""CT volumes that are made up, as DICOM files and as arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from tests.support.dicom_files import CT_IMAGE, uid, write_dicom

SIDE = 512


def made_up(number: int, slices: int) -> NDArray[np.int16]:
    """HU: a body of soft tissue with denser spots, air around it, noise as of a scanner."""
    rng = np.random.default_rng(number)
    z, y, x = np.ogrid[:slices, :SIDE, :SIDE]
    radius = ((y - 256) / 170) ** 2 + ((x - 256) / 210) ** 2 + 0 * z
    body = gaussian_filter(rng.normal(0, 60, (slices, SIDE // 4, SIDE // 4)), 3)
    tissue = np.kron(body / body.std() * 60, np.ones((1, 4, 4))) + 40
    noise = rng.normal(0, 15, radius.shape)
    found: NDArray[np.int16] = np.rint(np.where(radius < 1, tissue, -1000) + noise).astype(np.int16)
    return np.clip(found, -1024, 3071)


def write(folder: Path, number: int, volume: NDArray[Any]) -> None:
    """As a series of DICOM files."""
    for k, pixels in enumerate(volume):
        write_dicom(
            folder / f"{number}-{k:03}.dcm", (pixels + 1024).astype(np.uint16), Modality="CT",
            SOPClassUID=CT_IMAGE, RescaleSlope=1, RescaleIntercept=-1024, PixelSpacing=[0.8, 0.8],
            ImageType=["ORIGINAL", "PRIMARY"], BitsStored=12, HighBit=11, PatientID=f"{number}",
            ImagePositionPatient=[0, 0, 2.0 * k], ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            SeriesInstanceUID=uid(f"volume {number}"),
        )  # fmt: skip
