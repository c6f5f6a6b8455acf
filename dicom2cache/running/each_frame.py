"""Each frame by itself: its file opened and read, and who is to blame if that fails.

Whatever is raised while a frame is worked on costs that frame only, unless it says that the machine
is to blame. Want of memory or time is told apart by a second try: alone, in a child process.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import TypeVar

import numpy as np

from dicom2cache.errors import Fault, fault_of, reason_of, stage_of
from dicom2cache.frames.decode import Room, Source
from dicom2cache.frames.isolate import Allowance, Child
from dicom2cache.frames.kept_open import OpenSources
from dicom2cache.recipes.limits import Limits
from dicom2cache.records import FrameRow, Header
from dicom2cache.running.pool import Overdue, bounded, handling, may_use_threads, within
from dicom2cache.running.turns import turn
from dicom2cache.sources import mounts
from dicom2cache.sources.archives.kinds import DEFLATED, GZIP
from dicom2cache.syntaxes import abreast

T = TypeVar("T")
Step = Callable[[Source, FrameRow, Room], T]
"""what is done with a frame, by its row (`file` and `frame` at least); it can be pickled, and so
can its result"""

_OPEN = 4
"""files that stay open"""
_WAITING = 2
"""frames for each thread that are begun, or done and wait for those before them"""
_AMPLE = 4 << 30
"""bytes that a worker process may have for its frames, beside eight times the largest"""
_THREAD = 256 << 20
"""and for each thread: stack, and what malloc sets apart for it"""
_SPARE = 1 << 30
"""bytes that a child may have for a frame, beside eight times the frame's"""


@dataclass(frozen=True)
class Failure:
    """Why a frame is not stored, as failures/ says it."""

    reason: str
    stage: str = "decode"
    """`limit`: memory or time did not suffice, which depends on the machine"""


@dataclass
class Worker:
    """Does steps on frames: in this process, or each in a child that it may kill."""

    isolated: bool = False
    limits: Limits = field(default_factory=Limits)
    faults: list[Fault] = field(default_factory=list)
    """errors of our own that cost a frame, for the log"""
    abreast: int = 1
    """frames that it works on at once, where that is worth it"""
    _child: Child = field(default_factory=Child, repr=False)

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None
    ) -> None:
        self._child.__exit__(kind, e, t)

    @contextmanager
    def frames(self, roots: Sequence[str], headers: dict[int, Header]) -> Iterator[Frames]:
        """The frames of files, by their `headers` (rows of FILES by number).

        Meanwhile a worker process may not take more memory than they are worth: what does is tried
        again in a child, before the machine has none left.
        """
        many = self.abreast if may_use_threads() and not self.isolated else 1
        sources = OpenSources(roots, headers, _OPEN if many == 1 else _WAITING * many + 1)
        largest = max(map(_bytes_of, headers.values()), default=0)
        frames = Frames(self, roots, headers, sources, many)
        try:
            memory = _AMPLE + 8 * largest + (many - 1) * (8 * largest + _THREAD)
            with bounded(memory), handling(), _overflows_raise():
                yield frames
        finally:
            frames.end_threads()
            sources.close()

    def failure(self, error: Exception, where: str) -> Failure:
        """The failure of the frame `where`, its traceback noted if the error is our own."""
        fault = fault_of(error, where)
        if fault is not None:
            self.faults.append(fault)
        return Failure(reason_of(error), stage_of(error, "decode"))

    def alone(self, step: Step[T], path: str, header: Header, row: FrameRow) -> T:
        """The step in a child; raises as `Child.call`."""
        call: Callable[..., T] = _on_file
        memory = _SPARE + 8 * _bytes_of(header)
        allowance = Allowance(self.limits.frame_seconds, memory, "frame_seconds")
        tries = 2 if self.isolated else 1
        return self._child.call(call, step, path, header, row, allowance=allowance, tries=tries)


@dataclass(frozen=True)
class Frames:
    """Frames of some files; a few of them stay open, since neighbours often come from one."""

    worker: Worker
    roots: Sequence[str]
    headers: dict[int, Header]
    sources: OpenSources
    abreast: int = 1
    _threads: list[ThreadPoolExecutor] = field(default_factory=list, repr=False)

    def each(
        self,
        rows: Iterable[FrameRow],
        step_of: Callable[[FrameRow], Step[T]],
        room: Callable[[], Room] = lambda: None,
    ) -> Iterator[tuple[FrameRow, T | Failure]]:
        """(row, what its step makes of it, or why it fails), in order; raises as `do`.

        Some at once, where their decoder lets go of the interpreter. What fails so is done once
        more, with nothing beside it: so nobody else's want of memory or time can be the reason.
        """
        waiting: deque[tuple[FrameRow, Step[T], Future[list[T]]]] = deque()

        def first() -> tuple[FrameRow, T | Failure]:
            row, step, under_way = waiting.popleft()
            for found in under_way.result():
                return row, found
            wait([future for _, _, future in waiting])
            return row, self.do(row, step)

        for row in rows:
            if self.abreast == 1 or not _is_apart(self.headers[row["file"]]):
                while waiting:
                    yield first()
                yield row, self.do(row, step_of(row), room())
                continue
            if len(waiting) == _WAITING * self.abreast:
                yield first()
            step = step_of(row)
            waiting.append((row, step, self._begun(row, step)))
        while waiting:
            yield first()

    def _begun(self, row: FrameRow, step: Step[T]) -> Future[list[T]]:
        """The step on a frame, in a thread."""
        header, source = self.headers[row["file"]], None
        if header["frames"] > 1:  # to find its frames takes time: once for all threads
            try:
                source = self.sources.open(row["file"])
                source.find_frames()
            except Exception:
                source = None  # the thread meets the same
        if not self._threads:
            self._threads.append(ThreadPoolExecutor(self.abreast, "frames"))
        return self._threads[0].submit(self._beside, row, step, source)

    def _beside(self, row: FrameRow, step: Step[T], source: Source | None) -> list[T]:
        """What the step makes of a frame; nothing if it fails.

        The error is not kept: its traceback would hold what memory the frame has taken.
        """
        header = self.headers[row["file"]]
        try:
            seconds = self.worker.limits.frame_seconds
            with turn(_bytes_of(header)), within(seconds), _overflows_raise():
                if source is not None:
                    return [_on_source(source, step, row, None)]
                return [_on_file(step, self._path(header), header, row)]
        except Exception:
            return []

    def _path(self, header: Header) -> str:
        return os.path.join(self.roots[header["root"]], header["path"])

    def end_threads(self) -> None:
        """End what is under way; nobody waits for it any more."""
        while self._threads:
            self._threads.pop().shutdown(cancel_futures=True)

    def do(self, row: FrameRow, step: Step[T], room: Room = None) -> T | Failure:
        """What the step makes of a frame, or why it fails.

        Raises what the machine is to blame for (`is_environment`), SourceAway too.
        """
        header = self.headers[row["file"]]
        try:
            with turn(_bytes_of(header)):
                try:
                    if not self.worker.isolated:
                        with within(self.worker.limits.frame_seconds):
                            return _on_source(self.sources.open(row["file"]), step, row, room)
                except MemoryError:
                    pass  # others may have taken the memory: once more, with nothing beside it
                except Overdue:
                    self.sources.close()  # it was left in the middle of something
                return self.worker.alone(step, self._path(header), header, row)
        except Exception as e:
            root, path = self.roots[header["root"]], self._path(header)
            if not isinstance(e, MemoryError):
                mounts.raise_environment(e, root, header["path"])
            return self.worker.failure(e, f"{path}, frame {row['frame']}")


def _is_apart(header: Header) -> bool:
    """True if frames of the file are worked on side by side: none needs what another one left."""
    return abreast(header["transfer_syntax"]) > 1 and not header["parts"]


def _bytes_of(header: Header) -> int:
    """Bytes of a decoded frame of the file, and of what is held for it."""
    pixels = header["height"] * header["width"] * header["samples"]
    # What is deflated in an archive is inflated as a whole.
    member = header["member"]
    packed = member is not None and member["kind"] in (DEFLATED, GZIP)
    return pixels * max(1, header["bits_allocated"] // 8) + (header["size"] if packed else 0)


def _overflows_raise() -> np.errstate:
    """A block in which what overflows is a failure, not infinity: where that is right, it is said
    there."""
    return np.errstate(over="raise", invalid="ignore", divide="ignore")


def _on_source(source: Source, step: Step[T], row: FrameRow, room: Room) -> T:
    try:
        found = step(source, row, room)
    except Exception:
        source.check_unchanged()  # or else that is why
        raise
    source.check_unchanged()
    return found


def _on_file(step: Step[T], path: str, header: Header, row: FrameRow) -> T:
    with Source(path, header) as source, _overflows_raise():
        return _on_source(source, step, row, None)
