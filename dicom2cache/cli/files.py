"Files that a command writes beside a cache: looked at before the work, then whole or not at all."

from __future__ import annotations

import os
from pathlib import Path

from dicom2cache.errors import Dicom2cacheError


def check(path: Path, said: str = "-o", cache: Path | None = None) -> Path:
    """The path. Raises Dicom2cacheError, before a long work, where no file can be made by it.

    Nor is one made in the cache that is looked at: `verify` would find what does not belong there.
    """
    folder = path.parent
    is_cache = cache is not None and os.path.lexists(cache / "zarr.json")
    if (
        cache is not None
        and is_cache
        and os.path.realpath(path).startswith(os.path.join(os.path.realpath(cache), ""))
    ):
        raise Dicom2cacheError(f"{said} {path}: in the cache, where no other file belongs")
    if path.is_dir():
        raise Dicom2cacheError(f"{said} {path}: a folder; name a file in it")
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "is not there"
        remedy = "name one in a folder" if folder.exists() else f"make it (mkdir -p {folder})"
        raise Dicom2cacheError(f"{said} {path}: its folder {folder} {what}; {remedy}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise Dicom2cacheError(f"{said} {path}: no permission to write in {folder}; give another")
    return path


def refuse_others(path: Path, mark: bytes) -> None:
    """Raises Dicom2cacheError for a file that is there and has not this mark near its begin."""
    try:
        with path.open("rb") as file:
            ours = mark in file.read(256)
    except FileNotFoundError:
        return
    if not ours:
        raise Dicom2cacheError(f"{path}: exists, and is not of this command; name a file by -o")


def write(path: Path, data: bytes) -> None:
    """A file, whole or not at all; into what is none, such as /dev/stdout. Raises OSError."""
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as e:
        raise OSError(e.errno, e.strerror, os.fspath(path)) from e
    finally:
        part.unlink(missing_ok=True)
