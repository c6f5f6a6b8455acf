"""DICOM files for tests: real ones, and small ones that are written with pydicom."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import data_store
import numpy as np
from numpy.typing import NDArray
from pydicom import examples
from pydicom.data import get_testdata_file
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

WHEEL = Path(examples.get_path("ct")).parent
"""the files that pydicom's own wheel brings"""
DATA_STORE = Path(data_store.__path__[0]) / "data"
"""the files of the package pydicom-data"""
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"


def real(name: str) -> Path:
    """A file of pydicom's wheel or of pydicom-data; never downloaded."""
    stored = DATA_STORE / name
    if stored.exists():
        return stored
    found = get_testdata_file(name, download=False)
    assert isinstance(found, str), f"{name}: pydicom has no such file; install the extra dev"
    return Path(found)


def write_dicom(
    path: Path,
    pixels: NDArray[Any] | None = None,
    *,
    syntax: str = ExplicitVRLittleEndian,
    encoded: list[bytes] | None = None,
    **elements: Any,
) -> Path:
    """A secondary capture of `pixels`, (H, W), (n, H, W) or (..., H, W, 3), in `path`.

    `encoded` are the codestreams of its frames, if compressed; `elements` replace or add elements
    by keyword (a value or a whole DataElement), None removes one. UIDs follow from the name: a
    file is the same each time.
    """
    ds = Dataset()
    ds.SOPClassUID = SECONDARY_CAPTURE
    ds.SOPInstanceUID = uid(path.name)
    ds.StudyInstanceUID, ds.SeriesInstanceUID = uid("study"), uid("series")
    ds.PatientID, ds.Modality = "MRN-0815", "OT"
    if pixels is not None:
        bits = pixels.dtype.itemsize * 8
        colour = pixels.ndim > 2 and pixels.shape[-1] == 3
        ds.SamplesPerPixel = 3 if colour else 1
        ds.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
        if colour:
            ds.PlanarConfiguration = 0
        plane = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
        ds.Rows, ds.Columns = plane
        if pixels.ndim > len(plane) + colour:
            ds.NumberOfFrames = len(pixels)
        ds.BitsAllocated = ds.BitsStored = bits
        ds.HighBit = bits - 1
        ds.PixelRepresentation = int(pixels.dtype.kind == "i")
        if encoded is None:
            data = pixels.tobytes()
            ds.add_new("PixelData", "OW" if bits > 8 else "OB", data + bytes(len(data) % 2))
        else:
            ds.add_new("PixelData", "OB", encapsulate(encoded))
    for keyword, value in elements.items():
        if value is None:
            delattr(ds, keyword)
        elif isinstance(value, DataElement):  # with a VR that is not the usual one
            ds.add(value)
        else:
            setattr(ds, keyword, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    path.parent.mkdir(parents=True, exist_ok=True)
    if UID(syntax).is_transfer_syntax:
        ds.save_as(path, enforce_file_format=True)
        return path
    # A syntax that is younger than pydicom: its header is written, the dataset is explicit VR.
    buffer = DicomBytesIO(bytes(128) + b"DICM")
    buffer.seek(0, 2)
    write_file_meta_info(buffer, ds.file_meta)
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    if encoded is not None:
        ds["PixelData"].is_undefined_length = True
    write_dataset(buffer, ds)
    path.write_bytes(buffer.getvalue())
    return path


def uid(text: str) -> str:
    """A UID that follows from a text."""
    return str(generate_uid(entropy_srcs=[text]))


def pattern(name: str, shape: tuple[int, ...], dtype: str = "uint16", top: int = 4096) -> Any:
    """Pixels that follow from a name: any two differ, and so do any two shards of them."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    return np.random.default_rng(seed).integers(0, top, shape).astype(dtype)


def write_series(folder: Path, count: int, size: int = 512) -> list[Path]:
    """A CT series of `count` slices of `size` x `size`, 1 mm apart: HU = stored - 1024."""
    return [
        write_dicom(
            folder / f"slice{k:03}.dcm",
            pattern(f"slice{k}", (size, size)),
            SOPClassUID=CT_IMAGE,
            Modality="CT",
            ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
            BitsStored=12,
            HighBit=11,
            RescaleSlope=1,
            RescaleIntercept=-1024,
            InstanceNumber=k + 1,
            FrameOfReferenceUID=uid("frame of reference"),
            ImagePositionPatient=[0.0, 0.0, float(k)],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            PixelSpacing=[0.5, 0.5],
        )
        for k in range(count)
    ]
