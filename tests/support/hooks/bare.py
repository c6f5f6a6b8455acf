"""A system that has no more than Windows or macOS has: what is hidden is hidden from all of Python.

Not what Python's own modules cannot do without here (fork, SIGKILL, getuid).
"""

import builtins
import ctypes
import errno
import io
import mmap
import os
import shutil
import signal
import subprocess
import sys

OS = (
    "pread", "preadv", "pwrite", "pwritev", "O_CLOEXEC", "O_DIRECT", "O_DIRECTORY", "O_NOFOLLOW",
    "O_NONBLOCK", "SEEK_DATA", "SEEK_HOLE", "sched_getaffinity", "posix_fadvise",
    "posix_fallocate", "fdatasync", "killpg", "sync", "fchmod", "fchown", "lockf", "sendfile",
    "copy_file_range", "major", "minor",
)  # fmt: skip
SIGNAL = (
    "SIGALRM", "SIGHUP", "ITIMER_REAL", "setitimer", "getitimer", "alarm", "pthread_sigmask",
    "pthread_kill",
)  # fmt: skip
_SYSTEM = ("/proc/", "/sys/", "/dev/fd/")


def hide():
    """Take all of it away."""
    import multiprocessing.resource_tracker  # before SIG_BLOCK's function goes
    import tempfile

    tracker = multiprocessing.resource_tracker
    tracker._HAVE_SIGMASK = False
    tempfile.gettempdir()
    shutil._use_fd_functions = shutil._USE_CP_SENDFILE = False
    works, is_folder = os.open, os.path.isdir

    def open_files(path, flags, mode=0o777, *, dir_fd=None):
        if dir_fd is not None:
            raise NotImplementedError("dir_fd unavailable on this platform")
        if not isinstance(path, int) and is_folder(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return works(path, flags, mode)

    os.open = open_files
    os.supports_dir_fd = os.supports_follow_symlinks = set()
    for name in OS:
        if hasattr(os, name):
            delattr(os, name)
    for name in SIGNAL:
        delattr(signal, name)
    for name in [*dir(mmap)]:
        if name.startswith("MADV_"):
            delattr(mmap, name)
    for module in ("fcntl", "resource"):
        sys.modules[module] = None
    _no_system_files()
    _no_libc()
    _no_descriptors()


def _no_system_files():
    open_any = io.open

    def hidden(path):
        return isinstance(path, (str, os.PathLike)) and f"{os.fspath(path)}/".startswith(_SYSTEM)

    def open_others(file, *arguments, **options):
        if hidden(file):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(file))
        return open_any(file, *arguments, **options)

    def looks(function):
        return lambda path: not hidden(path) and function(path)

    builtins.open = io.open = open_others
    for name in ("exists", "isdir", "isfile"):
        setattr(os.path, name, looks(getattr(os.path, name)))


def _no_libc():
    begin = ctypes.CDLL.__init__

    def load(self, name=None, *arguments, **options):
        if name is None:
            raise TypeError("LoadLibrary() argument 1 must be str, not None")
        begin(self, name, *arguments, **options)

    ctypes.CDLL.__init__ = load


def _no_descriptors():
    begin = subprocess.Popen.__init__

    def start(self, *arguments, pass_fds=(), **options):
        if pass_fds:
            raise ValueError("pass_fds not supported on Windows.")
        begin(self, *arguments, **options)

    subprocess.Popen.__init__ = start
