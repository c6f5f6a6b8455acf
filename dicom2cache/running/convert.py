"""One task to one receipt: what a worker runs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from dicom2cache.errors import (
    Dicom2cacheError,
    Fault,
    Unfinished,
    disk_error,
    is_environment,
    what_failed,
)
from dicom2cache.frames.chunk import chunk_of_frame
from dicom2cache.records import FrameRow, ShardTask
from dicom2cache.running import choices, claims, holders, receipts
from dicom2cache.running.await_job import await_job
from dicom2cache.running.each_frame import Failure, Step, Worker
from dicom2cache.running.job import Job, is_planned
from dicom2cache.running.plan_rows import frames_of, headers_of
from dicom2cache.schema import RESULTS
from dicom2cache.store.shards import Chunk, ShardWriter


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
    faults: tuple[Fault, ...] = ()
    """errors of our own that cost frames"""
    elsewhere: bool = False
    """another process works on it; the task is still open then"""
    twice: bool = False
    """another process did it meanwhile too"""


def convert_task(
    cache: str,
    nonce: str,
    task: ShardTask,
    isolated: bool = False,
    run: str = "",
    over: str | None = None,
    abreast: int = 1,
) -> Done:
    """Convert one shard of the plan of this nonce in `cache` and publish its receipt.

    `isolated`: a child process works on the frames, so that one it dies of costs itself only. `run`
    and `over` are of `claims.take`; `abreast` is how many frames are decoded at once. Raises
    Unfinished if that plan is no longer there.
    """
    with _while_planned(Path(cache), nonce):
        job = await_job(Path(cache))
        if job.nonce != nonce:
            raise Unfinished("another plan")
        worker = Worker(isolated, job.recipe.limits, abreast=abreast)
        return _convert(job, task, worker, run, over)


def _convert(job: Job, task: ShardTask, worker: Worker, run: str, over: str | None) -> Done:
    start, count = time.perf_counter(), task.stop - task.start
    first = True
    if not receipts.is_done(job, task):
        claim = claims.take(job, task, run, over)
        if claim is None:
            return Done(task.name, count, 0, time.perf_counter() - start, elsewhere=True)
        try:
            worker.isolated |= claim.left_behind
            with claim, worker:
                first = write_shard(job, task, worker)
        except Exception as e:
            if is_environment(e):
                why = f"{type(e).__name__}: {e}"
                if isinstance(e, OSError) and not isinstance(e, Dicom2cacheError):
                    why = what_failed(disk_error(e, job.cache))
                return Done(task.name, count, 0, time.perf_counter() - start, None, why)
            raise
    receipt = receipts.settle(job, task)
    if receipt is None:
        if not is_planned(job.cache, job.nonce):
            raise Unfinished("committed by another run")
        why = "somebody has removed what was written of a shard"
        return Done(task.name, count, 0, time.perf_counter() - start, None, why)
    reasons = receipt.results["reason"].drop_null().to_pylist()
    said = _first_failure(job, task, receipt.results) if reasons else None
    seconds = time.perf_counter() - start
    return Done(
        task.name, count, len(reasons), seconds, said, faults=tuple(worker.faults), twice=not first
    )


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
            f"{holders.said(cache)}"
        ) from e


def _first_failure(job: Job, task: ShardTask, results: pa.Table) -> str:
    for k, reason in enumerate(results["reason"].to_pylist()):
        if reason is not None:
            row = job.plan.frames.slice(task.start + k, 1).to_pylist()[0]
            file = job.plan.files.slice(row["file"], 1).select(["root", "path"]).to_pylist()[0]
            path = os.path.join(job.roots[file["root"]], file["path"])
            return f"{path}, frame {row['frame']}: {reason}"
    raise AssertionError("no failure")


def write_shard(job: Job, task: ShardTask, worker: Worker) -> bool:
    """Decode the task's frames into an attempt and publish it; False if another was first."""
    spec = choices.settled(job, task.array, worker)
    rows = frames_of(job, range(task.start, task.stop))
    headers = headers_of(job, rows)
    attempt = receipts.new_attempt(job, task)
    results: list[dict[str, Any]] = []
    treatments = job.recipe.treatments

    def step_of(row: FrameRow) -> Step[tuple[Chunk, dict[str, Any]]]:
        limits = choices.limits_of(job, row, headers[row["file"]], worker)
        return partial(chunk_of_frame, treatments=treatments, spec=spec, limits=limits)

    with ShardWriter(attempt, spec) as writer, worker.frames(job.roots, headers) as frames:
        for _, found in frames.each(rows, step_of, writer.room):
            if isinstance(found, Failure):
                writer.missing()
                results.append({"reason": found.reason, "stage": found.stage})
            else:
                chunk, result = found
                writer.frame(chunk)
                results.append(result)
        size, checksum = writer.finish()
    table = pa.Table.from_pylist(results, RESULTS)
    return receipts.publish(
        job, task, attempt, size, checksum, writer.chunks_crc32c, spec.codec, table
    )
