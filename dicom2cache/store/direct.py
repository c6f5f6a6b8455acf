"""A file written from its start to its end, past the page cache where that was seen to pay."""

from __future__ import annotations

import errno
import os
from concurrent.futures import Future, ThreadPoolExecutor
from mmap import PAGESIZE, mmap
from pathlib import Path

from dicom2cache.errors import on_path
from dicom2cache.sources.system import BYTES, CLOSED_IN_CHILDREN, device, memory, pwrite, set_direct

_STAGED = 4 << 20
"""bytes of one write: with less the disk waits for its writer"""
_BUFFER = 2 * _STAGED
_SPARE: list[mmap] = []  # buffers of files that are closed; fresh memory costs page faults

# Those that were measured. On a network, the client's own cache decides how writes are sent.
_FILE_SYSTEMS = {"ext4", "xfs"}


class DirectFile:
    """Writes a new file in order; a thread writes to the disk while the next bytes come.

    Direct I/O (open(2), O_DIRECT) spares a copy of all pixels and the memory of a page cache as
    large as the cache of frames: a seventh of the CPU time here, and less of the wall time. File
    systems where it was not measured, and systems without it, get the same bytes in the usual way.
    Used by one thread. Raises FileExistsError if `path` exists; OSError of any write, at the latest
    from `finish`.
    """

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | CLOSED_IN_CHILDREN | BYTES
        self._path = path
        self._descriptor = os.open(path, flags, 0o666)
        set_direct(self._descriptor, file_system(path) in _FILE_SYSTEMS)
        self._writer = _with_its_thread()
        self._under_way: Future[None] | None = None
        self._buffers = [_SPARE.pop() if _SPARE else memory(_BUFFER) for _ in range(2)]
        self._start = self._filled = self._skipped = 0
        self._open = True

    def write(self, data: memoryview) -> None:
        """Append bytes; they are copied, and may change afterwards."""
        if self._skipped:
            self._fill()
        while data:
            part = data[: _STAGED - self._filled]
            stop = self._filled + len(part)
            self._buffers[0][self._filled : stop] = part
            self._filled, data = stop, data[len(part) :]
            if stop == _STAGED:
                self._send()

    def room(self, count: int) -> memoryview | None:
        """Memory to make the next `count` bytes in, for `wrote`; None: give them to `write`.

        Valid until something is written.
        """
        if self._skipped:
            return None
        stop = self._filled + count
        return memoryview(self._buffers[0])[self._filled : stop] if stop <= _BUFFER else None

    def wrote(self, count: int) -> None:
        """Append the first `count` bytes of `room`."""
        self._filled += count
        if self._filled >= _STAGED:
            whole = self._filled // PAGESIZE * PAGESIZE
            rest = self._buffers[0][whole : self._filled]
            self._filled = whole
            self._send()
            self._buffers[0][: len(rest)] = rest
            self._filled = len(rest)

    def skip(self, count: int) -> None:
        """Append zeros, as a hole where they are many, one call after the other: that costs
        nothing."""
        self._skipped += count

    def _fill(self) -> None:
        """Append what was skipped."""
        count, self._skipped = self._skipped, 0
        if self._filled + count >= _STAGED:
            rest = -self._filled % PAGESIZE
            self.write(memoryview(bytes(rest)))
            count -= rest
            self._send()
            self._start += count // PAGESIZE * PAGESIZE
            count %= PAGESIZE
        self.write(memoryview(bytes(count)))

    def finish(self) -> int:
        """Make all durable; the size in bytes."""
        if self._skipped:
            self._fill()
        size = self._start + self._filled
        self.write(memoryview(bytes(-size % PAGESIZE)))  # direct I/O takes whole blocks
        self._send()
        self._wait()
        with on_path(self._path):
            os.ftruncate(self._descriptor, size)
            os.fsync(self._descriptor)
        return size

    def close(self) -> None:
        """Close, whatever is written yet."""
        if self._open:
            self._open = False
            if self._writer is not None:
                self._writer.shutdown()  # it must not write to another file of the same descriptor
            os.close(self._descriptor)
            _SPARE.extend(self._buffers)
            del _SPARE[2:]

    def _send(self) -> None:
        """Hand what is staged, whole blocks, to the thread."""
        self._wait()
        if self._filled:
            data = memoryview(self._buffers[0])[: self._filled]
            if self._writer is None:
                with on_path(self._path):
                    _write(self._descriptor, data, self._start)
            else:
                self._under_way = self._writer.submit(_write, self._descriptor, data, self._start)
            self._buffers.reverse()
            self._start, self._filled = self._start + self._filled, 0

    def _wait(self) -> None:
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            with on_path(self._path):
                under_way.result()


def _with_its_thread() -> ThreadPoolExecutor | None:
    """Started now: a frame that takes all memory would leave none to start a thread in.

    None: there is none by now, and who writes waits for the disk.
    """
    writer = ThreadPoolExecutor(1, "shard-writer")
    try:
        writer.submit(int)
    except RuntimeError:  # "can't start new thread"
        return None
    return writer


def _write(descriptor: int, data: memoryview, place: int) -> None:
    with data:
        done = 0
        while done < len(data):
            try:
                done += pwrite(descriptor, data[done:], place + done)
            except OSError as e:
                # A file system may refuse blocks of this size, or the rest of a write cut short.
                if e.errno != errno.EINVAL or not set_direct(descriptor, False):
                    raise


def tried(folder: Path) -> str:
    """Whether files in `folder` can be written past the page cache, and whether shards are."""
    path = folder / "direct"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | BYTES, 0o666)
    try:
        if not set_direct(descriptor, True):
            return "no: written through the page cache"
        with mmap(-1, PAGESIZE) as block:
            os.write(descriptor, block)
    except OSError:
        return "no: written through the page cache"
    finally:
        os.close(descriptor)
        path.unlink()
    used = file_system(folder) in _FILE_SYSTEMS
    return "yes" if used else "yes, but not used: measured on ext4 and XFS only"


def file_system(path: Path) -> str:
    """The type of the file system that `path` lies on, as the kernel names it; "" if not known."""
    wanted = device(path)
    try:
        mounts = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    for line in mounts:  # proc(5): number, parent, device, ..., "-", type, ...
        fields = line.split(" ")
        if fields[2] == wanted:
            return fields[fields.index("-") + 1]
    return ""
