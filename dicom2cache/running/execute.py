"""Tasks over worker processes, with retries and isolation."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from dicom2cache.errors import FrameError, Unfinished
from dicom2cache.records import ShardTask
from dicom2cache.running import backlog, receipts, versions
from dicom2cache.running.convert import Done, convert_task
from dicom2cache.running.faults import FaultLog
from dicom2cache.running.job import Job, load_job
from dicom2cache.running.pool import parallel
from dicom2cache.running.progress import Progress, Work, phase
from dicom2cache.sources import mounts

_TRIES = 3
_PAUSE = 1.0  # seconds before an environment failure is tried again; doubled each time

Seen = Callable[[Done], None]


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

    log = FaultLog()

    def seen(done: Done) -> None:
        log.tell(done.faults)
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
        f"{job.cache}: {len(todo)} of {len(wanted)} shards could not be written after {_TRIES} "
        f"tries: {why}. Mend that and run the same command again: what is done is kept"
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
    from concurrent.futures.process import BrokenProcessPool

    from joblib import delayed

    # Suspects first: what they find out about their stack or array in isolation serves the others.
    order = sorted(todo, key=lambda t: (t not in suspects, -t.cost))
    convert = convert_elsewhere if backend == "dask" else convert_task
    calls = (delayed(convert)(str(job.cache), job.nonce, task, task in suspects) for task in order)
    try:
        for done in parallel(jobs, backend, calls, ordered=False):
            _take(done, on_error, seen, failed)
    except BrokenProcessPool:
        return False
    return True


def convert_elsewhere(cache: str, nonce: str, task: ShardTask, isolated: bool) -> Done:
    """As `convert_task`, on a machine that may have other versions: raises CacheError then."""
    job = load_job(Path(cache))
    versions.check(job.cache, job.facts, job.recipe.codec)
    return convert_task(cache, nonce, task, isolated)


def _take(done: Done, on_error: str, seen: Seen, failed: dict[str, str]) -> None:
    if done.environment is not None:
        failed[done.name] = done.environment
        return
    seen(done)
    if done.first_failure is not None and on_error == "raise":
        raise FrameError(done.first_failure)
