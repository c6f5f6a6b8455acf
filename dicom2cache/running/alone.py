"""A worker process without joblib, whose import takes as long as that of what a worker does.

A command has it forked (seed.py); whoever calls this as a library may have threads, or what no fork
survives, and gets a new interpreter.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from importlib.abc import MetaPathFinder
from typing import Any, Protocol

from dicom2cache.frames.isolate import reached, sent, started

_CODE = """
import json, sys
sys.path[:] = json.loads(sys.argv[2])
from dicom2cache.running.alone import serve
serve(sys.argv[1])
"""


def serve(where: str) -> None:
    """Make the calls that are asked for until the other end of the socket is closed."""
    without_pandas()
    answer(reached(where))


def answer(pipe: Any) -> None:
    """As `serve`, of a pipe that is open."""
    while True:
        try:
            function, arguments, named = pipe.recv()
        except (EOFError, OSError):  # whoever asks is gone, perhaps amid a call
            return
        found, error = None, None
        try:
            found = function(*arguments, **named)
        except Exception as e:
            error = sent(e, "in a worker process")
        try:
            pipe.send((found, error))
        except OSError:  # whoever asked was interrupted, and is gone
            return


def without_pandas() -> None:
    """Keep pyarrow from importing pandas, where that is installed, in a process that is all ours.

    With the first array that it makes it looks for it, which takes as long as all that a worker
    imports. Who imports pandas later gets it, and pyarrow converts nothing to it.
    """
    import pyarrow

    if "pandas" in sys.modules:
        return
    nobody = _NoPandas()
    sys.meta_path.insert(0, nobody)
    try:
        pyarrow.array([0])
    finally:
        sys.meta_path.remove(nobody)


class _NoPandas(MetaPathFinder):
    """Finds that pandas is not installed."""

    def find_spec(self, name: str, *_: object) -> None:
        """As of any finder; raises ModuleNotFoundError."""
        if name == "pandas":
            raise ModuleNotFoundError("not wanted", name=name)


class Process(Protocol):
    """What is asked of a process."""

    @property
    def pid(self) -> int:
        """Its number."""

    def kill(self) -> None:
        """End it at once."""

    def wait(self) -> int:
        """Its exit status, or minus the number of a signal, when it has ended."""


class Alone:
    """A process that makes calls, one after the other. Whoever asked for one awaits its result."""

    def __init__(
        self, process: Process | None = None, pipe: Any = None, parent: int | None = None
    ) -> None:
        """Of a process that serves the other end of `pipe`; starts one where there is none.

        `parent` is the process that it is a child of, this one where that is not said.
        """
        self._owner = os.getpid()
        self.parent = self._owner if parent is None else parent
        found: tuple[Process, Any] = (process, pipe) if process else started(_CODE)
        self.process, self.pipe = found
        self.is_busy = False

    def ask(
        self, function: Callable[..., Any], arguments: Sequence[Any], named: Mapping[str, Any]
    ) -> None:
        """Have it begin with a call that can be pickled.

        Raises BrokenExecutor if it is dead, or busy with what nobody waits for any more.
        """
        if self.is_busy:
            raise BrokenExecutor("whoever asked before was interrupted")
        self.is_busy = True
        try:
            self.pipe.send((function, arguments, named))
        except OSError as e:
            raise self._broken() from e

    def result(self) -> Any:
        """What the call returns; raises what it raises, BrokenExecutor if the process died."""
        try:
            found, error = self.pipe.recv()
        except (EOFError, OSError) as e:  # the one before a message, the other amid one
            raise self._broken() from e
        self.is_busy = False
        if error is not None:
            raise error
        return found

    def _broken(self) -> BrokenExecutor:
        return BrokenExecutor(f"a worker process died ({self.process.wait()})")

    def end(self, at_once: bool = False) -> None:
        """End the process; of another's, as after a fork, nothing but what is kept here of it."""
        self.pipe.close()
        if os.getpid() != self._owner:
            return
        if at_once or self.is_busy:  # with what nobody waits for
            self.process.kill()
        self.process.wait()
