"""Values of flags that are texts, whole numbers and paths, without pydantic.

Typer (0.29) has pydantic make them, whose import and types took each command a tenth of a second.
What is not so plain, and what is wrong, is left to Typer: its words are the same as ever.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_origin

from typer import core

_LEFT = object()
"""a value that Typer shall look at"""
_whole = re.compile(r"[0-9]{1,9}").fullmatch
_OF_PATHS = {
    "exists": False, "file_okay": True, "dir_okay": True, "writable": False, "readable": True,
    "resolve_path": False, "allow_dash": False, "path_type": None,
}  # fmt: skip
"""what is asked of a path unless a flag asks for something else"""


def without_pydantic() -> None:
    """Have Typer make plain values by itself, where its version has a place for that."""
    build = getattr(core, "build_runtime_param", None)
    if build is not None and not isinstance(build, _Made):
        setattr(core, "build_runtime_param", _Made(build))  # noqa: B010 (for mypy)


class _Made:
    """Typer's `build_runtime_param`, put off until a value needs it."""

    def __init__(self, build: Callable[[Any], Any]) -> None:
        self._build = build

    def __call__(self, descriptor: Any) -> _Values:
        return _Values(descriptor, self._build)


class _Values:
    """What makes the values of one flag or argument."""

    def __init__(self, descriptor: Any, build: Callable[[Any], Any]) -> None:
        self._descriptor, self._build = descriptor, build
        self._whole: Any = None

    def coerce(self, value: Any, **about: Any) -> Any:
        """The value that a command gets; raises what Typer raises."""
        kind, asked = self._descriptor.annotation, self._descriptor.parameter_info
        many = about["param"].multiple or about["param"].nargs == -1
        if value is None:
            return () if many else None
        if many and get_origin(kind) is list and isinstance(value, list | tuple):
            made: Any = [_plain(get_args(kind)[0], asked, one) for one in value]
            left = any(one is _LEFT for one in made)
        else:
            made = _plain(kind, asked, value)
            left = made is _LEFT
        if not left:
            return made
        if self._whole is None:
            self._whole = self._build(self._descriptor)
        return self._whole.coerce(value, **about)


def _plain(kind: Any, asked: Any, value: Any) -> Any:
    """The value as a text, whole number or path; _LEFT for any other, and for one that is wrong."""
    if getattr(asked, "parser", None) is not None or getattr(asked, "clamp", False):
        return _LEFT
    if kind is str and type(value) is str:
        return value
    if kind is int and (type(value) is int or (type(value) is str and _whole(value))):
        number, least, most = int(value), asked.min, asked.max
        fits = (least is None or number >= least) and (most is None or number <= most)
        return number if fits else _LEFT
    if kind is Path and isinstance(value, str | Path):
        usual = all(getattr(asked, name, usual) == usual for name, usual in _OF_PATHS.items())
        if usual and (not os.path.exists(value) or os.access(value, os.R_OK)):
            return Path(value)
    return _LEFT
