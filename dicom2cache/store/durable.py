"""Small files, whole or absent, that survive a crash; the first of several writers wins."""

from __future__ import annotations

import errno
import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from dicom2cache.errors import on_path
from dicom2cache.sources import system
from dicom2cache.store.late import look_anew, until_seen

_log = logging.getLogger("dicom2cache")


def sync_folder(folder: Path) -> None:
    """Make names in `folder` durable."""
    with on_path(folder):
        system.sync_folder(folder)


def make_folder(folder: Path) -> None:
    """Make a folder durably, and those above that are not there yet."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for made in reversed(missing):
        try:
            made.mkdir()
        except FileExistsError:
            if not until_seen(made.is_dir, made.parent):
                raise
        try:
            sync_folder(made.parent)
        except OSError as e:
            e.filename = os.fspath(made)  # it is what is asked for, and not the folder above
            raise


def write_durably(path: Path, data: bytes, scratch: Path | None = None) -> None:
    """Write a small file so that it is whole or absent, also after a power cut.

    Until it is whole it lies in `scratch`, or else beside `path`.
    """
    with _written(path, data, scratch or path.parent) as temporary:
        os.replace(temporary, path)
    sync_folder(path.parent)


def write_first(path: Path, data: bytes, scratch: Path, links: bool) -> bool:
    """As `write_durably`, but never over a file that is there; True if it is the one of this call.

    Of several processes the first one wins: all read `path` afterwards, and so agree.
    """
    with _written(path, data, scratch) as temporary:
        return name_first(temporary, path, links)


@contextmanager
def large_file(path: Path) -> Iterator[IO[bytes]]:
    """A new file to write as it comes: durable after the block, but neither whole nor absent
    before. For what counts only once something else names it."""
    try:
        with open(path, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except OSError as e:
        e.filename = os.fspath(path)  # a full disk names no file
        raise


@contextmanager
def _written(path: Path, data: bytes, scratch: Path) -> Iterator[Path]:
    """A durable file in `scratch` that is to be named `path`; removed if that fails."""
    temporary = scratch / f".{path.name}.{secrets.token_hex(8)}"
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    except BaseException as e:
        temporary.unlink(missing_ok=True)
        if isinstance(e, OSError):  # a full disk names no file, and the temporary one is gone
            e.filename = os.fspath(path)
        raise


NO_LINKS = "no hard links here; which of several processes is first is decided by renaming folders"
_NO_LINKS = frozenset(
    {
        errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV,
        errno.EACCES, errno.EINVAL,
    }
)  # fmt: skip
"""how file systems say that they have no hard links, or not from one folder to another"""
_REFUSED = (errno.ENOTEMPTY, errno.EEXIST)
"""how they say that a folder is not replaced, since something is in it"""


def has_links(one: Path, other: Path, quiet: bool = False) -> bool:
    """Whether a file in the folder `one` can get a second name in the folder `other`: tried out.

    Logs that there are none, unless `quiet`. Raises OSError where nothing can tell which process
    was first.
    """
    own = one / f".links.{secrets.token_hex(8)}"
    target = other / own.name
    own.touch()
    try:
        os.link(own, target)
    except OSError as e:
        if e.errno not in _NO_LINKS:
            raise
    else:
        return True
    finally:
        own.unlink(missing_ok=True)
        target.unlink(missing_ok=True)
    try:
        for folder in (own, target):
            folder.mkdir()
            (folder / "file").touch()
        os.rename(own, target)
    except OSError as e:
        if e.errno not in _REFUSED:
            raise
    else:
        raise OSError(
            errno.ENOTSUP, "no hard links, and a folder may replace another", os.fspath(one)
        )
    finally:
        for folder in (own, target):
            shutil.rmtree(folder, ignore_errors=True)
    if not quiet:
        _log.warning("%s: %s", one, NO_LINKS)
    return False


def name_first(own: Path, target: Path, links: bool) -> bool:
    """Give the durable file `own` the name `target` unless that is taken; True if it got it.

    The file system decides, so that several processes and nodes come to one result without a lock
    server. With `links`, by link(), which never replaces a file. Else by rename() of a folder,
    which never replaces one that is not empty (POSIX: ENOTEMPTY or EEXIST). In any case `target`
    can be read afterwards.
    """
    named = _by_link(own, target) if links else _by_folder(own, target)
    sync_folder(target.parent)
    own.unlink(missing_ok=True)
    if not named:
        until_seen(target.exists, target.parent)
    return named


def _by_link(own: Path, target: Path) -> bool:
    try:
        os.link(own, target)
    except FileExistsError:
        return own.stat().st_nlink > 1  # the link is ours, and the reply to it was lost (NFS)
    except OSError as e:
        if e.errno in _NO_LINKS:
            why = "no hard links here, and there were where the plan was made"
            raise OSError(errno.ENOTSUP, why, os.fspath(target)) from e
        raise
    return True


_FIRST = ".first"
"""ends the name of the folder that decides who is first"""
_WHOLE, _TAKEN = "whole.", "taken."
"""begin the names in it: of the file until it has its own name, and of what stays behind"""


def _by_folder(own: Path, target: Path) -> bool:
    """As `name_first`. Whoever comes by gives the file its name, if the first one died before."""
    token = secrets.token_hex(8)
    mine, first = (
        own.with_name(f"{own.name}.{token}{_FIRST}"),
        target.with_name(target.name + _FIRST),
    )
    mine.mkdir()
    try:
        (mine / f"{_TAKEN}{token}").touch()
        os.replace(own, mine / f"{_WHOLE}{token}")
        sync_folder(mine)
        while not target.exists():
            try:
                os.rename(mine, first)
            except OSError as e:
                if e.errno not in _REFUSED:
                    raise
            else:
                _finish(target, first)
                return True
            before = _inside(first)
            if not until_seen(lambda: _finish(target, first), target.parent):
                for name in before:  # somebody has removed the file; not what is new there
                    (first / name).unlink(missing_ok=True)
                with suppress(OSError):
                    first.rmdir()
        return False
    finally:
        shutil.rmtree(mine, ignore_errors=True)


def _inside(first: Path) -> list[str]:
    look_anew(first)
    try:
        return os.listdir(first)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _finish(target: Path, first: Path) -> bool:
    """Give what is in the folder `first` its name; True if `target` is there."""
    for name in _inside(first):
        if name.startswith(_WHOLE):
            with suppress(FileNotFoundError):  # another process did
                os.rename(first / name, target)
    return target.exists()


def release(target: Path) -> None:
    """Have the name `target` be had anew: to be called before that file is removed."""
    first = target.with_name(target.name + _FIRST)
    for name in _inside(first):
        (first / name).unlink(missing_ok=True)
    with suppress(OSError):
        first.rmdir()
