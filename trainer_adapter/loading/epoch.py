"""Which frames may share a batch, in which order, and for which rank."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer_adapter.cache import Cache
from trainer_adapter.loading import options
from trainer_adapter.order.batches import Batches, WeightedBatches, shape_groups
from trainer_adapter.order.crop import Crop
from trainer_adapter.order.permutations import (
    Ints,
    Order,
    Sequential,
    Shuffle,
    WindowedShuffle,
    group_seeds,
)

_LARGE = 1 << 26
"""bytes of a frame, from which on its shard is seen to be there before memory is asked for"""


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
        first = self.cache.samples(members[:1])
        shape, dtype = self.frame(int(first[0]))
        size = math.prod(shape) * dtype.itemsize
        if size > _LARGE:
            self.cache.core.hold_shards(first)
        return size


@dataclass(frozen=True)
class Share:
    """What one rank gets of an epoch."""

    size: int
    """frames in a batch"""
    rank: int
    ranks: int
    pad: bool
    drop_last: bool


def batches_of(
    cache: Cache,
    bucket: str | Crop,
    share: Share,
    wanted: options.Order,
) -> tuple[Shapes, list[Ints], Batches | WeightedBatches]:
    """(what batches look like, frames that may share one, the batches).

    Raises ValueError for a bucket, shuffle, weights or share that are not legal.
    """
    shuffle, weights, samples, seed = wanted.shuffle, wanted.weights, wanted.samples, wanted.seed
    crop = bucket if isinstance(bucket, Crop) else None
    if crop is None and bucket not in ("size", "array"):
        raise ValueError(f"bucket {bucket!r}; legal: size, array")
    if shuffle not in (False, True, "windowed"):
        raise ValueError(f'shuffle {shuffle!r}; legal: False, True, "windowed"')
    if weights is not None and shuffle:
        raise ValueError("weights already draw at random; leave shuffle off")
    if samples is not None and (weights is None or samples < 1):
        raise ValueError(f"samples {samples}; legal: from 1, how many are drawn by weights")
    places, frames = cache.core.places, cache.indices
    array, height, width = (c[frames] for c in (places.array, places.height, places.width))
    if crop is not None and crop.fill is not None:
        for number in np.unique(array).tolist():
            dtype = cache.arrays[number].dtype
            with np.errstate(invalid="ignore"):
                held = np.float64(crop.fill).astype(dtype)
            if held != crop.fill and not np.isnan(held):
                raise ValueError(f"crop with fill {crop.fill}; legal: what {dtype} can hold")
    if crop is not None:
        kinds = {(a.dtype.str, a.slot[2:]): k for k, a in enumerate(cache.arrays)}
        of = np.array([kinds[a.dtype.str, a.slot[2:]] for a in cache.arrays], np.int64)
        kind: NDArray[Any] = of[array]
    else:
        kind = array
    if bucket != "size":
        height = width = np.zeros(len(array), np.int32)
    shapes = Shapes(cache, bucket == "size", crop)
    parts = shape_groups(kind, height, width)
    told: dict[str, Any] = {**asdict(share), "seed": seed}
    size = told.pop("size")
    if weights is not None:
        if not np.isfinite(weights).all() or (weights < 0).any() or not weights.sum() > 0:
            raise ValueError("weights: legal are finite numbers from 0, and one above 0")
        drawn = len(array) if samples is None else samples
        return shapes, parts, WeightedBatches(parts, weights, drawn, size, **told)
    seeds = group_seeds(seed, len(parts))
    orders: list[Order]
    if shuffle == "windowed":
        number = places.row[frames] // cache.core.per_shard[array]
        shard = number + array.astype(np.int64) * (int(number.max(initial=0)) + 1)
        orders = [
            WindowedShuffle(shard[p], wanted.window, s) for p, s in zip(parts, seeds, strict=True)
        ]
    elif shuffle:
        orders = [Shuffle(len(p), s) for p, s in zip(parts, seeds, strict=True)]
    else:
        orders = [Sequential(len(p)) for p in parts]
    groups = list(zip(parts, orders, strict=True))
    return shapes, parts, Batches(groups, size, mixed=bool(shuffle), **told)
