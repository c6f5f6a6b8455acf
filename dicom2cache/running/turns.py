"""One large frame at a time on a machine, whatever worker or run it is of.

Each may take eight times its bytes: as many at once as there are workers would be more than a
machine has, though each is within its limits.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from dicom2cache.sources import system

_LARGE = 128 << 20


def turn(count: int) -> AbstractContextManager[None]:
    """A block that works on a frame of `count` bytes; if that is much, it waits for its turn."""
    return _waited() if count >= _LARGE else _NOW


_NOW = nullcontext()


@contextmanager
def _waited() -> Iterator[None]:
    descriptor = _lock()
    if descriptor is None:
        yield
        return
    try:
        system.lock(descriptor)  # given back by the kernel, however this ends
        yield
    finally:
        os.close(descriptor)


def _lock() -> int | None:
    """This user's lock, on the machine itself: other machines have memory of their own."""
    if not system.HAS_LOCKS:
        return None
    path = Path(tempfile.gettempdir(), f"dicom2cache-{system.user()}.lock")
    try:
        descriptor = os.open(
            path, os.O_RDWR | os.O_CREAT | system.CLOSED_IN_CHILDREN | system.NO_LINK, 0o600
        )
    except OSError:
        return None  # without turns it works too
    if os.fstat(descriptor).st_uid == system.user():
        return descriptor
    os.close(descriptor)  # somebody else's, who may never let go
    return None
