"""The threads of a loader: those that make batches, and those that help with one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from threading import Lock
from typing import Generic, TypeVar

Made = TypeVar("Made")


class Coming(Generic[Made]):
    """What the first one makes who begins with it: a thread, or the loop itself."""

    def __init__(self, makes: Callable[[], Made]) -> None:
        self._makes: Callable[[], Made] | None = makes
        self._begun, self._made = Lock(), Future[Made]()

    def is_there(self) -> bool:
        """Whether it is made, or failed."""
        return self._made.done()

    def make(self) -> None:
        """Make it, unless another has begun to."""
        if not self._begun.acquire(blocking=False):
            return
        makes, self._makes = self._makes, None  # a thread may come to this much later
        assert makes is not None
        try:
            self._made.set_result(makes())
        except BaseException as error:  # raised when its turn comes
            self._made.set_exception(error)
            if not isinstance(error, Exception):  # an interrupt: now
                raise

    def result(self) -> Made:
        """What was made, once. Raises what making it raised."""
        try:
            return self._made.result()
        finally:  # the thread that comes late would keep it
            self._made = Future()


class Crew:
    """Threads of one iterator, and of the next: to start them takes as long as a small batch.

    The loop is one of them, if there are several: it makes a batch rather than wait for one. So
    where it does nothing else no thread of a small machine has to be woken for each batch, which
    takes as long as a part of it, and is as likely as not to come to the processor of another.
    """

    def __init__(self, threads: int) -> None:
        self.process = os.getpid()
        """whose threads they are: a fork has none"""
        others = max(1, threads - 1)
        self._loop_makes = threads > others
        self._threads = ThreadPoolExecutor(others, thread_name_prefix="CacheLoader")
        self.helpers = Helpers(threads)

    def send(self, makes: Callable[[], Made]) -> Coming[Made]:
        """Have a thread call it."""
        one = Coming(makes)
        self._threads.submit(one.make)
        return one

    def help(self, coming: Iterable[Coming[Made]]) -> None:
        """Make what nobody has begun to, in order, until the first is there."""
        if not self._loop_makes:
            return
        first, *others = coming
        for one in (first, *others):
            if first.is_there():
                return
            one.make()

    def shutdown(self, wait: bool) -> None:
        """End them."""
        self._threads.shutdown(wait=wait, cancel_futures=True)
        self.helpers.shutdown(wait=wait)

    def __del__(self) -> None:  # with their loader, not some time after
        if self.process == os.getpid():
            with suppress(RuntimeError):  # collected by one of them
                self.shutdown(wait=True)


class Helpers:
    """Threads that help with a batch where fewer batches than threads are under way."""

    def __init__(self, threads: int) -> None:
        self._threads, self._busy = threads, set[object]()
        self._pool = ThreadPoolExecutor(max(1, threads - 1), thread_name_prefix="CacheLoader")

    def shutdown(self, wait: bool) -> None:
        """End them."""
        self._pool.shutdown(wait=wait, cancel_futures=True)

    def share(self, does: Callable[[int], None], count: int) -> None:
        """Call `does` for 0 to count - 1, here and by helpers.

        Nothing of it goes on when this returns or raises.
        """
        own = object()
        self._busy.add(own)
        idle = min(self._threads - len(self._busy), count - 1)
        numbers, lock = iter(range(count)), Lock()

        def some() -> None:
            while True:
                with lock:
                    k = next(numbers, None)
                if k is None:
                    return
                does(k)

        asked = [self._pool.submit(some) for _ in range(idle)]
        try:
            some()
        finally:
            self._busy.discard(own)
            with lock:
                numbers = iter(())
            left = [f for f in asked if not f.cancel()]
            errors = [e for e in (f.exception() for f in left) if e is not None]
        if errors:
            raise errors[0]
