"""One worker process without joblib, whose import takes as long as that of what a worker does.

A command forks it before it has threads, and then the worker has all its modules at once; whoever
calls this as a library may have threads, or what no fork survives, and gets a new interpreter.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from importlib import import_module
from importlib.abc import MetaPathFinder
from multiprocessing import Pipe
from typing import Any, NoReturn, Protocol

from dicom2cache.frames.isolate import reached, sent, started, without_interrupts
from dicom2cache.sources import system

_CODE = """
import json, sys
sys.path[:] = json.loads(sys.argv[2])
from dicom2cache.running.alone import serve
serve(sys.argv[1])
"""


def serve(where: str) -> None:
    """Make the calls that are asked for until the other end of the socket is closed."""
    without_pandas()
    _serve(reached(where))


def _serve(pipe: Any) -> None:
    while True:
        try:
            function, arguments, named = pipe.recv()
        except (EOFError, ConnectionResetError):
            return
        found, error = None, None
        try:
            found = function(*arguments, **named)
        except Exception as e:
            error = sent(e, "in a worker process")
        try:
            pipe.send((found, error))
        except (
            BrokenPipeError,
            ConnectionResetError,
        ):  # whoever asked was interrupted, and is gone
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


class _Forked:
    """A process that was forked from this one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: int | None = None

    def kill(self) -> None:
        if self._status is None:
            system.end(self.pid)

    def wait(self) -> int:
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._status


_early: list[Alone] = []


def fork_early(module: str) -> None:
    """Fork the worker process of a command, with a module and all that it imports.

    Not where a fork may do harm: a new one starts as soon as it is needed, then.
    """
    import_module(module)
    without_pandas()
    pipe, theirs = Pipe()
    gc.freeze()  # what is there stays in pages that both processes share
    with without_interrupts():
        pid = system.fork()
        if pid == 0:
            pipe.close()
            _be_worker(theirs)
    theirs.close()
    if pid is None:
        pipe.close()
        return
    _early.append(Alone(_Forked(pid), pipe))


def _be_worker(pipe: Any) -> NoReturn:
    """What a worker does that was forked: nothing of what its parent is about to do."""
    status = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        gc.enable()
        _serve(pipe)
        status = 0
    except BaseException as e:
        sys.excepthook(type(e), e, e.__traceback__)
    finally:
        os._exit(status)


def worker() -> Alone:
    """The worker that was forked early, once; else a new one."""
    return _early.pop() if _early else Alone()


def without_early() -> None:
    """End the worker that was forked early, where others do the work."""
    while _early:
        _early.pop().end()


class Alone:
    """A process that makes calls, one after the other. Whoever asked for one awaits its result."""

    process: Process

    def __init__(self, process: Process | None = None, pipe: Any = None) -> None:
        """Of a process that serves the other end of `pipe`; starts one where there is none."""
        self._owner = os.getpid()
        self.process, self._pipe = (process, pipe) if process else started(_CODE)
        self._is_busy = False

    def ask(
        self, function: Callable[..., Any], arguments: Sequence[Any], named: Mapping[str, Any]
    ) -> None:
        """Have it begin with a call that can be pickled.

        Raises BrokenExecutor if it is dead, or busy with what nobody waits for any more.
        """
        if self._is_busy:
            raise BrokenExecutor("whoever asked before was interrupted")
        self._is_busy = True
        try:
            self._pipe.send((function, arguments, named))
        except (BrokenPipeError, ConnectionResetError) as e:
            raise self._broken() from e

    def result(self) -> Any:
        """What the call returns; raises what it raises, BrokenExecutor if the process died."""
        try:
            found, error = self._pipe.recv()
        except (EOFError, ConnectionResetError) as e:
            raise self._broken() from e
        self._is_busy = False
        if error is not None:
            raise error
        return found

    def _broken(self) -> BrokenExecutor:
        return BrokenExecutor(f"a worker process died ({self.process.wait()})")

    def end(self, at_once: bool = False) -> None:
        """End the process; of another's, as after a fork, nothing but what is kept here of it."""
        self._pipe.close()
        if os.getpid() != self._owner:
            return
        if at_once:
            self.process.kill()
        self.process.wait()
