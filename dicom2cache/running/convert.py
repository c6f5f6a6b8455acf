"""One task to one receipt: what a worker runs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dicom2cache.arrow import rows_of
from dicom2cache.errors import Unfinished, is_environment, reason_of
from dicom2cache.frames import decode
from dicom2cache.frames.decode import OpenSources, Source, Stored
from dicom2cache.frames.isolate import IsolatedReader
from dicom2cache.frames.treat import FRAME_COLUMNS, Values, to_values
from dicom2cache.pixels.statistics import statistics
from dicom2cache.records import ShardTask
from dicom2cache.running import choices, receipts
from dicom2cache.running.job import Job, is_planned, load_job
from dicom2cache.schema import RESULTS
from dicom2cache.sources import mounts
from dicom2cache.store.shards import ShardWriter

Read = decode.Read


@dataclass(frozen=True)
class Done:
    """What a task came to, for progress and for the decision to go on."""

    name: str
    """of the task"""
    frames: int
    failed: int
    """frames that are not stored"""
    seconds: float
    first_failure: str | None = None
    environment: str | None = None
    """why the machine could not; the task is still open then"""


def convert_task(cache: str, nonce: str, task: ShardTask, isolated: bool = False) -> Done:
    """Convert one shard of the plan of this nonce in `cache` and publish its receipt.

    `isolated`: frames are decoded in a child process, so that one it dies of costs itself only.
    Raises Unfinished if that plan is no longer there.
    """
    with _while_planned(Path(cache), nonce):
        job = load_job(Path(cache))
        if job.nonce != nonce:
            raise Unfinished("another plan")
        return _convert(job, task, isolated)


def _convert(job: Job, task: ShardTask, isolated: bool) -> Done:
    start, count = time.perf_counter(), task.stop - task.start
    if not receipts.is_done(job, task):
        claim = receipts.claim(job, task)
        try:
            if isolated:
                with IsolatedReader() as read:
                    write_shard(job, task, read)
            else:
                write_shard(job, task, Source.read)
        except Exception as e:
            if is_environment(e):
                why = f"{type(e).__name__}: {e}"
                return Done(task.name, count, 0, time.perf_counter() - start, None, why)
            raise
        finally:  # one that stays says that the process died
            claim.unlink(missing_ok=True)
    receipt = receipts.settle(job, task)
    if receipt is None:
        if not is_planned(job.cache, job.nonce):
            raise Unfinished("committed by another run")
        why = "somebody has removed what was written of a shard"
        return Done(task.name, count, 0, time.perf_counter() - start, None, why)
    reasons = receipt.results["reason"].drop_null().to_pylist()
    first = _first_failure(job, task, receipt.results) if reasons else None
    return Done(task.name, count, len(reasons), time.perf_counter() - start, first)


@contextmanager
def _while_planned(cache: Path, nonce: str) -> Iterator[None]:
    """What fails because the plan is not there any more is told as that."""
    try:
        yield
    except Exception as e:
        if is_planned(cache, nonce):
            raise
        raise Unfinished(
            f"{cache}: another process has replaced the plan of this run, or has committed it"
        ) from e


def _first_failure(job: Job, task: ShardTask, results: pa.Table) -> str:
    for k, reason in enumerate(results["reason"].to_pylist()):
        if reason is not None:
            row = job.plan.frames.slice(task.start + k, 1).to_pylist()[0]
            file = job.plan.files.slice(row["file"], 1).select(["root", "path"]).to_pylist()[0]
            path = os.path.join(job.roots[file["root"]], file["path"])
            return f"{path}, frame {row['frame']}: {reason}"
    raise AssertionError("no failure")


def write_shard(job: Job, task: ShardTask, read: Read) -> None:
    """Decode the task's frames into an attempt and publish it."""
    spec = choices.settled(job, task.array, read)
    rows = job.plan.frames.slice(task.start, task.stop - task.start).select(FRAME_COLUMNS)
    rows = rows.to_pylist()
    treatments = job.recipe.treatments
    needed = sorted({row["file"] for row in rows})
    headers = dict(zip(needed, rows_of(job.plan.files, needed).to_pylist(), strict=True))
    attempt = receipts.new_attempt(job, task)
    results: list[dict[str, Any]] = []
    sources = OpenSources(job.roots, headers)
    with ShardWriter(attempt, spec) as writer:
        try:
            for row in rows:
                try:
                    source = sources.open(row["file"])
                    source.room = writer.room()
                    stored = read(source, row["frame"])
                    source.check_unchanged()
                    limits = choices.limits_of(job, row, source.header, read)
                    made = to_values(
                        stored, row, source, treatments, spec.dtype, limits.ends if limits else None
                    )
                    if limits is not None:
                        limits.check()
                except Exception as e:
                    header = headers[row["file"]]
                    mounts.raise_environment(e, job.roots[header["root"]], header["path"])
                    writer.missing()
                    results.append({"reason": reason_of(e)})
                    continue
                said = _result(stored, made)
                said["crc32c"] = writer.frame(np.ascontiguousarray(made.pixels))
                results.append(said)
        finally:
            sources.close()
        size, checksum = writer.finish()
    table = pa.Table.from_pylist(results, RESULTS)
    receipts.publish(job, task, attempt, size, checksum, spec.codec, table)


def _result(stored: Stored, made: Values) -> dict[str, Any]:
    found = statistics(made.pixels, made.padding, made.ends)
    return {
        "codec": stored.codec,
        "window_low": made.window_low,
        "window_high": made.window_high,
        "padding_fraction": found.padding_fraction,
        "min": found.min,
        "max": found.max,
        "mean": found.mean,
        "std": found.std,
        **dict(zip(("p0_5", "p1", "p50", "p99", "p99_5"), found.percentiles, strict=True)),
        "flags": list(stored.flags) or None,
    }
