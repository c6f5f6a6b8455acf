"""Contours of structure sets on their way: from headers, through the plan, to contours/.

A structure set has megabytes of points. So those of many wait in a file that is mapped, and go
through the plan's, a row group at a time.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dicom2cache.arrow import by_file, with_column
from dicom2cache.errors import on_path
from dicom2cache.running.entries import ParquetFile
from dicom2cache.schema import CONTOURS_TABLE, REJECTS
from dicom2cache.store.committed import file_keys, read_table
from dicom2cache.store.durable import make_folder
from dicom2cache.store.root import CONTOURS

KIND = CONTOURS
ROWS = 4096
"""of a row group: some ten megabytes"""
REPEATED = "sop-uid-repeated"
_FILE = ["root", "path"]
_VEILED = ("name", "type", "algorithm")
"""columns of what is said that a de-identified cache may lack"""
_SAID = (
    "structure", "contour", "geometry", "points", "referenced_frame", "slab_thickness",
    "slab_offset", "colour", *_VEILED,
)  # fmt: skip
"""columns that copies of a structure set have alike"""


class Waiting:
    """Contours of files, in any order, in a file that has no name once they are taken."""

    def __init__(self) -> None:
        self._path: str | None = None
        self._writer: Any = None
        self._batch_of: dict[tuple[int, str], int] = {}
        self._batches = 0

    def add(self, tables: Iterable[pa.Table]) -> None:
        """Tables of one file each. Raises OSError where there is no room."""
        for table in tables:
            if self._writer is None:
                descriptor, self._path = tempfile.mkstemp(prefix="dicom2cache-", suffix=".arrow")
                os.close(descriptor)
                self._writer = pa.ipc.new_file(self._path, CONTOURS_TABLE)
            key = table["root"][0].as_py(), table["path"][0].as_py()
            self._batch_of[key] = self._batches  # of a file that is read again the last one holds
            self._batches += 1
            with on_path(self._path or ""):
                self._writer.write_batch(table.combine_chunks().to_batches()[0])

    def take(self) -> pa.Table:
        """CONTOURS_TABLE of all, by root and path, mapped."""
        if self._writer is None or self._path is None:
            return CONTOURS_TABLE.empty_table()
        with on_path(self._path):
            self._writer.close()
        self._writer = None
        try:
            with pa.memory_map(self._path) as source:
                reader = pa.ipc.open_file(source.read_buffer())
                batches = [reader.get_batch(k) for _, k in sorted(self._batch_of.items())]
        finally:
            self.drop()
        return pa.Table.from_batches(batches, CONTOURS_TABLE)

    def drop(self) -> None:
        """Forget them."""
        if self._path is not None:
            Path(self._path).unlink(missing_ok=True)
        self._path = self._writer = None


def files_of(contours: pa.Table) -> pa.Table:
    """`root` and `path` of each file, once, in order."""
    if not contours.num_rows:
        return CONTOURS_TABLE.empty_table().select(_FILE)
    return contours.select(_FILE).group_by(_FILE, use_threads=False).aggregate([])


def said_of(contours: pa.Table, veiled: bool) -> str:
    """A digest of what the rows of a file say: the same for copies of it."""
    digest = hashlib.sha256()
    for name in _SAID:
        if not veiled or name not in _VEILED:
            digest.update(f"{name} {contours[name].type}".encode())
            for value in contours[name]:
                if name == "points" and value.is_valid:
                    digest.update(np.ascontiguousarray(value.values).tobytes())
                digest.update(repr(None if name == "points" else value.as_py()).encode())
    return digest.hexdigest()


def without_copies(
    contours: pa.Table, known: pa.Table | None = None, veiled: bool = False
) -> tuple[pa.Table, pa.Table]:
    """(the rows without those of repeated files, REJECTS "duplicate").

    Copies have SOP Instance UID and contours alike; the first by root and path is kept, and of a
    cache, whose rows are `known`, that. What differs under one UID is kept, and flagged.
    """
    if not contours.num_rows:
        return contours, REJECTS.empty_table()
    columns = [*_FILE, "sop_uid"]
    files = contours.select(columns).group_by(columns, use_threads=False).aggregate([])
    old = known if known is not None else CONTOURS_TABLE.empty_table()
    before = old.select(columns).group_by(columns, use_threads=False).aggregate([])
    every = [(old, row) for row in before.to_pylist()]
    every += [(contours, row) for row in files.to_pylist()]
    repeated = {uid for uid, n in _tally(row["sop_uid"] for _, row in every).items() if n > 1}
    said_by = [
        {key: said_of(mine, veiled) for key, mine in by_file(table)
         if mine["sop_uid"][0].as_py() in repeated}
        for table in ((old, contours) if repeated - {None} else ())
    ]  # fmt: skip
    first: dict[tuple[str, str], dict[str, Any]] = {}
    rejects, differing, sides = [], set[str](), dict[str, set[str]]()
    for table, row in every:
        uid = row["sop_uid"]
        if uid not in repeated or uid is None:
            continue
        said = said_by[table is contours][row["root"], row["path"]]
        kept = first.setdefault((uid, said), row)
        sides.setdefault(uid, set()).add(said)
        if len(sides[uid]) > 1:
            differing.add(uid)
        if table is contours and kept is not row:
            other = "" if kept["root"] == row["root"] else f" of source {kept['root']}"
            rejects.append({
                "root": row["root"], "path": row["path"], "outcome": "duplicate", "stage": "plan",
                "reason": f"duplicate of {kept['path']}{other}: same SOP Instance UID, same "
                "contours",
                "same_root": kept["root"], "same_path": kept["path"],
            })  # fmt: skip
    odd = pa.Table.from_pylist(rejects, REJECTS)
    left = without_files(contours, odd)
    if differing:
        again = pc.is_in(left["sop_uid"], value_set=pa.array(sorted(differing))).to_pylist()
        flags = [
            [*(said or []), REPEATED] if marked else said
            for said, marked in zip(left["flags"].to_pylist(), again, strict=True)
        ]
        left = with_column(left, "flags", pa.array(flags, left.schema.field("flags").type))
    return left, odd


def _tally(values: Iterable[Any]) -> dict[Any, int]:
    found: dict[Any, int] = {}
    for value in values:
        found[value] = found.get(value, 0) + 1
    return found


def without_files(contours: pa.Table, files: pa.Table) -> pa.Table:
    """The rows of none of these files (`root`, `path`)."""
    if not files.num_rows:
        return contours
    gone = set(zip(files["root"].to_pylist(), files["path"].to_pylist(), strict=True))
    rows = zip(contours["root"].to_pylist(), contours["path"].to_pylist(), strict=True)
    return contours.filter(pa.array([row not in gone for row in rows], pa.bool_()))


def among(files: pa.Table, some: pa.Table) -> Any:
    """(n,) bool: which of the files are among some."""
    if not some.num_rows:
        return np.zeros(files.num_rows, bool)
    keys = (file_keys(table["root"], table["path"]) for table in (files, some))
    return np.asarray(pc.is_in(next(keys), value_set=next(keys)))


def alone(contours: pa.Table) -> pa.Table:
    """REJECTS of the files, for a run that has nothing else."""
    why = {"outcome": "no-pixels", "reason": "contours, and no image beside them"}
    return pa.Table.from_pylist([{**row, **why} for row in files_of(contours).to_pylist()], REJECTS)


def groups(contours: pa.Table) -> Iterator[pa.Table]:
    """The rows, ROWS at a time, in memory of their own."""
    for start in range(0, contours.num_rows, ROWS):
        yield contours.slice(start, ROWS).combine_chunks()


def stored(cache: Path, entry: dict[str, Any]) -> Iterator[pa.Table]:
    """The rows of one generation of a cache, a row group at a time; with all of its columns."""
    path = cache / entry["path"]
    with on_path(path), pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, use_threads=False)


def of_instances(cache: Path, attributes: dict[str, Any], sop_uids: Any) -> pa.Table:
    """CONTOURS_TABLE of the instances, as a cache names them. Raises as `read_table`."""
    here = read_table(cache, attributes, KIND, ["sop_uid"])["sop_uid"]
    found = [CONTOURS_TABLE.empty_table()]
    if pc.any(pc.is_in(here, value_set=sop_uids)).as_py():
        for entry in attributes["tables"].get(KIND, ()):
            for table in stored(cache, entry):
                mine = table.filter(pc.is_in(table["sop_uid"], value_set=sop_uids))
                found.append(mine.select(CONTOURS_TABLE.names).cast(CONTOURS_TABLE))
    return pa.concat_tables(found)


def write(cache: Path, name: str, parts: Iterable[pa.Table], scratch: Path) -> list[dict[str, Any]]:
    """Write contours/`name`, if there are rows; its file entry, or none."""
    out: ParquetFile | None = None
    try:
        for table in parts:
            if not table.num_rows:
                continue
            if out is None:
                make_folder(cache / KIND)
                out = ParquetFile(cache / KIND / name, table.schema, scratch, ROWS)
            out.write(table)
    except BaseException as e:
        if out is not None:
            out.__exit__(type(e))
        raise
    if out is None:
        return []
    out.__exit__(None)
    return [out.entry(cache)]
