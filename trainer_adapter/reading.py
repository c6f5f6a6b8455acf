"""Ways to copy frames, or crops of them, out of shards into a batch.

`map`: from the memory map, and nothing else. `advise`: the same, but the kernel is told of exactly
the bytes of a batch before they are touched, so that cold ones are read side by side. `pread`:
system calls into the batch itself, for network file systems, where page faults are slow.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trainer_adapter.crop import Ints, part_of
from trainer_adapter.errors import DamagedError
from trainer_adapter.format import REMEDY
from trainer_adapter.shards import ShardStore, check_shard

_PAGE = mmap.PAGESIZE
_ADVISED_AT_ONCE = 128 << 10  # Linux cuts longer requests down to the device's read-ahead
_OPEN_FILES = 64
_PROBED = 4


@dataclass(frozen=True)
class Spots:
    """Where the frames of a batch lie, (b,) each."""

    array: Ints
    shard: Ints
    slot: Ints
    height: Ints
    width: Ints


@dataclass(frozen=True)
class Corners:
    """Where the crops of a batch lie in their frames, (b,) each; may be outside."""

    top: Ints
    left: Ints
    fill: float = 0.0
    """value of what lies outside"""


class Reading(Protocol):
    """One way to copy."""

    def whole(self, out: NDArray[Any], spots: Spots) -> None:
        """Frames of one array and size into `out`, (b, H, W[, C])."""

    def crops(self, out: NDArray[Any], spots: Spots, corners: Corners) -> None:
        """Crops of frames of one dtype and number of channels into `out`, (b, h, w[, C])."""


class Mapped:
    """From the memory map."""

    def __init__(self, store: ShardStore) -> None:
        self._store = store

    def whole(self, out: NDArray[Any], spots: Spots) -> None:
        """Frames of one array and size into `out`, (b, H, W[, C])."""
        if not len(out):
            return
        slots, array = self._store.slots, int(spots.array[0])
        height, width = out.shape[1:3]
        cut = (height, width) != self._store.root.arrays[array].slot[:2]
        for target, shard, slot in zip(out, spots.shard.tolist(), spots.slot.tolist(), strict=True):
            frame = slots(array, shard)[slot]
            np.copyto(target, frame[:height, :width] if cut else frame)

    def crops(self, out: NDArray[Any], spots: Spots, corners: Corners) -> None:
        """Crops of frames into `out`, (b, h, w[, C]); only their rows are touched."""
        for target, array, shard, slot, height, width, top, left in _rows(out, spots, corners):
            frame = self._store.slots(array, shard)[slot]
            y, to_y, rows = part_of(height, top, out.shape[1])
            x, to_x, columns = part_of(width, left, out.shape[2])
            if (rows, columns) != out.shape[1:3]:
                target[...] = corners.fill
                target = target[to_y : to_y + rows, to_x : to_x + columns]
            np.copyto(target, frame[y : y + rows, x : x + columns])


class Advised(Mapped):
    """From the memory map, after telling the kernel what a batch will touch (madvise, mincore).

    With `probe`, a batch whose first frames are in memory is taken to be there as a whole: warm
    data then cost no system call for each frame.
    """

    def __init__(self, store: ShardStore, probe: bool) -> None:
        super().__init__(store)
        self._probe, self._libc = probe, ctypes.CDLL(None, use_errno=True)
        self._starts: dict[tuple[int, int], int] = {}

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
        slots = self._store.slots(array, shard)
        start = int(slots.__array_interface__["data"][0])
        if not self._probe and self._starts.get((array, shard)) != start:
            self._libc.madvise(
                ctypes.c_void_p(start // _PAGE * _PAGE),
                ctypes.c_size_t(slots.nbytes + start % _PAGE),
                mmap.MADV_RANDOM,
            )
            self._starts[array, shard] = start
        return start

    def _advise(self, spots: Spots, first: Ints, count: Ints) -> None:
        ranges = []
        for array, shard, slot, y, rows in zip(
            *(c.tolist() for c in (spots.array, spots.shard, spots.slot, first, count)), strict=True
        ):
            spec = self._store.root.arrays[array]
            row = spec.slot_bytes // spec.slot[0]
            start = self._start(array, shard) + slot * spec.slot_bytes + y * row
            page = start // _PAGE * _PAGE
            ranges.append((page, start + rows * row - page))
            if self._probe and len(ranges) == _PROBED and all(map(self._resident, ranges)):
                return
        for page, length in ranges:
            for k in range(0, length, _ADVISED_AT_ONCE):
                part = min(_ADVISED_AT_ONCE, length - k)
                self._libc.madvise(
                    ctypes.c_void_p(page + k), ctypes.c_size_t(part), mmap.MADV_WILLNEED
                )

    def _resident(self, span: tuple[int, int]) -> bool:
        """Whether the page in the middle of a span is in memory."""
        middle = (span[0] + span[1] // 2) // _PAGE * _PAGE
        found = ctypes.c_ubyte()
        failed = self._libc.mincore(
            ctypes.c_void_p(middle), ctypes.c_size_t(_PAGE), ctypes.byref(found)
        )
        return not failed and bool(found.value & 1)


class _File:
    """An open file, closed when nothing refers to it: another thread may be reading."""

    def __init__(self, path: Path) -> None:
        self.fd = -1
        self.path = path
        self.fd = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)

    def read(self, out: memoryview, offset: int) -> None:
        """Fill `out` from `offset`. Raises DamagedError where the file ends."""
        while out:
            done = os.preadv(self.fd, [out], offset)
            if not done:
                raise DamagedError(f"{self.path}: ends at byte {offset}; {REMEDY}")
            out, offset = out[done:], offset + done


class Pread:
    """By system calls into the batch itself; a few files are kept open."""

    def __init__(self, store: ShardStore) -> None:
        self._store = store
        self._lock, self._process = threading.Lock(), os.getpid()
        self._files: OrderedDict[tuple[int, int], _File] = OrderedDict()

    def _file(self, array: int, shard: int) -> _File:
        if self._process != os.getpid():  # a fork may have copied a lock that a thread held
            self._lock, self._process = threading.Lock(), os.getpid()
        with self._lock:
            found = self._files.get((array, shard))
            if found is not None:
                self._files.move_to_end((array, shard))
                return found
        opened = self._open(array, shard)
        with self._lock:
            self._files[array, shard] = opened
            if len(self._files) > _OPEN_FILES:
                self._files.popitem(last=False)
        return opened

    def _open(self, array: int, shard: int) -> _File:
        path, facts = self._store.place(array, shard)
        try:
            file = _File(path)
        except FileNotFoundError:
            raise DamagedError(f"{path}: missing; {REMEDY}") from None
        spec, size = self._store.root.arrays[array], os.fstat(file.fd).st_size
        tail = np.zeros(16 * spec.frames_per_shard + 4, np.uint8)
        if size == facts.bytes:
            file.read(tail.data, size - len(tail))
        check_shard(path, spec, facts, size, tail)
        return file

    def whole(self, out: NDArray[Any], spots: Spots) -> None:
        """Frames of one array and size into `out`, (b, H, W[, C])."""
        self.crops(out, spots, Corners(np.zeros_like(spots.height), np.zeros_like(spots.height)))

    def crops(self, out: NDArray[Any], spots: Spots, corners: Corners) -> None:
        """Crops of frames into `out`, (b, h, w[, C]); only their rows are read."""
        for target, array, shard, slot, height, width, top, left in _rows(out, spots, corners):
            spec = self._store.root.arrays[array]
            y, to_y, rows = part_of(height, top, out.shape[1])
            x, to_x, columns = part_of(width, left, out.shape[2])
            if (rows, columns) != out.shape[1:3]:
                target[...] = corners.fill
                target = target[to_y : to_y + rows, to_x : to_x + columns]
            if not target.size:
                continue
            offset = slot * spec.slot_bytes + y * (spec.slot_bytes // spec.slot[0])
            if columns == spec.slot[1] and target.flags.c_contiguous:
                lines = target
            else:
                lines = np.empty((rows, *spec.slot[1:]), spec.dtype)
            self._file(array, shard).read(lines.data.cast("B"), offset)
            if lines is not target:
                np.copyto(target, lines[:, x : x + columns])


def _rows(out: NDArray[Any], spots: Spots, corners: Corners) -> Iterator[Any]:
    """(target, array, shard, slot, height, width, top, left) of each frame, plain numbers."""
    columns = (spots.array, spots.shard, spots.slot, spots.height, spots.width)
    return zip(out, *(c.tolist() for c in (*columns, corners.top, corners.left)), strict=True)


def reading_of(store: ShardStore, how: str, nbytes: int) -> Reading:
    """The way to read that `how` names; `auto` looks at the file system and at memory.

    `nbytes` is what an epoch reads. Raises ValueError for another name.
    """
    if how == "auto":
        how = "pread" if _is_remote(store.root.path) else "advise"
        if how == "advise" and not hasattr(mmap, "MADV_WILLNEED"):
            how = "map"
        # What fits in memory is warm after an epoch.
        return (
            Advised(store, probe=nbytes < _available()) if how == "advise" else _NAMED[how](store)
        )
    if how not in _NAMED:
        raise ValueError(f"read {how!r}; legal: auto, {', '.join(_NAMED)}")
    return _NAMED[how](store)


_NAMED: dict[str, Callable[[ShardStore], Reading]] = {
    "map": Mapped,
    "advise": lambda store: Advised(store, probe=False),
    "pread": Pread,
}
_REMOTE = ("nfs", "lustre", "gpfs", "cifs", "smb", "ceph", "fuse", "9p", "beegfs", "afs", "pvfs")


def _is_remote(path: Path) -> bool:
    """Whether `path` lies on a network file system, as far as /proc/mounts says."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return False
    here = path.resolve()
    on = [(len(m), kind) for m, kind in mounts if here.is_relative_to(m)]
    return bool(on) and max(on, key=lambda found: found[0])[1].startswith(_REMOTE)


def _available() -> int:
    """Bytes of memory that the page cache could have."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    return next((int(s.split()[1]) << 10 for s in lines if s.startswith("MemAvailable")), 0)
