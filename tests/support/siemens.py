"""Files as Siemens and UIH scanners write them: CSA headers, and volumes tiled into one frame."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, sqrt
from pathlib import Path
from struct import pack
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Sequence_

from tests.support.dicom_files import uid, write_dicom

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"

Tags = list[tuple[str, str, int, list[str]]]
"""(name, VR, value multiplicity, values as text) of a CSA header"""


def csa(tags: Tags, version: int = 2, items: int = 6) -> bytes:
    """A CSA header as a scanner writes it; a tag with values has `items` items, most of them empty.

    Version 1 has no mark, and adds the number of the first tag's items to each length.
    """
    first = max(items, len(tags[0][3])) if tags[0][3] else 0
    body = b"SV10\4\3\2\1" if version == 2 else b""
    body += pack("<II", len(tags), 77)
    for name, vr, multiplicity, values in tags:
        count = max(items, len(values)) if values else 0
        body += pack("<64si4siii", name.encode(), multiplicity, vr.encode(), 0, count, 77)
        for k in range(count):
            text = values[k].encode() + b"\0" if k < len(values) else b""
            length = len(text)
            body += pack("<iiii", length + (first if version == 1 else 0), length, 77, length)
            body += text + bytes(-length % 4)
    return body


def image_csa(
    images: int, normal: tuple[float, float, float], version: int = 2, more: Tags | None = None
) -> bytes:
    """The CSA header of a mosaic of `images` slices that follow each other along `normal`."""
    tags: Tags = [
        ("EchoLinePosition", "IS", 1, ["32"]),
        ("EchoColumnPosition", "IS", 1, ["32"]),
        ("NumberOfImagesInMosaic", "US", 1, [str(images)]),
        ("SliceNormalVector", "FD", 3, [f"{v:.8f}" for v in normal]),
        *(more or []),
        ("UsedChannelMask", "UL", 1, []),
    ]
    return csa(tags, version)


def tiled(slices: NDArray[Any], across: int, down: int) -> NDArray[Any]:
    """(n, h, w) slices tiled into one (down * h, across * w) frame, row by row, the rest 0."""
    n, h, w = slices.shape
    frame = np.zeros((down * h, across * w), slices.dtype)
    for k in range(n):
        y, x = divmod(k, across)
        frame[y * h : (y + 1) * h, x * w : (x + 1) * w] = slices[k]
    return frame


def corner(
    first: Sequence[float], cosines: Sequence[float], spacing: float, shape: tuple[int, int],
    frame: tuple[int, int],
) -> list[float]:  # fmt: skip
    """Image Position of a mosaic whose first slice begins at `first`: as if the one large image
    had the centre of the slice."""
    below, right = ((full - part) / 2 * spacing for full, part in zip(frame, shape, strict=True))
    return [
        round(p - right * r - below * c, 6)
        for p, r, c in zip(first, cosines[:3], cosines[3:], strict=True)
    ]


def write_mosaic(
    path: Path,
    slices: NDArray[Any],
    cosines: Sequence[float],
    normal: Sequence[float],
    *,
    first: Sequence[float] = (-10.0, -20.0, -30.0),
    spacing: float = 2.0,
    step: float | None = 3.5,
    thickness: float = 3.0,
    version: int = 2,
    number: str = "csa",
    block: int = 0x10,
    csa_tags: Tags | None = None,
    claimed: int | None = None,
    **elements: Any,
) -> Path:
    """A Siemens mosaic of (n, h, w) `slices`, the first of which begins at `first`.

    `number`: where the number of slices stands: `csa`, `0019` (the element of newer scanners, there
    is no CSA header then), `both` or `none`; `claimed` if it is a lie. `block` of the private
    elements.
    """
    n, h, w = slices.shape
    side = ceil(sqrt(n))
    said: dict[str, Any] = {
        "SOPClassUID": MR_IMAGE, "Modality": "MR", "Manufacturer": "SIEMENS",
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"],
        "ImageOrientationPatient": list(cosines), "PixelSpacing": [spacing, spacing],
        "ImagePositionPatient": corner(first, cosines, spacing, (h, w), (side * h, side * w)),
        "SliceThickness": thickness, "SpacingBetweenSlices": step, "BitsStored": 12, "HighBit": 11,
        "FrameOfReferenceUID": uid("frame of reference"), "SeriesNumber": 4, "InstanceNumber": 1,
        "AcquisitionNumber": 1, "RepetitionTime": 2000, "EchoTime": 30, "PatientPosition": "HFS",
        "StudyDate": "20240101", "StudyTime": "101010", "ProtocolName": "ep2d",
        "SeriesDescription": "ep2d", **elements,
    }  # fmt: skip
    said = {name: value for name, value in said.items() if value is not None}
    private: list[tuple[int, int, str, Any]] = []
    if number in ("0019", "both"):
        private += [
            (0x0019, block, "LO", "SIEMENS MR HEADER"),
            (0x0019, block << 8 | 0x0A, "US", n if claimed is None else claimed),
        ]
    if number in ("csa", "both"):
        header = image_csa(n, (normal[0], normal[1], normal[2]), version, csa_tags)
        private += [
            (0x0029, block, "LO", "SIEMENS CSA HEADER"),
            (0x0029, block << 8 | 0x08, "CS", "IMAGE NUM 4"),
            (0x0029, block << 8 | 0x10, "OB", header + bytes(len(header) % 2)),
        ]
    for group, element, vr, value in private:
        said[f"private {group:04x}{element:04x}"] = DataElement((group, element), vr, value)
    return write_dicom(path, tiled(slices, side, side), **said)


def write_vframe(
    path: Path,
    slices: NDArray[Any],
    cosines: Sequence[float],
    *,
    places: Sequence[Sequence[float]] = (),
    normal: Sequence[float] | None = None,
    **elements: Any,
) -> Path:
    """A UIH volume in one frame: (n, h, w) `slices`, the positions of all, and a slice normal."""
    n = len(slices)
    across = ceil(sqrt(n))
    said: dict[str, Any] = {
        "SOPClassUID": MR_IMAGE, "Modality": "MR", "Manufacturer": "UIH",
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "VFRAME"],
        "ImageOrientationPatient": list(cosines), "PixelSpacing": [2, 2],
        "ImagePositionPatient": [-10, -20, -30], "SliceThickness": 3, "SpacingBetweenSlices": 3.5,
        "BitsStored": 12, "HighBit": 11, "FrameOfReferenceUID": uid("frame of reference"),
        "SeriesNumber": 4, "InstanceNumber": 1, "AcquisitionNumber": 1, "RepetitionTime": 2000,
        "EchoTime": 30, "PatientPosition": "HFS", "StudyDate": "20240101", "StudyTime": "101010",
        "ProtocolName": "epi", "SeriesDescription": "epi", **elements,
    }  # fmt: skip
    private: list[tuple[int, str, Any]] = [
        (0x10, "LO", "Image Private Header"), (0x1050, "DS", str(n)),
    ]  # fmt: skip
    if normal is not None:
        private.append((0x1014, "DS", list(map(str, normal))))
    if places:
        items = Sequence_([Dataset() for _ in places])
        for item, place in zip(items, places, strict=True):
            item.ImagePositionPatient = list(place)
        private.append((0x1051, "SQ", items))
    for element, vr, value in private:
        said[f"private 0065{element:04x}"] = DataElement((0x0065, element), vr, value)
    return write_dicom(path, tiled(slices, across, ceil(n / across)), **said)
