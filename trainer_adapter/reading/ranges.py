"""One range of addresses for an array: its shards are mapped one behind the other.

Addresses for all of it are reserved (no memory, no file), and the data of a shard is mapped over
its part of them when it is first touched. So frames of several shards are one NumPy array. What is
not mapped must not be read: who reads from that array holds the slots of the shards that he reads.
A map stays in its place while anybody holds slots of it, or any view of them, and is taken away
after that.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
import weakref
from collections import deque
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer_adapter.format import system
from trainer_adapter.format.members import Array

_MOST = 16 << 40
"""bytes of a range; a process of 64 bits has 128 TiB of addresses"""
_FIXED, _FIXED_NOREPLACE = 0x10, 0x100000
_NOTHING = 0x4000 | 0x20 | 0x02
"""MAP_NORESERVE | MAP_ANONYMOUS | MAP_PRIVATE"""
_FAILED = ctypes.c_void_p(-1).value
Released = deque[tuple["Range", int, object]]
"""(range, shard, which map of it) whose slots nobody holds any more"""


def reserve(spec: Array) -> Range | None:
    """Addresses for all shards of an array.

    None where its shards are not whole pages, or where there are none to be had: on other systems,
    for more than 16 TiB, under a limit (RLIMIT_AS, against which they would count).
    """
    step = spec.frames_per_shard * spec.slot_bytes
    size = -(-spec.slots // spec.frames_per_shard) * step
    if spec.codec != "none" or step % mmap.PAGESIZE or size > _MOST or not spec.dtype.isnative:
        return None
    if not system.MAPS_RANGES or sys.maxsize < 1 << 32 or system.is_memory_limited():
        return None
    start = _libc().mmap(None, size, 0, _NOTHING, -1, 0)
    return None if start == _FAILED else Range(spec, start, size)


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    number, size = ctypes.c_int, ctypes.c_size_t
    libc.mmap.argtypes = (ctypes.c_void_p, size, number, number, number, ctypes.c_int64)
    libc.mmap.restype = ctypes.c_void_p
    libc.munmap.argtypes = (ctypes.c_void_p, size)
    return libc


class _Lent:
    """Memory for NumPy, read-only; an array of it, and each view of that, keeps it."""

    keeps: Any
    """what must live as long"""

    def __init__(self, start: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.__array_interface__ = {
            "data": (start, True), "shape": shape, "typestr": dtype.str, "version": 3,
        }  # fmt: skip


class _Slots(_Lent):
    """The slots of a shard in its place."""

    released: Released

    def __del__(self) -> None:  # in any thread, at any moment: no lock, no call of the system
        self.released.append(self.keeps)


class Range:
    """The addresses of one array; `map` and `release` are called by one thread at a time."""

    def __init__(self, spec: Array, start: int, size: int) -> None:
        self._spec, self._start, self._size = spec, start, size
        self._step = spec.frames_per_shard * spec.slot_bytes
        self._there: dict[int, object] = {}
        """which map is in the place of a shard"""
        self._slots: dict[int, tuple[weakref.ref[NDArray[Any]], Any]] = {}
        self._ours = weakref.finalize(self, _libc().munmap, start, size)
        self._ours.atexit = False

    def map(
        self, file: int, shard: int, slots: int, stamp: Any, released: Released
    ) -> NDArray[Any] | None:
        """Map the data of an open file in the place of a shard: (slots, H, W[, C]), read-only.

        `stamp` tells files apart; `released` is told when nobody holds the slots any more. None
        where it cannot be: views of another file are out, or the system refuses.
        """
        spec, (known, before) = self._spec, self._slots.get(shard, (None, None))
        living = None if known is None else known()
        if living is not None:
            return living if stamp == before else None
        legal = 0 <= shard < self._size // self._step and 0 < slots <= spec.frames_per_shard
        if not legal or not self._ours.alive:
            return None
        self._there[shard] = which = object()
        if not self._put(shard, slots * spec.slot_bytes, file):
            return None
        lent = _Slots(self._start + shard * self._step, (slots, *spec.slot), spec.dtype)
        lent.keeps, lent.released = (self, shard, which), released
        found = np.asarray(lent)
        self._slots[shard] = weakref.ref(found), stamp
        return found

    def release(self, shard: int, which: object) -> None:
        """Take a map that nobody holds out of the process, unless another one is there by now."""
        if self._there.get(shard) is which and self._ours.alive:
            del self._there[shard]
            self._put(shard, self._step, None)

    def _put(self, shard: int, size: int, file: int | None) -> bool:
        """Map a file over the place of a shard, or nothing."""
        place, libc = self._start + shard * self._step, _libc()
        if file is not None:
            shared = mmap.PROT_READ, mmap.MAP_SHARED | _FIXED, file
            if libc.mmap(place, size, *shared, 0) == place:
                return True
        elif libc.mmap(place, size, 0, _NOTHING | _FIXED, -1, 0) == place:
            return True
        # The place may be free by now. Who gets it, must not be mapped over, and not be unmapped.
        again = libc.mmap(place, size, 0, _NOTHING | _FIXED_NOREPLACE, -1, 0)
        if again != place:
            self._ours.detach()
            if again != _FAILED:
                libc.munmap(again, size)
        return False

    def has(self, slots: NDArray[Any]) -> bool:
        """Whether slots of a shard, as `map` gave them, lie in this range."""
        return isinstance(slots.base, _Slots) and slots.base.keeps[0] is self

    def rows(self, first: int, count: int, held: Any) -> NDArray[Any]:
        """Rows of the array, (count, H, W[, C]), read-only; whoever has them has `held`.

        Only rows of shards that are mapped may be touched: `held` is to have the slots of these.
        """
        spec = self._spec
        lent = _Lent(self._start + first * spec.slot_bytes, (count, *spec.slot), spec.dtype)
        lent.keeps = held
        return np.asarray(lent)
