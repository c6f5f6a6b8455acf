"""What of a cache is in its next numbering: rows with other places, and shards without what goes.

Frames keep their order, so that a sample index only shifts. Where frames of a shard go, those that
stay are copied to new shards behind the end of the array, byte for byte, each held to its CRC-32C;
the old shard stays on disk, named by no table, until it is purged.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dicom2cache.arrow import Mask, ints
from dicom2cache.errors import CacheError, on_path
from dicom2cache.records import ArraySpec
from dicom2cache.running.attempts import attempt_name
from dicom2cache.schema import FRAMES_TABLE
from dicom2cache.store.committed import read_table, spec_of
from dicom2cache.store.compression import unpack
from dicom2cache.store.durable import sync_folder
from dicom2cache.store.layout import MISSING, shard_path
from dicom2cache.store.names import open_below
from dicom2cache.store.shards import Chunk, ShardWriter, crc32c, read_index

Ints = NDArray[np.int64]


class Places:
    """Where the n frames of a cache will lie, by array and row; and which shards are left as they
    are."""

    def __init__(
        self, cache: Path, attributes: dict[str, Any], stays: Mask, behind: list[int]
    ) -> None:
        """`stays`: (n,); `behind`: of each array, the number of the first shard that is free."""
        self.specs = [spec_of(about) for about in attributes["arrays"]]
        table = read_table(cache, attributes, "frames", ["array", "row", "crc32c"])
        self.array, self.old, self.crc32c = (ints(table[c], -1) for c in table.column_names)
        self.stays = stays
        per = np.array([s.frames_per_shard for s in self.specs], np.int64)
        shard = self.old // per[self.array] if len(self.old) else self.old
        key = self.array << 32 | shard
        touched = np.unique(key[~stays])
        self.touched = {(int(k) >> 32, int(k) & 0xFFFFFFFF) for k in touched}
        """(array, shard) that frames of go"""
        moved = stays & np.isin(key, touched)
        self.row = self.old.copy()
        self.moved: list[Ints] = []
        """of each array, the frames that are copied, in their new order"""
        self.first = behind
        for number, spec in enumerate(self.specs):
            mine = np.flatnonzero(moved & (self.array == number))
            self.row[mine] = behind[number] * spec.frames_per_shard + np.arange(len(mine))
            self.moved.append(mine)

    def slots(self, number: int) -> int:
        """Length of the array as far as the last copied frame; 0: none is copied."""
        count = len(self.moved[number])
        return self.first[number] * self.specs[number].frames_per_shard + count if count else 0

    def new_shards(self) -> Iterator[tuple[int, int, Ints]]:
        """(array, shard, its frames) of each that is to be written."""
        for number, mine in enumerate(self.moved):
            per = self.specs[number].frames_per_shard
            for k in range(-(-len(mine) // per)):
                yield number, self.first[number] + k, mine[k * per : (k + 1) * per]

    @property
    def bytes(self) -> int:
        """Bytes that are copied, as slots."""
        return sum(len(m) * s.slot_bytes for m, s in zip(self.moved, self.specs, strict=True))


def kept_shards(
    cache: Path, attributes: dict[str, Any], places: Places, scratch: Path
) -> list[dict[str, Any]]:
    """Rows of shards/: those that stay as they are, and new ones, which are written, durably."""
    rows = [
        row for row in read_table(cache, attributes, "shards").to_pylist()
        if (row["array"], row["shard"]) not in places.touched
    ]  # fmt: skip
    for number, shard, frames in places.new_shards():
        spec = places.specs[number]
        old, checks = places.old[frames], places.crc32c[frames]
        said = _copied(cache, spec, old, checks, cache / shard_path(spec, shard), scratch)
        rows.append({
            "array": number, "shard": shard, **said, "frames": len(frames), "slots": len(frames),
        })  # fmt: skip
    return sorted(rows, key=lambda row: (row["array"], row["shard"]))


def _copied(
    cache: Path, spec: ArraySpec, rows: Ints, checks: Ints, target: Path, scratch: Path
) -> dict[str, Any]:
    """Write a shard of frames that lie elsewhere in the array; what shards/ says of it."""
    attempt = scratch / attempt_name(f"{spec.name}.{target.name}")
    with ExitStack() as opened, on_path(target), ShardWriter(attempt, spec) as writer:
        file: BinaryIO | None = None
        at = -1
        for row, check in zip(rows.tolist(), checks.tolist(), strict=True):
            shard, slot = divmod(row, spec.frames_per_shard)
            if file is None or shard != at:
                opened.pop_all().close()
                name, at = shard_path(spec, shard), shard
                file = opened.enter_context(open_below(cache, name, "shards/"))
                index, _, whole = read_index(file, spec)
                if not whole:
                    raise _damaged(cache / name, "its index")
            offset, length = index[slot].tolist()
            data = b""
            if offset != MISSING:
                file.seek(offset)
                data = file.read(length)
            try:
                right = len(data) == length and check == crc32c(
                    data if spec.codec == "none" else unpack(data, spec)
                )
            except ValueError:
                right = False
            if not right:
                raise _damaged(cache / name, f"slot {slot}")
            writer.frame(Chunk(data, check))
        size, index_crc32c = writer.finish()
    os.replace(attempt, target)
    sync_folder(target.parent)
    return {
        "bytes": size, "index_crc32c": index_crc32c, "chunks_crc32c": writer.chunks_crc32c,
    }  # fmt: skip


def _damaged(path: Path, what: str) -> CacheError:
    return CacheError(
        f"{path}: {what} is damaged (CRC-32C), and would be copied; run `dicom2cache repair "
        f"{path.parent.parent}` first"
    )


def kept_frames(
    cache: Path, attributes: dict[str, Any], places: Places, schema: pa.Schema
) -> Iterator[pa.Table]:
    """Rows of frames/ that stay, in their order, with their new places."""
    start = 0
    for entry in attributes["tables"]["frames"]:
        path = cache / entry["path"]
        with on_path(path), pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, use_threads=False)
                mine = slice(start, start + table.num_rows)
                start += table.num_rows
                stays = places.stays[mine]
                if stays.any():
                    row = pa.array(places.row[mine][stays])
                    yield _with(conformed(table.filter(pa.array(stays)), schema), "row", row)


def schema_of(cache: Path, attributes: dict[str, Any]) -> pa.Schema:
    """That of frames/: of this version, and what tables there have beyond it."""
    schema = FRAMES_TABLE
    for entry in attributes["tables"]["frames"]:
        for field in pq.read_schema(cache / entry["path"]):
            if field.name not in schema.names:
                schema = schema.append(field)
    return schema


def conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows with these columns, null where they have none; no dictionary has more than they."""
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            columns.append(pa.nulls(table.num_rows, field.type))
            continue
        column = table[field.name]
        if pa.types.is_dictionary(column.type):  # it may name what is gone
            column = column.cast(column.type.value_type)
        columns.append(column.cast(field.type))
    return pa.table(columns, schema)


def _with(table: pa.Table, name: str, column: Any) -> pa.Table:
    place = table.schema.get_field_index(name)
    return table.set_column(place, table.schema.field(name), column)


def heads(cache: Path, attributes: dict[str, Any], stays: Mask) -> Any:
    """(n,) `stack_of` of each frame: the least number of a stack of the same that stays."""
    table = read_table(cache, attributes, "frames", ["stack", "stack_of"])
    if "stack_of" not in table.column_names:
        return None
    stack, head = (ints(table[name], -1) for name in ("stack", "stack_of"))
    known, of = np.unique(head, return_inverse=True)
    least = np.full(len(known), np.iinfo(np.int64).max)
    np.minimum.at(least, of[stays], stack[stays])
    return pa.array(np.where(head < 0, 0, least[of]), mask=head < 0)


def counts_of(frames: pa.Table, failures: pa.Table, contours: pa.Table) -> dict[str, int]:
    """The counts of a cache, of `root` and `path` of its frames and contours, and its failures."""

    def files(table: pa.Table) -> int:
        return int(table.group_by(["root", "path"]).aggregate([]).num_rows)

    stored = pa.concat_tables(
        [table.select(["root", "path"]) for table in (frames, contours)]
    ).group_by(["root", "path"]).aggregate([])  # fmt: skip
    failed = pc.equal(failures["outcome"], "failed")
    other = failures.filter(pc.invert(failed)).select(["root", "path"])
    lost = failures.filter(failed).select(["root", "path"])
    for known in (stored, other):
        lost = lost.join(known, keys=["root", "path"], join_type="left anti")
    names = {
        "files_no_pixels": "no-pixels", "files_not_dicom": "not-dicom",
        "files_duplicate": "duplicate", "files_excluded": "excluded",
    }  # fmt: skip
    counts = {
        key: files(failures.filter(pc.equal(failures["outcome"], outcome)))
        for key, outcome in names.items()
    }
    counts["files_stored"] = stored.num_rows
    counts["files_failed"] = files(lost)
    whole = {"files": sum(counts.values()), **counts}
    of_frames = pc.and_(failed, failures["frame"].is_valid())
    whole["frames_stored"] = frames.num_rows
    whole["frames_failed"] = int(pc.sum(of_frames).as_py() or 0)
    whole["frames_limited"] = int(pc.sum(pc.equal(failures["stage"], "limit")).as_py() or 0)
    return whole
