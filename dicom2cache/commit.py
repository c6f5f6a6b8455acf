"""Receipts to tables and root metadata: what makes a folder of shards a cache."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dicom2cache import ledger
from dicom2cache.columns import floats, ints
from dicom2cache.errors import Unfinished
from dicom2cache.layout import (
    FORMAT_VERSION,
    FRAMES_TABLE,
    ROOT,
    SHARDS_TABLE,
    array_metadata,
    root_metadata,
)
from dicom2cache.ledger import Job, Receipt
from dicom2cache.records import FRAMES, REJECTS, ShardTask
from dicom2cache.shards import write_durably

_ROW_GROUP = 100_000
_STATISTICS = ("min", "max", "mean", "std")


def commit(job: Job) -> dict[str, Any]:
    """Write tables, array metadata and, last, the root; the root's attributes.

    Raises Unfinished, naming a shard, while one is not converted.
    """
    for folder in ("frames", "failures", "shards"):
        (job.cache / folder).mkdir(exist_ok=True)
    totals = [_Totals() for _ in job.plan.arrays]
    shards: list[dict[str, Any]] = []
    failures: list[pa.Table] = [job.plan.rejects]
    stored_of_file = np.zeros(job.plan.files.num_rows, np.int64)
    files = _prepared(job)
    entries = {}
    with _ParquetFile(job.cache / "frames" / "0.parquet", FRAMES_TABLE) as out:
        for task in job.tasks:
            receipt = ledger.settle(job, task)
            if receipt is None:
                spec = job.plan.arrays[task.array]
                raise Unfinished(
                    f"{job.cache}: shard {task.shard} of {spec.name} is not converted; run "
                    f"`dicom2cache convert {job.cache}` first"
                )
            rows = job.plan.frames.slice(task.start, task.stop - task.start)
            ok = receipt.results["reason"].is_null()
            kept = rows.filter(ok)
            table = _frame_rows(files, kept, receipt.results.filter(ok))
            out.write(table)
            totals[task.array].add(table, job.plan.arrays[task.array].slot[2:])
            failures.append(_frame_failures(files, rows, receipt.results))
            np.add.at(stored_of_file, ints(kept["file"], 0), 1)
            shards.append(_shard_row(task, receipt))
    entries["frames"] = [out.entry(job.cache)]
    failed = pa.concat_tables(failures).sort_by(
        [("root", "ascending"), ("path", "ascending"), ("frame", "ascending")]
    )
    for name, table in (
        ("failures", failed),
        ("shards", pa.Table.from_pylist(shards, SHARDS_TABLE)),
    ):
        with _ParquetFile(job.cache / name / "0.parquet", table.schema) as out:
            out.write(table)
        entries[name] = [out.entry(job.cache)]
    arrays = []
    for spec, total in zip(job.plan.arrays, totals, strict=True):
        data = array_metadata(spec)
        write_durably(job.cache / spec.name / ROOT, data)
        arrays.append(
            {
                "name": spec.name,
                "dtype": spec.dtype,
                "slot": list(spec.slot),
                "slots": spec.slots,
                "frames": total.frames,
                "frames_per_shard": spec.frames_per_shard,
                "codec": job.recipe.codec,
                "statistics": total.summary(),
                "metadata": _entry(f"{spec.name}/{ROOT}", data),
            }
        )
    attributes = {
        "format": FORMAT_VERSION,
        "generation": 0,
        "arrays": arrays,
        "tables": entries,
        "sources": [{"root": k, "path": path} for k, path in enumerate(job.roots)],
        "counts": _counts(job, stored_of_file, failed),
        "recipe": job.recipe.to_dict(),
        **job.facts,
    }
    data = root_metadata(attributes)
    write_durably(job.cache / ROOT, data)
    ledger.compact(job.cache)
    return attributes


def _entry(path: str, data: bytes) -> dict[str, Any]:
    return {"path": path, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


class _ParquetFile:
    """A Parquet table written in row groups of about 100,000, durably, with its file entry."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.schema = path, schema
        self._temporary = path.with_name(f".{path.name}")
        self._writer = pq.ParquetWriter(self._temporary, schema, compression="zstd")
        self._waiting: list[pa.Table] = []
        self._rows = 0

    def write(self, table: pa.Table) -> None:
        self._waiting.append(table)
        while sum(t.num_rows for t in self._waiting) >= _ROW_GROUP:
            whole = pa.concat_tables(self._waiting)
            self._flush(whole.slice(0, _ROW_GROUP))
            self._waiting = [whole.slice(_ROW_GROUP)]

    def _flush(self, table: pa.Table) -> None:
        self._writer.write_table(table, row_group_size=_ROW_GROUP)
        self._rows += table.num_rows

    def __enter__(self) -> _ParquetFile:
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        if kind is None and self._waiting:
            self._flush(pa.concat_tables(self._waiting))
        self._writer.close()
        if kind is not None:
            self._temporary.unlink(missing_ok=True)
            return
        with open(self._temporary, "rb+") as file:
            import os

            os.fsync(file.fileno())
        self._temporary.replace(self.path)
        from dicom2cache.shards import sync_folder

        sync_folder(self.path.parent)

    def entry(self, cache: Path) -> dict[str, Any]:
        digest = hashlib.sha256()
        with open(self.path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return {
            "path": self.path.relative_to(cache).as_posix(),
            "bytes": self.path.stat().st_size,
            "sha256": digest.hexdigest(),
            "rows": self._rows,
        }


def _prepared(job: Job) -> pa.Table:
    """The plan's files with the columns of frames/ that follow from them."""
    files = job.plan.files
    grey = pc.and_(pc.equal(files["samples"], 1), pc.is_null(files["palette_bits"]))
    polarity = pc.if_else(files["inverted"].fill_null(False), "inverted", "normal")
    files = files.append_column("polarity", pc.if_else(grey, polarity, None))
    return files.append_column("padding", pa.array(_padding(files), from_pandas=True))


def _padding(files: pa.Table) -> Any:
    """Least stored value of padding, wrapped into BitsAllocated; NaN where none is declared."""
    value, limit = floats(files["padding_value"]), floats(files["padding_limit"])
    span = 2.0 ** ints(files["bits_allocated"], 16)
    signed = files["signed"].to_numpy(zero_copy_only=False).astype(bool)

    def wrap(v: Any) -> Any:
        v = np.mod(v, span)
        return np.where(signed & (v >= span / 2), v - span, v)

    return np.fmin(wrap(value), np.where(np.isnan(limit), np.nan, wrap(limit)))


def _frame_rows(files: pa.Table, frames: pa.Table, results: pa.Table) -> pa.Table:
    own = files.take(frames["file"])
    columns = {}
    slope, intercept = floats(frames["slope"]), floats(frames["intercept"])
    padding = floats(own["padding"]) * slope + intercept
    lut = pc.is_valid(own["lut_low"])
    for field in FRAMES_TABLE:
        if field.name == "padding_value":
            column = pc.if_else(lut, None, pa.array(padding, from_pandas=True))
        elif field.name in ("slope", "intercept"):
            column = pc.if_else(lut, None, frames[field.name])
        elif field.name == "flags":
            column = _joined(own["flags"], results["flags"])
        elif field.name in results.schema.names:
            column = results[field.name]
        elif field.name in FRAMES.names:
            column = frames[field.name]
        elif field.name == "unit":
            column = pc.if_else(pc.is_valid(own["polarity"]), own["unit"], None)
        else:
            column = own[field.name]
        columns[field.name] = column.cast(field.type)
    return pa.table(columns, FRAMES_TABLE)


def _joined(first: Any, second: Any) -> Any:
    if first.null_count == len(first) and second.null_count == len(second):
        return pa.nulls(len(first), pa.list_(pa.string()))
    both = zip(first.to_pylist(), second.to_pylist(), strict=True)
    return pa.array([[*(a or []), *(b or [])] or None for a, b in both], pa.list_(pa.string()))


def _frame_failures(files: pa.Table, frames: pa.Table, results: pa.Table) -> pa.Table:
    bad = results["reason"].is_valid()
    rows = frames.filter(bad)
    own = files.take(rows["file"])
    n = rows.num_rows
    return pa.table(
        {
            "root": own["root"],
            "path": own["path"],
            "frame": rows["frame"],
            "outcome": pa.array(["failed"] * n, pa.string()),
            "stage": pa.array(["decode"] * n, pa.string()),
            "reason": results["reason"].filter(bad),
        },
        REJECTS,
    )


def _shard_row(task: ShardTask, receipt: Receipt) -> dict[str, Any]:
    return {
        "array": task.array,
        "shard": task.shard,
        "bytes": receipt.bytes,
        "index_crc32c": receipt.index_crc32c,
        "frames": receipt.results["reason"].null_count,
        "slots": task.stop - task.start,
    }


def _counts(job: Job, stored_of_file: Any, failed: pa.Table) -> dict[str, int]:
    outcomes = Counter(job.plan.rejects["outcome"].to_pylist())
    lost = int((stored_of_file == 0).sum())
    names = {
        "files_no_pixels": "no-pixels", "files_not_dicom": "not-dicom",
        "files_duplicate": "duplicate", "files_excluded": "excluded",
    }  # fmt: skip
    counts = {key: outcomes[outcome] for key, outcome in names.items()}
    counts["files_stored"] = int((stored_of_file > 0).sum())
    counts["files_failed"] = outcomes["failed"] + lost
    whole = {"files": sum(counts.values()), **counts}
    whole["frames_stored"] = int(stored_of_file.sum())
    whole["frames_failed"] = int(pc.sum(failed["frame"].is_valid()).as_py() or 0)
    return whole


@dataclass
class _Totals:
    """Pooled statistics of an array, in row order, so that sums do not depend on who converted."""

    frames: int = 0
    count: float = 0.0
    low: float = np.inf
    high: float = -np.inf
    total: float = 0.0
    squares: float = 0.0

    def add(self, table: pa.Table, channels: tuple[int, ...]) -> None:
        self.frames += table.num_rows
        pixels = floats(table["height"]) * floats(table["width"]) * (channels or (1,))[0]
        n = np.rint(pixels * (1 - np.nan_to_num(floats(table["padding_fraction"]))))
        low, high, mean, std = (floats(table[c]) for c in _STATISTICS)
        has = ~np.isnan(mean)
        if not has.any():
            return
        n, mean, std = n[has], mean[has], std[has]
        self.count += float(n.sum())
        self.low = min(self.low, float(low[has].min()))
        self.high = max(self.high, float(high[has].max()))
        self.total += float((n * mean).sum())
        self.squares += float((n * (std**2 + mean**2)).sum())

    def summary(self) -> dict[str, Any]:
        if not self.count:
            return {"count": 0, **dict.fromkeys(_STATISTICS)}
        mean = self.total / self.count
        variance = max(0.0, self.squares / self.count - mean * mean)
        return {
            "count": int(self.count),
            "min": self.low,
            "max": self.high,
            "mean": mean,
            "std": float(np.sqrt(variance)),
        }
