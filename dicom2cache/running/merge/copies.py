"""Files that more than one of the caches has: same SOP Instance UID, pixels, meaning; columnar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dicom2cache.arrow import Codes, codes, combine, ints
from dicom2cache.running.merge.parts import Part
from dicom2cache.store.committed import read_table

_OF_A_COPY = frozenset({
    "array", "row", "root", "path", "stack", "stack_index", "stack_regular", "stack_of", "part",
    "stack_flags", "tilt", "transfer_syntax", "codec", "bits_stored", "photometric", "lossy",
    "flags", "rule", "windows", "accession", "sex", "age", "body_part", "manufacturer", "model",
    "burned_in", "presentation_intent", "spacing_tag",
})  # fmt: skip
"""columns of frames/ in which copies of one image may differ, as in `planning.select`; in all
others they must be equal, `crc32c` among them"""
_FILES = pa.schema([
    ("part", pa.int64()), ("row", pa.int64()), ("root", pa.int16()), ("path", pa.string()),
    ("same_part", pa.int64()), ("same_root", pa.int16()), ("same_path", pa.string()),
    ("same_frame", pa.int32()),
])  # fmt: skip


@dataclass(frozen=True)
class Copies:
    """What of the frames of the parts is there already, by part and row of its frames/."""

    stored: list[NDArray[np.bool_]]
    """(n,) of each part: False for frames of files that an earlier part has"""
    marked: list[NDArray[np.bool_]]
    """(n,) of each part: True where another file has the same SOP Instance UID, and other pixels"""
    files: pa.Table
    """one row for each file that is not stored: `part`, `row` (the first of its frames), `root`,
    `path`, and of the file that is kept `same_part`, `same_root`, `same_path`, `same_frame`"""


def find(parts: Sequence[Part]) -> Copies:
    """Which files of later parts are copies of one in an earlier part.

    All frames of both must be stored, equal in dtype, slot, checksum and meaning.
    """
    counts = [sum(e["rows"] for e in part.attributes["tables"]["frames"]) for part in parts]
    stored = [np.ones(n, bool) for n in counts]
    marked = [np.zeros(n, bool) for n in counts]
    rows, some = _candidates(parts)
    if not some.num_rows:
        return Copies(stored, marked, _FILES.empty_table())
    part = np.repeat(np.arange(len(parts)), [len(r) for r in rows])
    row = np.concatenate(rows)
    sop, path = (codes(some[name]) for name in ("sop_uid", "path"))
    file = combine([part, ints(some["root"], -1), path])
    order = np.argsort(file, kind="stable")
    firsts = np.flatnonzero(np.diff(file[order], prepend=-1))  # files are numbered from 0
    same = _alike(file, order, firsts, _meaning(parts, part, some))
    head = order[firsts]  # of each file, a row of `some`
    least = np.full(int(same.max()) + 1, len(head))
    np.minimum.at(least, same, np.arange(len(head)))
    kept = least[same]
    gone = part[head[kept]] < part[head]
    left = np.bincount(sop[head][~gone], minlength=int(sop.max()) + 1)
    out = gone[file]
    for k, (ok, odd) in enumerate(zip(stored, marked, strict=True)):
        mine = part == k
        ok[row[mine & out]] = False
        odd[row[mine & ~out & (left[sop] > 1)]] = True
    away, there = head[gone], head[kept[gone]]
    one = np.zeros(len(head), np.int64)  # greatest number of a frame
    np.maximum.at(one, file, ints(some["frame"], 0))
    files = pa.table(
        {
            "part": part[away],
            "row": row[away],
            "root": some["root"].take(pa.array(away)),
            "path": some["path"].take(pa.array(away)),
            "same_part": part[there],
            "same_root": some["root"].take(pa.array(there)),
            "same_path": some["path"].take(pa.array(there)),
            "same_frame": pa.array(np.zeros(len(there), np.int32), mask=one[kept[gone]] > 0),
        },
        _FILES,
    )
    return Copies(stored, marked, files)


def _candidates(parts: Sequence[Part]) -> tuple[list[Codes], pa.Table]:
    """(rows of each part whose SOP Instance UID another part has too, these rows of frames/)."""
    seen = [read_table(p.cache, p.attributes, "frames", ["sop_uid"])["sop_uid"] for p in parts]
    once = pa.chunked_array([pc.unique(uids).drop_null() for uids in seen], pa.string())
    counts = once.value_counts()
    shared = pc.filter(counts.field("values"), pc.greater(counts.field("counts"), 1))
    rows = [np.flatnonzero(pc.is_in(uids, value_set=shared).to_numpy()) for uids in seen]
    if not len(shared):
        return rows, pa.table({})
    tables = []
    for part, mine in zip(parts, rows, strict=True):
        everything = read_table(part.cache, part.attributes, "frames")
        tables.append(everything.take(pa.array(mine)))
    return rows, pa.concat_tables(tables, promote_options="permissive")


def _meaning(parts: Sequence[Part], part: Codes, some: pa.Table) -> Codes:
    """A code for all that copies must have alike, of each row."""
    slots = sorted({(s.dtype, s.slot) for p in parts for s in p.specs})
    number = np.zeros((len(parts), max(len(p.specs) for p in parts)), np.int64)
    for k, p in enumerate(parts):
        number[k, : len(p.specs)] = [slots.index((s.dtype, s.slot)) for s in p.specs]
    names = [name for name in some.column_names if name not in _OF_A_COPY]
    return combine([number[part, ints(some["array"], 0)], *(_codes(some[n]) for n in names)])


def _codes(column: Any) -> Codes:
    """A code for each value, equal for equal ones, lists and structs too."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    kind, valid = column.type, np.asarray(column.is_valid())
    if pa.types.is_struct(kind):
        fields = [_codes(column.field(k)) for k in range(kind.num_fields)]
        return combine([valid.astype(np.int64), *(np.where(valid, f, -1) for f in fields)])
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        lengths = ints(pc.list_value_length(column), 0) * valid
        items = _codes(column.flatten())  # what null lists hide is left out
        starts = np.cumsum(lengths) - lengths
        found = [np.where(valid, lengths, -1)]
        for k in range(int(lengths.max(initial=0))):
            has = lengths > k
            item = np.full(len(column), -2)
            item[has] = items[starts[has] + k]
            found.append(item)
        return combine(found)
    return ints(column.dictionary_encode().indices, -1)


def _alike(file: Codes, order: Codes, firsts: Codes, said: Codes) -> Codes:
    """A number for each file, equal for those whose frames all say the same.

    A frame's number is part of what it says, so that the sum of two random numbers of 64 bits for
    each thing said tells files apart.
    """
    drawn = np.random.default_rng(0).integers(0, 1 << 64, (int(said.max()) + 1, 2), np.uint64)
    sums = np.add.reduceat(drawn[said[order]], firsts, axis=0)
    return np.unique(sums, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
