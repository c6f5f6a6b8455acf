"""pydicom on the fly: a file for each frame, decoded when it is asked for, as LightlyTrain does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.read.peers.common import Options, Reader, cropped, in_dataloader
from benchmarks.read.workloads import Workload

PACKAGES = ("pydicom", "pylibjpeg", "pylibjpeg-openjpeg", "torch")
SETTINGS = (
    "dcmread(path).pixel_array in a stock DataLoader; explicit VR little endian, or JPEG 2000 "
    "lossless written and decoded by pydicom's plug-in pylibjpeg-openjpeg"
)


def build(frames: Path, folder: Path, work: Workload) -> None:
    """Uncompressed files in plain/, JPEG 2000 lossless in j2k/."""
    write_files(frames, folder / "plain", work, compressed=False)
    write_files(frames, folder / "j2k", work, compressed=True)


def write_files(frames: Path, folder: Path, work: Workload, *, compressed: bool) -> list[Path]:
    """A DICOM file for each frame, in the frames' order."""
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import (
        CTImageStorage,
        ExplicitVRLittleEndian,
        JPEG2000Lossless,
        generate_uid,
    )

    folder.mkdir(parents=True)
    paths = []
    for k, frame in enumerate(np.load(frames, mmap_mode="r")[: work.frames]):
        ds, bits, colour = Dataset(), frame.itemsize * 8, frame.ndim == 3
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid(entropy_srcs=[str(k)])
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.PatientName, ds.PatientID, ds.Modality = "A^B", "1", "CT"
        ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", "1.2.3.4"
        ds.InstanceNumber, ds.ImagePositionPatient = k, [0, 0, k]
        ds.ImageOrientationPatient, ds.PixelSpacing = [1, 0, 0, 0, 1, 0], [1, 1]
        ds.Rows, ds.Columns = frame.shape[:2]
        ds.SamplesPerPixel = 3 if colour else 1
        ds.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
        if colour:
            ds.PlanarConfiguration = 0
        ds.BitsAllocated = ds.BitsStored = bits
        ds.HighBit, ds.PixelRepresentation = bits - 1, int(frame.dtype.kind == "i")
        ds.PixelData = frame.tobytes()
        if compressed:
            ds.compress(JPEG2000Lossless, generate_instance_uid=False)
        paths.append(folder / f"{k:06d}.dcm")
        ds.save_as(paths[-1], enforce_file_format=True)
    return paths


class Files:
    """A dataset over DICOM files."""

    def __init__(self, folder: Path, work: Workload) -> None:
        self.paths, self.work = sorted(folder.glob("*.dcm")), work

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        import torch
        from pydicom import dcmread

        return torch.from_numpy(cropped(dcmread(self.paths[i]).pixel_array, self.work)), i


def opened(folder: Path, work: Workload, options: Options) -> Reader:
    """The files in a DataLoader."""
    return in_dataloader(Files(folder / options.get("files", "plain"), work), work, options)
