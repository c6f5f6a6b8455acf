"""The Waveform Sequence (5400,0100), walked item by item: where samples lie, and none of them read.

A recording of a day is one element of gigabytes, so the sequence is none of those that pydicom
makes a value of. What describes it is parsed by pydicom, an item at a time.
"""

from __future__ import annotations

from typing import IO, Any, Literal

from dicom2cache.errors import FrameError
from dicom2cache.sources.file import HEAD, ITEM
from dicom2cache.sources.inflate import Forward

SEQUENCE = 0x54000100
_DATA = 0x54001010
_PIXELS = 0x7FE00008
_ITEM, _END = 0xFFFEE000, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_DEFERRED = 1 << 16
"""bytes of an element from which on it is not read at once"""


class Inflated(Forward):
    """A deflated dataset as a stream that keeps nothing of what it has gone past."""

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes. Raises FrameError beyond the most."""
        if size < 0 or self._at + size > self._most:
            raise FrameError(
                f"the dataset inflates to more than {self._most >> 20} MiB; if the file is right, "
                "give --limits inflate_mib=NUMBER"
            )
        found = self._inflater.read(self._at, size)
        self._at += len(found)
        if self._item is not None and size == HEAD and found[:4] == ITEM:
            self._item()
        return found


def begins(head: bytes, little: bool) -> bool:
    """True if the element that begins with these bytes is a Waveform Sequence."""
    return len(head) >= HEAD and _tag(head, "little" if little else "big") == SEQUENCE


def _tag(head: bytes, order: Literal["little", "big"]) -> int:
    return int.from_bytes(head[:2], order) << 16 | int.from_bytes(head[2:4], order)


def groups_of(ds: Any, stream: IO[bytes], most: int) -> list[tuple[Any, Any]]:
    """(item without its samples, Waveform Data as a raw element without value) of each group.

    `stream` stands at the sequence, and then behind it; `ds` is the dataset up to there, `most`
    bytes may be read of one element that describes samples. Raises FrameError for what is no
    sequence, or ends too early.
    """
    implicit, little = ds.original_encoding
    order: Literal["little", "big"] = "little" if little else "big"
    head = stream.read(8)
    length = int.from_bytes(head[4:8] if implicit else stream.read(4), order)
    end = None if length == _UNDEFINED else stream.tell() + length
    found = []
    while end is None or stream.tell() < end:
        head = stream.read(HEAD)
        tag = _tag(head, order) if len(head) == HEAD else None
        if tag == _END and end is None:
            break
        if tag != _ITEM:
            raise _cut()
        found.append(_group(ds, stream, int.from_bytes(head[4:8], order), most))
    if not found:
        raise FrameError("WaveformSequence (5400,0100) has no item; legal: 1 or more")
    return found


def pixels_follow(ds: Any, stream: IO[bytes]) -> bool:
    """True if the dataset goes on to pixel data behind where the stream stands."""
    from pydicom.filereader import data_element_generator

    implicit, little = ds.original_encoding
    for element in data_element_generator(
        stream, implicit, little, defer_size=0,
        stop_when=lambda tag, vr, length: int(tag) >= _PIXELS,
    ):  # fmt: skip
        del element
    head = stream.read(4)
    return len(head) == 4 and _tag(head, "little" if little else "big") >> 16 == 0x7FE0


def _group(ds: Any, stream: IO[bytes], length: int, most: int) -> tuple[Any, Any]:
    from pydicom.dataset import Dataset
    from pydicom.filereader import data_element_generator

    implicit, little = ds.original_encoding
    end = None if length == _UNDEFINED else stream.tell() + length
    found: dict[Any, Any] = {}
    data = None
    if length:
        elements = data_element_generator(
            stream, implicit, little, defer_size=_DEFERRED, encoding=ds.original_character_set
        )
        for element in elements:
            if element.tag == _DATA:
                data = element
            else:
                found[element.tag] = _read(stream, element, most)
            if end is not None and stream.tell() >= end:
                break
    if end is not None and stream.tell() != end:
        raise _cut()
    item = Dataset(found)
    item.set_original_encoding(implicit, little, ds.original_character_set)
    return item, data


def _read(stream: IO[bytes], element: Any, most: int) -> Any:
    """The element with its value, which was left out if it is long."""
    if element.value is not None or getattr(element, "length", 0) in (0, _UNDEFINED):
        return element
    if element.length > most:
        raise FrameError(
            f"an element of {element.length >> 20} MiB, {element.tag}, describes samples of a "
            "waveform; if the file is right, give --limits header_mib=NUMBER"
        )
    place = stream.tell()
    stream.seek(element.value_tell)
    value = stream.read(element.length)
    stream.seek(place)
    return element._replace(value=value)


def _cut() -> FrameError:
    return FrameError(
        "WaveformSequence (5400,0100) ends within an item, or has what is none; the file is "
        "damaged or truncated, copy it again"
    )
