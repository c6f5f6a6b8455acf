"""Batches of a stock DataLoader's workers in shared memory that stays.

torch makes memory anew for each tensor that a worker sends: to make it, to map it where it arrives
and to touch its pages takes many times as long as the copy of the frames. Here a worker keeps a few
pieces, and sends the number of one. It writes to one again when nothing refers to its batch any
more, in the worker and where it arrived. A piece begins with words that either side writes only
when it is its turn: there is no lock that who is killed could leave behind.
"""

from __future__ import annotations

import math
import mmap
import multiprocessing
import os
import threading
import time
import weakref
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

_HEAD = mmap.PAGESIZE
_MOST = 16
"""pieces of a worker; batches beyond that are in memory of torch's own, which is not kept"""
_SMALL = 64 << 10
"""bytes of a tensor that are sent sooner than shared"""
_PLAIN = {torch.bool, torch.uint8, torch.int32, torch.int64, torch.float32, torch.float64}
_STATE, _NUMBER, _KNOWN = range(3)
"""words of a piece: whose turn it is, which of the worker's batches it was sent as, the process
that has it mapped"""
_FREE, _SENT, _ARRIVED, _RETIRED = range(4)
"""turns: of the worker, nobody's, of who got it; and never to be written to again"""


class Ref(NamedTuple):
    """What is sent instead of a tensor."""

    worker: tuple[int, int]
    """(process, when it began)"""
    piece: int
    number: int
    shape: tuple[int, ...]
    dtype: str
    storage: Any
    """the piece's memory, until it is known there"""


class Small(NamedTuple):
    """A tensor that is sent by value."""

    values: NDArray[Any]


def _bytes_of(storage: Any) -> NDArray[np.uint8]:
    whole = torch.empty(0, dtype=torch.uint8).set_(storage, 0, (storage.nbytes(),), (1,))
    found: NDArray[np.uint8] = whole.numpy()
    return found


def _flat(memory: NDArray[np.uint8], shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """What all views and tensors of a batch in a piece refer to: its end is theirs."""
    size = math.prod(shape) * dtype.itemsize
    # Through a memoryview: NumPy would make `memory` the base of any view of a plain view.
    return np.frombuffer(memory.data[_HEAD : _HEAD + size], dtype)


class _Piece:
    """Shared memory, as the worker has it."""

    def __init__(self, size: int) -> None:
        self.storage = torch.UntypedStorage._new_shared(_HEAD + size)  # type: ignore[no-untyped-call]
        self.memory = _bytes_of(self.storage)
        self.words, self.size = self.memory[:_HEAD].view(np.int64), size
        self.start = int(self.memory.__array_interface__["data"][0]) + _HEAD
        self.words[:] = 0
        self.lent: weakref.ref[NDArray[Any]] | None = None
        self.is_sent = False

    def is_held(self) -> bool:
        """Whether anything in the worker refers to what is in it."""
        return self.lent is not None and self.lent() is not None


class Pieces:
    """Those of one worker process."""

    def __init__(self) -> None:
        self.worker = os.getpid(), time.time_ns()
        self._lock = threading.Lock()  # batches are sent by a thread of their own
        self._pieces: dict[int, _Piece] = {}
        self._made = self._sent = 0

    def lease(
        self, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> tuple[torch.Tensor, NDArray[Any]] | None:
        """(tensor, array) over a piece, uninitialised; None where too many are in use."""
        size = math.prod(shape) * dtype.itemsize
        with self._lock:
            piece = self._free(size) if size else None
            if piece is None:
                return None
            flat = _flat(piece.memory, shape, dtype)
            piece.lent, piece.is_sent = weakref.ref(flat), False
        leased = flat.reshape(shape)
        return torch.from_numpy(leased), leased

    def _free(self, size: int) -> _Piece | None:
        idle = 0
        for number, piece in list(self._pieces.items()):
            turn = int(piece.words[_STATE])
            if piece.is_held() or turn in (_SENT, _ARRIVED):
                continue
            if turn == _RETIRED:
                del self._pieces[number]
            elif size <= piece.size <= 2 * size:
                return piece
            else:
                idle = number
        if len(self._pieces) >= _MOST:
            if not idle:
                return None
            self._pieces.pop(idle).words[_STATE] = _RETIRED  # a size that is no longer asked for
        self._made += 1
        found = self._pieces[self._made] = _Piece(size)
        return found

    def ref(self, tensor: torch.Tensor) -> Any:
        """What to send for a tensor: a Ref if it is all of a lease, for the first time."""
        start = tensor.data_ptr()
        with self._lock:
            number = next((k for k, p in self._pieces.items() if p.start == start), None)
            if number is None:
                return tensor
            piece = self._pieces[number]
            flat = None if piece.lent is None else piece.lent()
            if flat is None or piece.is_sent or tensor.requires_grad:
                return tensor
            if not tensor.is_contiguous() or tensor.nbytes != flat.nbytes:
                return tensor
            piece.is_sent = True
            self._sent += 1
            piece.words[_NUMBER], piece.words[_STATE] = self._sent, _SENT
            storage = None if piece.words[_KNOWN] else piece.storage
        return Ref(self.worker, number, self._sent, tuple(tensor.shape), flat.dtype.str, storage)


class Arrivals:
    """Pieces of workers, as the process has them that got their batches."""

    def __init__(self) -> None:
        self._fresh()

    def _fresh(self) -> None:
        self._lock = threading.RLock()  # a batch may end by garbage collection meanwhile
        self._known: dict[tuple[int, int], dict[int, NDArray[np.uint8]]] = {}
        self._out: dict[int, NDArray[np.int64]] = {}
        """words of pieces that batches of this process are in"""
        self._process = os.getpid()

    def tensor(self, ref: Ref) -> torch.Tensor:
        """The tensor; its piece goes back when nothing refers to it.

        Raises RuntimeError where it was taken before, or by another process.
        """
        with self._lock:
            if ref.storage is not None:
                self._clear(ref.worker)
                memory = _bytes_of(ref.storage)
                memory[:_HEAD].view(np.int64)[_KNOWN] = self._process
                self._known.setdefault(ref.worker, {})[ref.piece] = memory
            known = self._known.get(ref.worker, {}).get(ref.piece)
            words = None if known is None else known[:_HEAD].view(np.int64)
            if known is None or words is None or words[:2].tolist() != [_SENT, ref.number]:
                raise RuntimeError(
                    "a batch of a worker can be taken once, by the process that has its DataLoader"
                )
            words[_STATE] = _ARRIVED
            flat = _flat(known, ref.shape, np.dtype(ref.dtype))
            self._out[id(words)] = words
            weakref.finalize(flat, self._give_back, words, self._process).atexit = False
        return torch.from_numpy(flat.reshape(ref.shape))

    def _give_back(self, words: NDArray[np.int64], process: int) -> None:
        if not process == os.getpid() == self._process:
            return
        with self._lock:
            del self._out[id(words)]
            if words[_STATE] == _ARRIVED:
                words[_STATE] = _FREE

    def _clear(self, worker: tuple[int, int]) -> None:
        """Forget pieces that are not sent again, and those of workers that have ended."""
        if worker not in self._known:
            alive = {process.pid for process in multiprocessing.active_children()}
            for other in [w for w in self._known if w[0] not in alive]:
                for memory in self._known.pop(other).values():
                    memory[:_HEAD].view(np.int64)[_KNOWN] = 0
        for pieces in self._known.values():
            for number, memory in list(pieces.items()):
                if memory[:_HEAD].view(np.int64)[_STATE] == _RETIRED:
                    del pieces[number]

    def before_fork(self) -> None:
        """A child sees what this process has in shared memory: none of it is written to again."""
        self._lock.acquire()
        for words in self._out.values():
            words[_STATE] = _RETIRED

    def after_fork(self, in_child: bool) -> None:
        """A child has no batches to give back, and a lock of its own."""
        if in_child:
            self._fresh()
        else:
            self._lock.release()


arrivals = Arrivals()
_ours: Pieces | None = None


def ours() -> Pieces:
    """The pieces of this process, which is a worker."""
    global _ours
    if _ours is None or _ours.worker[0] != os.getpid():
        _ours = Pieces()
    return _ours


def sent(value: Any) -> Any:
    """What to send for a value of a batch; small tensors by value, which spares a descriptor."""
    if type(value) is not torch.Tensor or value.device.type != "cpu":
        return value
    if value.layout != torch.strided:
        return value
    found = ours().ref(value)
    if found is value and value.nbytes <= _SMALL and not value.requires_grad:
        return Small(value.numpy()) if value.dtype in _PLAIN else value
    return found


def received(value: Any) -> Any:
    """The value again, where it arrived."""
    if isinstance(value, Ref):
        return arrivals.tensor(value)
    return torch.from_numpy(value.values) if isinstance(value, Small) else value


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=arrivals.before_fork,
        after_in_parent=lambda: arrivals.after_fork(in_child=False),
        after_in_child=lambda: arrivals.after_fork(in_child=True),
    )
