"""Split headers to rows of FILES; files of a series are alike, and described once.

What differs from slice to slice in nearly every series is set beside the row of a file that was
equal in everything else.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple, cast

from dicom2cache.headers.acquisition import acquired_of
from dicom2cache.headers.describe import describe, wanted_tags
from dicom2cache.headers.elements import CHARSET, Elements, Scan
from dicom2cache.headers.mosaic import is_tiled
from dicom2cache.headers.own import columns_of, is_agreed, wanted_by, with_own
from dicom2cache.headers.pixel_module import check_length, has_vr
from dicom2cache.headers.plain import Values, plain_values
from dicom2cache.headers.really import FLAG
from dicom2cache.headers.split import GROUPS, OWN, SET, Split
from dicom2cache.headers.tags import number, text, vector, whole
from dicom2cache.privacy.keys import PatientKey
from dicom2cache.recipes.limits import Limits
from dicom2cache.records import Candidate, Header
from dicom2cache.sources.place import Where, packed_of
from dicom2cache.syntaxes import NATIVE

_MOST = 256  # rows that are remembered

COLUMNS = ("root", "path", "size", "mtime_ns", "member", "pixel_offset", *Values._fields)
"""what a file has for itself"""


class Plain(NamedTuple):
    """What a header says, in plain text."""

    row: Header
    """of FILES, without its hashes"""
    patient: str | None
    accession: str | None

    def hashed(self, key: PatientKey) -> Header:
        """The row with its hashes."""
        said = {"patient": self.patient, "accession": self.accession}
        said |= {"person": self.row["person"], "born": self.row["born"]}
        return cast(Header, self.row | {what: key.hashed(what, it) for what, it in said.items()})


class Alike(NamedTuple):
    """A row of FILES that is another one but for a few columns."""

    row: Header
    """the same object for all that are alike"""
    own: tuple[Any, ...]
    """values of COLUMNS"""

    def header(self) -> Header:
        """The row of its own."""
        return cast(Header, self.row | dict(zip(COLUMNS, self.own, strict=True)))


class Asked(NamedTuple):
    """What is read of headers, under some limits."""

    limits: Limits
    tags: frozenset[int]
    """of elements"""
    own: frozenset[int]
    """those of the user's columns"""
    key: Any
    """what rows differ by that are made of equal headers"""


@lru_cache(maxsize=8)
def asked_by(limits: Limits) -> Asked:
    """What is read of a header."""
    own = wanted_by(limits)
    tags = frozenset(wanted_tags()) | {CHARSET} | own
    return Asked(limits, tags, own, (columns_of(limits), is_agreed(limits)))


class _Model:
    """A header that others are like."""

    __slots__ = ("_hashed", "offset", "plain", "room")

    def __init__(self, plain: Plain, offset: int) -> None:
        self.plain, self.offset = plain, offset
        self.room = _room(plain.row)
        self._hashed: tuple[PatientKey, Header] | None = None

    def row(self, key: PatientKey) -> Header:
        """Its row with its hashes, the same object each time."""
        made = self._hashed  # other threads may be here too
        if made is None or (made[0] is not key and made[0] != key):
            self._hashed = made = key, self.plain.hashed(key)
        return made[1]


_known: dict[Any, _Model] = {}


def _room(row: Header) -> float:
    """Bytes from the pixel data on with which `check_length` says the same of another file."""
    if row["transfer_syntax"] not in NATIVE:
        return 0 if row["frames"] == 1 else float("inf")
    length = row["pixel_length"]
    is_whole = length is not None and row["size"] - row["pixel_offset"] >= length
    return length if length is not None and is_whole else float("inf")


def row_of(
    split: Split, candidate: Candidate, path: Where, asked: Asked, key: PatientKey
) -> Plain | Alike | None:
    """The row of FILES; None if pydicom shall say what the file is.

    Raises as `describe`, and what pydicom raises for a value.
    """
    said = _key(split, asked)
    known = _known.get(said) if said is not None else None
    if known is not None:
        return _like(known, split, candidate, asked, key)
    elements = split.whole()
    if elements is None:
        return None
    ds = Scan(elements)
    row = describe(ds, elements.head, elements.offset, candidate, path)
    patient, accession = text(ds, "PatientID"), text(ds, "AccessionNumber")
    plain = Plain(with_own(row, ds, asked.limits), patient, accession)
    # Where the file itself had to be looked into, another one of the same header may differ.
    odd = not {"excess-pixel-data", FLAG}.isdisjoint(row["flags"] or ()) or (
        row["pixel_length"] is not None and row["transfer_syntax"] not in NATIVE
    )
    of_series = row["kind"] == "image" and row["modality"] != "PT" and row["per_frame"] is None
    if said is not None and of_series and not odd and not is_tiled(row):
        if len(_known) >= _MOST:
            _known.clear()
        # Columns that are made of what files differ in are each file's own, and so are their flags.
        model = plain._replace(row=(row if _has_own(asked) else plain.row).copy())
        _known[said] = _Model(model, elements.offset)
    return plain


def _key(split: Split, asked: Asked) -> Any:
    """What two files have in common that differ in OWN alone; None: describe each."""
    if split.said is None or not GROUPS.isdisjoint(split.own):
        return None
    # Without a VR, the last 4 bytes are pixels.
    without = split.implicit and not has_vr(split.head)
    head = split.head[:8] if without else split.head
    return split.said, split.own.get(CHARSET), split.syntax, head, asked.key


def _has_own(asked: Asked) -> bool:
    return not asked.own.isdisjoint(OWN)


def _like(
    known: _Model, split: Split, candidate: Candidate, asked: Asked, key: PatientKey
) -> Plain | Alike:
    model = known.plain.row
    values = plain_values(split.own)
    if values is None:
        values = _values(split)
    if model["frames"] != 1:
        values = values._replace(position=None)
    offset = model["pixel_offset"] - known.offset + split.offset
    own = (candidate.root, candidate.path, candidate.size, candidate.mtime_ns,
           packed_of(candidate), offset, *values)  # fmt: skip
    if candidate.size - offset >= known.room and not _has_own(asked):
        return Alike(known.row(key), own)
    row = Alike(model, own).header()
    check_length(row)
    if _has_own(asked) and (elements := split.whole()) is not None:
        row = with_own(row, Scan(elements), asked.limits)
    return known.plain._replace(row=row)


def _values(split: Split) -> Values:
    own = {tag: raw for tag, raw in split.own.items() if tag in SET or tag == CHARSET}
    ds = Scan(Elements(own, split.implicit, split.syntax, split.offset, split.head))
    return Values(
        sop_uid=text(ds, "SOPInstanceUID"),
        acquisition=whole(ds, "AcquisitionNumber"),
        instance=whole(ds, "InstanceNumber"),
        position=vector(ds, "ImagePositionPatient", 3),
        slice_location=number(ds, "SliceLocation") if 0x00201041 in own else None,
        trigger_time=number(ds, "TriggerTime") if 0x00181060 in own else None,
        time=number(ds, "FrameReferenceTime") if 0x00541300 in own else None,
        acquired=acquired_of(ds),
    )
