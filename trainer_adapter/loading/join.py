"""Which row of a user's table each frame has: joined on columns, keywords, hashes and paths."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trainer_adapter.cache import Cache
from trainer_adapter.errors import LabelError, counting
from trainer_adapter.format.keywords import KEYWORDS, nearest
from trainer_adapter.loading.files import Codes, Files
from trainer_adapter.loading.tables import is_text, plain
from trainer_adapter.reading.hashed import (
    DOMAINS,
    Hashes,
    hashes,
    is_deidentified,
    patient_hashes,
)

On = str | Iterable[str] | Mapping[str, str]
KeyFile = str | os.PathLike[str] | None
PATIENT = ("PatientID", "AccessionNumber")
"""of what every cache has hashes"""


@dataclass(frozen=True)
class Key:
    """A column of the table, and what it says of a frame."""

    theirs: str
    """the column of the table"""
    said: str
    """what it is: a column of frames/, or a DICOM keyword"""

    @property
    def ours(self) -> str:
        """The column of frames/."""
        return KEYWORDS.get(self.said, self.said)


def keys_of(on: On) -> list[Key]:
    """What a table is joined on: a name, several, or {column of the table: what it is}."""
    if isinstance(on, Mapping):
        keys = [Key(str(theirs), str(said)) for theirs, said in on.items()]
    else:
        keys = [Key(name, name) for name in ([on] if isinstance(on, str) else on)]
    if not keys:
        raise ValueError("on: give a column of the labels, or several")
    return keys


@dataclass(frozen=True)
class Joined:
    """What frames are, and what the rows of the table are of, in the same numbers."""

    frames: Codes
    """(n,)"""
    rows: Codes
    """(m,); -1: of no frame of the cache"""
    written: Codes
    """(m,) the same, but of a file that is there twice each name by itself"""

    def on(self, other: Joined) -> Joined:
        """What both say together."""
        parts = [self.frames, self.rows, self.written]
        first = np.concatenate(parts)
        second = np.concatenate([other.frames, other.rows, other.written])
        lost = (first < 0) | (second < 0)
        both = np.unique(first * (second.max(initial=0) + 1) + second, return_inverse=True)[1]
        both = np.where(lost, -1, both.reshape(-1))
        return Joined(*np.split(both, np.cumsum([len(p) for p in parts])[:-1]))


def join(cache: Cache, table: pa.Table, keys: list[Key], key_file: KeyFile = None) -> Joined:
    """Frames and rows of a table by what they have in common.

    Raises LabelError if a column is missing or of another type, a key stands there twice or names
    files of several sources, or plain names meet hashes; ValueError for another key file.
    """
    for key in keys:
        if key.theirs not in table.column_names:
            raise LabelError(
                f"the labels have no column {key.theirs!r}; "
                f"{nearest(key.theirs, table.column_names)}"
            )
    named = None  # of paths, patients, UIDs in a de-identified cache
    if is_deidentified(cache.attributes) or not any(key.said in PATIENT for key in keys):
        named = hashes(cache.path, cache.attributes, key_file)
    by_path = any(key.ours == "path" for key in keys)
    joined = None
    for key in keys:
        if key.ours == "path":
            part = _by_path(cache, table, keys, key, named)
        elif key.ours == "root" and by_path:
            continue
        else:
            part = _by_value(cache, table, key, named, key_file)
        joined = part if joined is None else joined.on(part)
    assert joined is not None
    _hold_once(joined.written, table, keys)
    return joined


def _by_path(
    cache: Cache, table: pa.Table, keys: list[Key], key: Key, named: Hashes | None
) -> Joined:
    said = [k.theirs for k in keys if k.ours == "root"]
    said += ["root"] if "root" in table.column_names else []
    files = Files(cache, named)
    text = _cast(plain(table[key.theirs]), pa.string(), key)
    found = files.named(text, plain(table[said[0]]) if said else None)
    if named is None and not (found.written >= 0).any():
        _hold_hashes(cache, key)
    return Joined(files.frames, found.stored, found.written)


def _by_value(
    cache: Cache, table: pa.Table, key: Key, named: Hashes | None, key_file: KeyFile
) -> Joined:
    ours, theirs = plain(cache.column(key.ours)), plain(table[key.theirs])
    if key.said in PATIENT:
        secret = named or patient_hashes(cache.path, cache.attributes, key_file)
        texts = pc.utf8_trim(_cast(theirs, pa.string(), key), characters=" \0")
        theirs = secret.column(DOMAINS[key.ours], texts)
    else:
        theirs = _cast(theirs, ours.type, key)
        if named and key.ours in DOMAINS:
            theirs = named.column(DOMAINS[key.ours], theirs)
    values = pc.unique(ours.drop_null())
    frames, rows = (
        pc.index_in(c, value_set=values, skip_nulls=True).fill_null(-1).to_numpy().astype(np.int64)
        for c in (ours, theirs)
    )
    if key.said not in PATIENT and not named and not (rows >= 0).any():
        _hold_hashes(cache, key)
    return Joined(frames, rows, rows)


def _cast(column: Any, kind: pa.DataType, key: Key) -> Any:
    if pa.types.is_floating(column.type) and is_text(kind):  # whole numbers beside empty cells
        whole = pc.equal(column, pc.floor(column)).fill_null(True)
        column = column.cast(pa.int64()) if pc.all(whole).as_py() else column
    try:
        return column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as e:
        raise LabelError(
            f"column {key.theirs!r} of the labels is {column.type}, {key.ours!r} of the frames "
            f"{kind}: {e}"
        ) from e


def _hold_hashes(cache: Cache, key: Key) -> None:
    """Raises LabelError where names that are none of the cache's would have to be hashed."""
    if is_deidentified(cache.attributes) and key.ours in DOMAINS:
        raise LabelError(
            f"{cache.path}: de-identified: its column {key.ours!r} has hashes, and no key of the "
            "labels is one of them; give key=KEYFILE, and they are hashed"
        )
    keyword = next((k for k in PATIENT if KEYWORDS[k] == key.said), None)
    if keyword is not None and key.said == key.ours:
        raise LabelError(
            f"{cache.path}: its column {key.ours!r} has hashes, and no key of the labels is one of "
            f"them; where they are DICOM's own, give on={{{key.theirs!r}: {keyword!r}}}"
        )


def _hold_once(written: Codes, table: pa.Table, keys: list[Key]) -> None:
    order = np.argsort(written, kind="stable")
    held = written[order]
    again = np.flatnonzero((held[1:] == held[:-1]) & (held[1:] >= 0))
    if len(again):
        count = len(np.unique(held[again]))
        raise LabelError(
            f"{counting(count, 'key stands', 'keys stand')} twice in the labels, such as "
            f"{said_of(table, keys, int(order[again[0]]))}; give each one row, or join on more "
            "columns: on=[...]"
        )


def said_of(table: pa.Table, keys: list[Key], row: int) -> str:
    """The key of a row, for errors."""
    return ", ".join(str(table[key.theirs][row].as_py()) for key in keys)


def first_rows(joined: Joined, known: NDArray[np.bool_]) -> Codes:
    """(n,) the first row of each frame of those that are `known`; -1: none."""
    candidates = np.flatnonzero(known & (joined.rows >= 0))
    numbers, first = np.unique(joined.rows[candidates], return_index=True)
    if not len(numbers):
        return np.full(len(joined.frames), -1)
    place = np.searchsorted(numbers, joined.frames).clip(max=len(numbers) - 1)
    found: Codes = np.where(numbers[place] == joined.frames, candidates[first[place]], -1)
    return found
