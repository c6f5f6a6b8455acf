"""Progress of a run: a bar on a terminal, plain lines in a log, nothing in a library call.

Time left is told by cost and not by count: a frame of JPEG 2000 takes as long as sixty native ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Work:
    """What a phase has to do, or has done."""

    units: int = 0
    """files or frames"""
    bytes: int = 0
    """of stored pixels while frames are converted; 0: bytes say nothing of this work"""
    cost: float = 0.0
    """what is proportional to the time: bytes weighted by transfer syntax"""
    failed: int = 0
    """units that were in vain"""

    def __add__(self, other: Work) -> Work:
        return Work(
            self.units + other.units, self.bytes + other.bytes, self.cost + other.cost,
            self.failed + other.failed,
        )  # fmt: skip


class Progress(Protocol):
    """What a run tells whoever watches it."""

    def begin(
        self, what: str, total: Work, unit: str, begun: Callable[[], Work] | None = None
    ) -> None:
        """A phase begins; `begun` tells what is done of tasks that have not ended."""

    def advance(self, done: Work) -> None:
        """More is done."""

    def end(self) -> None:
        """The phase is over."""


@contextmanager
def phase(
    progress: Progress, what: str, total: Work, unit: str, begun: Callable[[], Work] | None = None
) -> Iterator[None]:
    """A phase that is over whatever happens in it."""
    progress.begin(what, total, unit, begun)
    try:
        yield
    finally:
        progress.end()


class Silent:
    """Says nothing."""

    def begin(
        self, what: str, total: Work, unit: str, begun: Callable[[], Work] | None = None
    ) -> None:
        """Nothing."""

    def advance(self, done: Work) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""
