"""What another node has named and this one does not see yet.

Clients of network file systems remember what a folder had, and what it had not, for up to a minute
(nfs(5), acdirmax). Most ask anew where the folder is opened. So where something else says that a
file must be there, its absence is believed only after a while.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from dicom2cache.store.direct import file_system

PATIENCE = 5.0
"""seconds on a file system of this machine: it may be one that is not told apart from others"""
ON_NETWORK = 60.0
_LOCAL = (
    "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "ramfs", "overlay", "vfat",
    "exfat", "",
)  # fmt: skip

T = TypeVar("T")


def until_seen(look: Callable[[], T], folder: Path) -> T | None:
    """What `look` finds; while that is nothing, it is asked again for as long as a name in `folder`
    may be seen late.

    Nothing is what is false, a file that is not there, and a handle of one that was replaced.
    """
    end, wait = 0.0, 0.0
    while True:
        try:
            found = look()
            if found:
                return found
        except OSError as e:
            if e.errno not in (errno.ENOENT, errno.ESTALE):
                raise
        now = time.monotonic()
        end = end or now + _patience(folder)
        if now >= end:
            return None
        time.sleep(wait)
        wait = min(0.5, wait + 0.02)
        look_anew(folder)


def look_anew(folder: Path) -> None:
    """Have the file system's client ask what is in `folder` now."""
    with suppress(OSError):
        os.scandir(folder).close()


def is_local(kind: str) -> bool:
    """True for types of file systems that no other machine writes to; for "" too."""
    return kind in _LOCAL


def exists(path: Path) -> bool:
    """Whether a file is there, as far as can be told without waiting."""
    if not path.exists():
        look_anew(path.parent)
    return path.exists()


def _patience(folder: Path) -> float:
    try:
        return PATIENCE if is_local(file_system(folder)) else ON_NETWORK
    except OSError:  # it is gone, too
        return PATIENCE
