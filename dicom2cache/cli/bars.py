"""Progress on a terminal as a bar, elsewhere as plain lines, with the time that is left."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dicom2cache.cli import voice
from dicom2cache.running.progress import Progress, Silent, Work


@dataclass(frozen=True)
class Estimate:
    """How fast a phase goes, and how long it will take yet."""

    units: float
    """a second"""
    bytes: float
    """a second"""
    left: float | None
    """seconds; None while nothing is done that could tell"""


def estimate(done: Work, total: Work, seconds: float) -> Estimate:
    """Rates since the phase began, its start-up included, and the time left at the rate of cost."""
    if seconds <= 0 or done.cost <= 0:
        return Estimate(0.0, 0.0, None)
    left = max(0.0, total.cost - done.cost) * seconds / done.cost
    return Estimate(done.units / seconds, done.bytes / seconds, left)


def line(what: str, unit: str, done: Work, total: Work, seconds: float) -> str:
    """Such as `converting: 300 of 9000 frames, 150/s, 79 MB/s, 2 failed, 0:58 left`.

    Bytes only where the work has some: of a file whose header is read, most is not.
    """
    now = estimate(done, total, seconds)
    of = f" of {total.units}" if total.units else ""  # else nobody knows yet
    parts = [f"{what}: {done.units}{of} {_counted(unit, total.units or done.units)}"]
    if now.left is not None:
        parts.append(f"{now.units:.{0 if now.units >= 10 else 1}f}/s")
        if total.bytes:
            parts.append(f"{now.bytes / 1e6:.0f} MB/s")
    if done.failed:
        parts.append(f"{done.failed} failed")
    if now.left is not None and done.units < total.units:
        parts.append(f"{clock(now.left)} left")
    return ", ".join(parts)


def _counted(units: str, number: int) -> str:
    """Such as `1 frame`'s word for `frames`."""
    if number != 1:
        return units
    return f"{units[:-3]}y" if units.endswith("ies") else units.removesuffix("s")


def clock(seconds: float) -> str:
    """H:MM:SS, or M:SS below an hour, rounded up: nothing is said to be over before it is."""
    whole = -int(-seconds // 1)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Told:
    """Tells of a phase at intervals, in a thread of its own, since tasks end seldom."""

    first, every = 2.0, 10.0  # seconds

    def begin(
        self, what: str, total: Work, unit: str, begun: Callable[[], Work] | None = None
    ) -> None:
        """A phase begins."""
        self._what, self._total, self._unit, self._begun = what, total, unit, begun
        self._done = self._most = Work()
        self._start = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._open()
        self._thread.start()

    def advance(self, done: Work) -> None:
        """More is done."""
        self._done += done

    def end(self) -> None:
        """The phase is over."""
        self._over.set()
        self._thread.join()
        self._begun = None
        some = self._total.units or self._done.units  # else there was nothing to do
        if some and self._done.cost >= self._most.cost:  # else cut short: no word runs back
            self._tell()
        self._close()

    def _watch(self) -> None:
        wait = self.first
        while not self._over.wait(wait):
            self._tell()
            wait = self.every

    def _tell(self) -> None:
        now = self._done + (self._begun() if self._begun else Work())
        if now.cost < self._most.cost:  # between the end of a task and the word of it
            now = self._most
        self._most = now
        self._show(now, time.monotonic() - self._start)

    def _show(self, now: Work, seconds: float) -> None:
        said = line(self._what, self._unit, now, self._total, seconds)
        self._say(said, now.cost / self._total.cost if self._total.cost else 1.0)

    def _open(self) -> None:
        """Before the first word."""

    def _close(self) -> None:
        """After the last."""

    def _say(self, said: str, share: float) -> None:
        raise NotImplementedError


class Lines(_Told):
    """A line to stderr after two seconds, then every ten, for log files."""

    def _say(self, said: str, share: float) -> None:
        print(said, file=sys.stderr, flush=True)


class Bar(_Told):
    """A bar on a terminal."""

    first = every = 0.5

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        self._bar: Any = RichProgress(
            BarColumn(), TextColumn("{task.description}"), console=Console(stderr=True)
        )
        self._bar.start()
        self._task = self._bar.add_task(self._what, total=1.0)

    def _say(self, said: str, share: float) -> None:
        self._bar.update(self._task, description=said, completed=share)

    def _close(self) -> None:
        self._bar.stop()


class Often(Lines):
    """Lines for --verbose: when a phase begins, every two seconds, and how long it took."""

    every = 2.0

    def _open(self) -> None:
        print(f"{self._what}: begins", file=sys.stderr, flush=True)

    def _close(self) -> None:
        took = time.monotonic() - self._start
        print(f"{self._what}: took {took:.1f} s", file=sys.stderr, flush=True)


class Events(_Told):
    """For machines: `phase` and `progress` events, the last of a phase when it is over."""

    def _open(self) -> None:
        voice.emit("phase", what=self._what, total=self._total.units or None, unit=self._unit)

    def _show(self, now: Work, seconds: float) -> None:
        left = estimate(now, self._total, seconds).left
        voice.emit(
            "progress", what=self._what, done=now.units, total=self._total.units or None,
            unit=self._unit, failed=now.failed, bytes=now.bytes, seconds=round(seconds, 3),
            seconds_left=None if left is None else round(left, 3),
        )  # fmt: skip


def progress() -> Progress:
    """Events or nothing, if the command is to speak so; else a bar if stderr is a terminal that a
    bar can move on, else lines."""
    said = voice.now()
    if said.json:
        return Events()
    if said.quiet:
        return Silent()
    if said.verbose:
        return Often()
    is_terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    return Bar() if is_terminal else Lines()
