"""Batches of an epoch: which samples, for one rank of several; any batch at once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer_adapter.order import Ints, Order, key_of, permuted

_BLOCK = 64
"""batches whose order is worked out at once: NumPy's overhead is that of a call"""
_BLOCKS_KEPT = 256


def shape_groups(array: NDArray[Any], height: NDArray[Any], width: NDArray[Any]) -> list[Ints]:
    """Positions of frames of one array and size each, in order; (n,) columns."""
    if not len(array):
        return []
    key = array.astype(np.int64) * (int(height.max()) + 1) + height
    key = key * (int(width.max()) + 1) + width
    if key.min() == key.max():
        return [np.arange(len(key))]
    order = np.argsort(key, kind="stable")
    found = key[order]
    return np.split(order, np.flatnonzero(found[1:] != found[:-1]) + 1)


class Batches:
    """Samples of one group each (one shape); with `mixed`, batches of all groups in random order.

    Ranks get disjoint samples, equally many: what does not divide comes again (`pad`, so that the
    last rounds of some ranks repeat the epoch's first samples) or is dropped.
    """

    def __init__(
        self,
        groups: Sequence[tuple[Ints, Order]],
        size: int,
        *,
        rank: int = 0,
        ranks: int = 1,
        pad: bool = True,
        drop_last: bool = False,
        mixed: bool = False,
        seed: int = 0,
    ) -> None:
        """`groups` are pairs (members, order of as many positions).

        Raises ValueError for a size below 1 or a rank that is not below `ranks`.
        """
        if size < 1:
            raise ValueError(f"batch_size {size}; legal: from 1")
        if not 0 <= rank < ranks:
            raise ValueError(f"rank {rank} of {ranks}; legal: from 0 to {ranks - 1}")
        self._groups, self._size, self._rank, self._ranks = list(groups), size, rank, ranks
        self._seed, self._mixed = seed, mixed and len(groups) > 1
        self._known: OrderedDict[tuple[int, ...], Ints] = OrderedDict()
        self._each = [
            -(-len(order) // ranks) if pad else len(order) // ranks for _, order in self._groups
        ]
        counts = [n // size if drop_last else -(-n // size) for n in self._each]
        self._ends = np.cumsum([0, *counts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def batch(self, epoch: int, number: int) -> Ints:
        """The samples of batch `number`, from 0."""
        if self._mixed:
            block, within = divmod(number, _BLOCK)
            start = block * _BLOCK
            numbers = np.arange(start, min(start + _BLOCK, len(self)))
            key = key_of(self._seed, epoch, 3)
            number = int(
                self._kept((epoch, block), lambda: permuted(numbers, len(self), key))[within]
            )
        g = int(np.searchsorted(self._ends, number, side="right")) - 1
        members, order = self._groups[g]
        block, within = divmod(number - int(self._ends[g]), _BLOCK)
        start, size = block * _BLOCK * self._size, self._size

        def samples() -> Ints:
            mine = np.arange(start, min(start + size * _BLOCK, self._each[g]))
            found: Ints = members[order.at(epoch, (mine * self._ranks + self._rank) % len(order))]
            return found

        return self._kept((epoch, g, block), samples)[within * size : (within + 1) * size]

    def _kept(self, key: tuple[int, ...], make: Callable[[], Ints]) -> Ints:
        if key not in self._known:
            self._known[key] = make()
            if len(self._known) > _BLOCKS_KEPT:
                self._known.popitem(last=False)
        return self._known[key]
