"""Worker processes by joblib; they end with the process that started them, however that ends.

A worker whose parent was killed would go on with the calls that are queued, and then wait for more.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from dicom2cache.frames.isolate import without_interrupts

_at_work = threading.Lock()


class Deadline:
    """When a worker process ends itself, since what it works on takes longer than it may."""

    def __init__(self) -> None:
        self.at = math.inf
        """of time.monotonic()"""

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """A block that may take so long; nothing happens in a process that is no worker."""
        self.at = time.monotonic() + seconds
        try:
            yield
        finally:
            self.at = math.inf


deadline = Deadline()
"""of this process"""
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

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOKS)
            if time.monotonic() > deadline.at:
                os._exit(1)  # what was begun is done again, where it can be stopped by itself
        with _at_work:
            _end_without(parent)

    threading.Thread(target=look, name="parent-watch", daemon=True).start()


def _end_without(parent: int) -> None:
    if os.getppid() != parent:
        os._exit(1)  # nobody is left to tell


BACKENDS = ("loky", "threading", "dask")

STARTING = 0.5  # seconds that worker processes take to start and to import what they need
_starting: list[Iterator[Any]] = []


@contextmanager
def workers_starting(jobs: int, backend: str) -> Iterator[None]:
    """Have the worker processes start, and import what they need, while the block runs."""
    from joblib import Parallel, delayed

    if backend == "loky" and jobs > 1:
        ready = Parallel(jobs, return_as="generator_unordered", batch_size=1)
        call = delayed(while_parent_lives)(os.getpid(), _ready, (), {})
        with _starting_processes():
            _starting.append(ready(call for _ in range(jobs)))
    try:
        yield
    finally:
        _await_workers()


@contextmanager
def _starting_processes() -> Iterator[None]:
    """A block in which joblib starts processes that leave Ctrl-C to us.

    Its resource trackers, which ignore it, come first: whoever starts one undoes the mask.
    """
    from multiprocessing import resource_tracker

    from joblib.externals.loky.backend import resource_tracker as joblib_s

    resource_tracker.ensure_running()
    joblib_s.ensure_running()
    with without_interrupts():
        yield


def _ready() -> None:
    """What a worker does first: all that it needs is imported by then."""


def _await_workers() -> None:
    from concurrent.futures.process import BrokenProcessPool

    while _starting:
        try:
            list(_starting.pop())
        except BrokenProcessPool:
            return  # the next call finds the same, and says it


def parallel(jobs: int, backend: str, calls: Iterator[Any], ordered: bool) -> Iterator[Any]:
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
        made = Parallel(return_as="generator" if ordered else "generator_unordered", batch_size=1)
        with _starting_processes():
            results = made(calls)
        yield from results


def cpu_count() -> int:
    """Processors that this process may use (a Slurm job has fewer than the machine)."""
    import joblib

    return int(joblib.cpu_count())
