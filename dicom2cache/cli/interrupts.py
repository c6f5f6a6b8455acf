"""Ctrl-C, and SIGTERM, which schedulers send before they kill: one line, and never a traceback."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from dicom2cache.sources.system import interrupt_thread

INTERRUPTED = 130
"""exit status: 128 + SIGINT"""
SAID = "interrupted; run the same command again to go on"
_PATIENCE = 5.0  # seconds for a run to end itself, before a second Ctrl-C ends it at once
_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_asked_at: float | None = None


def asked() -> bool:
    """True if the run was asked to end: what fails then fails of that."""
    return _asked_at is not None


@contextmanager
def raised() -> Iterator[None]:
    """A block in which the main thread gets KeyboardInterrupt, once."""
    global _asked_at
    _asked_at = None
    before = [signal.getsignal(number) for number in _SIGNALS]
    hook = sys.unraisablehook
    sys.unraisablehook = _again(hook)
    _look_after(_raise)
    try:
        yield
    finally:
        for number, handler in zip(_SIGNALS, before, strict=True):
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        sys.unraisablehook = hook


def ignore() -> None:
    """From now on let nothing interrupt: the interpreter ends, and worker processes with it."""
    _look_after(signal.SIG_IGN)


def _look_after(handler: Any) -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as in the background of a shell
            signal.signal(number, handler)


def _leave(*_: object) -> NoReturn:
    os.write(2, f"{SAID}\n".encode())
    os._exit(INTERRUPTED)


def _raise(*_: object) -> None:
    global _asked_at
    now = time.monotonic()
    if _asked_at is None:
        _asked_at = now
        raise KeyboardInterrupt
    if now - _asked_at > _PATIENCE:
        _leave()


def _again(hook: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A hook for what a destructor or callback cannot raise: an interrupt is raised later."""

    def look(about: Any) -> None:
        global _asked_at
        if not issubclass(about.exc_type, KeyboardInterrupt):
            hook(about)
            return
        _asked_at = None
        main = threading.main_thread().ident or 0
        threading.Timer(0.01, interrupt_thread, (main,)).start()

    return look
