"""Progress of a run: a bar on a terminal, plain lines in a log, nothing in a library call."""

from __future__ import annotations

import sys
import time
from typing import Any, Protocol


class Progress(Protocol):
    """What a run tells whoever watches it."""

    def begin(self, what: str, total: int, unit: str) -> None:
        """A phase of `total` units begins."""

    def advance(self, count: int, failed: int = 0) -> None:
        """`count` more units are done, `failed` of them in vain."""

    def end(self) -> None:
        """The phase is over."""


class Silent:
    """Says nothing."""

    def begin(self, what: str, total: int, unit: str) -> None:
        """Nothing."""

    def advance(self, count: int, failed: int = 0) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


class Lines:
    """A line to stderr every ten seconds, for log files."""

    def __init__(self, seconds: float = 10.0) -> None:
        self._every = seconds

    def begin(self, what: str, total: int, unit: str) -> None:
        """A phase begins."""
        self._what, self._total, self._unit = what, total, unit
        self._done = self._failed = 0
        self._start = self._last = time.monotonic()

    def advance(self, count: int, failed: int = 0) -> None:
        """More is done."""
        self._done += count
        self._failed += failed
        if time.monotonic() - self._last >= self._every:
            self._print()

    def end(self) -> None:
        """The phase is over."""
        self._print()

    def _print(self) -> None:
        self._last = time.monotonic()
        rate = self._done / max(self._last - self._start, 1e-9)
        failed = f", {self._failed} failed" if self._failed else ""
        print(
            f"{self._what}: {self._done} of {self._total} {self._unit}, {rate:.0f}/s{failed}",
            file=sys.stderr,
            flush=True,
        )


class Bar:
    """A bar on a terminal."""

    def begin(self, what: str, total: int, unit: str) -> None:
        """A phase begins."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._failed = 0
        self._bar: Any = RichProgress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TextColumn(unit + "{task.fields[failed]}"), TimeRemainingColumn(),
            console=Console(stderr=True),
        )  # fmt: skip
        self._bar.start()
        self._task = self._bar.add_task(what, total=total, failed="")

    def advance(self, count: int, failed: int = 0) -> None:
        """More is done."""
        self._failed += failed
        note = f", {self._failed} failed" if self._failed else ""
        self._bar.update(self._task, advance=count, failed=note)

    def end(self) -> None:
        """The phase is over."""
        self._bar.stop()


def progress() -> Progress:
    """A bar if stderr is a terminal, else lines."""
    return Bar() if sys.stderr.isatty() else Lines()
