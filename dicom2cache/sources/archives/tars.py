"""Tar files (POSIX.1-2001 pax, GNU): members where they lie."""

from __future__ import annotations

import os
import posixpath
import tarfile
from collections.abc import Iterator
from typing import IO, Any, cast

from dicom2cache.errors import counting
from dicom2cache.records import Member
from dicom2cache.sources.archives.kinds import TAR, Found, clean
from dicom2cache.sources.archives.zips import Broken

_MOST_HEADER = 16 << 20
"""bytes of an extended header: a name is some hundred"""
_BLOCK = 512
_MOST_REST = 1 << 20


class _Headers:
    """The file for tarfile, which takes the length of an extended header at its word."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > _MOST_HEADER:
            raise Broken(f"an extended header is said to have {size} bytes; it is damaged")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def members(descriptor: int, size: int, most: int) -> Iterator[Found]:
    """All that a tar of `size` bytes has, in its order; links to members as those.

    Raises Broken where nothing more can be read: what was found until then counts.
    """
    places: dict[str, Found] = {}
    links: list[tuple[str, str]] = []
    count = 0
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        try:
            tar = tarfile.open(fileobj=cast(Any, _Headers(file)), mode="r:", errorlevel=2)  # noqa: SIM115
            while (info := tar.next()) is not None:
                cast(Any, tar).members = []  # else all are kept
                count += 1
                if count > most:
                    raise Broken(
                        f"it has more than limits.archive_members={counting(most, 'member')}; if "
                        "that is right, give --limits archive_members=NUMBER"
                    )
                name = clean(info.name)
                if info.isdir():
                    continue
                if not name:
                    why = f"a member is called {info.name!r}, which is no name of a file"
                    yield Found("", problem=why)
                    continue
                if info.issym():
                    up = posixpath.dirname(name)
                    links.append((name, posixpath.normpath(posixpath.join(up, info.linkname))))
                elif info.islnk():
                    links.append((name, clean(info.linkname)))
                else:
                    one = places[name] = _one(name, info, size)
                    yield one
        except (tarfile.TarError, ValueError, OverflowError, EOFError) as e:
            raise Broken(f"it is damaged ({e}); copy it again") from e
        for name, target in links:
            known = places.get(target)
            if known is None:
                yield Found(name, problem=f"a link to {target}, which is no member of the archive")
            elif known.member is None:
                yield known._replace(name=name)
            else:
                member = known.member._replace(inside=len(name))
                yield known._replace(name=name, member=member)
        _check_end(file, tar.offset, size)


def _one(name: str, info: tarfile.TarInfo, size: int) -> Found:
    if info.issparse():
        return Found(name, problem="a sparse file in a tar: unpack it, or make the tar without -S")
    if not info.isreg():
        return Found(name, problem="neither a file nor a folder: it is not opened")
    start, stop = info.offset_data, info.offset_data + info.size
    if info.size < 0 or stop > size:
        why = f"the archive ends at byte {size}, and it up to {stop}; copy the archive again"
        return Found(name, problem=why)
    return Found(name, info.size, Member(TAR, start, info.size, stop, None, len(name), size))


def _check_end(file: IO[bytes], at: int, size: int) -> None:
    """Raises Broken if more follows than the zeros that end a tar: tarfile stops without a word."""
    file.seek(min(at, size))
    rest = file.read(_MOST_REST)
    if rest[:_BLOCK].strip(b"\0"):
        raise Broken(
            f"no header of a member is at byte {at}; what follows is not read, copy it again"
        )
    if rest.strip(b"\0"):
        raise Broken(
            f"another archive follows behind byte {at}, where this one ends; unpack it by tar -i"
        )
