"""Who works on a cache, for messages: never a lock, so nothing has to be removed after a kill."""

from __future__ import annotations

import json
import os
import platform
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from dicom2cache.running.job import load_job
from dicom2cache.running.receipts import machine


@dataclass(frozen=True)
class Holder:
    """A process that works on a plan."""

    host: str
    machine: str
    """as `receipts.machine`"""
    pid: int
    began: int
    """when the process did, in ticks since the machine did (proc(5)); 0 if not known"""
    command: str
    since: str
    """when it began to work here, ISO 8601, UTC"""

    def __str__(self) -> str:
        return f"pid {self.pid} on {self.host} (`dicom2cache {self.command}`, since {self.since})"

    @property
    def gone(self) -> bool:
        """True if the process is known to have ended; on another machine that is not known."""
        if self.machine != machine():
            return False
        began = _began(self.pid)
        return began is None or began != self.began


def _began(pid: int) -> int | None:
    """When a process of this machine began; None if there is none, 0 if that is not known."""
    try:
        said = Path(f"/proc/{pid}/stat").read_text()
        return int(said.rpartition(")")[2].split()[19])  # proc(5): starttime, the 22nd
    except (FileNotFoundError, ProcessLookupError):
        if os.path.exists("/proc/self/stat"):
            return None
    except (OSError, ValueError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass  # another user's
    return 0


@contextmanager
def holding(state: Path, command: str) -> Iterator[None]:
    """Have a record in the folder of a plan's state that this process works on it.

    It is advisory: what prevents it, as a full disk, will prevent more, and then say it.
    """
    now = datetime.now(UTC).isoformat(" ", "seconds").removesuffix("+00:00")
    pid = os.getpid()
    own = Holder(platform.node(), machine(), pid, _began(pid) or 0, command, f"{now} UTC")
    path = state / _FOLDER / f"{pid}-{secrets.token_hex(8)}"
    with suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(asdict(own)))
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def others(cache: Path) -> list[Holder]:
    """Other processes that work on the plan in `cache`, the first one first."""
    try:
        state = load_job(cache).state
        paths = list((state / _FOLDER).iterdir())
    except (OSError, ValueError, RuntimeError):
        return []
    found = []
    for path in paths:
        with suppress(OSError, ValueError, TypeError):
            holder = Holder(**json.loads(path.read_bytes()))
            own = holder.machine == machine() and holder.pid == os.getpid()
            if not own and not holder.gone:
                found.append(holder)
    return sorted(found, key=lambda holder: holder.since)


def said(cache: Path) -> str:
    """Who else works on the plan in `cache`, for the end of a message; empty if nobody does."""
    found = others(cache)
    if not found:
        return ""
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return f"; {found[0]}{more} works on the plan that is there now"


_FOLDER = "holders"
