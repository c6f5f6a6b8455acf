"""Batches of an epoch: which samples, for one rank of several; any batch at once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer_adapter.order.permutations import Ints, Order, Stream, Weighted, key_of, uniform

_BLOCK = 4096
"""samples whose order is worked out at once: NumPy's overhead is that of a call"""
_BLOCKS_KEPT = 1024
_EPOCHS_KEPT = 2
"""of whose batches the order is kept: two iterators may run at once"""


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
    """Samples of one group each (one shape); with `mixed`, batches of all groups take turns.

    Ranks get disjoint samples, equally many: what does not divide comes again (`pad`, so that the
    last rounds of some ranks repeat the epoch's first samples) or is dropped. Mixed groups keep
    step: after a part of an epoch, about that part of each has come; so windows of shards stay
    windows.
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
        check_ranks(size, rank, ranks)
        self._groups, self._size, self._rank, self._ranks = list(groups), size, rank, ranks
        self._seed, self._mixed = seed, mixed and len(groups) > 1
        self._block = max(1, _BLOCK // size)
        self._known: OrderedDict[tuple[int, ...], Ints] = OrderedDict()
        self._mixes: OrderedDict[int, Ints] = OrderedDict()
        self._each = [
            -(-len(order) // ranks) if pad else len(order) // ranks for _, order in self._groups
        ]
        counts = [n // size if drop_last else -(-n // size) for n in self._each]
        self._ends = np.cumsum([0, *counts])
        self._sizes = np.full(len(self), size)
        for end, n in zip(self._ends[1:].tolist(), self._each, strict=True):
            if n % size and not drop_last:
                self._sizes[end - 1] = n % size

    def __len__(self) -> int:
        return int(self._ends[-1])

    def batch(self, epoch: int, number: int) -> Ints:
        """The samples of batch `number`, from 0."""
        if self._mixed:
            number = int(self._mix(epoch)[number])
        g = int(np.searchsorted(self._ends, number, side="right")) - 1
        members, order = self._groups[g]
        block, within = divmod(number - int(self._ends[g]), self._block)
        key = epoch, g, block
        if key not in self._known:
            start, size = block * self._block * self._size, self._block * self._size
            mine = np.arange(start, min(start + size, self._each[g]))
            places = (mine * self._ranks + self._rank) % len(order)
            self._known[key] = members[order.at(epoch, places)]
            if len(self._known) > _BLOCKS_KEPT:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key][within * self._size : (within + 1) * self._size]

    def before(self, epoch: int) -> Ints:
        """(len(self),) samples that come before each batch, those of earlier epochs too."""
        sizes = self._sizes[self._mix(epoch)] if self._mixed else self._sizes
        return np.asarray(np.cumsum(sizes) - sizes + epoch * int(sizes.sum()), np.int64)

    def _mix(self, epoch: int) -> Ints:
        """Batches of all groups in the order of the epoch: each somewhere in its stretch."""
        if epoch not in self._mixes:
            counts = np.diff(self._ends)
            place = np.arange(len(self)) - np.repeat(self._ends[:-1], counts)
            jitter = uniform(key_of(self._seed, epoch, Stream.JITTER), np.arange(len(self)))
            at = (place + jitter) / np.repeat(counts, counts)
            self._mixes[epoch] = np.argsort(at, kind="stable")
            if len(self._mixes) > _EPOCHS_KEPT:
                self._mixes.popitem(last=False)
        return self._mixes[epoch]


class WeightedBatches:
    """Batches of samples drawn by weight, with replacement, each of one group (one shape).

    The group of a batch is drawn by its share of the weights, the same for all ranks.
    """

    def __init__(
        self,
        members: Sequence[Ints],
        weights: NDArray[np.float64],
        samples: int,
        size: int,
        *,
        rank: int = 0,
        ranks: int = 1,
        pad: bool = True,
        drop_last: bool = False,
        seed: int = 0,
    ) -> None:
        """`samples` are drawn in an epoch, of all ranks. Raises ValueError as Batches does."""
        check_ranks(size, rank, ranks)
        self._members, self._size, self._rank, self._ranks = list(members), size, rank, ranks
        self._each = -(-samples // ranks) if pad else samples // ranks
        self._count = self._each // size if drop_last else -(-self._each // size)
        shares = [weights[m].sum() for m in members]
        self._orders = [
            Weighted(weights[m], seed=int(key_of(seed, Stream.GROUP, g))) if share else None
            for g, (m, share) in enumerate(zip(members, shares, strict=True))
        ]
        self._group = (
            Weighted(shares, seed=int(key_of(seed, Stream.GROUPS))) if len(shares) else None
        )

    def __len__(self) -> int:
        return self._count if self._members else 0

    def before(self, epoch: int) -> Ints:
        """(len(self),) samples that come before each batch, those of earlier epochs too."""
        whole = min(self._each, self._count * self._size)
        return np.arange(len(self)) * self._size + epoch * whole

    def batch(self, epoch: int, number: int) -> Ints:
        """The samples of batch `number`, from 0."""
        assert self._group is not None
        g = int(self._group.at(epoch, np.array([number]))[0])
        order = self._orders[g]
        assert order is not None, "a group without weight is never drawn"
        start = number * self._size
        mine = np.arange(start, min(start + self._size, self._each))
        found: Ints = self._members[g][order.at(epoch, mine * self._ranks + self._rank)]
        return found


def check_ranks(size: int, rank: int, ranks: int) -> None:
    """Raises ValueError for a size below 1 or a rank that is not below `ranks`."""
    if size < 1:
        raise ValueError(f"batch_size {size}; legal: from 1")
    if not 0 <= rank < ranks:
        raise ValueError(f"rank {rank} of {ranks}; legal: from 0 to {ranks - 1}")
