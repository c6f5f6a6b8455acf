"""Exceptions that compiled code can only report, raised after all.

A decoder that meets an error where its caller expects none hands it to `sys.unraisablehook`, and
returns as if all were well: with OpenJPH's that leaves a frame of zeros.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_watched: dict[int, tuple[str, list[BaseException]]] = {}
"""thread: the library that runs in it, and what it has reported"""
_before: list[Callable[..., Any]] = []  # the hooks of the process, while ours are in their place


def raising(library: str, function: Callable[..., T], *arguments: Any) -> T:
    """The result of `function(*arguments)`.

    Raises the first exception that `library` could only report in this thread meanwhile.
    """
    reported: list[BaseException] = []
    thread = threading.get_ident()
    with _lock:
        if not _watched:
            _before[:] = sys.unraisablehook, sys.excepthook
            sys.unraisablehook, sys.excepthook = _unraisable, _printed
        _watched[thread] = library, reported
    try:
        result = function(*arguments)
    finally:
        with _lock:
            del _watched[thread]
            if not _watched:
                sys.unraisablehook, sys.excepthook = _before
    if reported:
        raise reported[0]
    return result


def _unraisable(report: Any) -> None:
    library, reported = _watched.get(threading.get_ident(), ("", []))
    if library and str(report.object).startswith(library) and report.exc_value is not None:
        reported.append(report.exc_value)
    else:
        _before[0](report)


def _printed(kind: Any, error: Any, trace: Any) -> None:
    """Cython prints what it then reports: not where it is raised."""
    if threading.get_ident() not in _watched:
        _before[1](kind, error, trace)
