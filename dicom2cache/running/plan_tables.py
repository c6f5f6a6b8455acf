"""A plan's tables on disk, with CRC-32s by column and rows: a bit that flips is not believed.

A worker reads the rows of its shard of a plan that may have a million: it checks these, where they
lie, and no others. A million frames have 1.25 GiB of tables.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dicom2cache.errors import CacheError
from dicom2cache.store import names
from dicom2cache.store.durable import large_file, write_durably

ROWS = 1 << 16
"""of a record batch, at most: what is checked at once"""


Digests = Mapping[str, Mapping[str, list[int]]]
"""{table: {column: CRC-32 of its part of each record batch}}"""
_FILE = "digests.json"


def write_tables(folder: Path, tables: Mapping[str, pa.Table]) -> str:
    """Write the plan's tables and their digests, durably; SHA-256 of these, hex."""
    for name, table in tables.items():
        with (
            large_file(folder / f"{name}.arrow") as file,
            pa.ipc.new_file(file, table.schema) as writer,
        ):
            writer.write_table(table.unify_dictionaries(), max_chunksize=ROWS)
    data = json.dumps({name: digests_of(folder / f"{name}.arrow") for name in tables}).encode()
    write_durably(folder / _FILE, data)
    return hashlib.sha256(data).hexdigest()


def read_tables(folder: Path, wanted: Iterable[str], sha256: object) -> Checked:
    """The tables that `write_tables` wrote, mapped and not read; `sha256` is what it gave.

    Raises ValueError, or what pyarrow raises, if they are not these, FileNotFoundError.
    """
    tables = {}
    for name in wanted:
        path = folder / f"{name}.arrow"  # pyarrow drops the descriptor, and keeps the mapping
        with names.open_plain(path), pa.memory_map(str(path)) as source:
            tables[name] = pa.ipc.open_file(source.read_buffer()).read_all()
            tables[name].validate()
    data = names.read_plain(folder / _FILE)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(f"{_FILE} is not as it was written")
    return Checked(folder, tables, json.loads(data))


def digests_of(path: Path) -> dict[str, list[int]]:
    """{column: CRC-32 of its part of each record batch} of an Arrow file, read batch by batch."""
    with pa.OSFile(str(path)) as file:
        reader = pa.ipc.open_file(file)
        found: dict[str, list[int]] = {name: [] for name in reader.schema.names}
        for k in range(reader.num_record_batches):
            batch = reader.get_batch(k)
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                found[name].append(_crc(column))
    return found


def _crc(column: Any) -> int:
    """Of the buffers of a column, and of what says how to read them."""
    crc = 0
    for part in _parts(column):
        crc = zlib.crc32(f"{part.type} {len(part)} {part.null_count} ".encode(), crc)
        if isinstance(part, pa.DictionaryArray):
            crc = _crc_of(part.dictionary.buffers(), crc)
    return _crc_of(column.buffers(), crc)


def _crc_of(buffers: Iterable[Any], crc: int) -> int:
    for buffer in buffers:
        crc = crc if buffer is None else zlib.crc32(buffer, crc)
    return crc


def _parts(column: Any) -> Iterator[Any]:
    yield column
    if isinstance(column, pa.DictionaryArray):
        yield from _parts(column.dictionary)
    elif isinstance(column, pa.StructArray):
        for k in range(column.type.num_fields):
            yield from _parts(column.field(k))
    elif isinstance(column, pa.ListArray | pa.FixedSizeListArray):
        yield from _parts(column.values)


@dataclass(frozen=True)
class Checked:
    """A plan's tables, mapped, held to the digests of when they were written."""

    folder: Path
    tables: Mapping[str, pa.Table]
    digests: Digests
    _known: set[tuple[str, str, int]] = field(default_factory=set)
    """(table, column, batch) that were checked by this process"""
    _whole: set[tuple[str, int]] = field(default_factory=set)
    """(table, batch) of which all columns were"""

    def __post_init__(self) -> None:
        """Raises ValueError for tables of other columns."""
        for name, table in self.tables.items():
            if table.column_names != list(self.digests.get(name, ())):
                raise ValueError(f"{name}.arrow has other columns than were planned")

    def check(self, name: str, columns: Iterable[str] | None = None, rows: Any = None) -> None:
        """Raises CacheError if `columns` (all) of a table are not as planned, at `rows` (all)."""
        table, said = self.tables[name], self.digests[name]
        at = None if rows is None else np.asarray(rows)
        if columns is None and at is not None and table.num_columns:
            ends = np.cumsum([*map(len, table.column(0).chunks)])
            touched = np.unique(np.searchsorted(ends, at, side="right")).tolist()
            if self._whole.issuperset((name, k) for k in touched):
                return
        ends, wanted, lengths = np.empty(0, np.int64), list[int](), None
        for column in table.column_names if columns is None else columns:
            chunks = table[column].chunks
            if [*map(len, chunks)] != lengths:  # those of a table are alike, if it is what it was
                lengths = [*map(len, chunks)]
                ends = np.cumsum(lengths)
                wanted = [*range(len(chunks))]
                if at is not None:
                    wanted = np.unique(np.searchsorted(ends, at, side="right")).tolist()
            for k in wanted:
                if (name, column, k) in self._known:
                    continue
                if len(said[column]) != len(chunks) or said[column][k] != _crc(chunks[k]):
                    first = int(ends[k]) - len(chunks[k])
                    raise CacheError(
                        f"{self.folder / name}.arrow: {column} of rows {first} to {ends[k] - 1} is "
                        "not as it was planned, the file is damaged; run `dicom2cache plan` or "
                        "`build` with --overwrite"
                    )
                self._known.add((name, column, k))
        if columns is None:
            self._whole.update((name, k) for k in wanted)

    def check_all(self) -> None:
        """Raises CacheError unless all tables are as planned."""
        for name in self.tables:
            self.check(name)
