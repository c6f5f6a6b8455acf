"""What not every system has, and the slower way where it is not there.

Windows has no pread, no flock, no folders that can be opened, and maps memory otherwise; macOS has
no preadv and no /proc. No other module names such a function (tests/house/test_portable.py).
"""

from __future__ import annotations

import mmap
import os
import sys
import threading

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_CLOSED_IN_CHILDREN = getattr(os, "O_CLOEXEC", 0)
_BINARY = getattr(os, "O_BINARY", 0)  # else Windows would change line ends
_NO_LINK, _NO_WAIT = getattr(os, "O_NOFOLLOW", 0), getattr(os, "O_NONBLOCK", 0)
FILE = os.O_RDONLY | _CLOSED_IN_CHILDREN | _NO_LINK | _NO_WAIT | _BINARY
"""to read a plain file; a pipe without a writer is not waited for"""
OPENS_FOLDERS = hasattr(os, "O_DIRECTORY") and os.open in os.supports_dir_fd
"""a file can be opened in an open folder: so nothing that is exchanged leads elsewhere"""
HAS_MODES = hasattr(os, "O_NOFOLLOW")
"""files say who may read them; Windows says that all may"""
CACHE = os.O_RDONLY | _CLOSED_IN_CHILDREN | getattr(os, "O_DIRECTORY", 0)
FOLDER = CACHE | _NO_LINK
MAPS_RANGES = sys.platform.startswith("linux") and hasattr(os, "O_NOFOLLOW")
"""addresses can be reserved and files be put there (mmap(2), MAP_FIXED_NOREPLACE)"""
ADVISES = hasattr(mmap, "MADV_WILLNEED") and hasattr(os, "O_NOFOLLOW")
"""madvise(2) and mincore(2)"""
BY_DESCRIPTOR = os.path.isdir("/dev/fd") and hasattr(os, "O_NOFOLLOW")
"""an open file has a name there"""

_seeking = threading.Lock()


def pread_into(descriptor: int, buffer: memoryview, offset: int) -> int:
    """As os.preadv into one buffer: how many bytes were read."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [buffer], offset)
    if hasattr(os, "pread"):
        data = os.pread(descriptor, len(buffer), offset)
    else:
        with _seeking:  # descriptors of one file may share where it is
            before = os.lseek(descriptor, 0, os.SEEK_CUR)
            os.lseek(descriptor, offset, os.SEEK_SET)
            try:
                data = os.read(descriptor, len(buffer))
            finally:
                os.lseek(descriptor, before, os.SEEK_SET)
    buffer[: len(data)] = data
    return len(data)


HAS_LOCKS = fcntl is not None


def lock(descriptor: int, wait: bool = True) -> None:
    """Hold an open file until it is closed, where the system has such locks.

    Raises BlockingIOError if another process holds it and this does not wait.
    """
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def own_memory(size: int) -> mmap.mmap:
    """Memory of this process alone, zeros; what is not written to takes no room."""
    if not (hasattr(mmap, "MAP_ANONYMOUS") and hasattr(os, "O_NOFOLLOW")):
        return mmap.mmap(-1, size)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return memory


def is_mine(uid: int) -> bool:
    """Whether a file of this owner is this user's; False where owners have no numbers."""
    return hasattr(os, "getuid") and uid == os.getuid()


def processors() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def is_memory_limited() -> bool:
    """Whether addresses that are reserved count against a limit (RLIMIT_AS)."""
    try:
        import resource

        return bool(resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY)
    except (ImportError, AttributeError):
        return True
