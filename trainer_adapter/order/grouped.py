"""Orders of indices, and nothing but indices."""

from __future__ import annotations

from collections.abc import Iterator
from operator import index
from typing import Protocol

from trainer_adapter.order.batches import Batches
from trainer_adapter.order.permutations import Ints, Order, Sequential, Shuffle, group_seeds
from trainer_adapter.order.ranks import distributed_rank


class Grouped(Protocol):
    """What can say which of its samples make a batch."""

    def shape_groups(self) -> list[Ints]:
        """Indices of samples of one shape each."""


class GroupedBatchSampler:
    """Batches of one shape each, for `DataLoader(batch_sampler=...)`; each iter() is an epoch.

    The order is a function of seed and epoch alone, that of a CacheLoader. Ranks of
    torch.distributed, torchrun or Slurm get disjoint samples and equally many batches: what does
    not divide is repeated (`pad`), or dropped. Raises ValueError for a `batch_size`, or a `rank` of
    `ranks`, that is not legal.
    """

    def __init__(
        self,
        dataset: Grouped,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        rank: int | None = None,
        ranks: int | None = None,
        pad: bool = True,
    ) -> None:
        parts = dataset.shape_groups()
        orders: list[Order] = [Sequential(len(p)) for p in parts]
        if shuffle:
            seeds = group_seeds(seed, len(parts))
            orders = [Shuffle(len(p), s) for p, s in zip(parts, seeds, strict=True)]
        self.rank, self.ranks = distributed_rank(rank, ranks)
        self._batches = Batches(
            list(zip(parts, orders, strict=True)), batch_size, rank=self.rank, ranks=self.ranks,
            pad=pad, drop_last=drop_last, mixed=shuffle, seed=seed,
        )  # fmt: skip
        self._next = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next `iter()` begins."""
        self._next = index(epoch)

    def __len__(self) -> int:
        """Batches of an epoch, for this rank."""
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        epoch, self._next = self._next, self._next + 1
        return (self._batches.batch(epoch, k).tolist() for k in range(len(self)))
