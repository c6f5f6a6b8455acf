"""Which frames may share a batch, in which order, and for which rank."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer_adapter.batches import shape_groups
from trainer_adapter.cache import Cache
from trainer_adapter.crop import Crop, Ints
from trainer_adapter.order import Order, Sequential, Shuffle, Weighted, WindowedShuffle


@dataclass(frozen=True)
class Shapes:
    """What batches of a cache look like; the frames of each are of one group."""

    cache: Cache
    whole: bool
    """frames as they are, one size each; else a part of a slot, or a crop"""
    crop: Crop | None

    def frame(self, sample: int) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """((H, W[, C]), dtype) of this frame in its batch, by sample index in the whole cache."""
        places = self.cache.core.places
        spec = self.cache.core.root.arrays[places.array[sample]]
        if self.crop is not None:
            height, width = self.crop.height, self.crop.width
        elif self.whole:
            height, width = int(places.height[sample]), int(places.width[sample])
        else:
            height, width = spec.slot[:2]
        return (height, width, *spec.slot[2:]), spec.dtype

    def bytes_of(self, members: Ints) -> int:
        """Bytes of a frame in the batches of one group."""
        shape, dtype = self.frame(int(self.cache.samples(members[:1])[0]))
        return int(np.prod(shape)) * dtype.itemsize


def batch_groups(
    cache: Cache,
    bucket: str | Crop,
    *,
    shuffle: bool | str,
    window: int,
    weights: NDArray[np.float64] | None,
    samples: int | None,
    seed: int,
) -> tuple[Shapes, list[tuple[Ints, Order]]]:
    """Groups of frames that may share a batch, each with its order.

    Raises ValueError for a bucket, shuffle or weights that are not legal.
    """
    crop = bucket if isinstance(bucket, Crop) else None
    if crop is None and bucket not in ("size", "array"):
        raise ValueError(f"bucket {bucket!r}; legal: size, array")
    if shuffle not in (False, True, "windowed"):
        raise ValueError(f'shuffle {shuffle!r}; legal: False, True, "windowed"')
    if weights is not None and shuffle:
        raise ValueError("weights already draw at random; leave shuffle off")
    if samples is not None and weights is None:
        raise ValueError("samples is the length of an epoch of weights; give weights")
    places, frames = cache.core.places, cache.indices
    array, height, width = (c[frames] for c in (places.array, places.height, places.width))
    if crop is not None:
        for number in np.unique(array).tolist():
            dtype = cache.arrays[number].dtype
            with np.errstate(invalid="ignore"):
                held = np.float64(crop.fill).astype(dtype)
            if held != crop.fill and not np.isnan(held):
                raise ValueError(f"crop with fill {crop.fill}; legal: what {dtype} can hold")
        kinds = {(a.dtype.str, a.slot[2:]): k for k, a in enumerate(cache.arrays)}
        of = np.array([kinds[a.dtype.str, a.slot[2:]] for a in cache.arrays], np.int64)
        kind: NDArray[Any] = of[array]
    else:
        kind = array
    if bucket != "size":
        height = width = np.zeros(len(array), np.int32)
    shapes = Shapes(cache, bucket == "size", crop)
    parts = shape_groups(kind, height, width)
    if weights is not None:
        return shapes, _weighted(parts, weights, samples or len(array), seed)
    if shuffle == "windowed":
        number = places.row[frames] // cache.core.per_shard[array]
        shard = number + array.astype(np.int64) * (int(number.max(initial=0)) + 1)
        return shapes, [(p, WindowedShuffle(shard[p], window, seed)) for p in parts]
    if shuffle:
        return shapes, [(p, Shuffle(len(p), seed)) for p in parts]
    return shapes, [(p, Sequential(len(p))) for p in parts]


def _weighted(
    parts: list[Ints], weights: NDArray[np.float64], samples: int, seed: int
) -> list[tuple[Ints, Order]]:
    """Each group has its share of an epoch by weight; the greatest remainders are rounded up."""
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.sum() > 0:
        raise ValueError("weights: legal are finite numbers from 0, and one above 0")
    share = np.array([weights[p].sum() for p in parts]) / weights.sum() * samples
    counts = np.floor(share).astype(np.int64)
    counts[np.argsort(counts - share, kind="stable")[: samples - counts.sum()]] += 1
    return [
        (p, Weighted(weights[p], int(n), seed)) for p, n in zip(parts, counts, strict=True) if n
    ]


def distributed_rank(rank: int | None, ranks: int | None) -> tuple[int, int]:
    """(rank, ranks): as given, or those of torch.distributed or its environment, or (0, 1).

    Raises ValueError if only one is given.
    """
    if (rank is None) != (ranks is None):
        raise ValueError(f"rank {rank} of ranks {ranks}: give both or none")
    if rank is not None and ranks is not None:
        return rank, ranks
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:  # torchrun, before init_process_group
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return 0, 1
