"""A process that workers are forked from: it was forked itself before its command had threads.

A worker that is forked has all its modules at once, and shares their memory: it costs milliseconds,
and one that starts anew a second of a processor. So there are as many as there is something to do
for, when there is, and one that has died is replaced. The seed does nothing else: it has one thread
and no file open but the pipe to its command.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from importlib import import_module
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from typing import Any, NoReturn

from dicom2cache.frames.isolate import without_interrupts
from dicom2cache.running.alone import Alone, answer, without_pandas
from dicom2cache.sources import system


class _Child:
    """A process that was forked from this one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.status: int | None = None

    def kill(self) -> None:
        if self.status is None:
            system.end(self.pid)

    def wait(self) -> int:
        if self.status is None:
            self.status = _waited(self.pid)
        return self.status

    def lives(self) -> bool:
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if pid else None
        return self.status is None


def _waited(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class _Seed:
    """The process, as its command sees it."""

    def __init__(self, pid: int, pipe: Any, modules: set[str]) -> None:
        self._owner, self._modules = os.getpid(), modules
        self.child = _Child(pid)
        self._asked = Alone(self.child, pipe)
        self._is_importing = False

    def lives(self) -> bool:
        """False if nothing can be asked of it any more, as in another process."""
        ours = os.getpid() == self._owner and self.child.lives()
        return ours and (self._is_importing or not self._asked.is_busy)

    def have(self, module: str) -> None:
        """Import a module there meanwhile, if it is not there."""
        if module not in self._modules:
            self._modules.add(module)
            with suppress(BrokenExecutor):
                self._settle()
                self._asked.ask(_imported, (module,), {})
                self._is_importing = True

    def do(self, function: Callable[..., Any], *arguments: Any, handle: int | None = None) -> Any:
        """What a function returns there; raises BrokenExecutor if it cannot be asked."""
        self._settle()
        self._asked.ask(function, arguments, {})
        if handle is not None:
            send_handle(self._asked.pipe, handle, self.child.pid)
        return self._asked.result()

    def _settle(self) -> None:
        if self._is_importing:
            self._is_importing = False
            self._asked.result()

    def end(self) -> None:
        """End it, and what was forked from it, which must have nothing to do any more."""
        self._asked.end()


class _Worker:
    """A process that was forked from the seed."""

    def __init__(self, seed: _Seed, pid: int) -> None:
        self.pid = pid
        self._seed = seed
        self._status: int | None = None

    def kill(self) -> None:
        # The number is its own until the seed has waited for it, which it does when it is asked.
        if self._status is None and self._seed.child.status is None:
            with suppress(ProcessLookupError):
                system.end(self.pid)

    def wait(self) -> int:
        if self._status is None:
            try:
                self._status = int(self._seed.do(_waited, self.pid))
            except BrokenExecutor:  # without the seed it ends by itself
                self._status = 1
        return self._status


_seed: _Seed | None = None
_pipe: Any = None
"""in the seed: the end that it serves"""


def fork_early(*modules: str) -> None:
    """Fork the seed of a command, with some modules and all that they import.

    Not where a fork may do harm: workers start anew, then.
    """
    global _seed
    without_pandas()  # some make arrays when they are imported
    for module in (*modules, "numpy.ma"):  # which NumPy and pyarrow import when they are at work
        import_module(module)
    ours, theirs = Pipe()
    gc.freeze()  # what is there stays in pages that all processes share
    with without_interrupts():
        pid = system.fork()
        if pid == 0:
            ours.close()
            _live(lambda: _grow(theirs))
    theirs.close()
    if pid is None:
        ours.close()
        return
    _seed = _Seed(pid, ours, set(modules))
    atexit.register(_seed.end)


def is_there() -> bool:
    """Whether workers can be forked."""
    return _seed is not None and _seed.lives()


def have(module: str) -> None:
    """Let workers that are forked from now on have a module."""
    if _seed is not None and _seed.lives():
        _seed.have(module)


def worker() -> Alone | None:
    """A worker that is forked now; None if none can be."""
    if _seed is None or not _seed.lives():
        return None
    ours, theirs = Pipe()
    try:
        with theirs:
            pid = _seed.do(_fork, handle=theirs.fileno())
    except (BrokenExecutor, OSError):  # as where no more processes may be
        pid = None
    except BaseException:
        ours.close()
        raise
    if pid is None:
        ours.close()
        return None
    return Alone(_Worker(_seed, pid), ours, _seed.child.pid)


def _imported(module: str) -> None:
    """In the seed: import a module."""
    import_module(module)
    gc.freeze()


def _fork() -> int | None:
    """In the seed: fork a worker that serves the descriptor that comes now; its number."""
    theirs = Connection(recv_handle(_pipe))
    with theirs:
        pid = system.fork()
        if pid == 0:
            _pipe.close()
            gc.enable()
            _live(lambda: answer(theirs))
    return pid


def _grow(pipe: Any) -> None:
    """What the seed does: it ends with its command, after the workers, which do so too."""
    global _pipe
    _pipe = pipe
    answer(pipe)
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def _live(serve: Callable[[], None]) -> NoReturn:
    """What a process does that was forked: nothing of what its parent is about to do."""
    status = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        serve()
        status = 0
    except BaseException as e:
        sys.excepthook(type(e), e, e.__traceback__)
    finally:
        os._exit(status)
