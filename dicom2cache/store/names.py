"""Names that were read from disk: what a cache may name lies below it, and is no link.

A cache folder may come from elsewhere. Whatever it says, nothing is opened, written or removed but
below it.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

from dicom2cache.errors import CacheError
from dicom2cache.sources.system import PLAIN

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")
_ARRAY = re.compile(
    r"((mask|waveform)_)?(u?int(8|16|32)|float(32|64))_\d+x\d+(x\d+)?(\.([2-9]|[1-9]\d+))?"
)
_FILE = re.compile(r"zarr\.json|c\.\d+(\.0)+|\d+\.parquet|\d+\.json")
_SPARE_FILE = re.compile(
    rf"root\.json|times\.json|seen\.bin|({_ARRAY.pattern})\.zarr\.json|(frames|failures|shards|removed|contours)\.\d+\.parquet"
)
OWN = (
    "build", "frames", "failures", "shards", "removed", "contours", "numberings", ".spare",
    "zarr.json",
)  # fmt: skip
"""what a cache has at its top, beside its arrays"""


def checked(name: object, where: object) -> str:
    """A name of one file or folder, as `where` says it.

    Raises CacheError for one that could lead elsewhere: a separator, a dot first.
    """
    if isinstance(name, str) and is_name(name):
        return name
    raise CacheError(
        f"{where}: names {name!r}, which is no name of a file in a cache (legal: letters, digits, "
        "_ . - and no dot first); it was edited or damaged, build it again at another path"
    )


def below(cache: Path, path: object, where: object) -> Path:
    """The path of a file of a cache that `where` names, such as frames/0.parquet.

    Raises CacheError if it could lead elsewhere, or if a folder on the way, or the file, is a link.
    """
    parts = path.split("/") if isinstance(path, str) else [path]
    found = cache
    for part in parts:
        found = found / checked(part, where)
        refuse_link(found)
    return found


def open_below(cache: Path, path: object, where: object) -> BinaryIO:
    """A file of a cache that `where` names, open to be read.

    Raises CacheError as `below`, and for what is no plain file: a FIFO would be waited for.
    """
    return open_plain(below(cache, path, where))


def read_plain(path: Path, most: int = 1 << 26) -> bytes:
    """The bytes of a small file of a cache. Raises CacheError for a larger one, or none at all."""
    refuse_link(path)
    with open_plain(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise CacheError(f"{path}: larger than {most} bytes, which no file of this name is")
    return data


def open_plain(path: Path) -> BinaryIO:
    """A file of a cache, open to be read. Raises CacheError for a link, FIFO or folder."""
    what = CacheError(f"{path}: not a plain file, and a cache has no other")
    try:
        descriptor = os.open(path, PLAIN)
    except OSError as e:
        if e.errno in (errno.ENXIO, errno.ELOOP):  # a socket, a link
            raise what from e
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise what
    return os.fdopen(descriptor, "rb")


def is_name(name: object) -> bool:
    """True for the name of one file or folder that leads nowhere else."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def is_array(name: object) -> bool:
    """True for a name that this program gives to an array's folder."""
    return isinstance(name, str) and _ARRAY.fullmatch(name) is not None


def is_file(name: str) -> bool:
    """True for a name that this program gives to a file in an array's or a table's folder."""
    return _FILE.fullmatch(name) is not None


def is_spare(name: str) -> bool:
    """True for a name that this program gives to a second copy (`layout.spare_path`)."""
    return _SPARE_FILE.fullmatch(name) is not None


def refuse_link(path: Path) -> None:
    """Raises CacheError if `path` is a symbolic link; one that is not there is none."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return
    if stat.S_ISLNK(mode):
        raise CacheError(
            f"{path}: a link, and a cache has none: what is behind it is not opened, written or "
            "removed; put the folder itself here, or link to the whole cache"
        )


def refuse_links(cache: Path, *more: Path) -> None:
    """Raises CacheError for a link at the top of a cache, its build/, .spare/ or `more`."""
    for folder in (cache, cache / "build", cache / ".spare", *more):
        try:
            inside = sorted(os.listdir(folder))
        except OSError:
            continue
        for name in inside:
            refuse_link(folder / name)
