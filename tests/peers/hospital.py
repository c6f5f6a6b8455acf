"""A small hospital: CT of patients, nodules drawn in them, and a spreadsheet of findings."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.pixels.cases import item
from tests.support.caches import built
from tests.support.dicom_files import CT_IMAGE, uid, write_dicom

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
SLICES, SIZE = 8, 32
_AXIAL = [1, 0, 0, 0, 1, 0]


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
                ImagePositionPatient=[0, 0, 2 * k], ImageOrientationPatient=_AXIAL,
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
    groups = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[0, 0, 2 * k])],
            SegmentIdentificationSequence=[item(ReferencedSegmentNumber=1)],
            DerivationImageSequence=[item(SourceImageSequence=[item(
                ReferencedSOPClassUID=CT_IMAGE, ReferencedSOPInstanceUID=uid(f"{name} {k}"))])],
        ) for k in drawn
    ]  # fmt: skip
    pixels = mask[drawn]
    write_dicom(
        path, pixels, SOPClassUID=SEGMENTATION, Modality="SEG", BitsAllocated=1, BitsStored=1,
        HighBit=0, SegmentationType="BINARY", SeriesInstanceUID=uid(f"drawn {name}"),
        SOPInstanceUID=uid(f"drawn {name}"), NumberOfFrames=len(drawn),
        PixelData=np.packbits(pixels.ravel(), bitorder="little").tobytes(),
        SegmentSequence=[item(SegmentNumber=1, SegmentLabel="nodule")],
        SharedFunctionalGroupsSequence=[item(
            PlaneOrientationSequence=[item(ImageOrientationPatient=_AXIAL)],
            PixelMeasuresSequence=[item(PixelSpacing=[1, 1], SliceThickness=2)])],
        PerFrameFunctionalGroupsSequence=groups, **shared,
    )  # fmt: skip
