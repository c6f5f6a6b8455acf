"""Receipts to tables and root metadata: what makes a folder of shards a cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dicom2cache.arrow import ints, tally
from dicom2cache.errors import Unfinished
from dicom2cache.privacy.mapping import write_mapping
from dicom2cache.privacy.veil import Veil
from dicom2cache.records import ShardTask
from dicom2cache.running import receipts
from dicom2cache.running.entries import ROW_GROUP, ParquetFile, entry_of
from dicom2cache.running.job import Job, scratch, tidy
from dicom2cache.running.receipts import Receipt
from dicom2cache.running.tables import Totals, frame_failures, frame_rows, in_order, prepared
from dicom2cache.schema import FRAMES_TABLE, SHARDS_TABLE
from dicom2cache.store import spare
from dicom2cache.store.durable import make_folder, write_durably
from dicom2cache.store.layout import FORMAT_VERSION, ROOT, array_metadata, root_metadata


def commit(job: Job, veil: Veil | None = None, mapping: Path | None = None) -> dict[str, Any]:
    """Write tables, array metadata, the second copies and, last, the root; the root's attributes.

    `veil`: what a de-identified cache says; `mapping`: where what it has seen is written. Raises
    Unfinished, naming a shard, while one is not converted.
    """
    for folder in ("frames", "failures", "shards"):
        make_folder(job.cache / folder)
    unfinished = scratch(job)
    totals = [Totals() for _ in job.plan.arrays]
    shards: list[dict[str, Any]] = []
    codecs: list[str | None] = [None] * len(totals)
    failures: list[pa.Table] = [job.plan.rejects]
    stored_of_file = np.zeros(job.plan.files.num_rows, np.int64)
    files = prepared(job.plan.files, job.recipe)
    entries = {}
    with ParquetFile(job.cache / "frames" / "0.parquet", FRAMES_TABLE, unfinished) as out:
        for rows, results in _batches(job, shards, codecs):
            ok = results["reason"].is_null()
            kept = rows.filter(ok)
            table = frame_rows(files, kept, results.filter(ok), job.plan.arrays)
            table = veil.frames(table) if veil else table
            out.write(table)
            # Arrays follow one another: parts of the table, and no copies of it for each.
            numbers, starts = np.unique(ints(table["array"], 0), return_index=True)
            for number, mine in zip(numbers.tolist(), _cut(table, starts), strict=True):
                totals[number].add(mine, job.plan.arrays[number].slot[2:])
            failures.append(frame_failures(files, rows, results))
            np.add.at(stored_of_file, ints(kept["file"], 0), 1)
    entries["frames"] = [out.entry(job.cache)]
    failed = in_order(pa.concat_tables(failures))
    failed = in_order(veil.failures(failed)) if veil else failed
    for name, table in (
        ("failures", failed),
        ("shards", pa.Table.from_pylist(shards, SHARDS_TABLE)),
    ):
        with ParquetFile(job.cache / name / "0.parquet", table.schema, unfinished) as out:
            out.write(table)
        entries[name] = [out.entry(job.cache)]
    arrays, metadata = [], {}
    for plan_spec, codec, total in zip(job.plan.arrays, codecs, totals, strict=True):
        spec = replace(plan_spec, codec=codec or "none")
        data = metadata[spec.name] = array_metadata(spec)
        write_durably(job.cache / spec.name / ROOT, data, unfinished)
        arrays.append(
            {
                "name": spec.name,
                "dtype": spec.dtype,
                "slot": list(spec.slot),
                "slots": spec.slots,
                "frames": total.frames,
                "frames_per_shard": spec.frames_per_shard,
                "codec": spec.codec,
                "statistics": total.summary(),
                "metadata": entry_of(f"{spec.name}/{ROOT}", data),
            }
        )
    roots = veil.sources(job.roots) if veil else job.roots
    attributes = {
        "format": FORMAT_VERSION,
        "generation": 0,
        "identity": job.identity.partition(":")[0],
        "arrays": arrays,
        "tables": entries,
        "sources": [{"root": k, "path": path} for k, path in enumerate(roots)],
        "counts": _counts(job, stored_of_file, failed),
        "recipe": job.recipe.to_dict(),
        **job.facts,
    }
    if veil and veil.seen is not None and mapping:
        write_mapping(mapping, veil.seen)
    data = root_metadata(attributes, metadata)
    spare.keep(job.cache, attributes, data, job.identity.partition(":")[2], unfinished)
    write_durably(job.cache / ROOT, data, unfinished)
    tidy(job.cache)
    return attributes


def _cut(table: pa.Table, starts: Any) -> Iterator[pa.Table]:
    """Parts of the table that begin at these rows."""
    for start, stop in pairwise([*map(int, starts), table.num_rows]):  # none of an empty table
        yield table.slice(start, stop - start)


def _batches(
    job: Job, shards: list[dict[str, Any]], codecs: list[str | None]
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """(rows of the plan, what became of them), about a row group at a time.

    Adds rows of shards/ to `shards`, and sets the codec of each array in `codecs`.
    """
    start = stop = 0
    waiting: list[pa.Table] = []
    for task in job.tasks:
        receipt = receipts.settle(job, task)
        if receipt is None:
            spec = job.plan.arrays[task.array]
            raise Unfinished(
                f"{job.cache}: shard {task.shard} of {spec.name} is not converted; run "
                f"`dicom2cache convert {job.cache}` first"
            )
        if codecs[task.array] not in (None, receipt.codec):  # nodes with other versions of Blosc
            spec = job.plan.arrays[task.array]
            raise Unfinished(
                f"{job.cache}: shards of {spec.name} are compressed by {codecs[task.array]} and by "
                f"{receipt.codec}; build again with --overwrite and one codec"
            )
        codecs[task.array] = receipt.codec
        shards.append(_shard_row(task, receipt))
        waiting.append(receipt.results.replace_schema_metadata(None))
        stop = task.stop
        if stop - start >= ROW_GROUP:
            yield job.plan.frames.slice(start, stop - start), pa.concat_tables(waiting)
            start, waiting = stop, []
    if waiting:
        yield job.plan.frames.slice(start, stop - start), pa.concat_tables(waiting)


def _shard_row(task: ShardTask, receipt: Receipt) -> dict[str, Any]:
    return {
        "array": task.array,
        "shard": task.shard,
        "bytes": receipt.bytes,
        "index_crc32c": receipt.index_crc32c,
        "chunks_crc32c": receipt.chunks_crc32c,
        "frames": receipt.results["reason"].null_count,
        "slots": task.stop - task.start,
    }


def _counts(job: Job, stored_of_file: Any, failed: pa.Table) -> dict[str, int]:
    outcomes = tally(job.plan.rejects["outcome"])
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
    whole["frames_limited"] = int(pc.sum(pc.equal(failed["stage"], "limit")).as_py() or 0)
    return whole
