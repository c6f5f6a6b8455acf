"""Structure sets as files of masks, on their way to a plan."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from dicom2cache.planning.masks.outlined import SEEN, as_files
from dicom2cache.records import Candidate, Header
from dicom2cache.schema import FILES
from dicom2cache.sources.place import packed_of


def files_of(found: Header | pa.Table, candidates: Sequence[Candidate]) -> pa.Table:
    """FILES of what a file was read to: its header, or CONTOURS_TABLE."""
    if isinstance(found, pa.Table):
        return as_files(found, seen(candidates, found))
    return pa.Table.from_pylist([found], FILES)


def seen(candidates: Sequence[Candidate], contours: pa.Table) -> pa.Table:
    """SEEN of the structure sets among the candidates."""
    mine = set(zip(contours["root"].to_pylist(), contours["path"].to_pylist(), strict=True))
    rows = [
        {
            "root": c.root,
            "path": c.path,
            "size": c.size,
            "mtime_ns": c.mtime_ns,
            "member": packed_of(c),
        }
        for c in candidates
        if (c.root, c.path) in mine
    ]
    return pa.Table.from_pylist(rows, SEEN)
