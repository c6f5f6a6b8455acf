"""What of a message is the program's own words: a header's, or a path, is never among them.

A reason is a sentence with values in it, by whoever writes one. Here all that does not stand in
this program's own code is left out, so that a sentence that is added later cannot let a value
through. Tags stay, with the keyword that the standard gives them.
"""

from __future__ import annotations

import errno
import os
import pkgutil
import re
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from importlib.util import find_spec
from string import Formatter
from types import CodeType
from typing import Any

from dicom2cache.errors import Dicom2cacheError

_LEAST = 6
"""characters of a piece: shorter ones could be a name"""
_TAG = re.compile(r"(\w+) \(([0-9A-F]{4}),([0-9A-F]{4})\)")
_COUNTED = re.compile(
    r"(?<=\d )(?:arrays?|channels?|columns?|contours?|entr(?:y|ies)|fragments?|frames?|images?|"
    r"items?|masks?|members?|numbers?|points?|segments?|slices?|tiles?)\b"
)
"""what is counted, behind its number (`counting`)"""
_BETWEEN = re.compile(r"[\s.,:;()]{0,3}")
LEFT_OUT = "..."


def own_words(text: str, kept: Iterable[str] = ()) -> str:
    """The text with `...` for what is not in this program's code, in `kept`, or a tag."""
    return _own(text, tuple(k for k in kept if k))


@lru_cache(4096)
def _own(text: str, kept: tuple[str, ...]) -> str:
    found, left, at = [], "", 0
    while at < len(text):
        piece = _piece_at(text, at, kept)
        if piece:
            found += [_without(left), piece]
            left, at = "", at + len(piece)
        else:
            left, at = left + text[at], at + 1
    return "".join([*found, _without(left)])


def _without(left: str) -> str:
    if _BETWEEN.fullmatch(left):
        return left
    return f"{' ' * left.startswith(' ')}{LEFT_OUT}{' ' * left.endswith(' ')}"


def _piece_at(text: str, at: int, kept: tuple[str, ...]) -> str:
    """The longest of what may stay that the text has at a place."""
    best = max((k for k in kept if text.startswith(k, at)), key=len, default="")
    tag = _TAG.match(text, at)
    if tag and (at == 0 or not text[at - 1].isalnum()) and _is_tag(*tag.groups()):
        best = max(best, tag[0], key=len)
    if counted := _COUNTED.match(text, at):
        best = max(best, counted[0], key=len)
    for piece in _pieces().get(text[at : at + _LEAST], ()):
        if len(piece) > len(best) and text.startswith(piece, at):
            return piece
    return best


def _is_tag(keyword: str, group: str, element: str) -> bool:
    from pydicom.datadict import keyword_for_tag

    return bool(keyword_for_tag(int(group + element, 16)) == keyword)


@cache
def _pieces() -> dict[str, list[str]]:
    """{first characters: pieces, longest first} of the package's constant texts."""
    found = {piece for text in _constants() for piece in _constant_parts(text)}
    found |= {os.strerror(number) for number in range(1, 134)}
    pieces: dict[str, list[str]] = {}
    for piece in sorted(found, key=len, reverse=True):
        if len(piece) >= _LEAST and " " in piece:
            pieces.setdefault(piece[:_LEAST], []).append(piece)
    return pieces


def _constant_parts(text: str) -> Iterator[str]:
    """What stands between the fields of a template; a text that is none, as it is."""
    try:
        yield from [literal for literal, *_ in Formatter().parse(text)]
    except ValueError:
        yield text


def _constants() -> Iterator[str]:
    import dicom2cache

    for module in pkgutil.walk_packages(dicom2cache.__path__, "dicom2cache."):
        loader: Any = find_spec(module.name).loader  # type: ignore[union-attr]
        yield from _texts(loader.get_code(module.name))


def _texts(constant: object) -> Iterator[str]:
    if isinstance(constant, str):
        yield constant
    elif isinstance(constant, CodeType):
        for inner in constant.co_consts:
            yield from _texts(inner)
    elif isinstance(constant, tuple | frozenset):
        for inner in constant:
            yield from _texts(inner)


@contextmanager
def own_words_only(on: bool, *kept: object) -> Iterator[None]:
    """Where `on`, what is raised says only this program's words and what is `kept`."""
    try:
        yield
    except Exception as e:
        if not on:
            raise
        raise _veiled(e, [str(k) for k in kept]) from None


def _veiled(error: Exception, kept: list[str]) -> Exception:
    said = own_words(str(error), kept)
    if isinstance(error, Dicom2cacheError):
        return type(error)(said)
    if isinstance(error, MemoryError):
        return MemoryError()
    if isinstance(error, OSError):
        name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
        shown = name if any(name.startswith(k) for k in kept) else "a file of the sources"
        number = error.errno or errno.EIO
        return OSError(number, os.strerror(number), shown)
    if isinstance(error, ValueError):
        return ValueError(said)
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{os.path.basename(place.filename)}:{place.lineno}"
    return Dicom2cacheError(f"internal error: {type(error).__name__} at {where}; please report")
