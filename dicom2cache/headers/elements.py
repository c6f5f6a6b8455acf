"""Values of scanned elements, as pydicom makes them, without a Dataset for each file.

Each distinct value is converted by pydicom once and remembered, save for numbers, times, UIDs and
ASCII text in forms whose meaning is beyond doubt: pydicom's import takes longer than a small build
does all else, and most headers need nothing of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, lru_cache, partial
from struct import Struct
from typing import Any, NamedTuple

from dicom2cache.headers.dictionary import DICTIONARY

CHARSET = 0x00080005

Raw = tuple[bytes | None, bytes]
"""(VR, value); without a VR where it is implicit"""
_PLAIN = frozenset(b"AE AS CS DA DS DT FL FD IS LO LT SH SL SS ST TM UI UL US".split())
"""VRs whose value depends on nothing but its bytes and the character set"""
_CHARSETS = frozenset({b"ISO_IR 6", b"ISO_IR 100", b"ISO_IR 192", b"ISO 2022 IR 6"})
"""terms that pydicom knows and that leave ASCII as it is (PS3.3 C.12.1.1.2)"""
_LONGEST_KEPT, _MOST_KEPT = 1024, 20_000  # bytes of a value, and values, that are remembered

_number = re.compile(rb" *[+-]?[0-9]{1,20}(?:\.[0-9]{0,20})?(?:[eE][+-]?[0-9]{1,2})? *").fullmatch
_integer = re.compile(rb" *[+-]?[0-9]{1,9} *").fullmatch
is_uid = re.compile(rb"[0-9.]+\0?").fullmatch
_clock = re.compile(rb"[0-9]+(?:\.[0-9]+)?(?:[+-][0-9]{4})? ?").fullmatch


class Elements(NamedTuple):
    """The wanted elements of a header, as they lie in the file."""

    found: dict[int, Raw]
    implicit: bool
    syntax: str
    """transfer syntax UID"""
    offset: int
    """of the pixel data element"""
    head: bytes
    """its first 12 bytes"""


class Scan:
    """Values of a header's elements, by keyword as in a pydicom Dataset (overlays by tag)."""

    __slots__ = ("_found", "_values", "file_meta", "get", "original_encoding")

    def __init__(self, elements: Elements) -> None:
        """Raises what pydicom raises for a value."""
        self._found = elements.found
        self._values = _values_of(elements.found, elements.implicit)
        self.get = self._values.get
        self.original_encoding = elements.implicit, True
        self.file_meta = {"TransferSyntaxUID": elements.syntax}

    def __contains__(self, key: Any) -> bool:
        return (key if isinstance(key, str) else key[0] << 16 | key[1]) in self._values

    def __getitem__(self, key: tuple[int, int]) -> Any:
        tag = key[0] << 16 | key[1]
        vr = self._found[tag][0]
        return _Element(self._values[tag], "UN" if vr is None else vr.decode("latin-1"))


class _Element:
    __slots__ = ("VR", "value")

    def __init__(self, value: Any, vr: str) -> None:
        self.value, self.VR = value, vr


@cache
def dictionary_vr(tag: int) -> str | None:
    """VR in pydicom's dictionary, None for a tag that is not there."""
    if tag in DICTIONARY or tag >> 16 & 1:  # private ones never are
        return DICTIONARY.get(tag, (None,))[0]
    from pydicom.datadict import dictionary_VR

    try:
        return str(dictionary_VR(tag))
    except KeyError:
        return None


def _values_of(found: dict[int, Raw], implicit: bool) -> dict[str | int, Any]:
    """{keyword, or tag of an overlay: value as pydicom gives it, or a plain equal}."""
    pydicom = _Pydicom(found, implicit)
    known = _known(found.get(CHARSET), implicit)
    values: dict[str | int, Any] = {}
    for tag, (vr, value) in found.items():
        if tag == CHARSET:
            if vr not in (None, b"CS", b"UN"):
                raise ValueError("a character set that is no text")  # what pydicom makes of it
            values["SpecificCharacterSet"] = value.decode("latin-1").split("\\")
            continue
        name, plain, quick, empty = _about(tag, vr)
        if quick is not None and not value:
            values[name] = empty
        elif quick is not None and (made := quick(value)) is not None:
            values[name] = made
        elif not plain or len(value) > _LONGEST_KEPT:
            values[name] = pydicom.value(tag)
        else:
            key = tag, vr, value
            if key not in known:
                if len(known) >= _MOST_KEPT:
                    known.clear()
                known[key] = pydicom.value(tag)
            values[name] = known[key]
    return values


@lru_cache(maxsize=64)
def _known(charset: Raw | None, implicit: bool) -> dict[tuple[int, bytes | None, bytes], Any]:
    """Values that pydicom has made of (tag, VR, bytes) under this character set.

    Raises what pydicom raises for the character set itself.
    """
    if charset is not None and charset[1].rstrip(b" ") not in _CHARSETS:
        _dataset({CHARSET: charset}, implicit)
    return {}


@cache
def _about(
    tag: int, vr: bytes | None
) -> tuple[str | int, bool, Callable[[bytes], Any] | None, str | None]:
    """(name of the element in a Scan, True if its VR is in _PLAIN, quick conversion or None, what
    it is if it is empty)."""
    usual = "LO" if _is_creator(tag) and vr else dictionary_vr(tag)
    said = usual if vr is None else vr.decode()
    quick = _QUICK.get(said) if said and usual and said in usual.split(" or ") else None
    keyword = None if tag >> 24 == 0x60 else _keyword(tag)  # one for all overlays
    return keyword or tag, (said or "").encode() in _PLAIN, quick, "" if said in _TEXT else None


def _is_creator(tag: int) -> bool:
    """True for an element that says whose a private block is (PS3.5 7.8.1)."""
    return tag >> 16 & 1 == 1 and 0x10 <= tag & 0xFFFF < 0x100


def _keyword(tag: int) -> str | None:
    if tag in DICTIONARY or tag >> 16 & 1:
        return DICTIONARY.get(tag, (None, None))[1]
    from pydicom.datadict import keyword_for_tag

    return keyword_for_tag(tag) or None


class _Pydicom:
    """The same elements as a pydicom Dataset, made when a value is asked for."""

    def __init__(self, found: dict[int, Raw], implicit: bool) -> None:
        self._found, self._implicit = found, implicit
        self._ds: Any = None

    def value(self, tag: int) -> Any:
        """The element's value; raises what pydicom raises."""
        if self._ds is None:
            self._ds = _dataset(self._found, self._implicit)
        return self._ds[tag].value


def _dataset(found: dict[int, Raw], implicit: bool) -> Any:
    """A Dataset as pydicom's reader makes it of these elements."""
    from pydicom.charset import convert_encodings, default_encoding
    from pydicom.dataelem import RawDataElement, empty_value_for_VR
    from pydicom.dataset import Dataset
    from pydicom.tag import BaseTag
    from pydicom.values import convert_string

    raw = {}
    for tag, (code, value) in found.items():
        vr = None if code is None else code.decode()
        made = value if value else empty_value_for_VR(vr, raw=True)
        raw[BaseTag(tag)] = RawDataElement(BaseTag(tag), vr, len(value), made, 0, implicit, True)
    ds = Dataset(raw)
    encoding: Any = default_encoding
    if CHARSET in raw:
        convert_encodings(convert_string(raw[CHARSET].value or b"", True))  # as it raises
        encoding = ds._character_set
    ds.set_original_encoding(implicit, True, encoding)
    return ds


def _numbers(value: bytes) -> float | list[float] | None:
    parts = value.split(b"\\")
    if not all(map(_number, parts)):
        return None
    return float(value) if len(parts) == 1 else [float(part) for part in parts]


def _whole(value: bytes) -> int | None:
    return int(value) if _integer(value) else None


def _uid(value: bytes) -> str | None:
    return value.rstrip(b"\0").decode() if is_uid(value) else None


def _moment(value: bytes) -> str | None:
    return value.rstrip(b" ").decode() if _clock(value) else None


def _is_ascii(value: bytes) -> bool:
    """True for what all character sets read alike."""
    return value.isascii() and b"\x1b" not in value


def _person(value: bytes) -> str | None:
    return value.rstrip(b" \0").decode() if _is_ascii(value) else None


def _words(value: bytes) -> str | list[str] | None:
    """Text that may have several values, each without its padding."""
    if not _is_ascii(value):
        return None
    parts = [part.rstrip("\0 ") for part in value.decode().split("\\")]
    return parts if len(parts) > 1 else parts[0]


def _codes(value: bytes) -> str | list[str] | None:
    """As `_words`; only the last value loses its padding."""
    if not _is_ascii(value):
        return None
    parts = value.decode().rstrip("\0 ").split("\\")
    return parts if len(parts) > 1 else parts[0]


def _one(form: Struct, value: bytes) -> float | None:
    """One number; of several pydicom mends some, as of descriptors of LUTs."""
    return form.unpack(value)[0] if len(value) == form.size else None


_QUICK: dict[str, Callable[[bytes], Any]] = {
    "DS": _numbers, "IS": _whole, "UI": _uid, "DA": _moment, "TM": _moment, "DT": _moment,
    "PN": _person, "CS": _codes, "AS": _codes, "LO": _words, "SH": _words,
    "US": partial(_one, Struct("<H")), "SS": partial(_one, Struct("<h")),
    "UL": partial(_one, Struct("<L")), "SL": partial(_one, Struct("<l")),
    "FL": partial(_one, Struct("<f")), "FD": partial(_one, Struct("<d")),
}  # fmt: skip
"""forms that mean one thing whatever else the header says; the others are pydicom's to read"""
_TEXT = frozenset({"AS", "CS", "DA", "DT", "LO", "PN", "SH", "TM", "UI"})
"""of these, VRs whose value is text, empty if there is none; else there is none at all"""
