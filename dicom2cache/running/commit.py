"""Receipts to tables and root metadata: what makes a folder of shards a cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dicom2cache.arrow import ints, mask_of, tally
from dicom2cache.errors import Unfinished
from dicom2cache.privacy.mapping import read_mapping, write_mapping
from dicom2cache.privacy.veil import Veil
from dicom2cache.recipes.columns import own_of
from dicom2cache.records import ArraySpec, ShardTask
from dicom2cache.running import claims, contours, receipts
from dicom2cache.running.entries import ROW_GROUP, ParquetFile, array_entry
from dicom2cache.running.job import Job, scratch
from dicom2cache.running.own import schema_with
from dicom2cache.running.receipts import Receipt
from dicom2cache.running.remains import tidy
from dicom2cache.running.remove.kept import conformed, counts_of
from dicom2cache.running.remove.numbering import Kept
from dicom2cache.running.remove.withheld import KIND
from dicom2cache.running.tables import Totals, frame_failures, frame_rows, in_order, prepared
from dicom2cache.schema import SHARDS_TABLE
from dicom2cache.store import seen, spare
from dicom2cache.store.committed import read_table, void_failures, whole_root
from dicom2cache.store.durable import make_folder, write_durably
from dicom2cache.store.layout import (
    FORMAT_VERSION,
    ROOT,
    array_metadata,
    lengthened,
    root_metadata,
)


def commit(job: Job, veil: Veil | None = None, mapping: Path | None = None) -> dict[str, Any]:
    """Write tables, array metadata, the second copies and, last, the root; the root's attributes.

    An update adds a generation to a cache; what is there stays as it is, but for the root and the
    lengths of arrays. One that leaves out what is there begins a new numbering, whose tables have
    all that counts. `veil`: what a de-identified cache says; `mapping`: where what it has seen is
    written. Raises Unfinished, naming a shard, while one is not converted, or if the cache is not
    the one any more that an update adds to.
    """
    before = _before(job)
    if job.written is not None:
        job.written.check_all()
    generation = 0 if before is None else before["generation"] + 1
    name_of = f"{generation}.parquet"
    known = before["arrays"] if before else []
    for folder in ("frames", "failures", "shards"):
        make_folder(job.cache / folder)
    unfinished = scratch(job)
    added = len(job.plan.arrays) - len(known)
    anew = Kept(job, before) if before is not None and job.gone is not None else None
    totals = [
        *(Totals() if anew else Totals.of(about) for about in known),
        *(Totals() for _ in range(added)),
    ]
    shards: list[dict[str, Any]] = []
    codecs: list[str | None] = [*(a["codec"] for a in known), *[None] * added]
    failures: list[pa.Table] = [job.plan.rejects]
    stored_of_file = np.zeros(job.plan.files.num_rows, np.int64)
    files = prepared(job.plan.files, job.recipe)
    classes = {name for name, _ in job.recipe.rois}
    entries = {}
    mine = own_of(job.recipe.columns)
    schema = anew.schema if anew else schema_with(mine)
    with ParquetFile(job.cache / "frames" / name_of, schema, unfinished) as out:
        for table in anew.frames() if anew else ():
            out.write(table)
            _add(totals, table, job.plan.arrays)
        for rows, results in _batches(job, shards, codecs):
            ok = results["reason"].is_null()
            kept = rows.filter(ok)
            table = frame_rows(
                files, kept, results.filter(ok), job.plan.arrays, job.recipe.rois, mine
            )
            table = veil.frames(table, classes) if veil else table
            out.write(conformed(table, schema) if anew else table)
            _add(totals, table, job.plan.arrays)
            failures.append(frame_failures(files, rows, results))
            np.add.at(stored_of_file, ints(kept["file"], 0), 1)
    entries["frames"] = [out.entry(job.cache)]
    drawn = contours.groups(job.plan.contours)
    drawn = map(veil.contours, drawn) if veil else drawn
    own = contours.write(job.cache, name_of, chain(anew.contours() if anew else (), drawn),
                         unfinished)  # fmt: skip
    entries |= {contours.KIND: own} if own else {}
    failed = in_order(pa.concat_tables(failures))
    failed = in_order(veil.failures(failed)) if veil else failed
    new_failed = failed
    if anew:
        shards = sorted([*anew.shards(unfinished), *shards], key=lambda r: (r["array"], r["shard"]))
        failed = in_order(pa.concat_tables([anew.failures(), failed], promote_options="permissive"))
    for name, table in (
        ("failures", failed),
        ("shards", pa.Table.from_pylist(shards, SHARDS_TABLE)),
    ):
        with ParquetFile(job.cache / name / name_of, table.schema, unfinished) as out:
            out.write(table)
        entries[name] = [out.entry(job.cache)]
    if anew and job.removed.num_rows:
        entries[KIND] = [anew.removed(name_of, unfinished)]
    arrays, metadata = [], {}
    for number, (plan_spec, codec, total) in enumerate(
        zip(job.plan.arrays, codecs, totals, strict=True)
    ):
        spec = replace(
            plan_spec, codec=codec or "none", slots=_length(plan_spec, known, number, anew)
        )
        data = metadata[spec.name] = _metadata(job, spec, known, number)
        arrays.append(array_entry(spec, total, data))
    old: dict[str, Any] = before or {"tables": {}, "sources": [], "counts": {}}
    first = max((s["root"] for s in old["sources"]), default=-1) + 1
    roots = {k: path for k, path in enumerate(job.roots) if k >= first and path}
    shown = veil.sources(list(roots.values())) if veil else list(roots.values())
    there = [{**s, "path": _moved(job, s, veil)} for s in old["sources"]]
    here = zip(roots, shown, strict=True)
    counts = _counts(job, stored_of_file, new_failed)
    tables = {**old["tables"]}
    if anew:
        tables.pop(contours.KIND, None)  # there may be none left
    tables |= {k: e if anew else [*tables.get(k, ()), *e] for k, e in entries.items()}
    counts = {k: old["counts"].get(k, 0) + n for k, n in counts.items()}
    if before and not anew:
        counts = _without_void(job.cache, tables, counts)
    attributes = {
        **{k: v for k, v in old.items() if k != "sha256"},  # what a later version adds stays
        "format": FORMAT_VERSION,
        "generation": generation,
        "identity": job.identity.partition(":")[0],
        "arrays": arrays,
        "tables": tables,
        "sources": [*there, *({"root": k, "path": path} for k, path in here)],
        "counts": counts,
        "recipe": job.recipe.to_dict(),
        **job.facts,
    }
    seen_files = _seen(job, before)
    if anew:
        attributes |= anew.attributes(attributes)
        seen_files = anew.seen(attributes, seen_files)
        anew.keep_root(unfinished)
    if veil and veil.seen is not None and mapping:
        known = read_mapping(mapping) if before and mapping.exists() else {}
        write_mapping(mapping, known | veil.seen)
    data = root_metadata(attributes, metadata)
    times = job.identity.partition(":")[2]
    there = [e for tables in old["tables"].values() for e in tables]
    spare.keep(job.cache, attributes, data, times, seen_files, unfinished, there)
    write_durably(job.cache / ROOT, data, unfinished)
    tidy(job.cache)
    return attributes


def _moved(job: Job, source: dict[str, Any], veil: Veil | None) -> str:
    """Where a source folder of the cache is by now, as its root is to say it."""
    now: str = job.roots[source["root"]]
    if veil is None or now == source["path"]:  # or it was not looked at
        return now
    (hashed,) = veil.sources([now])
    return hashed


def _before(job: Job) -> dict[str, Any] | None:
    """The attributes of the root that an update adds to; None for a new cache."""
    if job.onto is None:
        return None
    found = whole_root(job.cache)
    if found is None or found["sha256"] != job.onto:
        raise Unfinished(f"{job.cache}: another process has added files to it meanwhile")
    return found


def _length(spec: ArraySpec, known: list[dict[str, Any]], number: int, anew: Kept | None) -> int:
    """The array's length: an array that does not grow keeps its own."""
    if anew and number < len(known) and (slots := anew.places.slots(number)):
        return slots
    if number < len(known) and not spec.slots:
        return int(known[number]["slots"])
    return spec.first_row + spec.slots


def _add(totals: list[Totals], table: pa.Table, arrays: Sequence[ArraySpec]) -> None:
    """Add rows of frames/ to the totals of their arrays."""
    array = ints(table["array"], 0)
    numbers, starts = np.unique(array, return_index=True)
    if (np.diff(array) >= 0).all():  # arrays follow one another: parts of the table, no copies
        parts = _cut(table, starts)
    else:
        parts = (table.filter(pa.array(array == number)) for number in numbers)
    for number, mine in zip(numbers.tolist(), parts, strict=True):
        totals[number].add(mine, arrays[number].slot[2:])


def _metadata(job: Job, spec: ArraySpec, known: list[dict[str, Any]], number: int) -> bytes:
    """Write the array's zarr.json, if it is not there yet; its bytes."""
    path = job.cache / spec.name / ROOT
    if number >= len(known):
        data = array_metadata(spec)
        write_durably(path, data, scratch(job))
        return data
    there = path.read_bytes()
    data = lengthened(there, spec.slots)
    if data != there:
        write_durably(path, data, scratch(job))
    return data


def _seen(job: Job, before: dict[str, Any] | None) -> pa.Table:
    """What all source files were like when they were seen; of known ones, where that is known."""
    if before is None:
        return job.seen
    known = seen.read(job.cache)
    if known is None:
        return job.seen
    both = pa.concat_tables([known, job.seen])  # what was killed before it ended has written both
    once = both.group_by(["root", "path"], use_threads=False).aggregate([("state", "last")])
    return once.rename_columns(seen.TABLE.names)


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
        if receipt is None and task.name not in claims.holders(job):
            receipt = receipts.awaited(job, task)
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


def _without_void(cache: Path, tables: dict[str, Any], counts: dict[str, int]) -> dict[str, int]:
    """The counts of a cache that grew, each file once: as its last generation has it."""
    void = void_failures(cache, {"tables": tables})
    if not void.any():
        return counts
    frames, drawn = (
        read_table(cache, {"tables": tables}, kind, ["root", "path"])
        for kind in ("frames", contours.KIND)
    )
    failures = read_table(cache, {"tables": tables}, "failures").filter(pa.array(~void))
    return counts | counts_of(frames, failures, drawn)


def _counts(job: Job, stored_of_file: Any, failed: pa.Table) -> dict[str, int]:
    drawn = contours.files_of(job.plan.contours)
    files = mask_of(job.plan.rejects["frame"].is_null())  # others are frames of planned files
    files &= ~contours.among(job.plan.rejects, drawn)
    outcomes = tally(job.plan.rejects["outcome"].filter(pa.array(files)))
    drawn_too = contours.among(job.plan.files, drawn)
    is_stored = (stored_of_file > 0) | drawn_too
    lost = int((~is_stored).sum())
    names = {
        "files_no_pixels": "no-pixels", "files_not_dicom": "not-dicom",
        "files_duplicate": "duplicate", "files_excluded": "excluded",
    }  # fmt: skip
    counts = {key: outcomes[outcome] for key, outcome in names.items()}
    counts["files_stored"] = int(is_stored.sum()) + drawn.num_rows - int(drawn_too.sum())
    counts["files_failed"] = outcomes["failed"] + lost
    whole = {"files": sum(counts.values()), **counts}
    whole["frames_stored"] = int(stored_of_file.sum())
    whole["frames_failed"] = int(pc.sum(failed["frame"].is_valid()).as_py() or 0)
    whole["frames_limited"] = int(pc.sum(pc.equal(failed["stage"], "limit")).as_py() or 0)
    return whole
