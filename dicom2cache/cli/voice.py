"""How much a command says, and in which form: sentences, or one JSON object a line for machines."""

from __future__ import annotations

import functools
import inspect
import json
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, TextIO, cast

import typer

from dicom2cache.errors import Dicom2cacheError

Event = dict[str, Any]
BROKEN_PIPE = 141
"""exit status where nobody reads what is said: 128 + SIGPIPE"""


@dataclass(frozen=True)
class Voice:
    """What the flags of a command say; none of them: a summary, and progress."""

    quiet: bool = False
    verbose: bool = False
    json: bool = False


_now = Voice()
_lock = threading.Lock()
_cut = False
"""whether nobody reads stdout any more"""
_begun = 0.0
_command = ""

_FLAGS = {
    "quiet": Annotated[
        bool, typer.Option("--quiet", "-q", help="Say only what is wrong, on stderr.")
    ],
    "verbose": Annotated[
        bool, typer.Option("--verbose", "-v", help="Say all of it: each file, each phase.")
    ],
    "as_events": Annotated[
        bool, typer.Option("--json", help="For machines: a JSON object a line, an event each.")
    ],
}


def now() -> Voice:
    """How the command speaks that is run."""
    return _now


def voiced(command: Callable[..., None]) -> Callable[..., None]:
    """The command with --quiet, --verbose and --json, one of them at most."""
    own = inspect.signature(command, eval_str=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    flags = [
        inspect.Parameter(name, keyword, default=False, annotation=kind)
        for name, kind in _FLAGS.items()
    ]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        said = {name: given.pop(name) for name in _FLAGS}
        names = [f"--{n}" for n, on in zip(("quiet", "verbose", "json"), said.values(), strict=True)
                 if on]  # fmt: skip
        if len(names) > 1:
            raise Dicom2cacheError(f"{' and '.join(names)} contradict each other; leave one")
        _speak(Voice(*said.values()), command.__name__)
        command(**given)

    parameters = [*own.parameters.values(), *flags]
    run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def say(words: Callable[[], object], events: Callable[[], Iterable[Event]]) -> None:
    """What a command came to: by `words` on a terminal, or as events; quietly, neither."""
    if _now.json:
        emit_all(events())
    elif not _now.quiet:
        words()


def emit(event: str, **fields: Any) -> None:
    """One line of JSON, in ASCII: who does not listen any more stops no work.

    Raises OSError once where it cannot be written; what comes then goes nowhere.
    """
    global _cut
    line = json.dumps({"event": event, **fields}, default=str)
    with _lock:
        try:
            print(line, flush=True)
        except BrokenPipeError:
            _cut = True
            _to_nowhere(sys.stdout)
        except OSError as e:
            _to_nowhere(sys.stdout)
            raise OSError(e.errno, e.strerror, "stdout") from e


def emit_all(events: Iterable[Event]) -> int:
    """A line for each event, while somebody reads them; their number."""
    count = 0
    for count, event in enumerate(events, 1):  # noqa: B007
        emit(**event)
        if _cut:  # they only tell, and a million may be to come
            break
    return count


def ended(status: int) -> None:
    """The last event of a command, if it tells events."""
    if _now.json:
        seconds = round(time.monotonic() - _begun, 3)
        emit("end", command=_command, status=status, seconds=seconds)


def failed(sentence: str) -> None:
    """An error that ends the command: to stderr, and as an event."""
    if _now.json:
        emit("error", message=sentence.removeprefix("dicom2cache: "))
    print(sentence, file=sys.stderr)


@contextmanager
def heard() -> Iterator[None]:
    """A block in which one command speaks; afterwards the next one begins anew."""
    global _now, _cut
    _now, _cut = Voice(), False
    err = sys.stderr
    if err is not None:
        sys.stderr = cast(TextIO, _Whoever(err))
    warned, handler = warnings.showwarning, _Warnings()
    log = logging.getLogger("dicom2cache")

    def show(message: Warning | str, *rest: Any, **more: Any) -> None:
        if _now.json:
            emit("warning", message=str(message))
        else:
            warned(message, *rest, **more)

    warnings.showwarning = show
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        warnings.showwarning = warned
        sys.stderr = err


def _speak(voice: Voice, command: str) -> None:
    global _now, _begun, _command
    from dicom2cache import __version__

    _now, _begun, _command = voice, time.monotonic(), command
    if voice.json:
        emit("begin", command=command, version=__version__)


class _Warnings(logging.Handler):
    """What the log has for whoever runs the command, as without a handler, or as events."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        if _now.json:
            emit("warning", message=self.format(record))
        else:
            print(self.format(record), file=sys.stderr)


class _Whoever:
    """stderr, whether somebody reads it or not: progress that nobody reads stops no work."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """As of any stream."""
        try:
            return int(self._stream.write(text))
        except BrokenPipeError:
            _to_nowhere(self._stream)
            return len(text)

    def flush(self) -> None:
        """As of any stream."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            _to_nowhere(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def is_cut() -> bool:
    """True if nobody reads stdout any more."""
    if _cut:
        return True
    if sys.stdout is None:  # closed before this began
        return False
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return True
    except ValueError:  # closed
        return True
    return False


def _to_nowhere(stream: Any) -> None:
    """From now on what it is given goes nowhere, at the end of the interpreter too."""
    try:
        number = stream.fileno()
    except (AttributeError, OSError, ValueError):
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


def cut(status: int = 0) -> int:
    """The exit status of a command some of whose words nobody reads; the rest goes nowhere.

    2 and 130 stay: what was to be done is not.
    """
    _to_nowhere(sys.stdout)
    return BROKEN_PIPE if status in (0, 1) else status
