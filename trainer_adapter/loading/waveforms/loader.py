"""Batches of windows in this process, in an order that ranks and resumed runs share."""

from __future__ import annotations

from collections.abc import Iterator
from operator import index

import numpy as np

from trainer_adapter.errors import counting
from trainer_adapter.loading.states import Resumable, digest_of
from trainer_adapter.loading.waveforms.dataset import Recording, WaveformDataset
from trainer_adapter.order.batches import Batches
from trainer_adapter.order.permutations import Order, Sequential, Shuffle
from trainer_adapter.order.ranks import distributed_rank
from trainer_adapter.reading.opened import generation_of


class WaveformLoader(Resumable):
    """An iterable of batches of a WaveformDataset's windows, each of one size.

    Order and places are functions of (seed, epoch, index), so that a run goes on exactly where it
    stopped. Each `iter()` begins the next epoch, or that of `set_epoch`.
    """

    def __init__(
        self,
        dataset: WaveformDataset,
        batch_size: int = 64,
        *,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        rank: int | None = None,
        ranks: int | None = None,
        pad: bool = True,
    ) -> None:
        """rank, ranks: of several processes, by default as torch.distributed says; pad: repeat
        windows so that all have as many, else drop some. Raises ValueError for what is not legal.
        """
        self.dataset, self.batch_size, seed = dataset, index(batch_size), index(seed)
        rank, ranks = distributed_rank(rank, ranks)
        order: Order = Shuffle(len(dataset), seed) if shuffle else Sequential(len(dataset))
        self._batches = Batches(
            [(np.arange(len(dataset)), order)], self.batch_size, rank=rank, ranks=ranks, pad=pad,
            drop_last=drop_last,
        )  # fmt: skip
        cache = dataset.cache
        order_of = {
            "numbering": cache.numbering, "generation": generation_of(cache.core.root),
            "cache": cache.core.root.digest, "frames": digest_of(cache.indices),
            "windows": len(dataset), "length": dataset.length, "at": dataset.at,
            "starts": digest_of(dataset.starts(np.arange(len(dataset)), 0)),
            "channels": list(dataset.channels), "rate": dataset.rate, "drawn": dataset.seed,
            "shuffle": bool(shuffle), "seed": seed, "batch_size": self.batch_size,
            "drop_last": drop_last, "rank": rank, "ranks": ranks, "pad": pad,
        }  # fmt: skip
        super().__init__(order_of, cache)

    def __len__(self) -> int:
        """Batches of an epoch, for this rank."""
        return len(self._batches)

    def __repr__(self) -> str:
        batches = counting(len(self), "batch", "batches")
        return f"<WaveformLoader: {batches} of {self.batch_size} of {self.dataset!r}>"

    def __iter__(self) -> Iterator[Recording]:
        return self._epoch(*self._begin())

    def _epoch(self, epoch: int, start: int) -> Iterator[Recording]:
        for number in range(start, len(self)):
            found = self.dataset.batch(self._batches.batch(epoch, number), epoch)
            self._now = epoch, number + 1
            yield found
