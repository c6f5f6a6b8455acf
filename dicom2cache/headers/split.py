"""The common header in two: what the files of a series differ in, and all else as one value.

The elements are walked by the compiled loop (`_scan.c`) where it is there; scan.py does the same,
and what the loop has no room for.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from dicom2cache.headers.elements import CHARSET, Elements, Raw, dictionary_vr
from dicom2cache.headers.scan import begin, says_what, scan
from dicom2cache.pixels import kernel
from dicom2cache.sources.place import Opened

CLOCKS = frozenset({0x00080022, 0x00080032, 0x0008002A})
"""Acquisition Date, Time and DateTime: one column; SUV too depends on them"""
SET = CLOCKS | {
    0x00080018, 0x00181060, 0x00200012, 0x00200013, 0x00200032, 0x00201041, 0x00541300,
}  # fmt: skip
"""SOP Instance UID, Trigger Time, Acquisition and Instance Number, Image Position, Slice Location,
Frame Reference Time: each in one column"""
_PET = frozenset({0x00181242})
"""Actual Frame Duration: read for SUV only"""
OWN = SET | _PET
GROUPS = frozenset({0x52009229, 0x52009230})
"""functional groups, which say the same things again and win"""
_APART = OWN | GROUPS | {CHARSET}
LONGEST = 1024
"""bytes of a value that files are thought to share"""


class Split(NamedTuple):
    """The wanted elements of a header."""

    said: Any
    """all that are not in `own`, as one value: where it is equal, and what else is here but `own`
    and `offset`, they are equal; None if there is one that is longer than LONGEST"""
    own: dict[int, Raw]
    """those of _APART"""
    implicit: bool
    syntax: str
    """transfer syntax UID"""
    offset: int
    """of the pixel data element"""
    head: bytes
    """its first 12 bytes"""
    raw: bytes | None
    """those that are not in `own`, one behind the other; None: in `elements`"""
    elements: Elements | None

    def whole(self) -> Elements | None:
        """All of it; None if pydicom shall say what it is."""
        if self.elements is not None or self.raw is None:
            return self.elements
        found = kernel.compiled.scan_parts(self.raw, self.implicit) | self.own
        if not says_what(found):
            return None
        return Elements(found, self.implicit, self.syntax, self.offset, self.head)

    def count(self, in_value: Callable[[bytes], int]) -> int:
        """The sum of `in_value` over all values."""
        found = {} if self.raw is None else kernel.compiled.scan_parts(self.raw, self.implicit)
        found = self.own | found if self.elements is None else self.elements.found
        return sum(in_value(value) for _, value in found.values())


def split(file: Opened, wanted: frozenset[int]) -> Split | None:
    """The header of an open file; None if there is anything in it that pydicom should judge."""
    if kernel.compiled is not None:
        try:
            return _walked(file, wanted)
        except OSError:
            return None
        except _NoRoom:
            pass
    elements = scan(file, wanted)
    return None if elements is None else _parted(elements)


class _NoRoom(Exception):
    """An element that is larger than what is read at once."""


def _walked(file: Opened, wanted: frozenset[int]) -> Split | None:
    compiled, tags = kernel.compiled, _ascending(wanted)
    start, data = 0, file.read(0, file.at_once[0])
    begun = begin(data, compiled.scan_meta)
    if begun is None:
        return None
    syntax, implicit, at = begun
    parts, own, last, is_long = list[bytes](), dict[int, Raw](), 0x0002FFFF, False
    while True:
        found = compiled.scan_walk(
            data, at, last, implicit, tags, _APART_TAGS, LONGEST, dictionary_vr
        )
        if found is None:
            return None
        part, some, stop, last, done, longer = found
        parts.append(part)
        own, is_long = own | some, is_long or longer
        if done:
            break
        if start and not stop:
            raise _NoRoom
        start, at = start + stop, 0
        data = file.read(start, file.at_once[1])
        if len(data) < 12:
            return None  # the file ends here
    raw = b"".join(parts)
    said = None if is_long else raw
    head = data[stop : stop + 12]
    return Split(said, own, implicit, syntax.decode(), start + stop, head, raw, None)


def _parted(elements: Elements) -> Split:
    """The same of a header that was scanned."""
    found, said = elements.found, None
    own = {tag: raw for tag, raw in found.items() if tag in _APART}
    others = tuple([one for one in found.items() if one[0] not in _APART])
    if max([len(raw[1]) for _, raw in others], default=0) <= LONGEST:
        said = others
    _, implicit, syntax, offset, head = elements
    return Split(said, own, implicit, syntax, offset, head, None, elements)


@lru_cache(maxsize=8)
def _ascending(tags: frozenset[int]) -> bytes:
    """The tags as the compiled loop takes them, 32 bits each."""
    return array("I", sorted(tags)).tobytes()


_APART_TAGS = _ascending(_APART)
