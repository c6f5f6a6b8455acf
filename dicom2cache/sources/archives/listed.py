"""An archive to what is in it, each name once."""

from __future__ import annotations

import os
import stat
import zlib
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

from dicom2cache.errors import counting, is_environment
from dicom2cache.records import Candidate, Member
from dicom2cache.sources.archives import tars, zips
from dicom2cache.sources.archives.kinds import (
    GZIP,
    MAGIC,
    Found,
    beside,
    refused,
    suffix_of,
    within,
)
from dicom2cache.sources.file import opened, read_range

MOST_MEMBERS = 2_000_000
_SOME = 3
"""names that a reason tells"""
_ALIKE = (
    "of its members has the name of a later one, which counts,",
    "of its members have the names of later ones, which count,",
)


def is_archive(path: str) -> bool:
    """Whether a file is looked into, by its name; by what is in it, `look` says."""
    return suffix_of(path) is not None


def look(path: str, status: os.stat_result, most: int = MOST_MEMBERS) -> list[Found] | None:
    """What an archive has; None if it is none, whatever its name says.

    What cannot be read of it is among them, under the empty name. Raises OSError where the machine
    is to blame.
    """
    suffix = suffix_of(path)
    if suffix is None:
        return None
    try:
        descriptor = opened(path)
    except OSError as e:
        if is_environment(e):
            raise
        return [Found("", problem=f"cannot read the archive: {e.strerror}")]
    try:
        head, size = read_range(descriptor, 0, 512), status.st_size
        if not _is_one(descriptor, suffix, head, size):
            return None
        why = refused(path) or (beside(path) if suffix != ".gz" else None)
        if why is not None:
            return [Found("", problem=why)]
        if suffix == ".gz":
            last = int.from_bytes(read_range(descriptor, max(0, size - 4), 4), "little")
            if not last and _holds_something(head):
                why = "the gzip file is cut off, or something follows it; gunzip it first"
                return [Found("", problem=why)]
            return [Found("", last, Member(GZIP, 0, size, size, None, 0, size))]
        found: list[Found] = []
        try:
            for one in (zips if suffix == ".zip" else tars).members(descriptor, size, most):
                found.append(one)
        except zips.Broken as e:
            kind = suffix[1:]
            found.append(Found("", problem=f"the archive ({kind}) cannot be read: {e}"))
        return list(_each_once(found))
    finally:
        os.close(descriptor)


def _is_one(descriptor: int, suffix: str, head: bytes, size: int) -> bool:
    """Whether a file is an archive of the kind that its name says."""
    if any(head[at : at + len(magic)] == magic for at, magic in MAGIC[suffix]):
        return True
    return suffix == ".zip" and head[128:132] != b"DICM" and zips.is_one(descriptor, size)


def _holds_something(head: bytes) -> bool:
    """Whether a gzip file that begins so is not one of an empty file."""
    try:
        return bool(zlib.decompressobj(zlib.MAX_WBITS + 16).decompress(head, 1))
    except zlib.error:
        return False


def _each_once(found: list[Found]) -> Iterator[Found]:
    """The last of each name, as unpacking leaves it; at most one that tells of the archive."""
    counts = Counter(one.name for one in found)
    if len(counts) == len(found):
        yield from found
        return
    last = {one.name: k for k, one in enumerate(found)}
    yield from (one for k, one in enumerate(found) if last[one.name] == k and one.name)
    of_itself = list(dict.fromkeys(one for one in found if not one.name))
    twice = sorted(name for name, n in counts.items() if n > 1 and name)
    if twice:
        shown = ", ".join(twice[:_SOME]) + (", ..." if len(twice) > _SOME else "")
        lost = sum(counts[name] - 1 for name in twice)
        why = f"{counting(lost, *_ALIKE)} as unpacking leaves them: {shown}"
        of_itself.append(Found("", problem=why, outcome="excluded"))
    if of_itself:
        told = [str(one.problem) for one in of_itself]
        more = ["..."] if len(told) > _SOME else []
        yield of_itself[0]._replace(problem="; ".join([*told[:_SOME], *more]))


def candidate_at(folder: str, root: int, path: str) -> Candidate | None:
    """The candidate of a path below a folder, of a member too, as it is now; None: no plain file.

    Raises OSError if it is not there.
    """
    whole = os.path.join(folder, path)
    inside = within(whole)
    file = whole if inside is None else inside[0]
    status = os.stat(file)
    if not stat.S_ISREG(status.st_mode):
        return None
    if inside is not None or is_archive(file):
        known = _members(file, status.st_size, status.st_mtime_ns)
        name = "" if inside is None else inside[1]
        if name in known:
            size, member = known[name]
            return Candidate(root, path, size, status.st_mtime_ns, member.offset, member)
        if inside is not None:
            raise FileNotFoundError(2, "no such member in the archive", whole)
    return Candidate(root, path, status.st_size, status.st_mtime_ns, status.st_ino)


@lru_cache(4)
def _members(file: str, _size: int, _mtime_ns: int) -> dict[str, tuple[int, Member]]:
    found = look(file, os.stat(file)) or ()
    return {one.name: (one.size, one.member) for one in found if one.member is not None}
