"""Map work over processes by joblib: header reading, and tasks with retries and isolation."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dicom2cache import backlog, ledger, mounts, receipts, versions
from dicom2cache.columns import canonical, rows_of
from dicom2cache.convert import Done, convert_task, pixel_digest
from dicom2cache.errors import FrameError, Unfinished
from dicom2cache.headers import read_headers
from dicom2cache.isolate import IsolatedReader
from dicom2cache.ledger import Job
from dicom2cache.progress import Progress, Work, phase
from dicom2cache.records import FILES, REJECTS, Candidate, ShardTask
from dicom2cache.workers import while_parent_lives

BACKENDS = ("loky", "threading", "dask")
_HEADERS_AT_ONCE = 256
_TRIES = 3
_PAUSE = 1.0  # seconds before an environment failure is tried again; doubled each time

Seen = Callable[[Done], None]

_STARTING = 0.5  # seconds that worker processes take to start and to import what they need
_starting: list[Iterator[Any]] = []


@contextmanager
def workers_starting(jobs: int, backend: str) -> Iterator[None]:
    """Have the worker processes start, and import what they need, while the block runs."""
    from joblib import Parallel, delayed

    if backend == "loky" and jobs > 1:
        ready = Parallel(jobs, return_as="generator_unordered", batch_size=1)
        call = delayed(while_parent_lives)(os.getpid(), _ready, (), {})
        _starting.append(ready(call for _ in range(jobs)))
    try:
        yield
    finally:
        _await_workers()


def _ready() -> None:
    """What a worker does first: all that it needs is imported by then."""


def _await_workers() -> None:
    from joblib.externals.loky.process_executor import BrokenProcessPool

    while _starting:
        try:
            list(_starting.pop())
        except BrokenProcessPool:
            return  # the next call finds the same, and says it


def _parallel(jobs: int, backend: str, calls: Iterator[Any], ordered: bool) -> Iterator[Any]:
    """Results of joblib-delayed calls, in order or as they come; in this process if jobs is 1."""
    from joblib import Parallel, delayed, parallel_config

    if jobs == 1 and backend == "loky":
        for function, args, kwargs in calls:
            yield function(*args, **kwargs)
        return
    _await_workers()
    if backend == "loky":
        calls = (delayed(while_parent_lives)(os.getpid(), *call) for call in calls)
    with parallel_config(backend=backend, n_jobs=jobs):
        yield from Parallel(
            return_as="generator" if ordered else "generator_unordered", batch_size=1
        )(calls)


def read_all_headers(
    roots: Sequence[str],
    candidates: Sequence[Candidate],
    patient_key: bytes,
    jobs: int,
    backend: str,
    seen: Callable[[Work], None],
) -> tuple[pa.Table, pa.Table]:
    """Headers of all candidates: (FILES, REJECTS), in their order; `seen` is told what is done."""
    from joblib import delayed
    from joblib.externals.loky.process_executor import BrokenProcessPool

    rest = iter(sorted(candidates, key=_on_disk))
    chunks = list(iter(lambda: list(islice(rest, _HEADERS_AT_ONCE)), []))
    calls = [delayed(read_headers)(roots, chunk, patient_key) for chunk in chunks]
    files, rejects = [FILES.empty_table()], [REJECTS.empty_table()]
    try:
        for chunk, (some, others) in zip(chunks, _headers(jobs, backend, calls), strict=True):
            files.append(some)
            rejects.append(others)
            seen(header_work(chunk, others))
    except BrokenProcessPool as e:
        raise Unfinished(
            "a process that read headers died, perhaps for memory; use fewer --jobs"
        ) from e
    order = [("root", "ascending"), ("path", "ascending")]
    return canonical(pa.concat_tables(files)), pa.concat_tables(rejects).sort_by(order)


def _headers(jobs: int, backend: str, calls: Sequence[Any]) -> Iterator[Any]:
    """Results of the calls, in order: here while workers are not up, or would not be worth it."""
    start, left = time.perf_counter(), list(calls)
    while left and backend == "loky":
        if len(left) >= 2 * jobs and time.perf_counter() - start > _STARTING:
            break
        yield from _parallel(1, backend, iter(left[:1]), ordered=True)
        del left[0]
    if left:
        yield from _parallel(jobs, backend, iter(left), ordered=True)


def _on_disk(candidate: Candidate) -> tuple[int, str, int]:
    """Folder by folder and by inode: a disk that must seek for each file then seeks little."""
    return candidate.root, candidate.path.rpartition("/")[0], candidate.inode


def header_work(candidates: Sequence[Candidate], rejects: pa.Table | None = None) -> Work:
    """What reading these headers is: each costs about the same, whatever its file's size."""
    failed = 0 if rejects is None else rejects["outcome"].to_pylist().count("failed")
    return Work(len(candidates), 0, float(len(candidates)), failed)


def pixel_digests(
    roots: Sequence[str], files: pa.Table, rows: NDArray[np.int64], jobs: int, backend: str
) -> list[str]:
    """`pixel_digest` of some rows of FILES; a decoder that aborts costs its own file only."""
    from joblib import delayed
    from joblib.externals.loky.process_executor import BrokenProcessPool

    if jobs > 1 and (len(rows) >= 2 * jobs or backend != "loky"):
        calls = (delayed(pixel_digest)(roots, header) for header in _objects(files, rows))
        try:
            return list(_parallel(jobs, backend, calls, ordered=True))
        except BrokenProcessPool:
            pass  # which file it was is not known: once more, one by one
    with IsolatedReader() as isolated:
        return [pixel_digest(roots, header, isolated) for header in _objects(files, rows)]


def _objects(files: pa.Table, rows: NDArray[np.int64]) -> Iterator[dict[str, Any]]:
    """Rows of FILES as objects, a few at a time: each is some kilobytes."""
    files = files.drop_columns(["per_frame"])
    for start in range(0, len(rows), _HEADERS_AT_ONCE):
        yield from rows_of(files, rows[start : start + _HEADERS_AT_ONCE]).to_pylist()


def convert_part(
    job: Job, mine: Sequence[ShardTask], jobs: int, backend: str, on_error: str, progress: Progress
) -> int:
    """Convert what is not done of a part; how many of its frames failed, those of earlier runs too.

    Raises SourceAway before anything is done if a folder that it needs cannot be seen, and as
    `run_tasks`.
    """
    failed = {task.name: receipts.failed_frames(job, task) for task in mine}
    todo = [task for task in mine if failed[task.name] is None]
    mounts.check(backlog.roots_of(job, todo))
    if on_error == "skip":  # else a failure of an earlier run, in its receipt, must stop this one
        mine = todo
    work = {task.name: backlog.work_of(job, task) for task in mine}

    def seen(done: Done) -> None:
        failed[done.name] = done.failed
        progress.advance(work[done.name] + Work(failed=done.failed))

    total = sum(work.values(), Work())
    with phase(progress, "converting", total, "frames", lambda: backlog.under_way(job, work)):
        run_tasks(job, mine, jobs, backend, on_error, seen)
    for task in todo:  # what was done by a worker that died before it said so, or elsewhere
        if failed[task.name] is None:
            failed[task.name] = receipts.failed_frames(job, task)
    if None in failed.values():
        raise Unfinished(
            f"{job.cache}: receipts were removed meanwhile; run the same command again"
        )
    return sum(filter(None, failed.values()))


def run_tasks(
    job: Job, wanted: Sequence[ShardTask], jobs: int, backend: str, on_error: str, seen: Seen
) -> None:
    """Convert what is not done of `wanted`; the results are on disk.

    A task whose worker died, in this run or an earlier one, is run in isolation, beside the rest.
    Raises Unfinished if the environment fails a task again and again, FrameError at the first
    failed frame if `on_error` is "raise".
    """
    suspects = _claimed(job, wanted)
    todo = list(wanted)
    failed: dict[str, str] = {}
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_PAUSE * 2 ** (attempt - 1))
        failed = {}
        while not _round(job, todo, suspects, jobs, backend, on_error, seen, failed):
            before, known = len(todo), len(suspects)
            todo = list(receipts.open_tasks(job, todo))
            suspects |= _claimed(job, todo)
            if (len(todo), len(suspects)) == (before, known):  # else there is progress, so an end
                failed.update(dict.fromkeys((t.name for t in todo), "worker processes die"))
                break
        todo = list(receipts.open_tasks(job, list(wanted)))
        if not todo:
            return
    why = "; ".join(sorted(set(failed.values()))) or "unknown"
    raise Unfinished(
        f"{len(todo)} of {len(wanted)} shards could not be written after {_TRIES} tries: {why}. "
        "Mend that and run the same command again: what is done is kept"
    )


def _claimed(job: Job, tasks: Sequence[ShardTask]) -> set[ShardTask]:
    return {task for task in tasks if receipts.claimed(job, task)}


def _round(
    job: Job,
    todo: Sequence[ShardTask],
    suspects: set[ShardTask],
    jobs: int,
    backend: str,
    on_error: str,
    seen: Seen,
    failed: dict[str, str],
) -> bool:
    """Run `todo` once, in isolation what is in `suspects`; False if a worker died meanwhile."""
    from joblib import delayed
    from joblib.externals.loky.process_executor import BrokenProcessPool

    # Suspects first: what they find out about their stack or array in isolation serves the others.
    order = sorted(todo, key=lambda t: (t not in suspects, -t.cost))
    convert = convert_elsewhere if backend == "dask" else convert_task
    calls = (delayed(convert)(str(job.cache), job.nonce, task, task in suspects) for task in order)
    try:
        for done in _parallel(jobs, backend, calls, ordered=False):
            _take(done, on_error, seen, failed)
    except BrokenProcessPool:
        return False
    return True


def convert_elsewhere(cache: str, nonce: str, task: ShardTask, isolated: bool) -> Done:
    """As `convert_task`, on a machine that may have other versions: raises CacheError then."""
    job = ledger.load_job(Path(cache))
    versions.check(job.cache, job.facts, job.recipe.codec)
    return convert_task(cache, nonce, task, isolated)


def _take(done: Done, on_error: str, seen: Seen, failed: dict[str, str]) -> None:
    if done.environment is not None:
        failed[done.name] = done.environment
        return
    seen(done)
    if done.first_failure is not None and on_error == "raise":
        raise FrameError(done.first_failure)


def cpu_count() -> int:
    """Processors that this process may use (a Slurm job has fewer than the machine)."""
    import joblib

    return int(joblib.cpu_count())


def cache_of(path: str | os.PathLike[str]) -> Path:
    """The cache's path, absolute: workers may run elsewhere."""
    return Path(path).absolute()
