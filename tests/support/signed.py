"""Caches that are changed and signed anew, as whoever writes one may: from FORMAT.md alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def sign(cache: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the root's attributes and give them a digest that matches."""
    document = json.loads((cache / "zarr.json").read_bytes())
    about = document["attributes"]["dicom2cache"]
    change(about)
    about.pop("sha256", None)
    text = json.dumps(about, sort_keys=True, separators=(",", ":"))
    about["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (cache / "zarr.json").write_text(json.dumps(document))


def table_entry(cache: Path, path: Path) -> dict[str, Any]:
    """The file entry of a table."""
    data, metadata = path.read_bytes(), pq.read_metadata(path)
    entry = {
        "path": path.relative_to(cache).as_posix(), "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(), "rows": metadata.num_rows,
    }  # fmt: skip
    return entry if path.parent.name != "frames" else entry | column_digests(data, metadata)


def column_digests(data: bytes, metadata: pq.FileMetaData) -> dict[str, Any]:
    """`footer` and `columns` of a table's file entry."""
    end = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    leaves, chunks = range(metadata.num_columns), []
    for k in range(metadata.num_row_groups):
        for leaf in leaves:
            chunk = metadata.row_group(k).column(leaf)
            offsets = (chunk.dictionary_page_offset, chunk.data_page_offset)
            first = min((offset for offset in offsets if offset), default=None)
            if first is not None:
                chunks.append((first, chunk.path_in_schema.split(".")[0]))
    stops = [first for first, _ in chunks[1:]] + [end]
    columns = {f.path.split(".")[0]: b"" for f in map(metadata.schema.column, range(len(leaves)))}
    for (first, name), stop in zip(chunks, stops, strict=True):
        columns[name] += data[first:stop]
    return {
        "footer": hashlib.sha256(data[:4] + data[end:]).hexdigest(),
        "columns": {name: hashlib.sha256(part).hexdigest() for name, part in columns.items()},
    }


def rewrite(cache: Path, kind: str, change: Callable[[pa.Table], pa.Table]) -> None:
    """Write a table of the first generation anew, and sign that."""
    path = cache / kind / "0.parquet"
    pq.write_table(change(pq.read_table(path)), path)
    adopt(cache, kind)


def adopt(cache: Path, kind: str, like: bytes | None = None) -> None:
    """Sign the table of the first generation as it lies there.

    `like`: a whole one, whose columns and chunks are taken to be those of one that is none.
    """
    path = cache / kind / "0.parquet"
    if like is None:
        entry = table_entry(cache, path)
    else:
        data, metadata = path.read_bytes(), pq.read_metadata(pa.BufferReader(like))
        entry = {
            "path": f"{kind}/0.parquet", "bytes": len(data), "rows": metadata.num_rows,
            "sha256": hashlib.sha256(data).hexdigest(),
        }  # fmt: skip
        if kind == "frames":
            entry |= column_digests(data, metadata)
    sign(cache, lambda about: about["tables"][kind].__setitem__(0, entry))


def with_column(name: str, values: list[Any], kind: pa.DataType | None = None) -> Any:
    """What gives a table other values in a column, of its type unless another is given."""

    def change(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index(name)
        return table.set_column(place, name, pa.array(values, kind or table.schema[place].type))

    return change
