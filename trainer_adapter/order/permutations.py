"""Orders of samples as functions of (seed, epoch, position): nothing is stored, nothing is drawn.

So the order is the same for any number of threads, and any position of an epoch is reached at
once, without running through those before it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
_ROUNDS = 6
_SORTED = 1024
"""below this, permutations are sorted hashes: few bits make a poor network"""
_ODD = np.uint64(0x9E3779B97F4A7C15)
_ALL = (1 << 64) - 1


class Stream(IntEnum):
    """What a number is drawn for: part of the key, so that no two uses share their numbers.

    The order of samples itself has none. A number that caches were trained with keeps its meaning.
    """

    SHARDS = 1
    """order of shards"""
    WINDOW = 2
    """order within a window of shards, with the window's number"""
    JITTER = 3
    """which batch is the next of several groups"""
    GROUP = 4
    """the seed of a group's own order, with the group's number"""
    GROUPS = 5
    """the group that a batch is drawn from"""
    CROP = 10
    """place of a crop, with the axis added: 0, 1"""
    BOX = 20
    """area, shape, top and left of a part to resample: 0 to 3 added"""
    FLIP = 30
    """left to right, or upside down: 0, 1 added"""
    FOREGROUND = 40
    """the voxel that a patch is around: its slice, and which it is there: 0, 1 added"""
    INSTEAD = 42
    """whose volume a patch is of, where that of its own slice has no such voxel"""
    KEPT = 43
    """voxels that stand for all of a slice, with its sample index"""
    START = 50
    """first sample of a window of a recording"""


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A hash of 64 bits, each output bit of which depends on all of the input (splitmix64)."""
    with np.errstate(over="ignore"):
        z = values + _ODD
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def key_of(*numbers: int) -> np.uint64:
    """One key of several numbers, such as seed and epoch; their order matters."""
    key = 0
    for number in numbers:  # as `mix`, in Python's own numbers: arrays of one take ten times longer
        key = ((key ^ int(number)) + int(_ODD)) & _ALL
        key = ((key ^ key >> 30) * 0xBF58476D1CE4E5B9) & _ALL
        key = ((key ^ key >> 27) * 0x94D049BB133111EB) & _ALL
        key ^= key >> 31
    return np.uint64(key)


def group_seeds(seed: int, groups: int) -> list[int]:
    """A seed for each group of samples: groups of one length that shared a permutation would be
    paired, batch by batch."""
    return [seed if k == 0 else int(key_of(seed, Stream.GROUP, k)) for k in range(groups)]


def uniform(key: np.uint64, counters: NDArray[Any]) -> NDArray[np.float64]:
    """A number in [0, 1) for each counter, always the same for the same key."""
    found = mix(mix(np.asarray(counters).astype(np.uint64)) ^ key)
    return (found >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permuted(positions: Ints, n: int, key: np.uint64) -> Ints:
    """Where a permutation of 0 to n - 1 sends `positions`; O(1) for each.

    A Feistel network over the next power of 4, walked until it is back below n (Black and Rogaway,
    Ciphers with arbitrary finite domains, 2002).
    """
    if n <= _SORTED:
        whole = np.argsort(mix(mix(np.arange(n, dtype=np.uint64)) ^ key), kind="stable")
        return whole[positions]
    half = (int(n - 1).bit_length() + 1) // 2
    mask, shift = np.uint64((1 << half) - 1), np.uint64(half)
    found = np.asarray(positions, np.uint64).copy()
    left = np.arange(len(found))
    while len(left):
        value = found[left]
        high, low = value >> shift, value & mask
        for r in range(_ROUNDS):
            high, low = low, high ^ (mix(low ^ key ^ (np.uint64(r) << np.uint64(56))) & mask)
        value = high << shift | low
        found[left] = value
        left = left[value >= np.uint64(n)]
    return found.astype(np.int64)


class Order(Protocol):
    """What comes at which position of an epoch."""

    def __len__(self) -> int:
        """Positions of an epoch."""

    def at(self, epoch: int, positions: Ints) -> Ints:
        """Indices of samples at the positions, each below len(self)."""


class Sequential:
    """0, 1, 2, ..."""

    def __init__(self, n: int) -> None:
        self._n = n

    def __len__(self) -> int:
        return self._n

    def at(self, epoch: int, positions: Ints) -> Ints:
        """The positions themselves."""
        return positions


class Shuffle:
    """A permutation of all samples, another one in each epoch."""

    def __init__(self, n: int, seed: int = 0) -> None:
        self._n, self._seed = n, seed

    def __len__(self) -> int:
        return self._n

    def at(self, epoch: int, positions: Ints) -> Ints:
        """Samples at the positions."""
        return permuted(positions, self._n, key_of(self._seed, epoch))


class WindowedShuffle:
    """Shards in random order, frames shuffled within windows of `window` shards.

    For network storage: only the shards of a window are read at a time. One shard is often one
    patient, so a window holds dozens.
    """

    def __init__(self, shard: NDArray[Any], window: int = 64, seed: int = 0) -> None:
        """`shard` is a number for each sample: which shard it lies in."""
        if window < 1:
            raise ValueError(f"window {window}; legal: from 1 shard")
        _, of = np.unique(np.asarray(shard), return_inverse=True)
        self._members = np.argsort(of, kind="stable")
        self._counts = np.bincount(of)
        self._starts = np.cumsum(self._counts) - self._counts
        self._window, self._seed = window, seed
        self._known: tuple[int, tuple[Ints, Ints, Ints]] | None = None

    def __len__(self) -> int:
        return len(self._members)

    def _epoch_of(self, epoch: int) -> tuple[Ints, Ints, Ints]:
        """(shards in the order of the epoch, positions before each and the end, windows' edges)."""
        if self._known is None or self._known[0] != epoch:
            n = len(self._counts)
            shards = permuted(np.arange(n), n, key_of(self._seed, epoch, Stream.SHARDS))
            ends = np.r_[0, np.cumsum(self._counts[shards])]
            # Even windows: a last one of a single shard would be batches of a single patient.
            windows = max(1, n // self._window)
            edges = ends[np.arange(windows + 1) * n // windows]
            self._known = epoch, (shards, ends, edges)
        return self._known[1]

    def at(self, epoch: int, positions: Ints) -> Ints:
        """Samples at the positions."""
        shards, ends, edges = self._epoch_of(epoch)
        window = np.searchsorted(edges, positions, side="right") - 1
        inside = np.empty(len(positions), np.int64)
        for w in np.unique(window):
            mine = window == w
            size = int(edges[w + 1] - edges[w])
            key = key_of(self._seed, epoch, Stream.WINDOW, int(w))
            inside[mine] = edges[w] + permuted(positions[mine] - edges[w], size, key)
        place = np.searchsorted(ends, inside, side="right") - 1
        found: Ints = self._members[self._starts[shards[place]] + inside - ends[place]]
        return found


class Weighted:
    """Samples drawn with replacement, by weight; `n` of them are an epoch."""

    def __init__(self, weights: Any, n: int | None = None, seed: int = 0) -> None:
        given = np.asarray(weights, np.float64)
        if given.ndim != 1 or not len(given) or not np.isfinite(given).all():
            raise ValueError("weights: legal is one finite number for each sample")
        if (given < 0).any() or not given.sum() > 0:
            raise ValueError("weights: none may be below 0, and one must be above")
        self._sums = np.cumsum(given)
        self._n, self._seed = n or len(given), seed

    def __len__(self) -> int:
        return self._n

    def at(self, epoch: int, positions: Ints) -> Ints:
        """Samples at the positions."""
        drawn = uniform(key_of(self._seed, epoch), positions) * self._sums[-1]
        found = np.searchsorted(self._sums, drawn, side="right")
        chosen: Ints = np.minimum(found, len(self._sums) - 1).astype(np.int64)
        return chosen
