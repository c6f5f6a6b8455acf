"""Rows of a cache without what says whose they are: the last step before they are written.

Planning and stacks have seen the originals, so pixels, stacks and order are those of a cache that
is not de-identified.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, overload

import pyarrow as pa
import pyarrow.compute as pc

from dicom2cache.errors import CacheError
from dicom2cache.privacy import keys, terms
from dicom2cache.privacy.keys import fingerprint, keyed_hash, read_key
from dicom2cache.privacy.own_words import own_words
from dicom2cache.schema import STORED, Column

KEY = "deidentify_key"
"""the member of the root metadata that says by which key a cache is de-identified"""
_OLDEST = 90.0
"""years: who is older is one of few"""
_FAILURES = {"path": "path", "same_path": "path", "study_uid": "uid", "series_uid": "uid"}
_CONTOURS = {
    "path": "path", "study_uid": "uid", "series_uid": "uid", "sop_uid": "uid",
    "referenced_sop_uid": "uid", "referenced_series_uid": "uid", "frame_of_reference_uid": "uid",
}  # fmt: skip

HASHED = "#"
"""what is before a text of a plan that is the hash already: of an image that is stored under it"""
_IS_HASHED = re.compile(f"{HASHED}[0-9a-f]{{32}}")
"""all else that begins so is what a file says"""

Map = Callable[[str], str | None]


@dataclass(frozen=True)
class Veil:
    """What a cache says under a key."""

    key: bytes
    seen: dict[tuple[str, str], str] | None = field(default=None)
    """{(domain, hash): what it stands for} of all that was hashed, if that is asked for"""

    @property
    def fingerprint(self) -> str:
        """That of the key, for the root metadata."""
        return fingerprint(self.key, "deidentify")

    def hashed(self, domain: str, plain: str) -> str:
        """The first 32 hex digits of HMAC-SHA-256 of `DOMAIN:` and the text (FORMAT.md)."""
        found = keyed_hash(self.key, plain, f"{domain}:") or ""
        if self.seen is not None:
            self.seen[domain, found] = plain
        return found

    def frames(self, rows: pa.Table, classes: Collection[str] = ()) -> pa.Table:
        """Rows of frames/, as the catalogue says of each column; `classes` are the recipe's."""
        for number, column in enumerate(STORED):
            kind = rows.schema.field(number)
            if column.name == "segments":
                own: Map = lambda said: said if said in classes else None  # noqa: E731
                veiled = _each_item(rows[number], {**_NESTED["segments"], "label": own})
            else:
                veiled = self._veiled(column, rows[number])
            rows = rows.set_column(number, kind, veiled.cast(kind.type))
        for number in range(len(STORED), rows.num_columns):  # the user's own: free text is out
            kind = rows.schema.field(number)
            if _has_text(kind.type):
                rows = rows.set_column(number, kind, pa.nulls(rows.num_rows, kind.type))
        return rows

    def failures(self, rows: pa.Table) -> pa.Table:
        """Rows of failures/: paths hashed, reasons without values."""
        for name, domain in _FAILURES.items():
            rows = self._replaced(rows, name, partial(self.hashed, domain))
        return self._replaced(rows, "reason", own_words)

    def contours(self, rows: pa.Table) -> pa.Table:
        """Rows of contours/: UIDs and paths hashed, names left out, of codes what is listed."""
        for name, domain in _CONTOURS.items():
            rows = self._replaced(rows, name, partial(self.hashed, domain))
        for name in ("type", "algorithm"):
            rows = self._replaced(rows, name, terms.keeper(f"roi_{name}"))
        return self._replaced(rows, "name", lambda _: None)

    def sources(self, folders: Sequence[str]) -> list[str]:
        """What stands for the source folders."""
        return [self.hashed("source", folder) for folder in folders]

    def _replaced(self, rows: pa.Table, name: str, change: Map) -> pa.Table:
        number = rows.schema.get_field_index(name)
        kind = rows.schema.field(number)
        return rows.set_column(number, kind, each(rows[name], change).cast(kind.type))

    def _veiled(self, column: Column, values: Any) -> Any:
        if column.name == "age":
            return pc.min_element_wise(values, pa.scalar(_OLDEST, values.type), skip_nulls=False)
        if column.privacy == "hashed" and column.domain in ("patient", "accession"):
            return values  # hashed while the header was read: the plain text is nowhere
        if column.name == "image_sop_uid":
            return each(
                values,
                lambda said: (
                    said[1:] if _IS_HASHED.fullmatch(said) else self.hashed(column.domain, said)
                ),
            )
        if column.privacy == "hashed":
            return each(values, lambda said: self.hashed(column.domain, said))
        if column.privacy == "listed":
            change = _NESTED.get(column.name)
            if change:
                return _each_item(values, change)
            return each(values, terms.keeper(column.name))
        if column.privacy == "dropped" or (not column.privacy and _has_text(values.type)):
            return pa.nulls(len(values), values.type)
        return values


@overload
def veil_of(path: str | os.PathLike[str], mapped: bool = False) -> Veil: ...
@overload
def veil_of(path: str | os.PathLike[str] | None, mapped: bool = False) -> Veil | None: ...
def veil_of(path: str | os.PathLike[str] | None, mapped: bool = False) -> Veil | None:
    """The veil of a key file; None without one. Raises as `read_key`."""
    return None if path is None else Veil(read_key(path), {} if mapped else None)


def keys_of(
    patient_key: str | os.PathLike[str] | None, deidentify: str | os.PathLike[str] | None
) -> tuple[Veil | None, bytes]:
    """(what a de-identified cache says, the key of patients), by their files.

    Raises ValueError where both are named, and as `read_key`.
    """
    if deidentify is not None and patient_key is not None:
        raise ValueError("--deidentify hashes patients by its own key; leave --patient-key out")
    veil = veil_of(deidentify)
    return veil, veil.key if veil else keys.patient_key(Path(patient_key) if patient_key else None)


def check_key(veil: Veil | None, attributes: dict[str, Any], where: Path, remedy: str) -> None:
    """Raises CacheError unless the key is the one that a cache is de-identified by, if it is."""
    said = attributes.get(KEY)
    if said is None and veil is not None:
        raise CacheError(f"{where}: not de-identified; leave --deidentify out")
    if said is not None and veil is None:
        raise CacheError(f"{where}: de-identified: paths and UIDs in it are hashes; {remedy}")
    if veil is not None and veil.fingerprint != said:
        raise CacheError(
            f"{where}: de-identified by another key (its fingerprint is {said}, that of this one "
            f"{veil.fingerprint}); give the key file that it was made with"
        )


def each(column: Any, change: Map) -> Any:
    """The column of texts with each distinct one changed; null stays null."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    new = pa.array([change(said) for said in array.dictionary.to_pylist()], pa.string())
    return new.take(array.indices)


_NONE: Map = lambda _: None  # noqa: E731
_CODE: Map = lambda said: said if terms.is_code(said) else None  # noqa: E731
_NESTED: dict[str, dict[str, Map]] = {
    "windows": {
        "function": lambda said: said if said in terms.FUNCTIONS else None, "explanation": _NONE,
    },
    "segments": {"label": _NONE, "category": _CODE, "type": _CODE, "type_meaning": _NONE},
    "channels": {
        "label": lambda said: said if said in terms.LEADS else None, "source": _CODE,
        "source_meaning": _NONE, "modifiers": terms.codes, "unit": terms.keeper("unit"),
    },
}  # fmt: skip
"""what becomes of the texts of the structs in a column of lists"""


def _each_item(column: Any, change: dict[str, Map]) -> Any:
    lists = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    lengths = pc.list_value_length(lists).fill_null(0)
    items = lists.flatten()
    fields = [
        each(items.field(f.name), change[f.name]) if f.name in change else items.field(f.name)
        for f in items.type
    ]
    offsets = pa.concat_arrays(
        [pa.array([0], pa.int64()), pc.cumulative_sum(lengths.cast("int64"))]
    )
    made = pa.StructArray.from_arrays(fields, fields=list(items.type))
    return pa.ListArray.from_arrays(offsets.cast("int32"), made, lists.type, mask=lists.is_null())


def _has_text(kind: pa.DataType) -> bool:
    if pa.types.is_string(kind) or pa.types.is_dictionary(kind):
        return True
    return any(_has_text(kind.field(k).type) for k in range(kind.num_fields))
