"""Files of a cache: opened below its folder only, never through a link, and never waited for."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainer_adapter.errors import DamagedError
from trainer_adapter.format import system

REMEDY = "run `dicom2cache verify` on it, then `dicom2cache repair`, or copy the cache again"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")
"""of a file or folder: no separator, no dot first"""
_NOT_OURS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR}
"""errors of the process or the machine, which say nothing of the cache"""
_AT_ONCE = 64 << 20


def below(cache: Path, path: object) -> Path:
    """The place of a file that the metadata of a cache name by `path`, such as frames/0.parquet.

    Raises DamagedError if that could lead out of the cache: a separator too many, a dot first.
    """
    if isinstance(path, str) and all(map(NAME.fullmatch, path.split("/"))):
        return cache / path
    raise DamagedError(
        f"{cache}: its metadata name {path!r}, which is no file of a cache; {REMEDY}"
    )


@contextmanager
def opened(cache: Path, path: str) -> Iterator[int]:
    """A descriptor of a plain file of a cache, closed at the end; `path` is as `below` wants it.

    Each folder is opened in the one above it, so that nothing which is exchanged meanwhile leads
    elsewhere. Raises DamagedError if the file is missing, a link, a folder, a pipe, a device or a
    socket, or cannot be opened.
    """
    descriptor = open_below(cache, path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_below(cache: Path, path: str) -> int:
    """A descriptor as `opened` gives it, for whoever closes it."""
    place = below(cache, path)
    *folders, name = path.split("/")
    try:
        if not system.OPENS_FOLDERS:
            descriptor = _open_step_by_step(cache, [*folders, name])
        else:
            descriptor = _open_folder_by_folder(cache, folders, name)
    except FileNotFoundError:
        raise DamagedError(f"{place}: missing; {REMEDY}") from None
    except _NotPlain:
        raise _not_plain(place) from None
    except OSError as e:
        if e.errno in _NOT_OURS:
            raise
        if e.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
            raise _not_plain(place) from e
        if e.errno in (errno.EACCES, errno.EPERM):
            raise DamagedError(
                f"{place}: cannot be opened: {e.strerror}; let this user read the cache"
            ) from e
        raise DamagedError(f"{place}: cannot be opened: {e.strerror}; {REMEDY}") from e
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_plain(place)
    return descriptor


class _NotPlain(Exception):
    """A link, or no file."""


def _open_folder_by_folder(cache: Path, folders: list[str], name: str) -> int:
    here = os.open(cache, system.CACHE)
    try:
        for folder in folders:
            inner = os.open(folder, system.FOLDER, dir_fd=here)
            here, outer = inner, here
            os.close(outer)
        # Opening a device may do something: it is looked at before, and once more after.
        if not stat.S_ISREG(os.stat(name, dir_fd=here, follow_symlinks=False).st_mode):
            raise _NotPlain
        return os.open(name, system.FILE, dir_fd=here)
    finally:
        os.close(here)


def _open_step_by_step(cache: Path, names: list[str]) -> int:
    """Where folders cannot be opened: what is exchanged between a look and the next is not seen."""
    here = cache
    for name in names:
        here = here / name
        mode = os.lstat(here).st_mode
        if not (stat.S_ISREG(mode) if name is names[-1] else stat.S_ISDIR(mode)):
            raise _NotPlain
    return os.open(here, system.FILE)


def _not_plain(place: Path) -> DamagedError:
    return DamagedError(
        f"{place}: not a plain file in plain folders, but a link, or something else; {REMEDY}"
    )


def read_into(descriptor: int, out: memoryview, offset: int, place: Path) -> None:
    """Fill `out` from `offset` of a file. Raises DamagedError where it ends, or cannot be read."""
    while out:
        try:
            done = system.pread_into(descriptor, out[:_AT_ONCE], offset)
        except OSError as e:
            raise DamagedError(f"{place}: cannot be read: {e.strerror}; {REMEDY}") from e
        if not done:
            raise DamagedError(f"{place}: ends at byte {offset}; {REMEDY}")
        out, offset = out[done:], offset + done
