"""A small hospital: CT of patients, nodules drawn in them, and a spreadsheet of findings."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.support.caches import built
from tests.support.dicom_files import CT_IMAGE, uid, write_dicom
from tests.support.drawn import AXIAL, write_seg

SLICES, SIZE = 8, 32


def hospital(folder: Path, patients: int = 20) -> Path:
    """Write `scans/`, `hospital.csv` and `cache/` below a folder; every second one has a nodule."""
    rows = ["accession_number,finding,reader"]
    for p in range(patients):
        name, rng = f"patient {p}", np.random.default_rng(p)
        nodule = np.zeros((SLICES, SIZE, SIZE), np.uint8)
        if p % 2:
            z, y, x = np.ogrid[:SLICES, :SIZE, :SIZE]
            centre = rng.integers([3, 9, 9], [5, 23, 23])
            away = (2 * (z - centre[0])) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2
            nodule = (away <= 36).astype(np.uint8)
        values = 200 + 900 * nodule.astype(np.int64) + rng.integers(0, 60, nodule.shape)
        shared = {
            "PatientID": f"MRN-{p:04}", "StudyInstanceUID": uid(f"study {name}"),
            "AccessionNumber": f"ACC{p:03}", "FrameOfReferenceUID": uid(f"space {name}"),
        }  # fmt: skip
        for k, pixels in enumerate(values.astype(np.uint16)):
            write_dicom(
                folder / "scans" / name / f"{k}.dcm", pixels, SOPClassUID=CT_IMAGE, Modality="CT",
                SeriesInstanceUID=uid(f"series {name}"), SOPInstanceUID=uid(f"{name} {k}"),
                ImagePositionPatient=[0, 0, 2 * k], ImageOrientationPatient=AXIAL,
                PixelSpacing=[1, 1], SliceThickness=2, RescaleSlope=1, RescaleIntercept=-1024,
                InstanceNumber=k + 1, **shared,
            )  # fmt: skip
        if nodule.any():
            _draw(folder / "scans" / name / "nodule.dcm", nodule, name, shared)
        if p != 4:  # nobody read it
            rows.append(f"ACC{p:03},{'nodule' if p % 2 else 'clear'},{'AB'[p % 3 == 0]}")
    (folder / "hospital.csv").write_text("\n".join(rows) + "\n")
    return built(folder / "scans", folder / "cache")


def _draw(path: Path, mask: np.ndarray, name: str, shared: dict[str, str]) -> None:
    """A segmentation of the slices in which something is drawn."""
    drawn = np.flatnonzero(mask.any(axis=(1, 2))).tolist()
    planes = [(1, uid(f"{name} {k}"), 2 * k, mask[k]) for k in drawn]
    told = {"SOPInstanceUID": uid(f"drawn {name}"), "SeriesInstanceUID": uid(f"drawn {name}")}
    write_seg(path, planes, {1: "nodule"}, **told, **shared)
