"""Decode frames in a child process, so that a codec that aborts costs one frame and not the run."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from types import TracebackType

from dicom2cache.errors import Dicom2cacheError, FrameError, reason_of
from dicom2cache.frames.decode import Source, Stored
from dicom2cache.syntaxes import NATIVE

# Not by multiprocessing, which runs the caller's script again in a new process. It looks for
# modules where its parent does, and leaves Ctrl-C to it.
_CHILD = """
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
import json, sys
sys.path[:] = json.loads(sys.argv[2])
from dicom2cache.frames.isolate import serve
serve(int(sys.argv[1]))
"""
_FROM_OUTSIDE = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


def serve(descriptor: int) -> None:
    """Answer requests for frames until the other end of the socket is closed."""
    pipe = Connection(descriptor)
    pipe.send(None)  # it has started
    while True:
        try:
            path, header, frame = pipe.recv()
        except EOFError:
            return
        try:
            with Source(path, header) as source:
                pipe.send(source.read(frame))
        except (Dicom2cacheError, OSError, MemoryError) as e:
            pipe.send(e)
        except Exception as e:  # its place in the code would not reach the other side
            pipe.send(FrameError(reason_of(e)))


class IsolatedReader:
    """Reads frames in a child, made anew when it dies; call it as `Source.read`.

    Frames of native syntaxes are read here: no codec is in play.
    """

    def __init__(self) -> None:
        self._child: tuple[subprocess.Popen[bytes], Connection] | None = None

    def __enter__(self) -> IsolatedReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if self._child is not None:
            if kind is not None:  # it may be in the middle of a frame that nobody waits for
                self._child[0].kill()
            self._end(*self._child)

    def _start(self) -> Connection:
        pipe, theirs = Pipe()
        with theirs:
            arguments = [str(theirs.fileno()), json.dumps(sys.path)]
            try:
                process = subprocess.Popen(
                    [sys.executable, "-c", _CHILD, *arguments],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                )
            except OSError as e:
                pipe.close()
                raise _not_started(str(e)) from e
        try:
            pipe.recv()
        except (EOFError, ConnectionResetError):
            pipe.close()
            raise _not_started(_name(process.wait())) from None
        self._child = process, pipe
        return pipe

    def _end(self, process: subprocess.Popen[bytes], pipe: Connection) -> int:
        self._child = None
        pipe.close()
        return process.wait()

    def __call__(self, source: Source, frame: int) -> Stored:
        """The stored frame.

        Raises FrameError if the child died of it; MemoryError or ChildProcessError, which are the
        environment's, if it was ended from outside or could not be started.
        """
        if source.header["transfer_syntax"] in NATIVE:
            return source.read(frame)
        pipe = self._child[1] if self._child else self._start()
        try:
            pipe.send((source.path, source.header, frame))
            answer = pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            assert self._child
            code = self._end(*self._child)
            if (
                code == -signal.SIGKILL
            ):  # nothing in the file does that: the kernel, short of memory
                raise MemoryError("the decoding process was killed, perhaps for memory") from None
            if -code in _FROM_OUTSIDE:
                why = f"the decoding process was ended from outside ({_name(code)})"
                raise ChildProcessError(errno.ECHILD, why) from None
            raise FrameError(f"the decoder died ({_name(code)}); the file may be damaged") from None
        if isinstance(answer, BaseException):
            raise answer
        assert isinstance(answer, Stored)
        return answer


def _not_started(why: str) -> ChildProcessError:
    return ChildProcessError(errno.ECHILD, f"the decoding process could not be started: {why}")


def _name(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"
