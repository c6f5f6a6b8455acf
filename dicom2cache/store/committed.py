"""What a committed cache says of itself: its arrays, and its tables of all generations."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dicom2cache.errors import CacheError, Dicom2cacheError, counting, on_path
from dicom2cache.records import ArraySpec
from dicom2cache.schema import CONTOURS_TABLE, FRAMES_TABLE, REJECTS, REMOVED, SHARDS_TABLE
from dicom2cache.store.layout import ROOT, attributes_sha256, spare_path
from dicom2cache.store.names import checked, open_below, read_plain
from dicom2cache.store.root import CONTOURS

_SCHEMAS = {
    "frames": FRAMES_TABLE, "failures": REJECTS, "shards": SHARDS_TABLE, "removed": REMOVED,
    CONTOURS: CONTOURS_TABLE,
}  # fmt: skip
_ROWS_PER_BYTE = 256  # each column and row group of a real table has a header of its own
_MOST_TEXT = 4096
"""bytes of a text on average: paths have no more"""
UNLIKE = (
    KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, ZeroDivisionError,
    pa.ArrowException,
)  # fmt: skip
"""what contents provoke that are not those of the format, beyond what is checked by name"""


def whole_root(cache: Path, spare: bool = False) -> dict[str, Any] | None:
    """The attributes in the root, or in its second copy; None unless they are as signed."""
    path = cache / (spare_path(ROOT) if spare else ROOT)
    try:
        with on_path(path):
            return signed_attributes(read_plain(path))
    except (FileNotFoundError, NotADirectoryError, CacheError):
        return None


def signed_attributes(root: bytes) -> dict[str, Any] | None:
    """The attributes in the bytes of a root; None unless they are as their SHA-256 says."""
    try:
        found = json.loads(root)["attributes"]["dicom2cache"]
        return found if attributes_sha256(found) == found["sha256"] else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def read_table(
    cache: Path, attributes: dict[str, Any], kind: str, columns: list[str] | None = None
) -> pa.Table:
    """The tables of a kind of all generations, in order; text is plain.

    A column is null where a generation lacks it, and left out if all do; contours/, which a cache
    need not have, is empty then. Raises CacheError for a
    table that cannot be read, or is not as the root metadata or the format say.
    """
    if kind == CONTOURS and kind not in attributes["tables"]:
        return CONTOURS_TABLE.empty_table().select(columns or CONTOURS_TABLE.names)
    parts = [
        read_entry(cache, entry, kind, columns)
        for entry in attributes["tables"][kind]
    ]  # fmt: skip
    with as_in_format(cache / kind):
        whole = pa.concat_tables(parts, promote_options="permissive")
    known = whole.column_names
    return whole.select(known if columns is None else [c for c in columns if c in known])


def read_entry(
    cache: Path, entry: dict[str, Any], kind: str, columns: list[str] | None = None
) -> pa.Table:
    """The table of one generation, by its file entry; text is plain. Raises as `read_table`."""
    path = cache / entry["path"]
    open_below(cache, entry["path"], cache / ROOT).close()
    try:
        with on_path(path):
            footer = pq.read_metadata(path)
        # Text by dictionaries: a few bytes of a file may stand for one long text a million times.
        texts = [f.name for f in _SCHEMAS[kind] if pa.types.is_string(f.type)]
        texts = [name for name in texts if name in footer.schema.to_arrow_schema().names]
        with on_path(path), pq.ParquetFile(path, metadata=footer, read_dictionary=texts) as file:
            rows, size = file.metadata.num_rows, path.stat().st_size
            if rows != entry["rows"] or rows > _ROWS_PER_BYTE * size:
                raise CacheError(
                    f"{path}: {counting(rows, 'row')} in {size} bytes, {entry['rows']} in {ROOT}; "
                    "it is damaged"
                )
            here = file.schema_arrow
            _check_types(path, here, _SCHEMAS[kind])
            table = file.read(columns=columns and [c for c in columns if c in here.names])
    except (pa.ArrowException, OSError) as e:
        if isinstance(e, OSError) and e.errno is not None:
            raise
        raise CacheError(f"{path}: cannot be read as Parquet: {str(e)[:200]}") from e
    if table.num_rows != rows:
        raise CacheError(
            f"{path}: {counting(table.num_rows, 'row')}, {rows} in its footer; it is damaged"
        )
    for k, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            text = field.type.value_type
            if pa.types.is_string(text) and _text_bytes(table[k]) > _MOST_TEXT * (rows + 256):
                raise CacheError(
                    f"{path}: column {field.name} has more than {_MOST_TEXT} bytes of text a row"
                )
            table = table.set_column(k, pa.field(field.name, text), table[k].cast(text))
    return table


def file_keys(root: Any, path: Any) -> pa.Array:
    """(n,) text for each file, by its folder's number and its path below it: `root/path`."""
    text = pa.large_string()  # of 10^7 files, more than 2 GiB
    joined = pc.binary_join_element_wise(root.cast(text), path.cast(text), pa.scalar("/", text))
    return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined


def void_failures(cache: Path, attributes: dict[str, Any]) -> Any:
    """(n,) bool: rows of failures/ of files that a later generation names, and so looked at again.

    Raises as `read_table`.
    """
    tables = attributes["tables"]
    drawn = {os.path.basename(e["path"]): e for e in tables.get(CONTOURS, ())}
    later = pa.array([], pa.large_string())
    found = [np.zeros(entry["rows"], bool) for entry in tables["failures"]]
    for k in reversed(range(len(found))):
        failed, *frames = (
            file_keys(table["root"], table["path"])
            for kind in ("failures", "frames")[: 1 + bool(k)]  # nothing is before the first
            for table in [read_entry(cache, tables[kind][k], kind, ["root", "path"])]
        )
        found[k] = np.asarray(pc.is_in(failed, value_set=later))
        entry = drawn.get(os.path.basename(tables["failures"][k]["path"]))
        if entry is not None:
            table = read_entry(cache, entry, CONTOURS, ["root", "path"])
            frames.append(file_keys(table["root"], table["path"]))
        later = pa.concat_arrays([later, failed, *frames]).unique()
    return np.concatenate(found)


def _text_bytes(column: pa.ChunkedArray) -> int:
    """How long the texts of a dictionary column are together."""
    total = 0
    for chunk in column.chunks:
        lengths = np.asarray(pc.binary_length(chunk.dictionary).fill_null(0), np.int64)
        counts = np.bincount(np.asarray(chunk.indices.drop_null()), minlength=len(lengths))
        total += int(counts @ lengths)
    return total


def _check_types(path: Path, found: pa.Schema, expected: pa.Schema) -> None:
    for name in found.names:
        if found.names.count(name) > 1:
            raise CacheError(f"{path}: has column {name} twice")
        if name not in expected.names:
            continue  # of a later version
        said, legal = found.field(name).type, expected.field(name).type
        plain = said.value_type if pa.types.is_dictionary(said) else said
        if plain != legal and not (pa.types.is_nested(plain) and pa.types.is_nested(legal)):
            raise CacheError(f"{path}: column {name} is {said}; legal: {legal}")


@contextmanager
def as_in_format(where: Path | str) -> Iterator[None]:
    """What contents provoke that are not those of the format becomes a CacheError, by name."""
    try:
        yield
    except (Dicom2cacheError, MemoryError):
        raise
    except UNLIKE as e:
        raise CacheError(
            f"{where}: not as FORMAT.md says ({type(e).__name__}: {str(e)[:200]}); "
            "`dicom2cache verify` says more"
        ) from e


def spec_of(array: dict[str, Any]) -> ArraySpec:
    """An array, of its entry in the root metadata. Raises CacheError for a name that is none."""
    checked(array["name"], ROOT)
    keys = ("name", "dtype", "slots", "frames_per_shard", "codec")
    return ArraySpec(slot=tuple(array["slot"]), **{k: array[k] for k in keys})
