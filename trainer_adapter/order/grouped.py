"""Orders of indices, and nothing but indices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Grouped(Protocol):
    """What can say which of its samples make a batch."""

    def shape_groups(self) -> list[NDArray[np.int64]]:
        """Indices of samples of one shape each."""


class GroupedBatchSampler:
    """Batches of one shape each, for `DataLoader(batch_sampler=...)`.

    The order is a function of seed and epoch alone; call `set_epoch` before each epoch.
    """

    def __init__(
        self,
        dataset: Grouped,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size {batch_size}; legal: from 1")
        self._groups = dataset.shape_groups()
        self._size, self._shuffle, self._drop = batch_size, shuffle, drop_last
        self._seed, self._epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self._epoch = epoch

    def __len__(self) -> int:
        whole = sum(len(g) // self._size for g in self._groups)
        return whole if self._drop else sum(-(-len(g) // self._size) for g in self._groups)

    def __iter__(self) -> Iterator[list[int]]:
        random = np.random.default_rng([self._seed, self._epoch])
        batches = []
        for group in self._groups:
            order = random.permutation(group) if self._shuffle else group
            batches += [order[k : k + self._size] for k in range(0, len(order), self._size)]
        if self._drop:
            batches = [b for b in batches if len(b) == self._size]
        order = random.permutation(len(batches)) if self._shuffle else np.arange(len(batches))
        return (batches[k].tolist() for k in order)
