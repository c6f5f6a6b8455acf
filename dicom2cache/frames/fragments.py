"""Where the frames of encapsulated pixel data lie in the file (PS3.5 A.4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dicom2cache.errors import FrameError, counting
from dicom2cache.sources.file import reused
from dicom2cache.sources.place import Opened

_ITEM, _END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_UNTERMINATED, _EXCESS = ("unterminated",), ("excess-pixel-data",)
_MOST_AT_ONCE = 64 << 20  # bytes of a single frame's pixel data that are read in one go
_HEAD = 12  # bytes that show whether a codestream begins
_FRAMES = "Number of Frames (0028,0008)"

Fragments = tuple[tuple[int, int], ...]
"""(offset in the file, length in bytes) of each"""


class Frames(Protocol):
    """The encoded frames of a file."""

    @property
    def flags(self) -> tuple[str, ...]:
        """Oddities of the items, for each frame of the file."""

    def read(self, file: Opened, frame: int) -> bytes:
        """The codestream of frame `frame`, from 0."""


@dataclass(frozen=True)
class Walked:
    """Frames whose fragments were found from item to item."""

    fragments: tuple[Fragments, ...]
    flags: tuple[str, ...] = ()
    lacking: str = ""
    """why frames beyond these are not there"""

    def read(self, file: Opened, frame: int) -> bytes:
        """The codestream of frame `frame`, from 0."""
        if frame >= len(self.fragments):
            raise FrameError(f"frame {frame} is not there: {self.lacking}")
        parts = []
        for offset, length in self.fragments[frame]:
            part = file.read(offset, length)
            if len(part) < length:
                raise FrameError(f"a fragment is truncated: {len(part)} of {length} bytes")
            parts.append(part)
        if not any(parts):
            raise FrameError(
                f"frame {frame} is empty: no byte is in its fragments; get the file again from "
                "where it came"
            )
        return b"".join(parts)


@dataclass(frozen=True)
class Lone:
    """The only frame of a file: all fragments, already read."""

    codestream: bytes
    flags: tuple[str, ...] = ()

    def read(self, _: Opened, frame: int) -> bytes:
        """The codestream of frame `frame`, which is 0."""
        if frame:
            raise FrameError(f"frame {frame} is not there; the file holds 1")
        return self.codestream


@dataclass(frozen=True)
class Tabled:
    """Frames that an offset table names: each is one read, wherever it lies in the file.

    A table counts for a frame if items fill exactly what it says of it, and no other codestream
    begins in them; else the items are walked. So a frame's bytes depend on the file alone, not on
    which others were read.
    """

    bounds: NDArray[np.int64]
    """offset of the first item of each frame, then the end of the last; fewer if the file is cut"""
    walk: Callable[[Opened], Walked]
    """open file to the frames as they are found without the table"""
    marked: bool
    flags: tuple[str, ...] = ()

    def read(self, file: Opened, frame: int) -> bytes:
        """The codestream of frame `frame`, from 0."""
        if frame + 1 < len(self.bounds):
            start, stop = (int(place) for place in self.bounds[frame : frame + 2])
            data = file.read(start, stop - start)
            found = _values_of_items(data, stop - start, self.marked)
            if found:
                return found
        return self.walk(file).read(file, frame)


def find_frames(file: Opened, start: int, size: int, frames: int, marked: bool = True) -> Frames:
    """The frames of the pixel data whose first item is at `start`, in a file of `size` bytes.

    By the extended or the basic offset table where it is valid, else by where codestreams begin
    and end, else one fragment for each frame. A frame that is not there fails when it is read; so
    do all if the items make no frames. `marked`: codestreams have marks of their own, as all have
    but frames without compression. Raises FrameError if there is no frame at all.
    """
    if frames == 1 and size - start <= _MOST_AT_ONCE:
        with reused(size - start) as buffer:
            lone = _lone(buffer[: file.into(start, buffer)], marked)
        if lone is not None:
            return lone
    key = file.key

    def walk(file: Opened) -> Walked:
        found = _Opened(key, file)
        return (_remembered if frames > 1 else _walked)(found, start, size, frames, marked)

    table = _table(file, start, frames) if frames > 1 else None
    if table is None:
        return walk(file)
    there = table[table + 8 <= size]
    if len(there) == len(table):
        # The last frame has no successor: its items end where the pixel data does.
        last = _items(file, int(table[-1]), size)
        if not last.problem:
            if not last.items or (marked and any(item.begins for item in last.items[1:])):
                return walk(file)  # it is not the last one
            return Tabled(np.append(table, last.end), walk, marked, last.flags)
    return Tabled(there, walk, marked)  # the file is cut, or the table wrong: frame by frame


def _lone(data: memoryview, marked: bool) -> Lone | None:
    """The fragments of pixel data that is whole, joined; None if there is anything odd."""
    parts, place = [], 0
    while data[place : place + 4] == _ITEM:
        stop = place + 8 + int.from_bytes(data[place + 4 : place + 8], "little")
        parts.append(bytes(data[place + 8 : stop]))
        place = stop
    if len(parts) < 2 or data[place : place + 4] != _END or len(parts[0]) > 4:
        return None
    if marked and any(map(_begins, parts[2:])):
        return None
    joined = parts[1] if len(parts) == 2 else b"".join(parts[1:])
    return Lone(joined) if joined else None


def _table(file: Opened, start: int, frames: int) -> NDArray[np.int64] | None:
    """Offsets in the file of the first items of the frames; None if no table can be right."""
    head = file.read(start, 8)
    if len(head) < 8 or head[:4] != _ITEM:
        return None
    length = int.from_bytes(head[4:], "little")
    if length == 4 * frames:
        data = file.read(start + 8, length)
        said = np.frombuffer(data[: len(data) & ~3], "<u4")  # fewer where the file ends
    elif length == 0:
        said = _extended(file, start, frames)
    else:
        return None
    # In uint64: an offset beyond 2^62 is no offset.
    if len(said) != frames or said[0] != 0 or int(said[-1]) >> 62:
        return None
    places = said.astype(np.int64) + start + 8 + length
    return places if (places[1:] > places[:-1]).all() else None


def _extended(file: Opened, start: int, frames: int) -> NDArray[Any]:
    """The extended offset table (PS3.3 C.7.6.3.1.8); empty if there is none.

    It lies right before the pixel data, its own lengths between them: so its place is known.
    """
    count = 8 * frames
    elements = [b"\xe0\x7f" + e + b"\0OV\0\0" + count.to_bytes(4, "little") for e in (b"\1", b"\2")]
    place = start - 12 - 2 * (12 + count)
    if count >= 1 << 32 or place < 0:
        return np.empty(0, "<u8")
    if [file.read(place + k * (12 + count), 12) for k in (0, 1)] != elements:
        return np.empty(0, "<u8")
    data = file.read(place + 12, count)
    return np.frombuffer(data[: len(data) & ~7], "<u8")


def _values_of_items(data: bytes, length: int, marked: bool) -> bytes | None:
    """The values of the items that fill `data`, joined; None if they do not, or if a codestream
    begins in another than the first."""
    parts, place = [], 0
    while place < length:
        if data[place : place + 4] != _ITEM:
            return None
        stop = place + 8 + int.from_bytes(data[place + 4 : place + 8], "little")
        parts.append(data[place + 8 : stop])
        place = stop
    if place != length or len(data) < length or (marked and any(map(_begins, parts[1:]))):
        return None
    return parts[0] if len(parts) == 1 else b"".join(parts)


@dataclass(frozen=True)
class _Opened:
    """A file that is known by what it is, so that a walk is remembered after it was closed."""

    key: tuple[int, ...]
    file: Opened = field(compare=False)


def _walked(opened: _Opened, start: int, size: int, frames: int, marked: bool) -> Walked:
    file = opened.file
    walk = _items(file, start, size)
    items, table = walk.items, list[int]()
    if items and not (marked and items[0].begins):  # else there is no item for a table
        data = file.read(items[0].offset, items[0].length)
        table = [int.from_bytes(data[k : k + 4], "little") for k in range(0, len(data) - 3, 4)]
        items = items[1:]
    if not items:
        raise FrameError(
            walk.problem or "the pixel data has no fragments; the file is truncated, copy it again"
        )
    if not any(item.length for item in items):
        raise FrameError(
            "the pixel data is empty: its "
            f"{counting(len(items), 'fragment holds', 'fragments hold')} no byte; get the file "
            "again from where it came"
        )
    groups = _dealt(file, table, items, frames, marked)
    if groups is None:
        raise FrameError(
            walk.problem
            or f"{counting(len(items), 'fragment')} cannot be dealt to "
            f"{counting(frames, 'frame')}: no offset table fits, and no codestream begins or ends "
            f"there; {_FRAMES} may be wrong"
        )
    if walk.problem and len(groups) <= frames and not _closed(file, groups[-1], walk, marked):
        del groups[-1]  # what is missing may belong to it
    if walk.problem and not groups:
        raise FrameError(walk.problem)
    flags = walk.flags
    if len(groups) > frames or (frames == 1 and len(table) > 1):
        flags = (*flags, *_EXCESS)
    elif walk.problem and len(groups) == frames:
        flags = (*flags, *_UNTERMINATED)
    elif len(groups) < frames and not walk.problem:
        flags = (*flags, "frames-missing")
    lacking = walk.problem or (
        f"the pixel data holds {len(groups)} codestreams, {_FRAMES} is {frames}; the others are "
        "taken as the first ones"
    )
    kept = (tuple((i.offset, i.length) for i in group) for group in groups[:frames])
    return Walked(tuple(kept), flags, lacking)


_remembered = lru_cache(maxsize=4)(_walked)  # the shards of one long file walk it once


class _Item(NamedTuple):
    """An item of the pixel data."""

    offset: int
    """of its value in the file"""
    length: int
    begins: bool
    """a codestream begins here"""


Groups = list[list[_Item]]
"""the fragments of each frame"""


@dataclass(frozen=True)
class _Walk:
    items: list[_Item]
    end: int
    """where the last one ends"""
    flags: tuple[str, ...] = ()
    problem: str = ""
    """why there is no delimiter after them"""
    next_begins: bool = False
    """what is cut is the first fragment of a codestream"""


def _items(file: Opened, start: int, size: int) -> _Walk:
    found: list[_Item] = []
    place = start
    while place + 8 <= size:
        head = file.read(place, 8 + _HEAD)
        if head[:4] == _END:
            return _Walk(found, place)
        length, begins = int.from_bytes(head[4:8], "little"), _begins(head[8:])
        if head[:4] != _ITEM or length == 0xFFFFFFFF:
            return _Walk(found, place, (), (
                f"no item at byte {place} of the file, where a fragment or the end of the pixel "
                f"data should be, but {head[:4].hex()}; it is damaged there, copy it again"
            ))  # fmt: skip
        if place + 8 + length > size:
            problem = (
                f"pixel data is truncated: a fragment of {length} bytes at byte {place + 8}, "
                f"the file has {size}; copy the file again"
            )
            return _Walk(found, place, (), problem, begins)
        found.append(_Item(place + 8, length, begins and length >= 3))
        place += 8 + length
    rest = file.read(place, 8)
    if rest[:3] == _ITEM[:3]:
        return _Walk(found, place, (), (
            f"pixel data is truncated: the file ends at byte {size}, within the header of a "
            "fragment; copy the file again"
        ))  # fmt: skip
    return _Walk(found, place, () if rest[:4] == _END else _UNTERMINATED)


def _begins(fragment: bytes) -> bool:
    """True if a codestream begins here: SOI, SOC, a JP2 box, or the header of RLE (PS3.5 G.5)."""
    if fragment[:3] == b"\xff\xd8\xff" or fragment[:4] == b"\xff\x4f\xff\x51":
        return True
    if fragment[:8] == b"\0\0\0\x0cjP  ":
        return True
    return fragment[1:8] == b"\0\0\0\x40\0\0\0" and 0 < fragment[0] < 16


def _ends(file: Opened, fragment: _Item) -> bool:
    """True if a codestream ends here by EOI or EOC (FFD9), perhaps padded: no coded bytes are."""
    length = min(fragment.length, 10)
    return b"\xff\xd9" in file.read(fragment.offset + fragment.length - length, length)


def _closed(file: Opened, group: list[_Item], walk: _Walk, marked: bool) -> bool:
    """True if nothing of a frame can be in what follows the last item."""
    return walk.next_begins or (marked and bool(group) and _ends(file, group[-1]))


def _dealt(
    file: Opened, table: list[int], items: list[_Item], frames: int, marked: bool
) -> Groups | None:
    """The fragments of each frame, of more or fewer than `frames`; None if nothing tells."""
    there = [item for item in items if item.length]
    by_table = _by_table(table, items, frames)
    if by_table is not None and not (
        marked and any(item.begins for group in by_table for item in group[1:])
    ):
        return by_table
    groups, ends = Groups(), [False]
    if marked and there[0].begins:
        groups = _parted(there, lambda k: there[k].begins)
    if frames == 1:
        return groups or [there]
    if len(groups) == frames:
        return groups
    if marked:
        ends = [_ends(file, item) for item in there]
        # What follows an end is another codestream, though its own first bytes may be damaged.
        closed = _parted(there, lambda k: there[k].begins or ends[k - 1])
        if len(closed) == frames and (ends[-1] or there[0].begins):
            return closed
        groups = closed if groups and any(ends) else groups
    if len(there) == frames and not (groups and any(ends)):  # RLE, or nothing tells
        return [[item] for item in there]
    if len(items) == frames and len(groups) in (0, len(there)):  # of some frames nothing is there
        return [[item] if item.length else [] for item in items]
    return groups or None


def _parted(items: list[_Item], first: Callable[[int], bool]) -> Groups:
    """Items in groups; `first` tells of a place whether a group begins there."""
    bounds = [0, *(k for k in range(1, len(items)) if first(k)), len(items)]
    return [items[a:b] for a, b in pairwise(bounds)]


def _by_table(table: list[int], items: list[_Item], frames: int) -> Groups | None:
    if len(table) != frames or table[0] != 0:
        return None
    origin = items[0].offset
    index = {item.offset - origin: k for k, item in enumerate(items)}
    try:
        starts = [index[offset] for offset in table]
    except KeyError:
        return None
    bounds = [*starts, len(items)]
    if any(a >= b for a, b in pairwise(bounds)):
        return None
    return [[item for item in items[a:b] if item.length] for a, b in pairwise(bounds)]
