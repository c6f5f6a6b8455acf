"""Tasks over worker processes, with retries and isolation."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicom2cache.errors import FrameError, Unfinished, counting
from dicom2cache.planning.crew import side_by_side
from dicom2cache.privacy.veil import KEY
from dicom2cache.records import ShardTask
from dicom2cache.running import backlog, claims, receipts, versions
from dicom2cache.running.await_job import await_job
from dicom2cache.running.convert import Done, convert_task
from dicom2cache.running.engines import ELSEWHERE
from dicom2cache.running.faults import FaultLog
from dicom2cache.running.job import GIVE_UP, Job, is_planned
from dicom2cache.running.pool import call, enough, parallel
from dicom2cache.running.progress import Progress, Work, phase
from dicom2cache.running.proof import gate
from dicom2cache.sources import mounts
from dicom2cache.store.shards import without_compiled_crc32c

_log = logging.getLogger("dicom2cache")
_TRIES = 3
_LOOK = 1.0  # seconds between looks at what others still work on
_PAUSE = 1.0  # seconds before an environment failure is tried again; doubled each time

Seen = Callable[[Done], None]


def convert_part(
    job: Job, mine: Sequence[ShardTask], jobs: int, backend: str, on_error: str, progress: Progress
) -> int:
    """Convert what is not done of a part; how many of its frames failed, those of earlier runs too.

    Raises before anything is done: SourceAway if a folder that it needs cannot be seen, Unfinished
    if a decoder that it needs is wrong on this machine; and as `run_tasks`.
    """
    slow = without_compiled_crc32c()
    if slow and mine:
        _log.warning("%s", slow)
    failed = {task.name: receipts.failed_frames(job, task) for task in mine}
    todo = [task for task in mine if failed[task.name] is None]
    mounts.check(backlog.roots_of(job, todo), f"; {GIVE_UP.format(job.cache)}" if job.onto else "")
    if todo:
        gate.check(backlog.syntaxes_of(job, todo))
    if on_error == "skip":  # else a failure of an earlier run, in its receipt, must stop this one
        mine = todo
    work = {task.name: backlog.work_of(job, task) for task in mine}

    log = FaultLog(KEY in job.facts)

    def seen(done: Done) -> None:
        log.tell(done.faults)
        failed[done.name] = done.failed
        progress.advance(work[done.name] + Work(failed=done.failed))

    total = sum(work.values(), Work())
    with phase(progress, "converting", total, "frames", lambda: backlog.under_way(job, work)):
        run_tasks(job, mine, jobs, backend, on_error, seen)
    for task in todo:  # what was done by a worker that died before it said so, or elsewhere
        if failed[task.name] is None:
            failed[task.name] = receipts.failed_frames(job, task, late=True)
    if None in failed.values():
        raise Unfinished(
            f"{job.cache}: receipts were removed meanwhile; run the same command again"
        )
    return sum(filter(None, failed.values()))


def run_tasks(
    job: Job, wanted: Sequence[ShardTask], jobs: int, backend: str, on_error: str, seen: Seen
) -> None:
    """Convert what is not done of `wanted`, and wait for what others do; the results are on disk.

    A task whose worker died, in this run or an earlier one, is run in isolation, beside the rest.
    Raises Unfinished if the environment fails a task again and again, FrameError at the first
    failed frame if `on_error` is "raise".
    """
    watch = claims.Watch(job)
    try:
        _until_done(watch, wanted, jobs, backend, on_error, seen)
    except KeyboardInterrupt:
        watch.forget()
        raise


def _until_done(
    watch: claims.Watch, wanted: Sequence[ShardTask], jobs: int, backend: str, on_error: str,
    seen: Seen,
) -> None:  # fmt: skip
    told: set[str] = set()

    def told_and_seen(done: Done) -> None:
        told.add(done.name)
        seen(done)

    todo, suspects, tries = list(wanted), set[ShardTask](), 0
    while todo:
        free, left = watch.look(todo)
        if not free:
            if not is_planned(watch.job.cache, watch.job.nonce):
                raise Unfinished(f"{watch.job.cache}: another process has committed meanwhile")
            time.sleep(_LOOK)
            continue
        before, failed = (len(todo), len(suspects)), dict[str, str]()
        suspects |= left.keys()
        call = _Calls(watch, left, jobs, backend)
        whole = call.round(free, on_error, told_and_seen, failed)
        todo = [task for task in todo if task.name not in told]
        if not whole:
            _, left = watch.look(todo)
            if (len(todo), len(suspects | left.keys())) == before:  # else there is an end to it
                failed.update(dict.fromkeys((t.name for t in todo), "worker processes die"))
        if not failed:
            if whole and len(todo) == before[0]:  # of claims that are not seen yet
                time.sleep(_LOOK)
            continue
        tries += 1
        if tries == _TRIES:
            why = "; ".join(sorted(set(failed.values())))
            raise Unfinished(
                f"{watch.job.cache}: {len(failed)} of {counting(len(wanted), 'shard')} could not "
                f"be written after {_TRIES} tries: {why}. Mend that and run the same command "
                "again: what is done is kept"
            )
        time.sleep(_PAUSE * 2 ** (tries - 1))


@dataclass(frozen=True)
class _Calls:
    """How tasks are handed to workers."""

    watch: claims.Watch
    left: Mapping[ShardTask, str]
    """claims of processes that died, perhaps of a frame"""
    jobs: int
    backend: str

    def round(
        self, todo: Sequence[ShardTask], on_error: str, seen: Seen, failed: dict[str, str]
    ) -> bool:
        """Run `todo` once, in isolation what was left behind; False if a worker died meanwhile."""
        from concurrent.futures.process import BrokenProcessPool

        # What those left behind find out about their stack or array in isolation serves others.
        order = sorted(todo, key=lambda t: (t not in self.left, -t.cost))
        try:
            jobs = enough(self.jobs, todo) if self.backend == "loky" else self.jobs
            many = side_by_side(self.jobs, jobs, order)
            for done in parallel(jobs, self.backend, map(self._of, order, many), ordered=False):
                _take(done, on_error, seen, failed)
        except BrokenProcessPool:
            return False
        return True

    def _of(self, task: ShardTask, abreast: int) -> Any:
        convert = convert_elsewhere if self.backend in ELSEWHERE else convert_task
        job, run, over = self.watch.job, self.watch.run, self.left.get(task)
        isolated = over is not None
        return call(convert, str(job.cache), job.nonce, task, isolated, run, over, abreast)


def convert_elsewhere(
    cache: str,
    nonce: str,
    task: ShardTask,
    isolated: bool,
    run: str = "",
    over: str | None = None,
    _: int = 1,
) -> Done:
    """As `convert_task`, on a machine that may have other versions: raises CacheError then."""
    job = await_job(Path(cache))
    versions.check(job.cache, job.facts, job.recipe.codec)
    return convert_task(cache, nonce, task, isolated, run, over)


def _take(done: Done, on_error: str, seen: Seen, failed: dict[str, str]) -> None:
    if done.environment is not None:
        failed[done.name] = done.environment
    if done.environment is not None or done.elsewhere:
        return
    if done.twice:
        _log.info("%s was done twice: another process did it meanwhile", done.name)
    seen(done)
    if done.first_failure is not None and on_error == "raise":
        raise FrameError(done.first_failure)
