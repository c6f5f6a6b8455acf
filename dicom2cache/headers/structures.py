"""RT Structure Sets to rows of contours/: each contour as it is (PS3.3 C.8.8.5, C.8.8.6, C.8.8.8).

A mask with a contour less looks like a mask. So a file whose contours contradict what it says of
them is refused as a whole, by the contour.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dicom2cache.errors import FrameError, NoPixels, counting
from dicom2cache.headers.by_pydicom import WHOSE_FILE, counted, items_in, parse
from dicom2cache.headers.tags import (
    has_content,
    items,
    name,
    numbers,
    raw,
    text,
    value,
    vector,
    whole,
)
from dicom2cache.recipes.limits import Limits
from dicom2cache.records import Candidate
from dicom2cache.schema import CONTOURS_TABLE
from dicom2cache.sources.place import BoundedFile, Where

GEOMETRIES = ("POINT", "OPEN_PLANAR", "OPEN_NONPLANAR", "CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
"""Contour Geometric Types (PS3.3 C.8.8.6.1)"""
NO_AREA = "no-area"
"""flag: a closed contour of less than three points"""
UNKNOWN = "structure-unknown"
"""flag: contours of an ROI Number that Structure Set ROI Sequence does not list"""

_DATA = 0x30060050
_FAR = 1e9
"""mm: what is farther from anywhere is no place in a patient"""
_LEGAL = b"0123456789+-.eE \\"
_TAGS = (
    "SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "PatientID", "StudyInstanceUID",
    "SeriesInstanceUID", "FrameOfReferenceUID", "ReferencedFrameOfReferenceSequence",
    "StructureSetROISequence", "ROIContourSequence", "RTROIObservationsSequence",
)  # fmt: skip


@cache
def _tags() -> list[int]:
    from pydicom.tag import Tag

    return sorted(int(Tag(keyword)) for keyword in _TAGS)


def read_structures(path: Where, candidate: Candidate, limits: Limits) -> pa.Table:
    """CONTOURS_TABLE of a structure set, in its order; `patient` is not hashed.

    A row for each contour, and for each structure without any. Raises NoPixels if there are no
    contours, FrameError or OSError.
    """
    with BoundedFile(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file.opened.check_whole()  # a frame is when it is decoded, and this has none
        count = counted(file, limits)
        ds, _ = parse(file, True, _tags(), limits.header_mib << 20, count)
        count(sum(items_in(element.value) for element in ds.values()))
        try:
            return _table(ds, candidate)
        except (FrameError, NoPixels) as e:
            whose = [text(ds, word) for word in ("PatientID", "StudyInstanceUID")]
            vars(e)[WHOSE_FILE] = [*whose, text(ds, "SeriesInstanceUID")]
            raise


def _table(ds: Any, candidate: Candidate) -> pa.Table:
    known = _listed(ds)
    spaces = {}
    for space in items(ds, "ReferencedFrameOfReferenceSequence"):
        series = [
            text(one, "SeriesInstanceUID")
            for study in items(space, "RTReferencedStudySequence")
            for one in items(study, "RTReferencedSeriesSequence")
        ]
        spaces[text(space, "FrameOfReferenceUID")] = series[0] if series else None
    only = next(iter(spaces)) if len(spaces) == 1 else text(ds, "FrameOfReferenceUID")
    rows: list[dict[str, Any]] = []
    points: list[NDArray[np.float64]] = []
    drawn: dict[int, int] = {}
    for item in items(ds, "ROIContourSequence"):
        number = _number(item, "ReferencedROINumber", "ROI Contour Sequence (3006,0039)")
        about = known.get(number, {"structure": number, "flags": [UNKNOWN]})
        about = about | {"colour": _colour(item)}
        for contour in items(item, "ContourSequence"):
            place = drawn[number] = drawn.get(number, -1) + 1
            row, xyz = _contour(contour, f"structure {number}, contour {place + 1}")
            flags = [*about.get("flags", []), *row.pop("flags")]
            rows.append(about | row | {"contour": place, "flags": flags or None})
            points.append(xyz)
    if not rows:
        raise NoPixels("RT Structure Set Storage has no pixel data, and this one no contours")
    for number, about in known.items():
        if number not in drawn:
            rows.append(about)
            points.append(np.empty(0))
    whose = {
        "root": candidate.root,
        "path": candidate.path,
        "patient": text(ds, "PatientID"),
        "study_uid": text(ds, "StudyInstanceUID"),
        "series_uid": text(ds, "SeriesInstanceUID"),
        "sop_uid": text(ds, "SOPInstanceUID"),
    }
    for row in rows:
        lies_in = row.get("frame_of_reference_uid") or only
        row |= whose
        row |= {"frame_of_reference_uid": lies_in, "referenced_series_uid": spaces.get(lies_in)}
    table = pa.Table.from_pylist(rows, CONTOURS_TABLE)
    ends = np.cumsum([0, *map(len, points)]).astype(np.int32)
    missing = np.array([row.get("contour") is None for row in rows] + [False])
    lists = pa.ListArray.from_arrays(
        pa.array(ends, mask=missing), pa.array(np.concatenate([np.empty(0), *points]))
    )
    return table.set_column(CONTOURS_TABLE.get_field_index("points"),
                            CONTOURS_TABLE.field("points"), lists)  # fmt: skip


def _listed(ds: Any) -> dict[int, dict[str, Any]]:
    """What Structure Set ROI Sequence, and the observations, say of structures, by number."""
    known: dict[int, dict[str, Any]] = {}
    for item in items(ds, "StructureSetROISequence"):
        number = _number(item, "ROINumber", "Structure Set ROI Sequence (3006,0020)")
        if number in known:
            raise FrameError(
                f"two items of Structure Set ROI Sequence (3006,0020) have {name('ROINumber')} "
                f"{number}, so that nobody knows whose contours are whose; export it again"
            )
        known[number] = {
            "structure": number,
            "name": text(item, "ROIName"),
            "algorithm": text(item, "ROIGenerationAlgorithm"),
            "frame_of_reference_uid": text(item, "ReferencedFrameOfReferenceUID"),
        }
    for item in items(ds, "RTROIObservationsSequence"):
        number_said = whole(item, "ReferencedROINumber")
        if number_said in known and "type" not in known[number_said]:
            known[number_said]["type"] = text(item, "RTROIInterpretedType")
    return known


def _number(item: Any, keyword: str, where: str) -> int:
    found = whole(item, keyword)
    if found is None:
        raise FrameError(
            f"{name(keyword)} in an item of {where} is {raw(item, keyword)}; legal: a whole number "
            "that tells its structure from others; export it again"
        )
    return found


def _colour(item: Any) -> list[int] | None:
    """ROI Display Color (3006,002A): red, green, blue; None if it is none."""
    found = numbers(item, "ROIDisplayColor")
    legal = len(found) == 3 and all(v.is_integer() and 0 <= v <= 255 for v in found)
    return [int(v) for v in found] if legal else None


def _contour(item: Any, which: str) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """(what a contour says of itself, its coordinates: x, y, z of each point, in mm)."""
    geometry = _text(item, "ContourGeometricType")
    if geometry not in GEOMETRIES:
        raise FrameError(
            f"{which}: {name('ContourGeometricType')} is {raw(item, 'ContourGeometricType')}; "
            f"legal: {', '.join(GEOMETRIES)}; export it again"
        )
    xyz = _coordinates(item, which)
    said = _whole(item, "NumberOfContourPoints")
    there = said is not None or has_content(item, "NumberOfContourPoints")
    if there and said != len(xyz) // 3:
        raise FrameError(
            f"{which}: {name('NumberOfContourPoints')} is {raw(item, 'NumberOfContourPoints')}, "
            f"and {name('ContourData')} has {counting(len(xyz) // 3, 'point')}; legal: the same "
            "number; one of them is damaged, export it again"
        )
    has_image = _tag("ContourImageSequence") in item
    image = next(iter(items(item, "ContourImageSequence")), None) if has_image else None
    row = {
        "geometry": geometry,
        "referenced_sop_uid": None if image is None else _text(image, "ReferencedSOPInstanceUID"),
        "referenced_frame": None if image is None else _whole(image, "ReferencedFrameNumber"),
        "slab_thickness": _positive(item, "ContourSlabThickness"),
        "slab_offset": vector(item, "ContourOffsetVector", 3)
        if _tag("ContourOffsetVector") in item
        else None,
        "flags": [NO_AREA] if geometry.startswith("CLOSED") and len(xyz) < 9 else [],
    }
    return row, xyz


def _text(item: Any, keyword: str) -> str | None:
    """As `text`, of one plain value; pydicom's way to it takes ten times as long."""
    said = _raw(item, keyword)
    if said is None or not said.isascii() or b"\\" in said:
        return text(item, keyword)
    return said.strip(b" \0").decode() or None


def _whole(item: Any, keyword: str) -> int | None:
    """As `whole`, likewise."""
    said = _raw(item, keyword)
    plain = b"" if said is None else said.strip(b" \0")
    return int(plain) if plain.isdigit() and len(plain) < 9 else whole(item, keyword)


def _raw(item: Any, keyword: str) -> bytes | None:
    """The bytes of an element that nobody has looked at; None if it is absent, or no text."""
    element = item.get_item(_tag(keyword))
    said = None if element is None else element.value
    return said if isinstance(said, bytes) and element.VR in (None, "CS", "IS", "UI") else None


@cache
def _tag(keyword: str) -> int:
    from pydicom.tag import Tag

    return int(Tag(keyword))


def _positive(item: Any, keyword: str) -> float | None:
    found = numbers(item, keyword) if _tag(keyword) in item else []
    return found[0] if found and found[0] > 0 else None


def _coordinates(item: Any, which: str) -> NDArray[np.float64]:
    """Contour Data (3006,0050), parsed at once: one Python object for each number would be slow."""
    element = item.get_item(_DATA) if _DATA in item else None
    said = None if element is None else element.value
    if said is None:
        return np.empty(0)
    if not isinstance(said, bytes):  # pydicom has made something of it already
        said = "\\".join(str(v) for v in (value(item, "ContourData") or [])).encode()
    said = said.strip(b" \0")
    if not said:
        return np.empty(0)
    closed = b"\\" + said.replace(b" ", b"") + b"\\"
    odd = said.translate(None, _LEGAL) or b"\\\\" in closed  # NumPy takes no text for a number
    count = said.count(b"\\") + 1
    found = np.empty(0) if odd else _parsed(said)
    if len(found) != count or not (np.abs(found) < _FAR).all():
        shown = next(_shown(said), "")
        raise FrameError(
            f"{which}: {name('ContourData')} holds {shown!r}; legal: decimal numbers of mm below "
            "1E9, separated by backslashes (PS3.5 6.2); the file is damaged, export it again"
        )
    if count % 3:
        raise FrameError(
            f"{which}: {name('ContourData')} has {counting(count, 'number')}; legal: three for "
            "each point; the file is damaged, export it again"
        )
    return found


def _parsed(said: bytes) -> NDArray[np.float64]:
    """The numbers; fewer where one is none."""
    try:
        return np.fromstring(said.decode("ascii"), np.float64, sep="\\")
    except ValueError:
        return np.empty(0)


def _shown(said: bytes) -> Iterator[str]:
    """Those of the values that are no such numbers, for a message."""
    for part in said.split(b"\\"):
        try:
            legal = not part.translate(None, _LEGAL) and abs(float(part)) < _FAR
        except ValueError:
            legal = False
        if not legal:
            yield part[:40].decode("ascii", "backslashreplace")
