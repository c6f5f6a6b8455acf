"""Which voxel the patch of each sample is around: a share of them in the foreground."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer_adapter.cache import Cache
from trainer_adapter.errors import counting
from trainer_adapter.order.permutations import Ints, Stream, key_of, uniform
from trainer_adapter.reading.masks.named import numbers_of
from trainer_adapter.reading.masks.paint import painter_of
from trainer_adapter.reading.spots import Reading, Spots
from trainer_adapter.volumes.foreground import LEAST, Finds, Foreground, Found, Voxels, looked_for
from trainer_adapter.volumes.patches import Patches


class Drawn(NamedTuple):
    """Of the patches of a batch."""

    indices: Ints
    """(b,) positions in the selection: which slice's volume each is of"""
    center: Ints
    """(b, 3) slice, row and column of a voxel; not always in the middle, as patches stay inside"""
    positive: NDArray[np.bool_]
    """(b,) whether that voxel is foreground"""


@dataclass
class _Group:
    """Samples of one shape whose volumes have voxels of a kind: each may be taken for another."""

    members: Ints
    """positions in the selection"""
    sums: NDArray[np.float64]
    """of their weights"""


class Centers:
    """Draws the voxels, by seed, epoch and sample."""

    def __init__(
        self,
        cache: Cache,
        patches: Patches,
        groups: Sequence[Ints],
        weights: NDArray[np.float64] | None,
        wanted: Foreground,
        voxels: Voxels,
        seed: int,
    ) -> None:
        """`groups`: positions that may share a batch. Raises ValueError if one has no foreground,
        or nothing else."""
        self._cache, self._patches, self._voxels, self._seed = cache, patches, voxels, seed
        self._share = Fraction(wanted.share).limit_denominator(round(1 / LEAST))
        self._group = np.zeros(len(cache), np.int64)
        self._has = voxels.counts > 0
        self._groups: list[list[_Group]] = []
        of = patches.volumes(cache.indices)
        for g, members in enumerate(groups):
            self._group[members] = g
            kinds = []
            for kind, word in enumerate(("background", "foreground")):
                some = members[self._has[kind, of[members]]]
                sums = np.cumsum(np.ones(len(some)) if weights is None else weights[some])
                needed = kind == 1 or wanted.share < 1
                if needed and len(members) and (not len(some) or not sums[-1] > 0):
                    raise ValueError(
                        f"{wanted}: there is no {word} in "
                        f"{counting(len(np.unique(of[members])), 'volume')}, so no patch can be "
                        "around it"
                    )
                kinds.append(_Group(some, sums))
            self._groups.append(kinds)

    def positives(self, start: int, count: int) -> NDArray[np.bool_]:
        """(count,) which patches of a batch are around foreground, of which `start` came before.

        The n-th is, where floor(n * share) rises: of n in a row n * share are, up or down by one.
        """
        up_to = np.arange(start, start + count + 1) * self._share.numerator
        found: NDArray[np.bool_] = np.diff(up_to // self._share.denominator) > 0
        return found

    def of(self, epoch: int, positive: NDArray[np.bool_], indices: Ints) -> Drawn:
        """The voxels of samples. One whose volume has none of the kind is replaced by another."""
        kind, drawn_by = positive.astype(np.int64), self._cache.samples(indices)
        volume = self._patches.volumes(drawn_by)
        lacks = np.flatnonzero(~self._has[kind, volume])
        if len(lacks):
            indices = indices.copy()
            chance = uniform(key_of(self._seed, epoch, Stream.INSTEAD), drawn_by[lacks])
            for k, u in zip(lacks.tolist(), chance.tolist(), strict=True):
                group = self._groups[self._group[indices[k]]][kind[k]]
                at = np.searchsorted(group.sums, u * group.sums[-1], side="right")
                indices[k] = group.members[min(int(at), len(group.members) - 1)]
            volume = self._patches.volumes(self._cache.samples(indices))
        center = self._voxels.drawn(kind, volume, drawn_by, self._seed, epoch)
        return Drawn(indices, center, positive)


def found_in(
    cache: Cache, patches: Patches, wanted: Foreground, reading: Reading, threads: int
) -> tuple[Voxels, float]:
    """(the voxels of all volumes, seconds that it took to look at them).

    Raises ValueError for names of classes that no mask has.
    """
    finds = _drawn(cache, patches, wanted) if wanted.masks else _valued(cache, wanted, reading)
    return looked_for(patches.stacks, finds, threads, background=wanted.share < 1)


def _valued(cache: Cache, wanted: Foreground, reading: Reading) -> Finds:
    """Where values are."""
    core = cache.core

    def finds(samples: Ints) -> Found:
        spots = core.spots(samples)
        out = np.empty(_shape(spots), core.root.arrays[int(spots.array[0])].dtype)
        reading.whole(out, spots)
        there = wanted.holds(out)
        return ~there, there

    return finds


def _drawn(cache: Cache, patches: Patches, wanted: Foreground) -> Finds:
    """Where masks are; they are read once, from where the cache lies.

    Nobody knows what is between planes that are farther apart than the slices: no background.
    """
    core = cache.core
    names = None if isinstance(wanted.masks, bool) else list(wanted.masks)
    painter = painter_of(core, patches.stacks.samples, numbers_of(core, names))

    def finds(samples: Ints) -> Found:
        out = np.empty(_shape(core.spots(samples)), np.uint16)
        painter.paint(out, samples, core)
        nothing = out == 0
        nothing[painter.is_between(samples)] = False
        return nothing, out > 0

    return finds


def _shape(spots: Spots) -> tuple[int, int, int]:
    return len(spots.height), int(spots.height[0]), int(spots.width[0])
