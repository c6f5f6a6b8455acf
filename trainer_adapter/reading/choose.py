"""Which way to copy frames out of shards: by the file system, and by the memory that is left.

`map`: from the memory map, and nothing else. `advise`: the same, but the kernel is told of exactly
the bytes of a batch before they are touched, so that cold ones are read side by side. `pread`:
system calls into the batch itself, for network file systems, where page faults are slow. What is
compressed is decompressed straight into the batch.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from trainer_adapter.format import system
from trainer_adapter.reading.advised import Advised
from trainer_adapter.reading.mapped import Mapped
from trainer_adapter.reading.mounts import is_remote
from trainer_adapter.reading.pread import Pread
from trainer_adapter.reading.shards import ShardStore
from trainer_adapter.reading.spots import Reading, Spots


def reading_of(store: ShardStore, how: str, nbytes: int) -> Reading:
    """The way to read that `how` names; `auto` looks at the file system and at memory.

    `nbytes` is what an epoch reads. Raises ValueError for another name.
    """
    if how == "auto":
        how = "pread" if is_remote(store.root.path) else "advise"
        if how == "advise" and not system.ADVISES:
            how = "map"
        # What fits in memory is warm after an epoch.
        if how == "advise":
            unseen = 0 if _says_resident(store.root.path) else nbytes
            return Advised(store, fits_in_memory(nbytes), unseen)
        return _NAMED[how](store)
    if how == "advise" and not system.ADVISES:
        how = "map"
    if how not in _NAMED:
        raise ValueError(f"read {how!r}; legal: auto, {', '.join(_NAMED)}")
    return _NAMED[how](store)


def in_memory(store: ShardStore, spots: Spots) -> bool:
    """Whether the first of these frames is in memory already, where the system says so."""
    path = store.root.path
    if is_remote(path) or not system.ADVISES or not _says_resident(path):
        return False
    return Advised(store, probe=True).there(spots)


def _says_resident(path: Path) -> bool:
    """Whether mincore tells the truth: of files of others, Linux says that all is in memory."""
    try:
        return os.access(path / "zarr.json", os.W_OK) or system.is_mine(path.stat().st_uid)
    except OSError:
        return False


_NAMED: dict[str, Callable[[ShardStore], Reading]] = {
    "map": Mapped,
    "advise": lambda store: Advised(store, probe=False),
    "pread": Pread,
}


def fits_in_memory(nbytes: int) -> bool:
    """Whether the page cache could hold so many bytes."""
    return nbytes < _available()


def _available() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    return next((int(s.split()[1]) << 10 for s in lines if s.startswith("MemAvailable")), 0)
