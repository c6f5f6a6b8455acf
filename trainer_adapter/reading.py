"""Ways to copy frames, or crops of them, out of shards into a batch.

`map`: from the memory map, and nothing else. `advise`: the same, but the kernel is told of exactly
the bytes of a batch before they are touched, so that cold ones are read side by side. `pread`:
system calls into the batch itself, for network file systems, where page faults are slow. What is
compressed is decompressed straight into the batch.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer_adapter.crop import Ints
from trainer_adapter.mapped import Corners, Mapped, Reading, Spots
from trainer_adapter.pread import Pread
from trainer_adapter.shards import ShardStore, span_of

__all__ = ["Advised", "Corners", "Mapped", "Pread", "Reading", "Spots", "reading_of"]

_PAGE = mmap.PAGESIZE
_ADVISED_AT_ONCE = 128 << 10  # Linux cuts longer requests down to the device's read-ahead
_PROBED = 1  # a system call each; what is cold in part is found within a few batches


class Advised(Mapped):
    """From the memory map, after telling the kernel what a batch will touch (madvise, mincore).

    With `probe`, a batch whose first frame is in memory is taken to be there as a whole: warm
    data then cost no system call for each frame.
    """

    def __init__(self, store: ShardStore, probe: bool, unseen: int = 0) -> None:
        """`unseen`: bytes that are taken for cold first, where mincore does not say."""
        super().__init__(store)
        self._probe, self._libc = probe, ctypes.CDLL(None, use_errno=True)
        self._unseen = unseen
        self._starts: dict[tuple[int, int], int] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Advised, (self._store, self._probe, self._unseen)

    def whole(self, out: NDArray[Any], spots: Spots) -> None:
        """Frames of one array and size into `out`, (b, H, W[, C])."""
        self._advise(spots, np.zeros_like(spots.height), spots.height)
        super().whole(out, spots)

    def crops(self, out: NDArray[Any], spots: Spots, corners: Corners) -> None:
        """Crops of frames into `out`, (b, h, w[, C]); only their rows are read."""
        first = np.clip(corners.top, 0, spots.height)
        last = np.clip(corners.top + out.shape[1], 0, spots.height)
        self._advise(spots, first, last - first)
        super().crops(out, spots, corners)

    def _start(self, array: int, shard: int) -> int:
        """Address of the shard's map; no read-ahead from it, for what a batch needs is told."""
        plain = self._store.root.arrays[array].codec == "none"
        data = self._store.slots(array, shard) if plain else self._store.packed(array, shard).data
        start = int(data.__array_interface__["data"][0])
        if not self._probe and self._starts.get((array, shard)) != start:
            self._libc.madvise(
                ctypes.c_void_p(start // _PAGE * _PAGE),
                ctypes.c_size_t(data.nbytes + start % _PAGE),
                mmap.MADV_RANDOM,
            )
            self._starts[array, shard] = start
        return start

    def _advise(self, spots: Spots, first: Ints, count: Ints) -> None:
        columns = (spots.array, spots.shard, spots.slot, first, count)
        if self._probe and self._unseen <= 0:
            probed = self._ranges(*(c[:_PROBED] for c in columns))
            if all(map(self._resident, probed)):
                return
        for page, length in self._ranges(*columns):
            self._unseen -= length
            for k in range(0, length, _ADVISED_AT_ONCE):
                part = min(_ADVISED_AT_ONCE, length - k)
                self._libc.madvise(
                    ctypes.c_void_p(page + k), ctypes.c_size_t(part), mmap.MADV_WILLNEED
                )

    def _ranges(self, *columns: Ints) -> Iterator[tuple[int, int]]:
        """(page, length) in memory of what is touched of each frame."""
        for array, shard, slot, y, rows in zip(*(c.tolist() for c in columns), strict=True):
            offset, length = self._span(array, shard, slot, y, rows)
            start = self._start(array, shard) + offset
            page = start // _PAGE * _PAGE
            yield page, start + length - page

    def _span(self, array: int, shard: int, slot: int, y: int, rows: int) -> tuple[int, int]:
        """(offset, length) in the shard of what is touched for `rows` of a slot."""
        spec = self._store.root.arrays[array]
        if spec.codec != "none":  # a chunk is decompressed as a whole
            packed = self._store.packed(array, shard)
            return span_of(packed.path, packed.index, slot) if rows else (0, 0)
        row = spec.slot_bytes // spec.slot[0]
        return slot * spec.slot_bytes + y * row, rows * row

    def _resident(self, span: tuple[int, int]) -> bool:
        """Whether the page in the middle of a span is in memory."""
        middle = (span[0] + span[1] // 2) // _PAGE * _PAGE
        found = ctypes.c_ubyte()
        failed = self._libc.mincore(
            ctypes.c_void_p(middle), ctypes.c_size_t(_PAGE), ctypes.byref(found)
        )
        return not failed and bool(found.value & 1)


def reading_of(store: ShardStore, how: str, nbytes: int) -> Reading:
    """The way to read that `how` names; `auto` looks at the file system and at memory.

    `nbytes` is what an epoch reads. Raises ValueError for another name.
    """
    if how == "auto":
        how = "pread" if _is_remote(store.root.path) else "advise"
        if how == "advise" and not hasattr(mmap, "MADV_WILLNEED"):
            how = "map"
        # What fits in memory is warm after an epoch.
        if how == "advise":
            unseen = 0 if _says_resident(store.root.path) else nbytes
            return Advised(store, fits_in_memory(nbytes), unseen)
        return _NAMED[how](store)
    if how not in _NAMED:
        raise ValueError(f"read {how!r}; legal: auto, {', '.join(_NAMED)}")
    return _NAMED[how](store)


def _says_resident(path: Path) -> bool:
    """Whether mincore tells the truth: of files of others, Linux says that all is in memory."""
    try:
        return os.access(path / "zarr.json", os.W_OK) or path.stat().st_uid == os.getuid()
    except OSError:
        return False


_NAMED: dict[str, Callable[[ShardStore], Reading]] = {
    "map": Mapped,
    "advise": lambda store: Advised(store, probe=False),
    "pread": Pread,
}
_MOUNT_ESCAPE = re.compile(r"\\([0-7]{3})")
_REMOTE = ("nfs", "lustre", "gpfs", "cifs", "smb", "ceph", "fuse", "9p", "beegfs", "afs", "pvfs")


def _is_remote(path: Path) -> bool:
    """Whether `path` lies on a network file system, as far as /proc/mounts says."""
    try:
        lines = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return False
    here = path.resolve()
    mounts = [(_MOUNT_ESCAPE.sub(lambda m: chr(int(m[1], 8)), x[1]), x[2]) for x in lines]
    # The last of a place is on top: autofs mounts over itself.
    on = [(len(m), k, kind) for k, (m, kind) in enumerate(mounts) if here.is_relative_to(m)]
    return bool(on) and max(on)[2].startswith(_REMOTE)


def fits_in_memory(nbytes: int) -> bool:
    """Whether the page cache could hold so many bytes."""
    return nbytes < _available()


def _available() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    return next((int(s.split()[1]) << 10 for s in lines if s.startswith("MemAvailable")), 0)
