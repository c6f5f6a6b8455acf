"""Small files, whole or absent, that survive a crash; the first of several writers wins."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from dicom2cache.errors import on_path


def sync_folder(folder: Path) -> None:
    """Make names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with on_path(folder):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder durably, and those above that are not there yet."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for made in reversed(missing):
        made.mkdir(exist_ok=True)
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


def write_first(path: Path, data: bytes, scratch: Path) -> bool:
    """As `write_durably`, but never over a file that is there; True if it is the one of this call.

    Of several processes the first one wins: all read `path` afterwards, and so agree.
    """
    with _written(path, data, scratch) as temporary:
        return name_first(temporary, path)


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


def name_first(own: Path, target: Path) -> bool:
    """Give the durable file `own` the name `target` unless that is taken; True if it got it.

    `link()` never replaces a file: so several processes come to one result without a lock server.
    """
    try:
        os.link(own, target)
        named = True
    except FileExistsError:
        named = own.stat().st_nlink > 1  # the link is ours, and the reply to it was lost (NFS)
    except OSError as e:
        if e.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        named = not target.exists()  # no links here (exFAT): safe within one machine only
        if named:
            os.replace(own, target)
    sync_folder(target.parent)
    own.unlink(missing_ok=True)
    return named
