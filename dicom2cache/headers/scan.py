"""The common header, read without a Dataset: the wanted elements of a Part 10 file, fast.

Only what is beyond doubt is read here: little endian, every element in order, of a known VR and
within the file, up to the pixel data. For anything else `scan` gives None, and pydicom reads the
file.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from struct import Struct
from struct import error as StructError

from dicom2cache.headers.elements import CHARSET, Elements, Raw, dictionary_vr, is_uid
from dicom2cache.headers.stretches import learned
from dicom2cache.sources.place import Opened

_UNDEFINED = 0xFFFFFFFF
_PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_DEEPEST = 16
_IMPLICIT, _DEFLATED, _BIG = (b"1.2.840.10008.1.2" + end for end in (b"", b".1.99", b".2"))
_SYNTAX = 0x00020010

_explicit, _implicit = Struct("<HH2sH").unpack_from, Struct("<HHL").unpack_from
_long = Struct("<L").unpack_from
# PS3.5 7.1.2: 16-bit and 32-bit lengths.
_SHORT = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())


class _Unusual(Exception):
    """pydicom shall read this file."""


def scan(file: Opened, wanted: frozenset[int]) -> Elements | None:
    """The header of an open file; None if there is anything in it that pydicom should judge."""
    try:
        return _scan(file, wanted)
    except (_Unusual, StructError, IndexError, OSError):
        return None


def _scan(file: Opened, wanted: frozenset[int]) -> Elements:
    window = _Window(file)
    begun = begin(window.data, _meta)
    if begun is None:
        raise _Unusual
    syntax, implicit, at = begun
    found, at = _elements(window, at, implicit, wanted)
    if not says_what(found):
        raise _Unusual
    head = window.data[at : at + 12]
    return Elements(found, implicit, syntax.decode(), window.start + at, head)


def begin(
    data: bytes, meta: Callable[[bytes], tuple[bytes, int] | None]
) -> tuple[bytes, bool, int] | None:
    """(transfer syntax, whether it is without VRs, offset after group 0002, which `meta` walks).

    None for a file that pydicom shall read.
    """
    # With the group length first, group 0002 is what it seems (PS3.10 7.1).
    if data[128:140] != b"DICM\x02\0\0\0UL\x04\0" or data.find(_DEFLATED, 0, 4096) >= 0:
        return None
    found = meta(data)
    if found is None:
        return None
    syntax, at = found
    if syntax in (_BIG, _DEFLATED) or data[at + 1] or data[at] < 0x08 or len(data) < at + 12:
        return None
    implicit, vr = syntax == _IMPLICIT, data[at + 4 : at + 6]
    if implicit == (vr.isupper() and vr.isalpha()):
        return None  # pydicom asks the first element which of the two holds
    return syntax, implicit, at


def says_what(found: Container[int]) -> bool:
    """Whether there is a SOP Class UID, or Rows: else pydicom shall say what the file is."""
    return 0x00080016 in found or 0x00280010 in found


def _meta(data: bytes) -> tuple[bytes, int]:
    """(transfer syntax, offset after group 0002), which is always explicit (PS3.10 7.1)."""
    at, last, syntax = 132, 0, None
    while True:
        group, element, vr, length = _explicit(data, at)
        if group != 2:
            break
        tag, start = group << 16 | element, at + 8
        if vr in _LONG:
            (length,), start = _long(data, at + 8), at + 12
        elif vr not in _SHORT:
            raise _Unusual
        at = start + length
        if tag <= last or at + 12 > len(data):
            raise _Unusual
        last = tag
        if tag == _SYNTAX:
            if vr != b"UI" or not is_uid(data[start:at]):
                raise _Unusual
            syntax = data[start:at].rstrip(b"\0")
    if not syntax:
        raise _Unusual
    return syntax, at


def _elements(
    window: _Window, at: int, implicit: bool, wanted: frozenset[int]
) -> tuple[dict[int, Raw], int]:
    """({tag: (VR, value)}, place of the pixel data in the window)."""
    data, most = window.data, len(window.data) - 12
    found: dict[int, Raw] = {}
    last, vr = 0x0002FFFF, None
    lessons = learned(implicit, wanted)
    stretches, loose = lessons.stretches, list[tuple[int, int]]()
    first, moved = data, None  # how many elements were read when the window was left
    while True:
        if at > most:
            at = window.move(window.start + at)
            data, most = window.data, len(window.data) - 12
            moved = len(loose) if moved is None else moved
            if most < 0:
                raise _Unusual  # the file ends here
        if implicit:
            group, element, length = _implicit(data, at)
            start = at + 8
        else:
            group, element, vr, length = _explicit(data, at)
            if vr in _SHORT:
                start = at + 8
            elif vr in _LONG:
                (length,), start = _long(data, at + 8), at + 12
            else:
                raise _Unusual
        tag = group << 16 | element
        if tag <= last:
            raise _Unusual
        known = stretches.get(tag)
        if known is not None and data.startswith(known.data, at):
            last, at = known.last, at + len(known.data)
            found.update(known.found)
            continue
        last = tag
        if tag in _PIXELS:
            if moved is None:
                lessons.tell(first, loose, at, found, not stretches)
            elif moved:
                end = loose[moved - 1][1]
                lessons.tell(first, loose[: moved - 1], end, found, not stretches)
            return found, at
        loose.append((tag, at))
        if length == _UNDEFINED:
            if tag in wanted or not _is_sequence(tag, vr, data[start : start + 4]):
                raise _Unusual
            place = _sequence_end(window, window.start + start, implicit, 0)
            at = place - window.start
            if window.data is not data:
                data, most = window.data, len(window.data) - 12
                moved = len(loose) if moved is None else moved
            continue
        at = start + length
        if tag in wanted:
            value = data[start:at]
            if at > len(data):
                value = window.value(start, length)
            found[tag] = vr, value


class _Window:
    """The part of the file that is in memory."""

    __slots__ = ("data", "file", "start")

    def __init__(self, file: Opened) -> None:
        self.file, self.start = file, 0
        self.data = file.read(0, file.at_once[0])

    def move(self, start: int) -> int:
        """Have `start` in memory; its place there."""
        self.start, self.data = start, self.file.read(start, self.file.at_once[1])
        return 0

    def value(self, start: int, length: int) -> bytes:
        """The bytes at index `start`, which go on beyond `data`."""
        if self.start + start + length > self.file.size:
            raise _Unusual  # it would be allocated before it is found to be absent
        return self.file.read(self.start + start, length)

    def at(self, place: int, count: int) -> int:
        """Index in `data` of `count` bytes of the file."""
        index = place - self.start
        if index < 0 or index + count > len(self.data):
            index = self.move(place)
            if len(self.data) < count:
                raise _Unusual
        return index


def _is_sequence(tag: int, vr: bytes | None, following: bytes) -> bool:
    """True where an undefined length is that of a sequence, for pydicom too."""
    if vr is not None:
        return vr == b"SQ"
    known = dictionary_vr(tag)
    return known == "SQ" if known else following == b"\xfe\xff\x00\xe0"


def _sequence_end(window: _Window, place: int, implicit: bool, depth: int) -> int:
    """The offset after a sequence of undefined length, its items walked strictly (PS3.5 7.5)."""
    while True:
        index = window.at(place, 8)
        group, element, length = _implicit(window.data, index)
        tag, place = group << 16 | element, place + 8
        if tag == _SEQUENCE_END and length == 0:
            return place
        if tag != _ITEM or depth == _DEEPEST:
            raise _Unusual
        stop = None if length == _UNDEFINED else place + length
        place = _item_end(window, place, stop, implicit, depth)


def _item_end(window: _Window, place: int, stop: int | None, implicit: bool, depth: int) -> int:
    """The offset after an item; one of defined length must end with its last element."""
    vr = None
    while place != stop:
        if stop is not None and place > stop:
            raise _Unusual
        index = window.at(place, 8)
        group, element, length = _implicit(window.data, index)
        tag, start = group << 16 | element, place + 8
        if tag == _ITEM_END and stop is None and length == 0:
            return start
        if group == 0xFFFE or tag == CHARSET:
            raise _Unusual
        if not implicit:
            vr, length = _explicit(window.data, index)[2:]
            if vr in _LONG:
                index = window.at(place, 12)
                (length,), start = _long(window.data, index + 8), place + 12
            elif vr not in _SHORT:
                raise _Unusual
        if length == _UNDEFINED:
            index = window.at(start, 4)
            if not _is_sequence(tag, vr, window.data[index : index + 4]):
                raise _Unusual
            place = _sequence_end(window, start, implicit, depth + 1)
        else:
            place = start + length
    return place
