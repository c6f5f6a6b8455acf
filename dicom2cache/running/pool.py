"""Worker processes, forked or by joblib; they end with the process that started them, in any case.

A worker whose parent was killed would go on with the calls that are queued, and then wait for more.
"""

from __future__ import annotations

import atexit
import importlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from multiprocessing import current_process
from typing import Any

from dicom2cache.frames.isolate import without_interrupts
from dicom2cache.planning.crew import for_tasks
from dicom2cache.records import ShardTask
from dicom2cache.running import seed
from dicom2cache.running.alone import Alone
from dicom2cache.running.engines import ELSEWHERE, engine, never_here
from dicom2cache.running.several import Call, Crew
from dicom2cache.sources import system

_at_work = threading.Lock()


class Overdue(BaseException):
    """What this process works on takes longer than it may; no `except Exception` stops it."""


_is_worker = False
_handled = False  # SIGALRM is ours in a block of `handling`
_armed = False  # in a block of `within`
_timer = threading.Lock()
_ends: dict[object, float] = {}  # of a worker's blocks of `within`: when each has to be done


def within(seconds: float) -> AbstractContextManager[None]:
    """A block that may take so long; a worker process that is not through by then is ended.

    By the kernel, so that no decoder can hold it up, and what was begun is done again, where it can
    be ended by itself. The process that does the asking cannot be ended: there Overdue is raised as
    soon as Python code runs, in its main thread; in others nothing happens.
    """
    if _is_worker:
        return _Due(seconds)
    return _interrupted(seconds) if can_interrupt() else nullcontext()


@contextmanager
def _interrupted(seconds: float) -> Iterator[None]:
    global _armed
    with nullcontext() if _handled else handling():
        try:
            _armed = True
            system.set_timer(seconds, _LOOKS)
            yield
        finally:
            _armed = False  # what is on its way comes too late
            system.set_timer(0)


class _Due:
    """A block of a worker process; several threads may be in one. A process has one timer."""

    __slots__ = ("_seconds",)

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        with _timer:
            _ends[self] = time.monotonic() + self._seconds
            _set_timer()

    def __exit__(self, *_: object) -> None:
        with _timer:
            del _ends[self]
            _set_timer()


def _set_timer() -> None:
    """Let the first block that takes too long end the process."""
    rest = max(1e-6, min(_ends.values()) - time.monotonic()) if _ends else 0
    system.set_timer(rest)


@contextmanager
def handling() -> Iterator[None]:
    """A block whose blocks of `within` cost less: the signal's handler is set once for all."""
    global _handled
    if _is_worker or _handled or not can_interrupt():
        yield
        return
    before = signal.signal(system.ALARM, _overdue)
    try:
        _handled = True
        yield
    finally:
        _handled = False
        signal.signal(system.ALARM, before)


@contextmanager
def bounded(memory: int) -> Iterator[None]:
    """A block in which a worker process may take so many bytes more than it has; others are not
    bounded, nor is what is not Linux."""
    if not _is_worker or system.is_memory_limited():
        yield
        return
    before = system.limit_memory(memory)
    try:
        yield
    finally:
        system.restore_memory(before)


def may_use_threads() -> bool:
    """True in a worker process: `within` ends it whatever thread takes too long."""
    return _is_worker


def can_interrupt() -> bool:
    """True if `within` can end what this process does itself: no other timer of it is running."""
    main = threading.current_thread() is threading.main_thread()
    return main and not system.has_timer()


def _overdue(*_: object) -> None:
    if _armed:
        raise Overdue


_LOOKS = 1.0  # seconds between looks at the parent


def while_parent_lives(
    parent: int, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    """What the function returns; ends this process instead if its parent is no longer `parent`."""
    if os.getpid() == parent:  # joblib found no reason, or no way, to start workers
        return function(*args, **kwargs)
    _watch(parent)
    with _at_work:
        _end_without(parent)
        return function(*args, **kwargs)


@cache
def _watch(parent: int) -> None:
    """Look after the parent while this process waits for work; a call under way is ended first."""
    global _is_worker
    _is_worker = True
    system.keep_freed()
    if system.ALARM:
        signal.signal(system.ALARM, signal.SIG_DFL)  # it ends the process

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOKS)
        with _at_work:
            _end_without(parent)

    threading.Thread(target=look, name="parent-watch", daemon=True).start()


def _end_without(parent: int) -> None:
    if os.getppid() != parent:
        os._exit(1)  # nobody is left to tell


BACKENDS = ("loky", "threading", *ELSEWHERE)

CONVERT = "dicom2cache.running.convert"
"""what workers import that convert"""
STARTING = 0.5  # seconds that worker processes take to start and to import what they need
_starting: list[Iterator[Any]] = []
_begun = 0  # workers of joblib's that `workers_starting` has started


@contextmanager
def workers_starting(jobs: int, backend: str, module: str) -> Iterator[None]:
    """Have worker processes start, and import the module, while the block runs; 0: none."""
    global _begun
    if are_forked(backend):
        if jobs:
            seed.have(module)
    elif backend == "loky" and jobs > 1:
        from joblib import Parallel, parallel_config

        _begun = jobs
        own = call(while_parent_lives, os.getpid(), _ready, (module,), {})
        with _starting_processes(), parallel_config(backend=backend, n_jobs=jobs, **_watched()):
            ready = Parallel(return_as="generator_unordered", batch_size=1)
            _starting.append(ready(own for _ in range(jobs)))
    elif backend == "loky" and jobs and not current_process().daemon:
        _starting.append(_crew(os.getpid()).begun(call(_ready, module)))
    try:
        yield
    finally:
        _await_workers()


def are_forked(backend: str) -> bool:
    """Whether a worker more costs milliseconds only."""
    return backend == "loky" and seed.is_there()


def enough(jobs: int, tasks: Sequence[ShardTask]) -> int:
    """How many workers of this machine these tasks take, at most `jobs`; those that have been
    started are there."""
    return max(for_tasks(jobs, tasks, are_forked("loky")), min(jobs, _begun))


def _watched() -> dict[str, Any]:
    """Has workers look after this process from their start: one may never be given a call."""
    return {"initializer": _watch, "initargs": (os.getpid(),)}


@contextmanager
def _starting_processes() -> Iterator[None]:
    """A block in which joblib starts processes that leave Ctrl-C to us.

    Its resource trackers, which ignore it, come first: whoever starts one undoes the mask.
    """
    if not system.UNIX:
        yield
        return
    from multiprocessing import resource_tracker

    from joblib.externals.loky.backend import popen_loky_posix
    from joblib.externals.loky.backend import resource_tracker as joblib_s

    if not hasattr(popen_loky_posix.Popen, "kill"):
        # What joblib ends the workers by that are left when one has died, where there is neither
        # pgrep nor psutil, as in slim containers: else this process waits 300 s for them.
        popen_loky_posix.Popen.kill = _kill
    resource_tracker.ensure_running()
    joblib_s.ensure_running()
    with without_interrupts():
        yield


def _kill(process: Any) -> None:
    """End a process of joblib's that has not been waited for."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            system.end(process.pid)


def _ready(module: str) -> None:
    """What a worker does first: all that it needs is imported by then."""
    importlib.import_module(module)


def _await_workers() -> None:
    while _starting:
        try:
            list(_starting.pop())
        except BrokenExecutor:
            return  # the next call finds the same, and says it


def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Call:
    """A call to be made, as joblib's `delayed` makes it, without its import."""
    return function, args, kwargs


def parallel(jobs: int, backend: str, calls: Iterator[Any], ordered: bool) -> Iterator[Any]:
    """Results of calls (`call`), in order or as they come; by one worker if jobs is 1."""
    _await_workers()
    if backend == "loky" and jobs == 1 and current_process().daemon:  # it may have no processes
        yield from (function(*args, **kwargs) for function, args, kwargs in calls)
        return
    if are_forked(backend) or (backend == "loky" and jobs == 1):  # joblib makes none for one job
        yield from _crew(os.getpid()).results(jobs, calls, ordered)
        return
    from joblib import Parallel, parallel_config

    if backend == "loky":
        calls = (call(while_parent_lives, os.getpid(), *one) for one in calls)
    there = backend in ELSEWHERE
    # A cluster may grow: whoever comes late finds calls that wait for somebody.
    waiting = "all" if there else "2 * n_jobs"
    order = "generator" if ordered else "generator_unordered"
    own = _watched() if backend == "loky" else {}
    how = {"backend": backend, "n_jobs": -1 if there else jobs, **own}
    with engine(backend), parallel_config(**how) as chosen:
        if there:
            never_here(chosen["backend"])
        made = Parallel(return_as=order, batch_size=1, pre_dispatch=waiting)
        with _starting_processes() if backend == "loky" else nullcontext():
            results = made(calls)
        try:
            yield from results
        except Exception as e:
            if there and type(e).__name__ == "KilledWorker":  # a call has killed several
                raise BrokenExecutor(f"{backend}: {e}") from e
            raise


@cache
def _crew(_: int) -> Crew:
    """The workers of this process, by its number, that joblib does not start."""
    crew = Crew(lambda: seed.worker() or Alone(), _ask)
    atexit.register(crew.end)
    return crew


def _ask(worker: Alone, call: Call) -> None:
    if worker.parent != os.getpid() and not seed.is_there():  # it is about to end by itself
        raise BrokenExecutor("what a worker process was forked from has died")
    worker.ask(while_parent_lives, (worker.parent, *call), {})
