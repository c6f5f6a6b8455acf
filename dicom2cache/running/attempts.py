"""Names of files that are not whole yet: which process makes one, and whether it has died."""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
from functools import cache

from dicom2cache.sources.system import is_running


def attempt_name(what: str) -> str:
    """A new name for an attempt of this process at something."""
    return f"{what}.{machine()}-{os.getpid()}-{secrets.token_hex(8)}"


def abandoned(attempt: str) -> bool:
    """True if the process that makes an attempt of this name is known to be dead."""
    where, _, rest = attempt.removesuffix(".receipt").rpartition(".")[2].partition("-")
    pid = rest.partition("-")[0]
    if where != machine() or not pid.isdecimal():
        return False
    return not is_running(int(pid))


@cache
def machine() -> str:
    """Of all processes that one can ask after by number: those of a host and a PID namespace."""
    try:
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        namespace = 0
    return hashlib.sha256(f"{socket.gethostname()} {namespace}".encode()).hexdigest()[:8]
