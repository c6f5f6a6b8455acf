"""Decode frames in a child process, so that a codec that aborts costs one frame and not the run."""

from __future__ import annotations

import multiprocessing
import signal
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

from dicom2cache.decode import Source, Stored
from dicom2cache.errors import FrameError


def _serve(pipe: Connection) -> None:
    while True:
        try:
            path, header, frame = pipe.recv()
        except EOFError:
            return
        try:
            with Source(path, header) as source:
                pipe.send(source.read(frame))
        except Exception as e:
            pipe.send(e)


class IsolatedReader:
    """Reads frames in a child, made anew when it dies; call it as `Source.read`."""

    def __init__(self) -> None:
        self._child: Any = None
        self._pipe: Any = None

    def __enter__(self) -> IsolatedReader:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._stop()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._child = context.Process(target=_serve, args=(theirs,), daemon=False)
        self._child.start()
        theirs.close()

    def _stop(self) -> None:
        if self._child is not None:
            self._pipe.close()
            self._child.join()
            self._child = None

    def __call__(self, source: Source, frame: int) -> Stored:
        """The stored frame.

        Raises FrameError if the child died of it, MemoryError if it was killed from outside.
        """
        if self._child is None:
            self._start()
        try:
            self._pipe.send((source.path, source.header, frame))
            answer = self._pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            child = self._child
            self._stop()
            code = child.exitcode
            if (
                code == -signal.SIGKILL
            ):  # nothing in the file does that: the kernel, short of memory
                raise MemoryError("the decoding process was killed, perhaps for memory") from None
            raise FrameError(f"the decoder died ({_name(code)}); the file may be damaged") from None
        if isinstance(answer, BaseException):
            raise answer
        assert isinstance(answer, Stored)
        return answer


def _name(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"
