"""Where the frames of encapsulated pixel data lie in the file (PS3.5 A.4)."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dicom2cache.errors import FrameError
from dicom2cache.sources.file import read_into, read_range, reused

_ITEM, _END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_UNTERMINATED = ("unterminated",)
_MOST_AT_ONCE = 64 << 20  # bytes of a single frame's pixel data that are read in one go

Fragments = tuple[tuple[int, int], ...]
"""(offset in the file, length in bytes) of each"""
Items = list[tuple[int, int]]
"""as fragments"""


class Frames(Protocol):
    """The encoded frames of a file."""

    @property
    def flags(self) -> tuple[str, ...]:
        """Oddities of the items, for each frame of the file."""

    def read(self, descriptor: int, frame: int) -> bytes:
        """The codestream of frame `frame`, from 0."""


@dataclass(frozen=True)
class Walked:
    """Frames whose fragments were found from item to item."""

    fragments: tuple[Fragments, ...]
    flags: tuple[str, ...] = ()

    def read(self, descriptor: int, frame: int) -> bytes:
        """The codestream of frame `frame`, from 0."""
        if frame >= len(self.fragments):
            raise FrameError(f"frame {frame} is not there; the file holds {len(self.fragments)}")
        parts = []
        for offset, length in self.fragments[frame]:
            part = read_range(descriptor, offset, length)
            if len(part) < length:
                raise FrameError(f"a fragment is truncated: {len(part)} of {length} bytes")
            parts.append(part)
        return b"".join(parts)


@dataclass(frozen=True)
class Lone:
    """The only frame of a file: all fragments, already read."""

    codestream: bytes
    flags: tuple[str, ...] = ()

    def read(self, _: int, frame: int) -> bytes:
        """The codestream of frame `frame`, which is 0."""
        if frame:
            raise FrameError(f"frame {frame} is not there; the file holds 1")
        return self.codestream


@dataclass(frozen=True)
class Tabled:
    """Frames that an offset table names: each is one read, wherever it lies in the file.

    A table counts for a frame if items fill exactly what it says of it; else the items are walked.
    So a frame's bytes depend on the file alone, not on which others were read.
    """

    bounds: NDArray[np.int64]
    """offset of the first item of each frame, then the end of the last; fewer if the file is cut"""
    walk: Callable[[int], Walked]
    """descriptor to the frames as they are found without the table"""
    flags: tuple[str, ...] = ()

    def read(self, descriptor: int, frame: int) -> bytes:
        """The codestream of frame `frame`, from 0."""
        if frame + 1 < len(self.bounds):
            start, stop = (int(place) for place in self.bounds[frame : frame + 2])
            found = _values_of_items(read_range(descriptor, start, stop - start), stop - start)
            if found is not None:
                return found
        return self.walk(descriptor).read(descriptor, frame)


def find_frames(descriptor: int, start: int, size: int, frames: int) -> Frames:
    """The frames of the pixel data whose first item is at `start`, in a file of `size` bytes.

    By the extended or the basic offset table where it is valid, else one fragment for each frame,
    else by the end of image marker that closes a codestream. Raises FrameError if the items are
    broken or do not make `frames` frames.
    """
    if frames == 1 and size - start <= _MOST_AT_ONCE:
        with reused(size - start) as buffer:
            lone = _lone(buffer[: read_into(descriptor, start, buffer)])
        if lone is not None:
            return lone
    status = os.fstat(descriptor)
    key = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)

    def walk(descriptor: int) -> Walked:
        found = _Opened(key, descriptor)
        return (_remembered if frames > 1 else _walked)(found, start, size, frames)

    table = _table(descriptor, start, size, frames) if frames > 1 else None
    if table is None:
        return walk(descriptor)
    there = table[table + 8 <= size]
    if len(there) == len(table):
        try:  # the last frame has no successor: its items end where the pixel data does
            _, end, flags = _items(descriptor, int(table[-1]), size)
            return Tabled(np.append(table, end), walk, flags)
        except FrameError:
            pass
    return Tabled(there, walk)  # the file is cut, or the table wrong: frame by frame


def _lone(data: memoryview) -> Lone | None:
    """The fragments of pixel data that is whole, joined; None if there is anything odd."""
    parts, place = [], 0
    while data[place : place + 4] == _ITEM:
        stop = place + 8 + int.from_bytes(data[place + 4 : place + 8], "little")
        parts.append(bytes(data[place + 8 : stop]))
        place = stop
    if len(parts) < 2 or data[place : place + 4] != _END or len(parts[0]) > 4:
        return None
    if any(map(_begins, parts[2:])):
        return None
    return Lone(parts[1] if len(parts) == 2 else b"".join(parts[1:]))


def _table(descriptor: int, start: int, size: int, frames: int) -> NDArray[np.int64] | None:
    """Offsets in the file of the first items of the frames; None if no table can be right."""
    head = os.pread(descriptor, 8, start)
    if len(head) < 8 or head[:4] != _ITEM:
        return None
    length = int.from_bytes(head[4:], "little")
    if length == 4 * frames:
        said = np.frombuffer(os.pread(descriptor, length, start + 8), "<u4")
    elif length == 0:
        said = _extended(descriptor, start, frames)
    else:
        return None
    # In uint64: an offset beyond 2^62 is no offset.
    if len(said) != frames or said[0] != 0 or int(said[-1]) >> 62:
        return None
    places = said.astype(np.int64) + start + 8 + length
    return places if (places[1:] > places[:-1]).all() else None


def _extended(descriptor: int, start: int, frames: int) -> NDArray[Any]:
    """The extended offset table (PS3.3 C.7.6.3.1.8); empty if there is none.

    It lies right before the pixel data, its own lengths between them: so its place is known.
    """
    count = 8 * frames
    elements = [b"\xe0\x7f" + e + b"\0OV\0\0" + count.to_bytes(4, "little") for e in (b"\1", b"\2")]
    place = start - 12 - 2 * (12 + count)
    if count >= 1 << 32 or place < 0:
        return np.empty(0, "<u8")
    if [os.pread(descriptor, 12, place + k * (12 + count)) for k in (0, 1)] != elements:
        return np.empty(0, "<u8")
    return np.frombuffer(os.pread(descriptor, count, place + 12), "<u8")


def _values_of_items(data: bytes, length: int) -> bytes | None:
    """The values of the items that fill `data`, joined; None if they do not."""
    parts, place = [], 0
    while place < length:
        if data[place : place + 4] != _ITEM:
            return None
        stop = place + 8 + int.from_bytes(data[place + 4 : place + 8], "little")
        parts.append(data[place + 8 : stop])
        place = stop
    if place != length or len(data) < length:
        return None
    return parts[0] if len(parts) == 1 else b"".join(parts)


@dataclass(frozen=True)
class _Opened:
    """A file that is known by what it is, so that a walk is remembered after it was closed."""

    key: tuple[int, ...]
    descriptor: int = field(compare=False)


def _walked(opened: _Opened, start: int, size: int, frames: int) -> Walked:
    descriptor = opened.descriptor
    table, fragments, flags = _walk(descriptor, start, size)
    if not fragments:
        raise FrameError("the pixel data has no fragments; the file is truncated")
    if frames == 1:
        heads = [os.pread(descriptor, min(length, 8), offset) for offset, length in fragments]
        begin = [k for k, head in enumerate(heads) if _begins(head)]
        if len(begin) > 1:
            del fragments[begin[1] :]
        if len(begin) > 1 or len(table) > 1:
            flags = (*flags, "excess-pixel-data")
        return Walked((tuple(fragments),), flags)
    if len(fragments) == frames:
        return Walked(tuple((f,) for f in fragments), flags)
    groups = _by_table(table, fragments, frames) or _by_marker(descriptor, fragments, frames)
    if groups is None:
        raise FrameError(
            f"{len(fragments)} fragments cannot be dealt to {frames} frames: Number of Frames "
            "(0028,0008) is wrong or the file is truncated"
        )
    return Walked(groups, flags)


_remembered = lru_cache(maxsize=4)(_walked)  # the shards of one long file walk it once


def _walk(descriptor: int, start: int, size: int) -> tuple[list[int], Items, tuple[str, ...]]:
    """(basic offset table, fragments, flags), by the item headers."""
    fragments, _, flags = _items(descriptor, start, size)
    if not fragments:
        return [], [], flags
    (offset, length), *rest = fragments
    data = read_range(descriptor, offset, length)
    table = [int.from_bytes(data[k : k + 4], "little") for k in range(0, length - 3, 4)]
    return table, rest, flags


def _items(descriptor: int, start: int, size: int) -> tuple[Items, int, tuple[str, ...]]:
    """(the items from `start` on, where the last one ends, flags)."""
    found: Items = []
    place = start
    while place + 8 <= size:
        head = os.pread(descriptor, 8, place)
        if head[:4] == _END:
            return found, place, ()
        length = int.from_bytes(head[4:], "little")
        if head[:4] != _ITEM or length == 0xFFFFFFFF:
            raise FrameError(f"no item at byte {place} of the pixel data: {head[:4].hex()}")
        if place + 8 + length > size:
            raise FrameError(
                f"pixel data is truncated: a fragment of {length} bytes at byte {place + 8}, "
                f"the file has {size}; copy the file again"
            )
        found.append((place + 8, length))
        place += 8 + length
    rest = os.pread(descriptor, 8, place)
    if rest[:3] == _ITEM[:3]:
        raise FrameError(
            f"pixel data is truncated: the file ends at byte {size}, within the header of a "
            "fragment; copy the file again"
        )
    return found, place, () if rest[:4] == _END else _UNTERMINATED


def _begins(fragment: bytes) -> bool:
    """True if a codestream begins here: SOI, SOC, or the header of RLE (PS3.5 G.5)."""
    if fragment[:3] == b"\xff\xd8\xff" or fragment[:4] == b"\xff\x4f\xff\x51":
        return True
    return fragment[1:8] == b"\0\0\0\x40\0\0\0" and 0 < fragment[0] < 16


def _by_table(table: list[int], fragments: Items, frames: int) -> tuple[Fragments, ...] | None:
    if len(table) != frames or table[0] != 0:
        return None
    origin = fragments[0][0] - 8
    index = {offset - 8 - origin: k for k, (offset, _) in enumerate(fragments)}
    try:
        starts = [index[offset] for offset in table]
    except KeyError:
        return None
    bounds = [*starts, len(fragments)]
    if any(a >= b for a, b in pairwise(bounds)):
        return None
    return tuple(tuple(fragments[a:b]) for a, b in pairwise(bounds))


def _by_marker(descriptor: int, fragments: Items, frames: int) -> tuple[Fragments, ...] | None:
    """Frames end where a fragment ends with EOI or EOC (FFD9), perhaps padded."""
    groups: list[Fragments] = []
    current: list[tuple[int, int]] = []
    for offset, length in fragments:
        current.append((offset, length))
        tail = os.pread(descriptor, min(length, 10), offset + max(0, length - 10))
        if b"\xff\xd9" in tail:
            groups.append(tuple(current))
            current = []
    return tuple(groups) if len(groups) == frames and not current else None
