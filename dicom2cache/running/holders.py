"""Who works on a cache, for messages: never a lock, so nothing has to be removed after a kill."""

from __future__ import annotations

import json
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from dicom2cache.running import claims
from dicom2cache.running.attempts import machine
from dicom2cache.running.job import load_job
from dicom2cache.store.names import read_plain

_log = logging.getLogger("dicom2cache")
_FOLDER = "holders"


@dataclass(frozen=True)
class Held:
    """A command that works on a plan."""

    by: claims.Holder
    command: str
    since: str
    """when it began to, UTC"""

    def __str__(self) -> str:
        command = f"`dicom2cache {self.command}`"
        return f"pid {self.by.pid} on {self.by.host} ({command}, since {self.since})"


@contextmanager
def holding(state: Path, command: str) -> Iterator[None]:
    """Have a record in the folder of a plan's state that this process works on it.

    It is advisory: what prevents it, as a full disk, will prevent more, and then say it.
    """
    now = datetime.now(UTC).isoformat(" ", "seconds").removesuffix("+00:00")
    held = Held(claims.me(), command, f"{now} UTC")
    path = state / _FOLDER / f"{held.by.pid}-{secrets.token_hex(8)}"
    with suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(asdict(held)))
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def read(path: Path) -> Held:
    """A record. Raises ValueError, TypeError or KeyError if it is none."""
    said = json.loads(read_plain(path))
    return Held(claims.holder_of(said["by"]), str(said["command"]), str(said["since"]))


def others(cache: Path) -> list[Held]:
    """What else works on the plan in `cache`, the first one first; not those known to be dead."""
    found = []
    with suppress(OSError, ValueError, RuntimeError):  # no plan, or not this moment
        for path in (load_job(cache).state / _FOLDER).iterdir():
            with suppress(OSError, ValueError, TypeError, KeyError):
                held = read(path)
                own = (held.by.machine, held.by.pid) == (machine(), os.getpid())
                if not own and not held.by.is_dead:
                    found.append(held)
    return sorted(found, key=lambda held: held.since)


def told(cache: Path) -> str:
    """Who else works on the plan in `cache`; empty if nobody does."""
    found = others(cache)
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return f"{found[0]}{more}" if found else ""


def tell(cache: Path, words: str = "worked on by %s, too; both go on") -> None:
    """Log who else works on the plan in `cache`, if anybody does."""
    if found := told(cache):
        _log.warning(f"%s: {words}", cache, found)


def said(cache: Path) -> str:
    """As `told`, for the end of a message."""
    found = told(cache)
    return f"; the plan that is there now is worked on by {found}" if found else ""
