"""What not every system has, and the slower way where it is not there.

Windows has no pread, no flock, no timers, and opens no folders; macOS has no preadv, no direct I/O
and no /proc. No other module names such a function (tests/house/test_portable.py).
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
try:
    import resource
except ImportError:
    resource = None  # type: ignore[assignment]

UNIX = hasattr(os, "O_NOFOLLOW")
"""False on Windows: a child is given no descriptors, and a signal ends a process at once"""
CLOSED_IN_CHILDREN = getattr(os, "O_CLOEXEC", 0)  # Windows: O_NOINHERIT, as Python opens files
BYTES = getattr(os, "O_BINARY", 0)
"""else Windows would change line ends"""
NO_LINK = getattr(os, "O_NOFOLLOW", 0)
NO_WAIT = getattr(os, "O_NONBLOCK", 0)
"""a FIFO without a writer is opened at once"""
PLAIN = os.O_RDONLY | NO_LINK | NO_WAIT | CLOSED_IN_CHILDREN | BYTES
"""to read a file of a cache"""

_seeking = threading.Lock()


@contextmanager
def _at(descriptor: int, offset: int) -> Iterator[None]:
    """A block in which an open file is at `offset`; for one thread at a time."""
    with _seeking:
        before = os.lseek(descriptor, 0, os.SEEK_CUR)
        os.lseek(descriptor, offset, os.SEEK_SET)
        try:
            yield
        finally:
            os.lseek(descriptor, before, os.SEEK_SET)


def pread(descriptor: int, count: int, offset: int) -> bytes:
    """As os.pread: at most `count` bytes from `offset` on, wherever the file is."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, count, offset)
    with _at(descriptor, offset):
        return os.read(descriptor, count)


def pread_into(descriptor: int, buffer: memoryview, offset: int) -> int:
    """As os.preadv into one buffer: how many bytes were read."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [buffer], offset)
    data = pread(descriptor, len(buffer), offset)
    buffer[: len(data)] = data
    return len(data)


def pwrite(descriptor: int, data: bytes | memoryview, offset: int) -> int:
    """As os.pwrite: how many bytes were written at `offset`."""
    if hasattr(os, "pwrite"):
        return os.pwrite(descriptor, data, offset)
    with _at(descriptor, offset):
        return os.write(descriptor, data)


def memory(count: int) -> mmap.mmap:
    """Zeros that begin with a page, in large pages where the system has some.

    For each page that is written past its cache the kernel does something: of 4 MiB in two pages a
    third of what it does for 1,024.
    """
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return mmap.mmap(-1, count)
    found = mmap.mmap(-1, count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel that was built without them
        found.madvise(mmap.MADV_HUGEPAGE)
    return found


def next_data(descriptor: int, at: int) -> int:
    """Where a file has data from `at` on; `at` itself where holes are not told apart.

    Raises OSError (ENXIO) if there are none any more.
    """
    return os.lseek(descriptor, at, os.SEEK_DATA) if hasattr(os, "SEEK_DATA") else at


def link_itself(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Give a file a second name; of a symbolic link, the link, where that can be asked for."""
    if os.link in os.supports_follow_symlinks:
        os.link(source, target, follow_symlinks=False)
    else:
        os.link(source, target)


def device(path: str | os.PathLike[str]) -> str:
    """The device that a file lies on, as /proc/self/mountinfo names it; "" if it has no number."""
    number = os.stat(path).st_dev
    return f"{os.major(number)}:{os.minor(number)}" if hasattr(os, "major") else ""


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Make names in a folder durable; Windows opens none, and keeps a journal of names."""
    if not UNIX:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def set_direct(descriptor: int, wanted: bool) -> bool:
    """Turn direct I/O (open(2), O_DIRECT) on or off; False if that changed nothing."""
    if fcntl is None or not hasattr(os, "O_DIRECT") or sys.platform != "linux":
        return False
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    if bool(flags & os.O_DIRECT) == wanted:
        return False
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags ^ os.O_DIRECT)
    except OSError:
        return False  # not on this file system
    return True


HAS_LOCKS = fcntl is not None


def lock(descriptor: int, wait: bool = True) -> None:
    """Hold an open file until it is closed, where the system has such locks.

    Raises BlockingIOError if another process holds it and this does not wait, OSError where the
    file system has none.
    """
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def user() -> int:
    """The number of this user; 0 where users have none."""
    return os.getuid() if hasattr(os, "getuid") else 0


def processors() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def is_running(pid: int) -> bool:
    """False if there is no such process; True too where nobody can be asked."""
    if not UNIX:
        return True  # os.kill would end it
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # another user's
    return True


def fork() -> int | None:
    """As os.fork, where that is safe: on Linux, in a process with one thread; else None.

    Others hold locks that nobody lets go of in the child, and macOS's libraries do not survive it.
    """
    try:
        with open("/proc/self/stat", "rb") as file:
            threads = int(file.read().rpartition(b")")[2].split()[17])
    except OSError:
        return None
    return os.fork() if sys.platform == "linux" and threads == 1 else None


def _statm() -> int | None:
    with suppress(OSError), open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[0])
    return None


def limit_memory(more: int | None) -> Any:
    """Let the process have `more` bytes than now, None: as many as it may; where that is known.

    The limits before, for `restore_memory`.
    """
    if resource is None or not hasattr(resource, "RLIMIT_AS"):
        return None
    before = resource.getrlimit(resource.RLIMIT_AS)
    most = hard = before[1]
    if more is not None:
        pages = _statm()
        if pages is None:
            return before  # not Linux
        most = pages * resource.getpagesize() + more
        if hard != resource.RLIM_INFINITY:
            most = min(most, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    return before


def restore_memory(before: Any) -> None:
    """Give the process the limits that `limit_memory` found."""
    if before is not None and resource is not None:
        resource.setrlimit(resource.RLIMIT_AS, before)


def is_memory_limited() -> bool:
    """Whether the process has a limit of memory of its own, or none can be set."""
    if resource is None or not hasattr(resource, "RLIMIT_AS"):
        return True
    return bool(resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY)


_TRIM, _MMAP = -1, -3  # of mallopt(3)


def keep_freed() -> bool:
    """Have malloc keep memory that was freed for what is asked for next; False if it cannot be
    told.

    What a decoder allocates for one frame and frees goes back to the system else, and comes as
    fresh pages for the next one: OpenJPEG's took 0.5 ms of each 512 x 512 frame. These are the
    values that glibc comes to by itself, at the most, after blocks that are larger.
    """
    import ctypes

    try:
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl and macOS have none
    except (TypeError, OSError):  # nor has Windows what this asks for
        return False
    return mallopt is not None and bool(mallopt(_TRIM, 64 << 20) and mallopt(_MMAP, 32 << 20))


HAS_TIMERS = hasattr(signal, "setitimer")
"""else a call in this process or a worker cannot be ended; one in a process of its own can"""
ALARM: int = getattr(signal, "SIGALRM", 0)
KILLED: int = getattr(signal, "SIGKILL", 1 << 40)
"""no exit status where there are no signals"""
ENDED = frozenset(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)
)
"""signals that come from outside"""


def set_timer(seconds: float, again: float = 0) -> None:
    """Have SIGALRM come after so many seconds; 0: not at all."""
    if HAS_TIMERS:
        signal.setitimer(signal.ITIMER_REAL, seconds, again)


def has_timer() -> bool:
    """Whether a timer of the process is running, or none can be."""
    return not HAS_TIMERS or bool(signal.getitimer(signal.ITIMER_REAL)[0])


@contextmanager
def sigint_blocked() -> Iterator[None]:
    """A block in which this thread, and processes that it starts, leave SIGINT to others."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def interrupt_thread(thread: int) -> None:
    """Have SIGINT come to a thread; where that cannot be, to the main thread."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(thread, signal.SIGINT)
    else:
        import _thread

        _thread.interrupt_main()


def end(pid: int) -> None:
    """End a process, whatever it does; raises ProcessLookupError if there is none."""
    os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
