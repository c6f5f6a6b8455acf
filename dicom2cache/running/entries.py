"""Files that the root names by a file entry: tables written durably, and what their entries say."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dicom2cache.errors import on_path
from dicom2cache.records import ArraySpec
from dicom2cache.running.tables import Totals
from dicom2cache.store.digests import table_digests
from dicom2cache.store.durable import sync_folder
from dicom2cache.store.layout import ROOT

ROW_GROUP = 100_000


def entry_of(path: str, data: bytes) -> dict[str, Any]:
    """The file entry of a file with these bytes (FORMAT.md)."""
    return {"path": path, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def array_entry(spec: ArraySpec, total: Totals, metadata: bytes) -> dict[str, Any]:
    """What the root says of an array (FORMAT.md, `arrays`), `metadata` being its zarr.json."""
    return {
        "name": spec.name,
        "dtype": spec.dtype,
        "slot": list(spec.slot),
        "slots": spec.slots,
        "frames": total.frames,
        "frames_per_shard": spec.frames_per_shard,
        "codec": spec.codec,
        "statistics": total.summary(),
        "metadata": entry_of(f"{spec.name}/{ROOT}", metadata),
    }


class ParquetFile:
    """A Parquet table written in row groups of about 100,000, durably, with its file entry."""

    def __init__(self, path: Path, schema: pa.Schema, scratch: Path, rows: int = ROW_GROUP) -> None:
        """`rows`: of a row group."""
        self.path, self.schema, self._most = path, schema, rows
        self._temporary = scratch / f"{path.parent.name}.{secrets.token_hex(8)}"
        with on_path(path):
            self._writer = pq.ParquetWriter(self._temporary, schema, compression="zstd")
        self._waiting: list[pa.Table] = []
        self._rows = 0

    def write(self, table: pa.Table) -> None:
        """Append rows."""
        self._waiting.append(table)
        while sum(t.num_rows for t in self._waiting) >= self._most:
            whole = pa.concat_tables(self._waiting)
            self._flush(whole.slice(0, self._most))
            self._waiting = [whole.slice(self._most)]

    def _flush(self, table: pa.Table) -> None:
        with on_path(self.path):
            self._writer.write_table(table, row_group_size=self._most)
        self._rows += table.num_rows

    def __enter__(self) -> ParquetFile:
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        if kind is None and self._waiting:
            self._flush(pa.concat_tables(self._waiting))
        with on_path(self.path):
            self._writer.close()
            if kind is not None:
                self._temporary.unlink(missing_ok=True)
                return
            with open(self._temporary, "rb+") as file:
                os.fsync(file.fileno())
            self._temporary.replace(self.path)
        sync_folder(self.path.parent)

    def entry(self, cache: Path) -> dict[str, Any]:
        """The closed table's file entry (FORMAT.md)."""
        digests = table_digests(self.path)
        entry = {
            "path": self.path.relative_to(cache).as_posix(),
            "bytes": self.path.stat().st_size,
            "sha256": digests.sha256,
            "rows": self._rows,
        }
        if self.path.parent.name == "frames":  # the others are read as a whole
            entry |= {"footer": digests.footer, "columns": digests.columns}
        return entry
