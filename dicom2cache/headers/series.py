"""Scanned elements to rows of FILES; files of a series are alike, and described once.

What differs from slice to slice in nearly every series is set in a copy of the row of a file that
was equal in everything else.
"""

from __future__ import annotations

from typing import Any

from dicom2cache.headers.acquisition import acquired_of
from dicom2cache.headers.describe import describe
from dicom2cache.headers.elements import CHARSET, Elements, Scan
from dicom2cache.headers.own import columns_of, is_agreed, wanted_by, with_own
from dicom2cache.headers.pixel_module import check_length, has_vr
from dicom2cache.headers.really import FLAG
from dicom2cache.headers.tags import number, text, vector, whole
from dicom2cache.recipes.limits import Limits
from dicom2cache.records import Candidate, Header
from dicom2cache.sources.place import Where, packed_of
from dicom2cache.syntaxes import NATIVE

_CLOCKS = frozenset({0x00080022, 0x00080032, 0x0008002A})
"""Acquisition Date, Time and DateTime: one column; SUV too depends on them"""
_SET = _CLOCKS | {
    0x00080018, 0x00181060, 0x00200012, 0x00200013, 0x00200032, 0x00201041, 0x00541300,
}  # fmt: skip
"""SOP Instance UID, Trigger Time, Acquisition and Instance Number, Image Position, Slice Location,
Frame Reference Time: each in one column"""
_PET = frozenset({0x00181242})
"""Actual Frame Duration: read for SUV only"""
_OWN = _SET | _PET
_GROUPS = frozenset({0x52009229, 0x52009230})
"""functional groups, which say the same things again and win"""
_LONGEST, _MOST = 1024, 256  # bytes of a value, and rows that are remembered

_Known = tuple[Header, int, str | None, str | None]
_known: dict[Any, _Known] = {}


def row_of(
    elements: Elements, candidate: Candidate, path: Where, limits: Limits
) -> tuple[Header, str | None, str | None]:
    """(row of FILES without its hashes, patient ID, accession number).

    Raises as `describe`, and what pydicom raises for a value.
    """
    key = _key(elements, limits)
    known = _known.get(key) if key is not None else None
    if known is not None:
        return _copy(known, elements, candidate, limits)
    ds = Scan(elements)
    row = with_own(describe(ds, elements.head, elements.offset, candidate, path), ds, limits)
    patient, accession = text(ds, "PatientID"), text(ds, "AccessionNumber")
    # Where the file itself had to be looked into, another one of the same header may differ.
    odd = not {"excess-pixel-data", FLAG}.isdisjoint(row["flags"] or ()) or (
        row["pixel_length"] is not None and row["transfer_syntax"] not in NATIVE
    )
    plain = row["kind"] == "image" and row["modality"] != "PT" and row["per_frame"] is None
    if key is not None and plain and not odd:
        if len(_known) >= _MOST:
            _known.clear()
        _known[key] = row.copy(), elements.offset, patient, accession
    return row, patient, accession


def _key(elements: Elements, limits: Limits) -> Any:
    """What two files have in common that differ in _SET and _PET alone; None: describe each."""
    found = elements.found
    said = tuple([one for one in found.items() if one[0] not in _OWN])
    if not _GROUPS.isdisjoint(found):
        return None
    if max([len(raw[1]) for _, raw in said], default=0) > _LONGEST:
        return None
    # Without a VR, the last 4 bytes are pixels.
    without = elements.implicit and not has_vr(elements.head)
    head = elements.head[:8] if without else elements.head
    return elements.syntax, head, said, columns_of(limits), is_agreed(limits)


def _copy(
    known: _Known, elements: Elements, candidate: Candidate, limits: Limits
) -> tuple[Header, str | None, str | None]:
    model, offset, patient, accession = known
    own = {tag: raw for tag, raw in elements.found.items() if tag in _SET or tag == CHARSET}
    mine = wanted_by(limits)
    if not mine.isdisjoint(_OWN):  # else they are as in the model
        own |= {tag: raw for tag, raw in elements.found.items() if tag in mine}
    ds = Scan(elements._replace(found=own))
    row: Header = {
        **model,
        "root": candidate.root,
        "path": candidate.path,
        "size": candidate.size,
        "mtime_ns": candidate.mtime_ns,
        "member": packed_of(candidate),
        "pixel_offset": model["pixel_offset"] - offset + elements.offset,
        "sop_uid": text(ds, "SOPInstanceUID"),
        "acquisition": whole(ds, "AcquisitionNumber"),
        "instance": whole(ds, "InstanceNumber"),
        "position": vector(ds, "ImagePositionPatient", 3) if model["frames"] == 1 else None,
        "slice_location": number(ds, "SliceLocation") if 0x00201041 in own else None,
        "trigger_time": number(ds, "TriggerTime") if 0x00181060 in own else None,
        "time": number(ds, "FrameReferenceTime") if 0x00541300 in own else None,
        "acquired": acquired_of(ds),
    }
    check_length(row)
    return row if mine.isdisjoint(_OWN) else with_own(row, ds, limits), patient, accession
