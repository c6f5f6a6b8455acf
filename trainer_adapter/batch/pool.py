"""Leased batch buffers: reused, but never while anything still holds them.

A fresh batch costs more in page faults than the copy into it. A ring of fixed buffers would be
overwritten under autograd or a prefetching trainer; a lease ends only when nothing refers to the
buffer any more.
"""

from __future__ import annotations

import math
import mmap
import os
import threading
import weakref
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

_PAGE = mmap.PAGESIZE


class BufferPool:
    """Buffers of batches; at most `keep_bytes` lie idle. Safe in threads, new after a fork."""

    def __init__(self, keep_bytes: int = 1 << 30, *, pinned: bool = False) -> None:
        """`pinned`: memory that a CUDA device copies from without a detour."""
        self.keep_bytes, self.pinned = keep_bytes, pinned
        self._fresh()

    def _fresh(self) -> None:
        self._lock = threading.RLock()  # a lease may end by garbage collection within a lease
        self._idle: list[NDArray[np.uint8]] = []  # longest idle first
        self._process = os.getpid()

    def __getstate__(self) -> tuple[int, bool]:
        return self.keep_bytes, self.pinned

    def __setstate__(self, state: tuple[int, bool]) -> None:
        self.keep_bytes, self.pinned = state
        self._fresh()

    def lease(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[torch.Tensor, Any]:
        """(tensor, array) over one buffer of `shape` and `dtype`; uninitialised.

        The buffer comes back when nothing refers to the tensor, the array or a view of either.
        """
        size = math.prod(shape) * dtype.itemsize
        if not size:
            empty = np.empty(shape, dtype)
            return torch.from_numpy(empty), empty
        if self._process != os.getpid():
            self._fresh()  # after a fork the lock may be held by a thread that is not here
        with self._lock:
            base = self._taken(size)
        if base is None:
            base = self._new(size)
        # Through a memoryview: NumPy would make `base` the base of any view of a plain view. So all
        # views and the tensor refer to `flat`, and its end is the end of the lease.
        flat = np.frombuffer(base.data[:size], dtype)
        weakref.finalize(flat, self._give_back, base, self._process).atexit = False
        leased = flat.reshape(shape)
        return torch.from_numpy(leased), leased

    def _taken(self, size: int) -> NDArray[np.uint8] | None:
        """The smallest idle buffer that is large enough, and not over twice as large."""
        if self._idle and self._idle[-1].nbytes == size:
            return self._idle.pop()  # given back last: warm in the CPU's cache
        fit = [b for b in self._idle if size <= b.nbytes <= 2 * size]
        if not fit:
            return None
        best = min(reversed(fit), key=lambda b: b.nbytes)
        self._idle = [b for b in self._idle if b is not best]
        return best

    def _new(self, size: int) -> NDArray[np.uint8]:
        if not self.pinned:
            # NumPy's own memory begins 16 bytes into a page, where the copy of a frame that lies at
            # the start of one takes a sixth longer (rep movsb, and loads that alias stores).
            room = np.empty(size + _PAGE, np.uint8)
            start = -room.__array_interface__["data"][0] % _PAGE
            return room[start : start + size]
        pinned: NDArray[np.uint8] = torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy()
        return pinned

    def _give_back(self, base: NDArray[np.uint8], process: int) -> None:
        if not process == os.getpid() == self._process:
            return
        with self._lock:
            self._idle.append(base)
            over = sum(b.nbytes for b in self._idle) - self.keep_bytes
            while over > 0:  # sizes that are no longer asked for go first
                over -= self._idle.pop(0).nbytes
