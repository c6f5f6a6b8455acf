"""Calls that are dealt to worker processes, each of which has a pipe of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from multiprocessing.connection import wait
from typing import Any

from dicom2cache.running.alone import Alone

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class Crew:
    """Workers of this process; they stay for what comes next."""

    def __init__(self, hire: Callable[[], Alone], ask: Callable[[Alone, Call], None]) -> None:
        """`hire` makes one more, and `ask` has one begin with a call."""
        self._hire, self._ask = hire, ask
        self.workers: list[Alone] = []

    def results(self, most: int, calls: Iterator[Call], ordered: bool) -> Iterator[Any]:
        """Results of the calls by at most so many workers, in order or as they come.

        A worker has one call at a time: if two were on their way, it and this process could both
        wait for the other to read. Raises what a call raises. If a worker dies, the others end what
        they are at, and BrokenExecutor is raised then: what is lost is the call that it died of.
        """
        self._let_go()
        coming = enumerate(calls)
        busy: dict[Any, tuple[int, Alone]] = {}
        found: dict[int, Any] = {}
        next_one, given, broken = next(coming, None), 0, None
        try:
            while True:
                while next_one is not None and len(busy) < most and broken is None:
                    if busy and all(w.is_busy for w in self.workers) and wait(list(busy), 0):
                        break  # one is through already, which comes before one more
                    try:
                        worker = self._one(next_one[1])
                    except BrokenExecutor as e:
                        broken = e
                        break
                    except OSError:  # no more processes may be: those that are do it
                        if not busy:
                            raise
                        most = len(busy)
                        break
                    busy[worker.pipe] = next_one[0], worker
                    next_one = next(coming, None)
                if not ordered:
                    while found:
                        yield found.pop(next(iter(found)))
                while given in found:
                    yield found.pop(given)
                    given += 1
                if not busy:
                    break
                for pipe in wait(list(busy)) if len(busy) > 1 else list(busy):
                    number, worker = busy.pop(pipe)
                    try:
                        found[number] = worker.result()
                    except BrokenExecutor as e:
                        broken = e
                        self._forget(worker)
        finally:
            self._let_go()
        if broken is not None:
            raise broken

    def begun(self, call: Call) -> Iterator[Any]:
        """The result of a call that a worker begins with now; to be awaited before any other."""
        return map(Alone.result, [self._one(call)])

    def _one(self, call: Call) -> Alone:
        """A worker that has begun with a call: one that is there, if it lives, or one more."""
        for worker in [w for w in self.workers if not w.is_busy]:
            try:
                self._ask(worker, call)
                return worker
            except BrokenExecutor:  # it has died while it was idle
                self._forget(worker)
        worker = self._hire()
        self.workers.append(worker)
        self._ask(worker, call)
        return worker

    def _forget(self, worker: Alone) -> None:
        self.workers.remove(worker)
        worker.end(at_once=True)

    def _let_go(self) -> None:
        """End workers that do what nobody waits for: whoever did was interrupted."""
        for worker in [w for w in self.workers if w.is_busy]:
            self._forget(worker)

    def end(self) -> None:
        """End all."""
        for worker in self.workers:
            worker.pipe.close()  # all at once
        while self.workers:
            self.workers.pop().end()
