"""Parquet tables of a cache to Arrow: only bytes that were checked are decoded.

Of frames/, the footer and the columns that are asked for are read and held to the digests in the
root; the other tables as a whole. A table may lie all the same, under a root that somebody signed:
what it claims is held to the bytes that it has before anything is allocated for it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trainer_adapter.errors import DamagedError, counting
from trainer_adapter.format.files import REMEDY, below, opened, read_into
from trainer_adapter.format.footer import row_groups
from trainer_adapter.format.system import own_memory

_MAGIC = b"PAR1"
_MOST_FOOTER = 32 << 20
"""bytes; a row group has about 20 KB, and 100,000 rows"""
_MOST_ROWS = 8
"""rows for each byte of the file: each has a place and a checksum of its own"""
_MOST_PLAIN = 200
"""decoded bytes for each byte of the file; what is constant in 100,000 rows compresses well"""
_ALLOWED = 256 << 20
"""decoded bytes that are not too many for any file"""


class Table:
    """Columns of one Parquet file of a cache, read and checked; decoded when they are asked for.

    Raises DamagedError, naming file and column, if the file is not what its entry in the root says,
    or claims what cannot be.
    """

    def __init__(self, cache: Path, entry: dict[str, Any], wanted: list[str] | None) -> None:
        """`entry`: a file entry (FORMAT.md); `wanted`: columns, if they are there; None: all."""
        self._path, self._entry = below(cache, entry["path"]), entry
        with opened(cache, entry["path"]) as file:
            size = os.fstat(file).st_size
            if size != entry["bytes"]:
                raise self._damaged(f"{size} bytes, {entry['bytes']} expected")
            try:
                self._read(file, size, wanted)
            except DamagedError:
                raise
            # of mmap and Arrow, for sizes that no machine has and metadata that is none
            except (pa.ArrowException, MemoryError, OSError, ValueError, OverflowError) as e:
                raise self._damaged(f"cannot be read: {e}") from e

    def _read(self, file: int, size: int, wanted: list[str] | None) -> None:
        if size < 3 * len(_MAGIC):
            raise self._damaged("no Parquet file")
        # Columns are put where they are in the file: memory that is not written to takes no room.
        self._memory = own_memory(size)
        self._file, self._view = file, memoryview(self._memory)
        by_column = "columns" in self._entry
        if not by_column and "sha256" in self._entry and self._path.parent.name != "frames":
            self._load(0, size)
            self._hold(hashlib.sha256(self._view), self._entry["sha256"], "it")
        self._load(size - 8, size)
        end = size - 8 - int.from_bytes(self._view[size - 8 : size - 4], "little")
        if not len(_MAGIC) <= end or size - end > _MOST_FOOTER:
            raise self._damaged("its metadata are longer than they can be")
        self._load(end, size)
        self._load(0, len(_MAGIC))
        if by_column:
            digest = hashlib.sha256(self._view[: len(_MAGIC)])
            digest.update(self._view[end:])
            self._hold(digest, self._entry.get("footer"), "its footer")
        if bytes(self._view[: len(_MAGIC)]) != _MAGIC:
            raise self._damaged("no Parquet file")
        self._open(size, wanted)
        self._columns(end, by_column)
        del self._file

    def _open(self, size: int, wanted: list[str] | None) -> None:
        """Arrow's reader over the memory, and which columns it is to read."""
        source = pa.BufferReader(pa.py_buffer(self._memory))
        first = pq.ParquetFile(source)
        names = first.schema_arrow.names
        if len(set(names)) < len(names):
            raise self._damaged("has several columns of one name")
        self.names: list[str] = names
        """all columns of the file"""
        self.wanted = names if wanted is None else [c for c in wanted if c in names]
        metadata = first.metadata
        end = size - 8 - metadata.serialized_size
        many, self._groups = row_groups(bytes(self._view[end : size - 8]))
        rows = [group.rows for group in self._groups]
        said = self._entry.get("rows", many)
        if sum(rows) != many or min(rows, default=0) < 0 or many != said:
            raise self._damaged(f"{counting(many, 'row')}, {said} expected")
        if many > _MOST_ROWS * size:
            raise self._damaged(f"{counting(many, 'row')} in {size} bytes")
        if any(len(group.chunks) != metadata.num_columns for group in self._groups):
            raise self._damaged("lacks columns in some rows")
        self._leaves = [
            (k, metadata.schema.column(k))
            for k in range(metadata.num_columns)
            if metadata.schema.column(k).path.split(".")[0] in self.wanted
        ]
        # Text by dictionaries is as large as it was written: spelled out it may be any size.
        text = [c.path for _, c in self._leaves if c.physical_type == "BYTE_ARRAY"]
        self._lists = any(
            c.physical_type == "BYTE_ARRAY" and c.max_repetition_level for _, c in self._leaves
        )
        self._reader = pq.ParquetFile(source, metadata=metadata, read_dictionary=text)
        self._most = _ALLOWED + _MOST_PLAIN * size

    def _columns(self, end: int, by_column: bool) -> None:
        """Read the chunks of the wanted columns, and hold each column to its digest."""
        digests, plain = dict[str, Any](), 0
        after = end  # from the last chunk on: each ends where the next one begins
        spans = dict[tuple[int, int], tuple[int, int]]()
        for k, group in reversed(list(enumerate(self._groups))):
            for leaf, chunk in reversed(list(enumerate(group.chunks))):
                start = chunk.start or after  # it has no bytes
                spans[k, leaf], after = (start, after), start
        for k, group in enumerate(self._groups):
            for leaf, about in self._leaves:
                chunk, (start, stop) = group.chunks[leaf], spans[k, leaf]
                if not len(_MAGIC) <= start <= stop <= end:
                    raise self._damaged(f"column {about.path} does not lie where it could")
                flat = not about.max_repetition_level
                if chunk.values != group.rows if flat else chunk.values < 0:
                    raise self._damaged(
                        f"column {about.path} has {counting(chunk.values, 'value')}"
                    )
                plain += chunk.plain + (0 if flat else chunk.values)
                if chunk.plain < 0 or plain > self._most:
                    raise self._damaged(f"column {about.path} says that it is {plain} bytes")
                self._load(start, stop)
                if by_column:
                    name = about.path.split(".")[0]
                    digests.setdefault(name, hashlib.sha256()).update(self._view[start:stop])
        for name, digest in digests.items():
            self._hold(digest, self._entry["columns"].get(name), f"its column {name}")

    def _load(self, start: int, stop: int) -> None:
        read_into(self._file, self._view[start:stop], start, self._path)

    def _hold(self, digest: Any, expected: object, what: str) -> None:
        if digest.hexdigest() != expected:
            raise self._damaged(f"the SHA-256 of {what} is not the one in zarr.json")

    def _damaged(self, what: str) -> DamagedError:
        return DamagedError(f"{self._path}: {what}; {REMEDY}")

    def read(self) -> pa.Table:
        """The wanted columns, text as text. Raises DamagedError if they cannot be decoded."""
        return self._decoded(None)

    def batches(self) -> Iterator[pa.Table]:
        """The same, a row group at a time."""
        for k in range(len(self._groups)):
            yield self._decoded(k)

    def _decoded(self, group: int | None) -> pa.Table:
        try:
            # Without Arrow's threads: a process that ends right after they began is aborted.
            which = range(len(self._groups)) if group is None else [group]
            # Arrow refuses dictionaries in lists of several groups.
            apart = [[k] for k in which] if self._lists and len(which) > 1 else [which]
            parts = [
                self._reader.read_row_groups(part, columns=self.wanted, use_threads=False)
                for part in apart
            ]
            # Of no column a table has rows all the same, and several joined would have none.
            table = parts[0] if len(parts) == 1 else pa.concat_tables(parts)
            table.validate(full=True)
            plain = table.nbytes + sum(_text_bytes(c) for column in table for c in column.chunks)
            if plain > self._most:
                raise self._damaged(f"its text is {plain} bytes, more than can be")
            return _undictionaried(table)
        except DamagedError:
            raise
        except (pa.ArrowException, MemoryError, OSError, ValueError, OverflowError) as e:
            raise self._damaged(f"cannot be read: {e}") from e


def _text_bytes(column: pa.Array) -> int:
    """Bytes of the text of a column, spelled out."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        lengths = pc.binary_length(column.dictionary).fill_null(0)
        counts = np.bincount(column.indices.drop_null().to_numpy(), minlength=len(lengths))
        return int(counts @ lengths.to_numpy().astype(np.int64)) if len(lengths) else 0
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return _text_bytes(column.flatten())
    if pa.types.is_struct(kind):
        return sum(map(_text_bytes, column.flatten()))
    return 0


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """A type with text in the place of dictionaries."""
    if pa.types.is_dictionary(kind):
        return kind.value_type
    if pa.types.is_list(kind):
        return pa.list_(_plain_field(kind.value_field))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain_field(kind.value_field), kind.list_size)
    if pa.types.is_struct(kind):
        return pa.struct([_plain_field(field) for field in kind])
    return kind


def _plain_field(field: pa.Field) -> pa.Field:
    return field.with_type(_plain_type(field.type))


def _undictionaried(table: pa.Table) -> pa.Table:
    """Text as text: also where the writer encoded it by dictionaries, another one each time."""
    for k, field in enumerate(table.schema):
        kind = _plain_type(field.type)
        if kind != field.type:
            table = table.set_column(k, pa.field(field.name, kind), table[k].cast(kind))
    return table
