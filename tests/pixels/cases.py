"""Files that show rows 1 to 18 of docs/pixels.md: what is stored, and what LightlyTrain gives.

`ours` are literals: worked out by hand from the standard, or read off the file by another program.
`theirs` is what LightlyTrain 0.18's loader returns for the same file: `make test-lightly` runs it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from tests.support.dicom_files import CT_IMAGE, real, write_dicom


@dataclass(frozen=True)
class Case:
    """One file, and pixels of it."""

    row: int
    name: str
    make: Callable[[Path], Path]
    """writes the file into a folder, or says where it is"""
    at: Any
    """index into the first stored frame"""
    ours: Any
    """values there; or a text that the refusal holds"""
    theirs: Any
    """values there of LightlyTrain's loader; or the error that it raises"""
    columns: dict[str, Any] = field(default_factory=dict)
    """columns of frames/ for the frame"""


def written(pixels: Any, *, name: str = "a.dcm", **elements: Any) -> Callable[[Path], Path]:
    """A file of these pixels."""
    return lambda folder: write_dicom(folder / name, np.array(pixels), **elements)


def bundled(name: str) -> Callable[[Path], Path]:
    """A file of pydicom's wheel or of pydicom-data."""
    return lambda folder: real(name)


def item(**elements: Any) -> Dataset:
    """A sequence item."""
    ds = Dataset()
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds


def jpeg(pixels: Any, photometric: str, **options: Any) -> Callable[[Path], Path]:
    """A baseline JPEG of RGB pixels, encoded with `options`, that the header calls otherwise."""

    def make(folder: Path) -> Path:
        import imagecodecs

        stream = imagecodecs.jpeg8_encode(np.array(pixels, np.uint8), level=100, **options)
        return write_dicom(
            folder / "a.dcm", np.array(pixels, np.uint8), syntax="1.2.840.10008.1.2.4.50",
            encoded=[stream], PhotometricInterpretation=photometric,
        )  # fmt: skip

    return make


def wavelet(pixels: Any, mct: bool, photometric: str) -> Callable[[Path], Path]:
    """A reversible JPEG 2000 of RGB pixels, with or without its colour transform."""

    def make(folder: Path) -> Path:
        import imagecodecs

        array = np.array(pixels, np.uint8)
        stream = imagecodecs.jpeg2k_encode(array, codecformat="J2K", reversible=True, mct=mct)
        return write_dicom(
            folder / "a.dcm", array, syntax="1.2.840.10008.1.2.4.90", encoded=[stream],
            PhotometricInterpretation=photometric,
        )  # fmt: skip

    return make


def with_high_bits(folder: Path) -> Path:
    """12-bit values in 16-bit JPEG-LS, an undeclared bit 15 set in one of them."""
    import imagecodecs

    pixels = np.array([[1, 0x8001], [4095, 0]], np.uint16)
    stream = imagecodecs.jpegls_encode(pixels)
    return write_dicom(
        folder / "a.dcm", pixels, syntax="1.2.840.10008.1.2.4.80", encoded=[stream],
        BitsStored=12, HighBit=11,
    )  # fmt: skip


def palette(first: int, bits: int, entries: bytes, count: int) -> dict[str, Any]:
    """Elements of a palette whose red, green and blue are the same."""
    said: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in ("Red", "Green", "Blue"):
        said[f"{colour}PaletteColorLookupTableDescriptor"] = [count, first, bits]
        said[f"{colour}PaletteColorLookupTableData"] = entries
    return said


CT = {
    "SOPClassUID": CT_IMAGE,
    "Modality": "CT",
    "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
    "RescaleSlope": 1,
    "RescaleIntercept": -1024,
}
FULL_YBR = np.full((4, 4, 3), (200, 30, 60), np.uint8)
HALVES = np.zeros((64, 64, 3), np.uint8)
HALVES[:, :32], HALVES[:, 32:] = (200, 40, 60), (20, 60, 220)
PER_FRAME = [
    item(PixelValueTransformationSequence=[
        item(RescaleSlope=2, RescaleIntercept=-1024, RescaleType="HU")
    ])
]  # fmt: skip
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
REFUSED = "ValueError: Multi-frame DICOM images are not supported."
DOSE = "1.2.840.10008.5.1.4.1.1.481.2"
U16, U8, I16, U32 = np.uint16, np.uint8, np.int16, np.uint32

CASES = [
    Case(1, "twelve-bit MR", written(U16([[0, 4095]]), BitsStored=12, HighBit=11, Modality="MR"),
         ..., [[0, 4095]], [[0, 0.0624857]], {"unit": "US"}),
    Case(1, "signed CT in HU", bundled("CT_small.dcm"),
         (0, slice(0, 3)), [-849, -844, -858], [-849, -844, -858], {"unit": "HU"}),
    Case(2, "MONOCHROME1 of no unit", written(U8([[0, 50, 255]]),
         PhotometricInterpretation="MONOCHROME1"), ..., [[255, 205, 0]], [[0, 50, 255]],
         {"flags": ["inverted"], "slope": -1.0, "intercept": 255.0}),
    Case(2, "Presentation LUT Shape INVERSE", written(U8([[0, 50, 255]]),
         PresentationLUTShape="INVERSE"), ..., [[255, 205, 0]], [[0, 50, 255]]),
    Case(2, "MONOCHROME1 in optical density", written(U16([[0, 1000]]),
         PhotometricInterpretation="MONOCHROME1", RescaleSlope=2, RescaleIntercept=0,
         RescaleType="OD"), ..., [[0, 2000]], [[0, 2000]],
         {"polarity": "inverted", "unit": "OD"}),
    # Y + 1.402 (Cr - 128), Y - 0.344 (Cb - 128) - 0.714 (Cr - 128), Y + 1.772 (Cb - 128)
    Case(3, "native YBR_FULL", written(FULL_YBR, PhotometricInterpretation="YBR_FULL"),
         (0, 0), [105, 255, 26], [0, 134, 255]),
    Case(3, "JPEG YBR_FULL_422", jpeg(HALVES, "YBR_FULL_422"), (slice(0, 64, 63), 0),
         [[199, 40, 60], [199, 40, 60]],
         [[104, 255, 43], [104, 255, 43]]),
    Case(4, "rescale tags on colour", written(FULL_YBR, RescaleSlope=1, RescaleIntercept=0),
         (0, 0), [200, 30, 60], [200.0, 30.0, 60.0]),
    Case(5, "cine of two frames", written(U8([[[1, 2]], [[3, 4]]])), ..., [[1, 2]], REFUSED),
    Case(6, "one enhanced frame with its own slope", written(U16([[0, 1000]]),
         SOPClassUID=ENHANCED_CT, Modality="CT", PerFrameFunctionalGroupsSequence=PER_FRAME),
         ..., [[-1024, 976]], [[0, 0.015259022]], {"unit": "HU", "slope": 2.0}),
    Case(8, "padding declared as 63536 on signed data", written(I16([[-2000, 1064], [1024, 0]]),
         PixelPaddingValue=DataElement(0x00280120, "US", 63536), **CT), ...,
         [[-3024, 40], [0, -1024]], [[-3024, 40], [0, -1024]],
         {"padding_value": -3024.0, "padding_fraction": 0.25, "min": -1024.0}),
    Case(9, "Adobe RGB called YBR", jpeg(HALVES, "YBR_FULL_422", outcolorspace="RGB"),
         (0, 0), [200, 40, 60], [105, 255, 44], {"flags": ["colour-label-conflict"]}),
    Case(9, "subsampled YCbCr called RGB", jpeg(HALVES, "RGB", subsampling="422"),
         (0, 0), [199, 40, 60], [199, 40, 60], {"flags": ["colour-label-conflict"]}),
    Case(9, "JPEG 2000 with transform called RGB", wavelet(HALVES, True, "RGB"),
         (0, 0), [200, 40, 60], [200, 40, 60], {"flags": ["colour-label-conflict"]}),
    Case(9, "JPEG 2000 without transform called YBR_RCT", wavelet(HALVES, False, "YBR_RCT"),
         (0, 0), [200, 40, 60], [200, 40, 60], {"flags": ["colour-label-conflict"]}),
    Case(10, "full samples called 4:2:2", written(FULL_YBR,
         PhotometricInterpretation="YBR_FULL_422"), (0, 0), "is YBR_FULL_422 but 48 bytes",
         [188, 255, 255]),
    Case(11, "index beyond an 8-bit palette", written(U16([[0, 1, 256]]),
         **palette(0, 8, bytes([10, 20]), 2)), (0, slice(None), 0), [10, 20, 20], [10, 20, 10]),
    Case(11, "16-bit entries that are 8-bit colours", written(U8([[0, 1]]),
         **palette(0, 16, bytes([0, 7, 0, 250]), 2)), (0, slice(None), 0), [7, 250],
         [0.027344167, 0.97657740]),
    Case(12, "supplemental palette", bundled("eCT_Supplemental.dcm"), (slice(0, 1), 0),
         [-1024], REFUSED,
         {"photometric": "MONOCHROME2", "unit": "US"}),
    Case(13, "modality LUT from -32768", written(I16([[-32768, -32767, 5]]),
         ModalityLUTSequence=[item(LUTDescriptor=[3, -32768, 16], LUTData=bytes([7, 0, 8, 0, 9, 0]),
         ModalityLUTType="US")]), ..., [[7, 8, 9]], [[1.0681315e-4, 1.2207218e-4, 1.0681315e-4]]),
    Case(14, "empty rescale", written(U8([[3, 4]]), RescaleSlope="", RescaleIntercept=""),
         ..., [[3, 4]], "TypeError: unsupported operand type(s) for *: 'float' and 'NoneType'",
         {"flags": ["rescale-empty"]}),
    Case(14, "intercept alone", written(U16([[3, 4]]), RescaleIntercept=-1024),
         ..., [[-1021, -1020]], [[4.5777066e-5, 6.1036088e-5]], {"flags": ["rescale-one-sided"]}),
    Case(14, "slope of 0", written(U16([[3, 4]]), RescaleSlope=0, RescaleIntercept=0),
         ..., "Rescale Slope (0028,1053) is 0", [[0, 0]]),
    Case(15, "bits above BitsStored in JPEG-LS", with_high_bits, ...,
         [[1, 1], [4095, 0]],
         [[1.5259022e-5, 0.50002289], [0.062485695, 0]], {"flags": ["high-bits"]}),
    Case(15, "a declared overlay in the high bits", written(U16([[0x1005, 0x0005]]),
         BitsStored=12, HighBit=11, OverlayBits=DataElement(0x60000100, "US", 16),
         OverlayBit=DataElement(0x60000102, "US", 12)), ...,
         [[5, 5]], [[7.6295109e-5, 7.6295109e-5]], {"flags": None}),
    Case(16, "HighBit 15 of 12 bits", written(U16([[0x0010, 0xFFF0]]), BitsStored=12, HighBit=15),
         ..., [[1, 4095]], [[2.4414435e-4, 0.062256809]]),
    Case(17, "JPEG 2000 signed in the stream alone", bundled("J2K_pixelrep_mismatch.dcm"),
         (slice(0, 512, 200), 200), [-2000, 4, 789], [-2000, 4, 789]),
    Case(18, "RT Dose", written(U32([[0, 40000]]), SOPClassUID=DOSE, Modality="RTDOSE",
         DoseUnits="GY", DoseType="PHYSICAL", DoseGridScaling=2.5e-5), ...,
         [[0, 1.0]], [[0, 9.3132257e-6]],
         {"unit": "Gy", "kind": "dose", "dose_type": "PHYSICAL"}),
]  # fmt: skip
