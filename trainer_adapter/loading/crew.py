"""The threads of a loader: those that make batches, and those that help with one."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Lock


class Crew:
    """Threads of one iterator, and of the next: to start them takes as long as a small batch."""

    def __init__(self, threads: int) -> None:
        self.process = os.getpid()
        """whose threads they are: a fork has none"""
        self.threads = ThreadPoolExecutor(threads, thread_name_prefix="CacheLoader")
        self.helpers = Helpers(threads)

    def shutdown(self, wait: bool) -> None:
        """End them."""
        self.threads.shutdown(wait=wait, cancel_futures=True)
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
