"""What was removed from a cache, and is not to come back by an update.

Consent that was withdrawn must not come back with next week's files. The cache keeps no name of
what is gone: removed/ has keyed hashes of whom, or what, was asked to go, and of the files that
went; they are those of no other column, and say nothing to whoever has not the key.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dicom2cache.privacy.keys import keyed_hash
from dicom2cache.privacy.veil import Veil
from dicom2cache.records import Candidate
from dicom2cache.schema import REMOVED
from dicom2cache.store.committed import read_table

KIND = "removed"
"""of table, in the root"""
OF_COLUMN = {"patient": "patient", "study": "study_uid", "series": "series_uid", "sop": "sop_uid"}
"""{what is removed: the column that says it}"""


class Withheld:
    """Hashes of what stays out, under the key of a cache."""

    def __init__(self, table: pa.Table, key: bytes) -> None:
        """`table`: REMOVED."""
        self._key = key
        self._known: defaultdict[str, set[str]] = defaultdict(set)
        for what, said in zip(table["what"].to_pylist(), table["hash"].to_pylist(), strict=True):
            self._known[what].add(said)
        self.files: set[tuple[int, str]] = set()
        """(root, path) of what was left out by `without`"""

    @classmethod
    def of(cls, cache: Path, attributes: Mapping[str, Any], key: bytes) -> Withheld:
        """That of a cache, by its root's attributes."""
        entries = attributes["tables"].get(KIND)
        table = read_table(cache, dict(attributes), KIND) if entries else REMOVED.empty_table()
        return cls(table, key)

    def __bool__(self) -> bool:
        return bool(self._known)

    def _hash(self, what: str, said: str) -> str:
        return keyed_hash(self._key, said, f"removed {what}:") or ""

    def add(self, what: str, texts: Iterable[str]) -> None:
        """Have these stay out; `what` is a key of OF_COLUMN, or `file`, with what `_of_file` says.

        UIDs and patients are as the cache has them.
        """
        self._known[what].update(self._hash(what, said) for said in texts)

    def has(self, what: str, said: str) -> bool:
        """Whether this stays out."""
        return what in self._known and self._hash(what, said) in self._known[what]

    def table(self) -> pa.Table:
        """REMOVED, sorted."""
        rows = sorted((what, said) for what, known in self._known.items() for said in known)
        columns = list(zip(*rows, strict=True)) or [(), ()]
        return pa.table([pa.array(c, pa.string()) for c in columns], REMOVED)

    def without(self, rows: pa.Table, veil: Veil | None) -> pa.Table:
        """Rows of FILES or REJECTS, as headers say them, without those that stay out."""
        if not self or not rows.num_rows:
            return rows
        out = pa.chunked_array([pa.repeat(pa.scalar(False), rows.num_rows)])
        for what, name in OF_COLUMN.items():
            if what in self._known and name in rows.column_names:
                column = rows[name].cast(pa.string())
                known = [
                    said for said in column.unique().drop_null().to_pylist()
                    if self.has(what, said if veil is None or what == "patient"
                                else veil.hashed("uid", said))
                ]  # fmt: skip
                out = pc.or_(out, pc.is_in(column, value_set=pa.array(known, pa.string())))
        gone = rows.filter(out).select(["root", "path"])
        self.files.update(zip(gone["root"].to_pylist(), gone["path"].to_pylist(), strict=True))
        return rows.filter(pc.invert(out))

    def unknown(
        self,
        candidates: Sequence[Candidate],
        folders: Sequence[str],
        states: Sequence[bytes],
        veil: Veil | None,
    ) -> list[bool]:
        """Of each file whether it is none that was removed and is as it was then."""
        if "file" not in self._known:
            return [True] * len(candidates)
        shown = list(folders) if veil is None else veil.sources(folders)
        return [
            not self.has("file", of_file(
                shown[c.root], c.path if veil is None else veil.hashed("path", c.path), state,
            ))
            for c, state in zip(candidates, states, strict=True)
        ]  # fmt: skip


def of_file(folder: str, path: str, state: bytes) -> str:
    """What is hashed of a file: folder and path as the cache names them, and what it was like."""
    return f"{folder}\0{path}\0{state.hex()}"
