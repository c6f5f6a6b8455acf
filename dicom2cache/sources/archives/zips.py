"""Zip files (PKWARE APPNOTE 6.3.10): the central directory, read once, and where members begin.

Nothing is believed that two places do not say: members that overlap are refused, and so is one
whose local header is not what the directory has of it.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from struct import Struct
from struct import error as StructError

import numpy as np

from dicom2cache.errors import FrameError, counting
from dicom2cache.records import Member
from dicom2cache.sources.archives.kinds import DEFLATED, STORED, Found, clean
from dicom2cache.sources.file import read_range
from dicom2cache.sources.system import pread

_END, _END64, _LOCATOR = Struct("<4s4H2LH"), Struct("<4sQ2H2L4Q"), Struct("<4sLQL")
_ENTRY, _LOCAL = Struct("<4s6H3L5H2L"), Struct("<4s5H3L2H")
_MOST_DIRECTORY = 1 << 30
_ENCRYPTED, _UTF8, _LATER = 1 << 0, 1 << 11, 1 << 3
_METHODS = {0: STORED, 8: DEFLATED}
_FULL, _FULL16 = 0xFFFFFFFF, 0xFFFF
_LINK_TARGET = "a link in an archive: what it leads to counts where that is"


class Broken(Exception):
    """Why nothing of an archive can be read."""


def members(descriptor: int, size: int, most: int) -> Iterator[Found]:
    """All that the central directory of a zip of `size` bytes lists, in its order.

    Raises Broken if it cannot be read, or lists more than `most`.
    """
    try:
        data, shift, start = _directory(descriptor, size)
        found = list(_entries(data, shift, start, size, most))
    except StructError as e:
        raise Broken("its central directory is damaged; copy it again") from e
    places = [(f.member.offset, _least_end(f)) for f in found if f.member is not None]
    begin, end = np.array(places, np.int64).reshape(-1, 2).T
    order = np.argsort(begin, kind="stable")
    reached = np.maximum.accumulate(end[order]) if len(order) else end
    bad = np.zeros(len(order), bool)  # both of a pair: which one is right nobody knows
    if len(order) > 1:
        clash = begin[order][1:] < reached[:-1]
        bad[order[1:][clash]] = True
        # of those before, the ones that reach into a later one
        following = np.append(begin[order][1:], start)
        bad[order[end[order] > following]] = True
    stops = np.empty(len(order), np.int64)
    stops[order] = np.append(begin[order][1:], start) if len(order) else []
    k = 0
    for one in found:
        if one.member is None:
            yield one
            continue
        if bad[k]:
            why = "its bytes are those of another member too, as no archive needs it; not unpacked"
            yield Found(one.name, problem=why)
        else:
            yield one._replace(member=one.member._replace(stop=int(stops[k])))
        k += 1


def is_one(descriptor: int, size: int) -> bool:
    """Whether a file that does not begin as a zip is one: behind a program that unpacks it."""
    try:
        data, *_ = _directory(descriptor, size)
    except (Broken, StructError):
        return False
    return data[:4] == b"PK\1\2"


def _least_end(found: Found) -> int:
    member = found.member
    assert member is not None
    return member.offset + _LOCAL.size + member.packed


def _directory(descriptor: int, size: int) -> tuple[bytes, int, int]:
    """(central directory, what its offsets lack of those in the file, its own offset)."""
    tail_at = max(0, size - _END.size - _FULL16)
    tail = read_range(descriptor, tail_at, size - tail_at)
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < _END.size:
        raise Broken("it has no end of central directory: it is cut off, copy it again")
    _, disk, disk_of, here, count, length, offset, _ = _END.unpack_from(tail, at)
    end = tail_at + at
    locator = read_range(descriptor, max(0, end - _LOCATOR.size), _LOCATOR.size)
    if locator[:4] == b"PK\6\7":
        _, _, at64, _ = _LOCATOR.unpack(locator)
        found = read_range(descriptor, min(at64, size), _END64.size)
        if found[:4] != b"PK\6\6":  # what lies before the archive moves it
            at64 = end - _LOCATOR.size - _END64.size
            found = read_range(descriptor, max(0, at64), _END64.size)
        if found[:4] != b"PK\6\6" or len(found) < _END64.size:
            raise Broken("its zip64 end of central directory is not there; copy it again")
        _, _, _, _, disk, disk_of, here, count, length, offset = _END64.unpack(found)
        end = at64
    if disk or disk_of or here != count:
        raise Broken("one part of a zip in several: join them (zip -s 0 PART --out WHOLE)")
    if length > end or length > _MOST_DIRECTORY:
        raise Broken(f"its central directory is said to have {length} bytes; copy it again")
    start = end - length
    if start < offset:
        raise Broken(f"its central directory is said to be at byte {offset}, behind its end")
    data = read_range(descriptor, start, length)
    if len(data) < length:
        raise Broken("its central directory is cut off; copy it again")
    if data.count(b"PK\1\2") < count:  # a cheap look: a count may be no more than what is there
        raise Broken(f"its central directory lists less members than it tells of ({count})")
    return data, start - offset, start


def _entries(data: bytes, shift: int, start: int, size: int, most: int) -> Iterator[Found]:
    at = count = 0
    while at < len(data):
        (magic, _, _, flags, method, _, _, crc, packed, whole, n, extra, comment, disk, _, mode,
         offset) = _ENTRY.unpack_from(data, at)  # fmt: skip
        if magic != b"PK\1\2":
            raise Broken(f"its central directory is damaged at its byte {at}; copy it again")
        count += 1
        if count > most:
            raise Broken(
                f"it has more than limits.archive_members={counting(most, 'member')}; if that is "
                "right, give --limits archive_members=NUMBER"
            )
        raw = data[at + _ENTRY.size : at + _ENTRY.size + n]
        wide: tuple[int, int, int] | None = (whole, packed, offset)
        if _FULL in (packed, whole, offset) or disk == _FULL16:
            more = data[at + _ENTRY.size + n : at + _ENTRY.size + n + extra]
            wide = _zip64(more, whole, packed, offset)
        at += _ENTRY.size + n + extra + comment
        name = _decoded(raw, flags)
        if name.endswith("/") or (name.endswith("\\") and not whole):
            continue
        if wide is None:
            why = "its zip64 extra field lacks a size that it should have; copy the archive again"
            yield Found(clean(name), problem=why)
            continue
        whole, packed, offset = wide
        yield _one(name, flags, method, crc, packed, whole, mode, offset + shift, start, size)


def _one(
    name: str, flags: int, method: int, crc: int, packed: int, whole: int, mode: int,
    offset: int, start: int, size: int,
) -> Found:  # fmt: skip
    shown = clean(name)
    if not shown:
        return Found("", problem=f"a member is called {name!r}, which is no name of a file")
    if flags & _ENCRYPTED:
        return Found(shown, problem="encrypted: unpack the archive with its password first")
    if stat.S_ISLNK(mode >> 16):
        return Found(shown, problem=_LINK_TARGET, outcome="excluded")
    kind = _METHODS.get(method)
    if kind is None:
        why = f"compressed by method {method}; legal: stored, deflated; unpack the archive first"
        return Found(shown, problem=why)
    if kind == STORED and packed != whole:
        why = f"stored in {packed} bytes, and said to have {whole}; the archive is damaged"
        return Found(shown, problem=f"{why}, copy it again")
    if offset < 0 or offset + _LOCAL.size + packed > start:
        why = f"said to lie at byte {offset}, where {packed} bytes are not there; copy it again"
        return Found(shown, problem=why)
    return Found(shown, whole, Member(kind, offset, packed, start, crc, len(shown), size))


def _zip64(extra: bytes, whole: int, packed: int, offset: int) -> tuple[int, int, int] | None:
    """The three numbers, those that are full by the extra field 0001; None if it lacks one."""
    at = 0
    while at + 4 <= len(extra):
        tag, length = (int.from_bytes(extra[k : k + 2], "little") for k in (at, at + 2))
        if tag == 1:
            said = extra[at + 4 : at + 4 + length]
            wide = [int.from_bytes(said[k : k + 8], "little") for k in range(0, len(said) - 7, 8)]
            numbers = [whole, packed, offset]
            full = [k for k, number in enumerate(numbers) if number == _FULL]
            if len(wide) < len(full):
                break
            for k, number in zip(full, wide, strict=False):
                numbers[k] = number
            return numbers[0], numbers[1], numbers[2]
        at += 4 + length
    return None


def _decoded(raw: bytes, flags: int) -> str:
    """A name: of an archive that does not say UTF-8 in the code page that zip began with."""
    return raw.decode("utf-8", "surrogateescape") if flags & _UTF8 else raw.decode("cp437")


def start_of(descriptor: int, member: Member, inside: str) -> int:
    """Offset of the bytes of a member, by its local header.

    Raises FrameError if that is not what the directory says of it.
    """
    head = pread(descriptor, _LOCAL.size + 1024, member.offset)
    if len(head) < _LOCAL.size or head[:4] != b"PK\3\4":
        raise FrameError(
            f"no member begins at byte {member.offset} of its archive, where the directory says "
            "so; copy the archive again"
        )
    _, _, flags, method, _, _, crc, packed, _, n, extra = _LOCAL.unpack_from(head)
    raw = head[_LOCAL.size : _LOCAL.size + n]
    if len(raw) < n:
        raw = pread(descriptor, n, member.offset + _LOCAL.size)
    said = []
    if clean(_decoded(raw, flags)) != inside:
        said.append(f"name {clean(_decoded(raw, flags))!r}")
    if _METHODS.get(method) != member.kind or flags & _ENCRYPTED:
        said.append(f"method {method}{', encrypted' if flags & _ENCRYPTED else ''}")
    if not flags & _LATER and (packed not in (member.packed, _FULL) or crc != member.crc):
        said.append(f"{packed} bytes, CRC-32 {crc:08x}")
    start: int = member.offset + _LOCAL.size + n + extra
    if start + member.packed > member.stop:
        said.append(f"bytes up to {start + member.packed}, where others begin at {member.stop}")
    if said:
        raise FrameError(
            f"its header in the archive says {'; '.join(said)}, and the archive's directory does "
            "not; the archive is damaged, copy it again"
        )
    return start
