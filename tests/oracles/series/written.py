"""How a series is written, and what should become of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from tests.support.dicom_files import CT_IMAGE, pattern, uid, write_dicom

MR_IMAGE, ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
PET_IMAGE, NM_IMAGE = "1.2.840.10008.5.1.4.1.1.128", "1.2.840.10008.5.1.4.1.1.20"
CINE_IMAGE = "1.2.840.10008.5.1.4.1.1.3.1"
AXIAL, CORONAL, SAGITTAL = [1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1]
SIZE = (24, 20)
CT = {
    "Modality": "CT", "SOPClassUID": CT_IMAGE, "RescaleSlope": 1, "RescaleIntercept": -1024,
    "RescaleType": "HU", "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
}  # fmt: skip
PET = {
    "Modality": "PT", "SOPClassUID": PET_IMAGE, "Units": "BQML", "Manufacturer": "SIEMENS",
    "RescaleSlope": 2, "RescaleIntercept": 0, "ImageType": ["ORIGINAL", "PRIMARY"],
}  # fmt: skip
Change = Callable[[int], dict[str, Any]]
"""slice number -> the elements in which this slice differs"""


class Series:
    """Files of one series in a folder, and what should become of them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._count = folder, 0
        self.put: list[list[tuple[str, int]]] = []
        """the right volumes: along the normal (row x column), first the lowest"""
        self.flags: set[str] = set()
        """of `stack_flags`, what each stack should have"""
        self.maybe: set[str] = set()
        """of `stack_flags`, what a stack may have as well"""
        self.regular: tuple[bool | None, ...] = (True,)
        """what `stack_regular` may be"""
        self.parts = True
        """the volumes are parts of one acquisition, in the order of `put`"""
        self.twins: dict[str, str] = {}
        """{a file: another with the same slice, of which either may be kept}"""
        self.spare = False
        """there may be stacks besides"""

    def file(self, name: str, pixels: Any = None, **elements: Any) -> str:
        """Write one file; its path below the folder."""
        self._count += 1
        series = self.folder.name
        said: dict[str, Any] = {
            "SeriesInstanceUID": uid(series), "SOPInstanceUID": uid(f"{series}{name}"),
            "StudyInstanceUID": uid(f"study of {series}"),
            "SeriesNumber": 3, "StudyDate": "20240101", "StudyTime": "101010", "Modality": "MR",
            "AcquisitionDate": "20240101", "AcquisitionTime": "101010",
            "SOPClassUID": MR_IMAGE, "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"],
            "Manufacturer": "GE MEDICAL SYSTEMS", "PatientPosition": "HFS", "SliceThickness": 3,
            "SpacingBetweenSlices": 3, "FrameOfReferenceUID": uid("frame"),
            "ImageOrientationPatient": AXIAL, "PixelSpacing": [1, 1],
            "InstanceNumber": self._count, "ProtocolName": "p", "SeriesDescription": "d",
            "BitsStored": 12, "HighBit": 11, "AcquisitionNumber": 1, "PatientID": "P1",
        }  # fmt: skip
        if elements.get("Modality", "MR") == "MR":
            said |= {"RepetitionTime": 2000, "EchoTime": 30}
        said |= elements
        said = {k: v for k, v in said.items() if v is not None}
        write_dicom(
            self.folder / name,
            pattern(f"{series}{name}", SIZE) if pixels is None else pixels,
            **said,
        )
        return name

    def volume(
        self,
        count: int,
        change: Change | None = None,
        *,
        tag: str = "v",
        step: tuple[float, float, float] = (0, 0, 3.0),
        start: tuple[float, float, float] = (-30, -30, -30),
        **elements: Any,
    ) -> None:
        """Write one volume of single-frame files, low to high, and note it."""
        names = []
        for k in range(count):
            place = [round(a + s * k, 6) for a, s in zip(start, step, strict=True)]
            said = {"ImagePositionPatient": place, **elements, **(change(k) if change else {})}
            names.append((self.file(f"{tag}{k:03}.dcm", **said), 0))
        self.put.append(names)


def item(**elements: Any) -> Dataset:
    """An item of a sequence."""
    ds = Dataset()
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds
