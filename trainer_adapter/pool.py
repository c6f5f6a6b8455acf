"""Leased batch buffers: reused, but never while anything still holds them.

A fresh batch costs more in page faults than the copy into it. A ring of fixed buffers would be
overwritten under autograd or a prefetching trainer; a lease ends only when nothing refers to the
buffer any more.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


class BufferPool:
    """Buffers of batches; at most `keep_bytes` lie idle. Safe in threads, new after a fork."""

    def __init__(self, keep_bytes: int = 1 << 30) -> None:
        self.keep_bytes = keep_bytes
        self._fresh()

    def _fresh(self) -> None:
        self._lock = threading.RLock()  # a lease may end by garbage collection within a lease
        self._idle: dict[int, list[NDArray[np.uint8]]] = {}
        self._idle_bytes = 0
        self._process = os.getpid()

    def __getstate__(self) -> int:
        return self.keep_bytes

    def __setstate__(self, keep_bytes: int) -> None:
        self.keep_bytes = keep_bytes
        self._fresh()

    def lease(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[torch.Tensor, Any]:
        """(tensor, array) over one buffer of `shape` and `dtype`; uninitialised.

        The buffer comes back when nothing refers to the tensor, the array or a view of either.
        """
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if self._process != os.getpid():
            self._fresh()  # after a fork the lock may be held by a thread that is not here
        with self._lock:
            idle = self._idle.get(size)
            base = idle.pop() if idle else None
            if base is not None:
                self._idle_bytes -= size
        if base is None:
            base = np.empty(size, np.uint8)
        # Through a memoryview: NumPy would make `base` the base of any view of a plain view. So all
        # views and the tensor refer to `flat`, and its end is the end of the lease.
        flat = np.frombuffer(base.data, dtype) if size else np.empty(0, dtype)
        weakref.finalize(flat, self._give_back, base, self._process).atexit = False
        leased = flat.reshape(shape)
        return torch.from_numpy(leased), leased

    def _give_back(self, base: NDArray[np.uint8], process: int) -> None:
        if not process == os.getpid() == self._process:
            return
        with self._lock:
            if self._idle_bytes + base.nbytes <= self.keep_bytes:
                self._idle.setdefault(base.nbytes, []).append(base)
                self._idle_bytes += base.nbytes
