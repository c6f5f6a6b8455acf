"""Where the frames of encapsulated pixel data lie in the file (PS3.5 A.4)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import pairwise

from dicom2cache.errors import FrameError

_ITEM, _END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"


@dataclass(frozen=True)
class Frames:
    """The fragments of each frame, as (offset in the file, length in bytes)."""

    fragments: tuple[tuple[tuple[int, int], ...], ...]

    def read(self, descriptor: int, frame: int) -> bytes:
        """The codestream of frame `frame`, from 0."""
        if frame >= len(self.fragments):
            raise FrameError(f"frame {frame} is not there; the file holds {len(self.fragments)}")
        parts = []
        for offset, length in self.fragments[frame]:
            part = os.pread(descriptor, length, offset)
            if len(part) < length:
                raise FrameError(f"a fragment is truncated: {len(part)} of {length} bytes")
            parts.append(part)
        return b"".join(parts)


def find_frames(descriptor: int, start: int, size: int, frames: int) -> Frames:
    """The fragments of all frames of the pixel data whose first item is at `start`.

    By the basic offset table where it is valid, else one fragment for each frame, else by the end
    of image marker that closes a codestream. Raises FrameError if the items are broken or do not
    make `frames` frames.
    """
    table, fragments = _walk(descriptor, start, size)
    if not fragments:
        raise FrameError("the pixel data has no fragments; the file is truncated")
    if frames == 1:
        return Frames((tuple(fragments),))
    if len(fragments) == frames:
        return Frames(tuple((f,) for f in fragments))
    groups = _by_table(table, fragments, frames) or _by_marker(descriptor, fragments, frames)
    if groups is None:
        raise FrameError(
            f"{len(fragments)} fragments cannot be dealt to {frames} frames: Number of Frames "
            "(0028,0008) is wrong or the file is truncated"
        )
    return Frames(groups)


def _walk(descriptor: int, start: int, size: int) -> tuple[list[int], list[tuple[int, int]]]:
    """(basic offset table, fragments), by the item headers."""
    table: list[int] = []
    fragments: list[tuple[int, int]] = []
    place, first = start, True
    while place + 8 <= size:
        head = os.pread(descriptor, 8, place)
        if head[:4] == _END:
            break
        length = int.from_bytes(head[4:], "little")
        if head[:4] != _ITEM or length == 0xFFFFFFFF:
            raise FrameError(f"no item at byte {place} of the pixel data: {head[:4].hex()}")
        if first:
            data = os.pread(descriptor, length, place + 8)
            table = [int.from_bytes(data[k : k + 4], "little") for k in range(0, length - 3, 4)]
            first = False
        else:
            if place + 8 + length > size:
                raise FrameError(
                    f"pixel data is truncated: a fragment of {length} bytes at byte {place + 8}, "
                    f"the file has {size}; copy the file again"
                )
            fragments.append((place + 8, length))
        place += 8 + length
    return table, fragments


def _by_table(
    table: list[int], fragments: list[tuple[int, int]], frames: int
) -> tuple[tuple[tuple[int, int], ...], ...] | None:
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


def _by_marker(
    descriptor: int, fragments: list[tuple[int, int]], frames: int
) -> tuple[tuple[tuple[int, int], ...], ...] | None:
    """Frames end where a fragment ends with EOI or EOC (FFD9), perhaps padded."""
    groups: list[tuple[tuple[int, int], ...]] = []
    current: list[tuple[int, int]] = []
    for offset, length in fragments:
        current.append((offset, length))
        tail = os.pread(descriptor, min(length, 10), offset + max(0, length - 10))
        if b"\xff\xd9" in tail:
            groups.append(tuple(current))
            current = []
    return tuple(groups) if len(groups) == frames and not current else None
