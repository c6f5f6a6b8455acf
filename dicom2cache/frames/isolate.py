"""Calls in a child process, so that what kills it, or eats its memory, costs one file only."""

from __future__ import annotations

import errno
import json
import os
import pickle
import secrets
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, TypeVar

from dicom2cache.errors import FrameError, OutOfTime
from dicom2cache.sources import system

T = TypeVar("T")

# Not by multiprocessing, which runs the caller's script again in a new process. It looks for
# modules where its parent does.
_CHILD = """
import json, sys
sys.path[:] = json.loads(sys.argv[2])
from dicom2cache.frames.isolate import serve
serve(sys.argv[1])
"""


@contextmanager
def without_interrupts() -> Iterator[None]:
    """A block in which processes are started that leave Ctrl-C, which reaches them too, to us.

    They inherit the mask of the thread that starts them, from their first moment on; and so does
    joblib's thread that starts others later. Here what comes meanwhile comes after the block.
    """
    with _later(), system.sigint_blocked():
        yield


@contextmanager
def _later() -> Iterator[None]:
    """A block after which the signals are handled that came in it.

    The mask does not do that: another thread gets the signal then, and Python handles it in the
    main thread all the same. Between a semaphore of joblib's and its entry in the resource tracker
    that would leave it in /dev/shm.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    known = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handled = {number: handler for number, handler in known.items() if callable(handler)}
    for number in handled:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


@dataclass(frozen=True)
class Allowance:
    """What a call may use."""

    seconds: float
    memory: int
    """bytes beyond what the process has when the call begins; not held where there is no /proc"""
    setting: str
    """the limit that a failure names"""

    def __mul__(self, factor: int) -> Allowance:
        return replace(self, seconds=self.seconds * factor, memory=self.memory * factor)


def reached(where: str) -> Any:
    """This process's end of what `started` made."""
    if where.isdecimal():
        return Connection(int(where))
    from multiprocessing.connection import Client

    return Client(where, authkey=bytes.fromhex(sys.stdin.readline()))


def serve(where: str) -> None:
    """Make the calls that are asked for until the other end of the socket is closed."""
    pipe = reached(where)
    pipe.send(None)  # it has started
    # What it dies of is told by its parent; what libraries print meanwhile is nobody's.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    while True:
        try:
            function, arguments, memory = pipe.recv()
        except EOFError:
            return
        found, error = None, None
        try:
            system.limit_memory(memory)
            found = function(*arguments)
        except Exception as e:
            system.limit_memory(None)  # what took the memory may still hold it
            error = sent(e, "in a child process")
        pipe.send((found, error))


def sent(error: Exception, where: str) -> Exception:
    """The error if it survives the way to the parent, else one that says the same.

    Where it was raised is noted.
    """
    error.add_note(f"{where}:\n" + "".join(traceback.format_tb(error.__traceback__)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        other = RuntimeError(f"{type(error).__name__}: {error}")
        other.__notes__ = error.__notes__
        return other
    return error


def started(code: str) -> tuple[subprocess.Popen[bytes], Any]:
    """A Python process that runs `code`, and our end of a socket.

    The code has in sys.argv what `reached` takes, and after it sys.path as JSON. Ctrl-C leaves
    it alone. Raises OSError.
    """
    if not system.UNIX:
        return _started_by_address(code)
    pipe, theirs = Pipe()
    with theirs:
        arguments = [str(theirs.fileno()), json.dumps(sys.path)]
        try:
            with without_interrupts():
                process = subprocess.Popen(
                    [sys.executable, "-c", code, *arguments],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                )
        except BaseException:
            pipe.close()
            raise
    return process, pipe


def _started_by_address(code: str) -> tuple[subprocess.Popen[bytes], Any]:
    """As `started`, where a child cannot be given a descriptor: it connects by itself."""
    from multiprocessing import AuthenticationError
    from multiprocessing.connection import Client, Listener

    key = secrets.token_bytes(32)
    with Listener(authkey=key) as listener:
        where = str(listener.address)
        command = [sys.executable, "-c", code, where, json.dumps(sys.path)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE)

        def unblock() -> None:
            process.wait()
            with suppress(Exception):  # whoever accepts waits for a process that is gone
                Client(where).close()

        threading.Thread(target=unblock, daemon=True).start()
        assert process.stdin is not None
        try:
            with process.stdin:
                process.stdin.write(key.hex().encode() + b"\n")
            return process, listener.accept()
        except (AuthenticationError, EOFError, OSError) as e:
            process.kill()
            raise OSError(errno.ECHILD, f"it ends with {process.wait()}") from e


class Child:
    """A process that makes calls; started at the first one, and anew after it has died."""

    def __init__(self) -> None:
        self._running: tuple[subprocess.Popen[bytes], Any] | None = None

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._end(at_once=kind is not None)  # it may be busy with what nobody waits for

    def _start(self) -> Any:
        try:
            process, pipe = started(_CHILD)
        except OSError as e:
            raise _not_started(str(e)) from e
        try:
            pipe.recv()
        except (EOFError, ConnectionResetError):
            pipe.close()
            raise _not_started(_name(process.wait())) from None
        self._running = process, pipe
        return pipe

    def _end(self, at_once: bool = False) -> int:
        """End the process; its exit status."""
        if self._running is None:
            return 0
        (process, pipe), self._running = self._running, None
        if at_once:
            process.kill()
        pipe.close()
        return process.wait()

    def call(
        self, function: Callable[..., T], *arguments: Any, allowance: Allowance, tries: int = 2
    ) -> T:
        """`function(*arguments)`, both of which can be pickled.

        What takes too long, or more memory than it may, is tried again in a new process with four
        times as much; `tries` is 2, or 1 for that alone. Raises what the function raises;
        FrameError if the process died of it, MemoryError and OutOfTime if four times as much does
        not suffice, ChildProcessError, which is the machine's, if it was ended from outside or
        could not be started.
        """
        if tries > 1:
            try:
                return self._call(function, arguments, allowance)
            except (MemoryError, OutOfTime):
                self._end(at_once=True)
        try:
            return self._call(function, arguments, allowance * 4)
        except (MemoryError, OutOfTime):
            self._end(at_once=True)
            raise

    def _call(
        self, function: Callable[..., T], arguments: tuple[Any, ...], allowance: Allowance
    ) -> T:
        pipe = self._running[1] if self._running else self._start()
        try:
            pipe.send((function, arguments, allowance.memory))
            if not pipe.poll(allowance.seconds):
                raise OutOfTime(
                    f"not done after {allowance.seconds:g} seconds, alone in a process of its own; "
                    f"limits.{allowance.setting} says a quarter: if the file is right, give "
                    f"--limits {allowance.setting}=NUMBER"
                )
            answer, error = pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            code = self._end()
            if code == -system.KILLED:  # nothing in a file does that: the kernel, short of memory
                raise MemoryError("the process was killed, perhaps for memory") from None
            if -code in system.ENDED:
                why = f"the decoding process was ended from outside ({_name(code)})"
                raise ChildProcessError(errno.ECHILD, why) from None
            raise FrameError(f"the decoder died ({_name(code)}); the file may be damaged") from None
        if error is not None:
            raise error
        found: T = answer
        return found


def _not_started(why: str) -> ChildProcessError:
    return ChildProcessError(errno.ECHILD, f"the decoding process could not be started: {why}")


def _name(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"
