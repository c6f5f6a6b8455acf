"""The elements that slices of a series differ in, straight from their bytes where they are plain.

For anything else `plain_values` gives None, and elements.py and tags.py say what it means.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from dicom2cache.headers.acquisition import moment, since_year_0
from dicom2cache.headers.elements import Raw
from dicom2cache.pixels import kernel

_decimal = re.compile(rb" *[+-]?[0-9]{1,20}(?:\.[0-9]{0,20})?(?:[eE][+-]?[0-9]{1,2})? *").fullmatch
_integer = re.compile(rb" *[+-]?[0-9]{1,9} *").fullmatch
_uid = re.compile(rb"[0-9.]{1,64}\0?").fullmatch
_day = re.compile(rb"[0-9]{8}").fullmatch
_clock = re.compile(rb"[0-9]{2,6}(?:\.[0-9]{1,6})? ?").fullmatch


class _Odd(Exception):
    """A value whose meaning is not beyond doubt."""


def _text_of_uid(value: bytes) -> str:
    if _uid(value) is None:
        raise _Odd
    return value.rstrip(b"\0").decode()


def _whole(value: bytes) -> int:
    if _integer(value) is None:
        raise _Odd
    return int(value)


def _number(value: bytes) -> float:
    if _decimal(value) is None:
        raise _Odd
    return float(value)


def _place(value: bytes) -> list[float]:
    x, y, z = map(_number, value.split(b"\\"))  # ValueError for more or fewer
    return [x, y, z]


def _text_of_day(value: bytes) -> str:
    if _day(value) is None:
        raise _Odd
    return value.decode()


def _text_of_clock(value: bytes) -> str:
    if _clock(value) is None:
        raise _Odd
    return value.rstrip(b" ").decode()


def _odd(value: bytes) -> None:
    raise _Odd


class Values(NamedTuple):
    """What a file has for itself."""

    sop_uid: str | None
    acquisition: int | None
    instance: int | None
    position: list[float] | None
    slice_location: float | None
    trigger_time: float | None
    time: float | None
    acquired: float | None


_READ: dict[int, tuple[bytes, Callable[[bytes], Any]]] = {
    0x00080018: (b"UI", _text_of_uid),
    0x00080022: (b"DA", _text_of_day),
    0x00080032: (b"TM", _text_of_clock),
    0x0008002A: (b"DT", _odd),
    0x00181060: (b"DS", _number),
    0x00200012: (b"IS", _whole),
    0x00200013: (b"IS", _whole),
    0x00200032: (b"DS", _place),
    0x00201041: (b"DS", _number),
    0x00541300: (b"DS", _number),
}


def plain_values(own: dict[int, Raw]) -> Values | None:
    """Values of these elements, of those that `_READ` knows; None if one of them is odd."""
    if kernel.compiled is not None:
        if (made := kernel.compiled.scan_values(own)) is None:
            return None
        uid, acquisition, instance, place, location, trigger, time, day, after = made
        acquired = since_year_0(day, after)
        return Values(uid, acquisition, instance, place, location, trigger, time, acquired)
    return _by_patterns(own)


def _by_patterns(own: dict[int, Raw]) -> Values | None:
    found: dict[int, Any] = {}
    try:
        for tag, (vr, value) in own.items():
            if tag in _READ:
                usual, read = _READ[tag]
                if vr is not None and vr != usual:
                    return None
                if value:
                    found[tag] = read(value)
    except (_Odd, ValueError):
        return None
    get = found.get
    acquired = moment(None, get(0x00080022), get(0x00080032))
    return Values(
        get(0x00080018), get(0x00200012), get(0x00200013), get(0x00200032), get(0x00201041),
        get(0x00181060), get(0x00541300), acquired,
    )  # fmt: skip
