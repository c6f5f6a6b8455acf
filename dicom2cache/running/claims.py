"""Who works on which shard: advisory, so that nodes which share a plan seldom do a shard twice.

A claim is a small file: a counter, and who holds it. The holder raises the counter every few
seconds. One that does not change for two minutes, by the clock of whoever looks, is nobody's any
more; no two clocks are compared, since those of nodes differ. What is done is decided by receipts:
a claim that is wrong costs time and nothing else.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from dicom2cache.records import ShardTask
from dicom2cache.running.attempts import machine
from dicom2cache.running.job import Job
from dicom2cache.sources.system import is_running, pwrite
from dicom2cache.store.names import read_plain

STALE = 120.0
"""seconds without a beat after which a claim is nobody's"""
_BEAT = 10.0
_COUNTER = 12  # digits before the rest, so that a beat writes over them in place


@dataclass(frozen=True)
class Holder:
    """A process that works on a shard."""

    host: str
    pid: int
    machine: str
    """of all processes that one can ask after by number"""
    started: int
    """ticks after the machine's start when the process began: numbers of processes come again"""
    run: str
    """names the command that the process works for"""
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def is_dead(self) -> bool:
        """True if the process is known to be gone; False too where nobody here can know."""
        if self.machine != machine():
            return False
        if not is_running(self.pid):
            return True
        return _started(self.pid) != self.started


def _started(pid: int) -> int:
    """When a process began; 0 where there is no /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0
    return int(stat.rpartition(b")")[2].split()[19])


def me(run: str = "") -> Holder:
    """This process."""
    pid = os.getpid()
    return Holder(socket.gethostname(), pid, machine(), _started(pid), run)


def _path(job: Job, name: str) -> Path:
    return job.state / "claims" / name


def _read(path: Path) -> str | None:
    """All that a claim says; None if there is none."""
    try:
        return read_plain(path).decode("utf-8", "replace")
    except OSError as e:
        if e.errno not in (errno.ENOENT, errno.ESTALE):
            raise
        return None


def _holder(said: str) -> Holder | None:
    """Who holds the claim; None if it does not say, so far."""
    try:
        return holder_of(json.loads(said[_COUNTER:]))
    except (ValueError, TypeError, RecursionError):
        return None


def holder_of(said: Any) -> Holder:
    """Who a record says it is. Raises TypeError if it says nobody."""
    holder = Holder(**said)
    numbers, texts = (
        (holder.pid, holder.started),
        (holder.host, holder.machine, holder.run, holder.token),
    )
    if not (all(type(n) is int for n in numbers) and all(isinstance(t, str) for t in texts)):
        raise TypeError("no process")
    return holder


@dataclass(frozen=True)
class Claim:
    """A claim of this process."""

    path: Path
    token: str
    left_behind: bool
    """another process held it, and perhaps died of a frame"""

    def __enter__(self) -> Claim:
        _heart().hold(self)
        return self

    def __exit__(self, *_: object) -> None:
        _heart().let_go(self)
        said = _read(self.path)
        if said is not None and self.token in said:
            self.path.unlink(missing_ok=True)

    def beat(self) -> bool:
        """Raise the counter; False if the claim is this process's no more."""
        try:
            with open(self.path, "r+b", buffering=0) as file:
                said = file.read()
                if self.token.encode() not in said:
                    return False
                count = int(said[:_COUNTER]) + 1
                pwrite(file.fileno(), b"%0*d" % (_COUNTER, count), 0)
        except (OSError, ValueError):
            return self.path.exists()
        return True


def take(job: Job, task: ShardTask, run: str = "", over: str | None = None) -> Claim | None:
    """Claim the task for this process; None if another one works on it.

    `run` names the command that this process works for: it gives a task to one process at a time,
    so that an older claim of the same run was left behind. So was one that says `over` still.
    """
    path, mine = _path(job, task.name), me(run)
    text = f"{0:0{_COUNTER}d} {json.dumps(asdict(mine))}".encode()
    for _ in range(3):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            said = _read(path)
            if said is None:
                continue  # let go of just now
            other = _holder(said)
            if said != over and not (other and (other.is_dead or (run and other.run == run))):
                return None
            own = path.with_name(f".{task.name}.{mine.token}")
            own.write_bytes(text)
            os.replace(own, path)
            return Claim(path, mine.token, left_behind=True)
        with open(descriptor, "wb", buffering=0) as file:
            file.write(text)
        return Claim(path, mine.token, left_behind=False)
    return None


class _Heart:
    """Raises the counters of this process's claims."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._claims: set[Claim] = set()
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    def hold(self, claim: Claim) -> None:
        with self._lock:
            self._claims.add(claim)

    def let_go(self, claim: Claim) -> None:
        with self._lock:
            self._claims.discard(claim)

    def _beat(self) -> None:
        while True:
            time.sleep(_BEAT)
            with self._lock:
                mine = list(self._claims)
            for claim in mine:
                if not claim.beat():
                    self.let_go(claim)


def _heart() -> _Heart:
    return _heart_of(os.getpid())  # a fork has no thread of its parent's


@cache
def _heart_of(_: int) -> _Heart:
    return _Heart()


@dataclass
class Watch:
    """Claims as one process sees them over time."""

    job: Job
    run: str = field(default_factory=lambda: secrets.token_hex(8))
    """of the process that looks"""
    _seen: dict[str, tuple[str, float]] = field(default_factory=dict)

    def look(self, tasks: Iterable[ShardTask]) -> tuple[list[ShardTask], dict[ShardTask, str]]:
        """Those of `tasks` that no other process works on, and of these the claims left behind."""
        claimed = set(_names(self.job))
        free, left = [], {}
        for task in tasks:
            said = _read(_path(self.job, task.name)) if task.name in claimed else None
            if said is None:
                free.append(task)
            elif self._is_left_behind(task.name, said):
                free.append(task)
                left[task] = said
        return free, left

    def _is_left_behind(self, name: str, said: str) -> bool:
        now = time.monotonic()
        before, since = self._seen.get(name, ("", now))
        if said != before:
            since = now
        self._seen[name] = said, since
        holder = _holder(said)
        if holder is not None and (holder.is_dead or holder.run == self.run):
            return True
        return now - since >= STALE

    def forget(self) -> None:
        """Drop this run's claims: it was asked to end, and died of nothing."""
        for name in _names(self.job):
            path = _path(self.job, name)
            holder = _holder(_read(path) or "")
            if holder is not None and holder.run == self.run:
                path.unlink(missing_ok=True)


def _names(job: Job) -> list[str]:
    try:
        return [name for name in os.listdir(job.state / "claims") if not name.startswith(".")]
    except FileNotFoundError:
        return []  # committed


def holders(job: Job) -> dict[str, Holder | None]:
    """{name of a task: who says to work on it}, those that died too; None: it does not say."""
    said = {name: _read(_path(job, name)) for name in sorted(_names(job))}
    return {name: _holder(text) for name, text in said.items() if text is not None}
