"""Where the foreground of volumes is: some voxels of each slice, which stand for all."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer_adapter.errors import counting
from trainer_adapter.order.permutations import Stream, key_of, uniform
from trainer_adapter.volumes.stacks import Ints, Stacks

_MOST_BYTES = 1 << 28
"""of all voxels that are kept"""
_KEPT = 4, 256
"""voxels of a kind that are kept of a slice, least and most; nnU-Net keeps 10,000 of a volume"""
_AT_ONCE = 8 << 20
"""bytes of slices that a thread looks at in one go"""
Found = tuple[NDArray[np.bool_], NDArray[np.bool_]]
"""(n, H, W) each: where there is background, and foreground; elsewhere nobody knows"""
Finds = Callable[[Ints], Found]
"""of slices of one shape, by sample index"""

LEAST = 1e-6
"""share of patches that a run may ask for: the finest that is counted"""


@dataclass(frozen=True)
class Foreground:
    """What patches are drawn around: voxels by their values, or where masks are drawn.

    Raises ValueError for neither, both, or a share that is not from 1e-6 to 1.
    """

    above: float | None = None
    """values greater than this, in the unit of the volumes (such as HU)"""
    below: float | None = None
    """values less than this"""
    masks: bool | Sequence[str] = False
    """where a mask is drawn; or the names of those classes that count"""
    share: float = 1 / 3
    """of the patches are around foreground, all others around what is none"""

    def __post_init__(self) -> None:
        values = [v for v in (self.above, self.below) if v is not None]
        if isinstance(self.masks, str) or bool(values) == bool(self.masks):
            raise ValueError(
                f"{self}; legal: above and below (numbers), or masks (True, or names of classes)"
            )
        if not all(map(math.isfinite, values)) or not LEAST <= self.share <= 1:
            raise ValueError(f"{self}; legal: finite numbers, and a share from {LEAST:g} to 1")

    def holds(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Which values are foreground."""
        whole = values.dtype.kind in "iu"  # compared as they are, not as float64
        found = None
        if self.above is not None:
            found = values > (math.floor(self.above) if whole else self.above)
        if self.below is not None:
            less = values < (math.ceil(self.below) if whole else self.below)
            found = less if found is None else found & less
        assert found is not None
        return found


def foreground_of(given: Any) -> Foreground | None:
    """What `foreground` of a loader stands for. Raises ValueError."""
    if given is None or isinstance(given, Foreground):
        return given
    if given is False:
        return None
    if given is True or (isinstance(given, str) and given == "mask"):
        return Foreground(masks=True)
    if isinstance(given, int | float | np.number):
        return Foreground(above=float(given))
    if isinstance(given, Sequence) and not isinstance(given, str):
        return Foreground(masks=tuple(given))
    raise ValueError(
        f'foreground {given!r}; legal: a number (values above it), "mask", names of classes of '
        "masks, or a Foreground"
    )


@dataclass(frozen=True)
class Kept:
    """Voxels of one kind, of n slices."""

    counts: Ints
    """(n,) how many there are"""
    lengths: Ints
    """(n,) how many of them are kept"""
    voxels: NDArray[np.uint32]
    """places in their slices, row after row, of one slice after the other"""


class Voxels:
    """Voxels of the slices of some stacks, background (kind 0) and foreground (1).

    All are counted; of each slice up to a number is kept, spread evenly over it.
    """

    def __init__(self, stacks: Stacks, *kinds: Sequence[Kept]) -> None:
        """`kinds`: of all slices of `stacks`, in their order, some at a time."""
        self._stacks = stacks
        counts = [np.concatenate([np.zeros(1, np.int64), *(k.counts for k in of)]) for of in kinds]
        lengths = [
            np.concatenate([np.zeros(1, np.int64), *(k.lengths for k in of)]) for of in kinds
        ]
        self._sums, self._ends = np.cumsum(counts, axis=1), np.cumsum(lengths, axis=1)
        self._voxels = [
            np.concatenate([np.empty(0, np.uint32), *(k.voxels for k in of)]) for of in kinds
        ]

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        arrays = (self._sums, self._ends, *self._voxels)
        return sum(a.nbytes for a in arrays)

    @property
    def counts(self) -> Ints:
        """(2, s) voxels of each kind in each stack."""
        at = self._sums[:, self._stacks.ends]
        counts: Ints = np.diff(at, axis=1)
        return counts

    def drawn(self, kind: Ints, stack: Ints, samples: Ints, seed: int, epoch: int) -> Ints:
        """(b, 3) slice, row, column of a voxel of a kind in each stack; all are as likely.

        `samples` are what chance depends on, besides seed and epoch; each stack must have some.
        """
        one, other = (
            uniform(key_of(seed, epoch, Stream.FOREGROUND + k), samples) for k in range(2)
        )
        found = np.empty((len(samples), 3), np.int64)
        for which in np.unique(kind).tolist():
            mine = np.flatnonzero(kind == which)
            k, sums, ends = stack[mine], self._sums[which], self._ends[which]
            low, high = (sums[self._stacks.ends[k + n]] for n in (0, 1))
            rank = np.minimum(low + (one[mine] * (high - low)).astype(np.int64), high - 1)
            at = np.searchsorted(sums, rank, side="right") - 1
            some = ends[at + 1] - ends[at]
            voxel = self._voxels[which][ends[at] + (other[mine] * some).astype(np.int64)]
            width = self._stacks.core.places.width[self._stacks.samples[at]]
            found[mine, 0] = at - self._stacks.ends[k]
            found[mine, 1], found[mine, 2] = np.divmod(voxel.astype(np.int64), width)
        return found


def looked_for(
    stacks: Stacks, finds: Finds, threads: int, background: bool
) -> tuple[Voxels, float]:
    """(the voxels of all slices of these stacks, seconds that it took).

    Each slice is read once, a few at a time. Without `background` only foreground is kept.
    """
    start, n = time.perf_counter(), len(stacks.samples)
    least, most = _KEPT
    keeps = int(np.clip(_MOST_BYTES // (8 * max(1, n)), least, most))

    def look(part: slice) -> list[Kept]:
        samples = stacks.samples[part]
        nothing, found = finds(samples)
        return [_kept(nothing, samples, keeps if background else 0), _kept(found, samples, keeps)]

    kinds: tuple[list[Kept], list[Kept]] = ([], [])
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for made in _in_turn(pool, look, list(_runs(stacks)), 2 * max(1, threads)):
            for kind, kept in zip(kinds, made, strict=True):
                kind.append(kept)
    return Voxels(stacks, *kinds), time.perf_counter() - start


def _kept(masks: NDArray[np.bool_], samples: Ints, most: int) -> Kept:
    """What is kept of slices, (n, H, W): of each one in each of up to `most` equal parts."""
    counts = np.array([np.count_nonzero(m) for m in masks], np.int64)  # by axis takes ten times
    voxels = [np.empty(0, np.uint32)]
    for mask, sample, count in zip(masks, samples.tolist(), counts.tolist(), strict=True):
        if count and most:
            where = np.flatnonzero(mask)
            if count > most:
                each = np.arange(most)
                at = (each + uniform(key_of(sample, Stream.KEPT, Stream.KEPT), each)) * (
                    count / most
                )
                where = where[np.minimum(at.astype(np.int64), count - 1)]
            voxels.append(where.astype(np.uint32))
    return Kept(counts, np.minimum(counts, most), np.concatenate(voxels))


def _runs(stacks: Stacks) -> Iterator[slice]:
    """Slices of one array and size, a few at a time."""
    places, of = stacks.core.places, stacks.samples
    if not len(of):
        return
    changes = np.zeros(len(of) - 1, bool)
    for column in (places.array, places.height, places.width):
        changes |= np.diff(column[of]) != 0
    ends = [0, *(np.flatnonzero(changes) + 1).tolist(), len(of)]
    for start, end in pairwise(ends):
        spec = stacks.core.root.arrays[places.array[of[start]]]
        step = max(1, _AT_ONCE // spec.slot_bytes)
        for k in range(start, end, step):
            yield slice(k, min(k + step, end))


def _in_turn(
    pool: ThreadPoolExecutor, does: Callable[[slice], Any], parts: list[slice], ahead: int
) -> Iterator[Any]:
    """What is made of each, in order; no more than `ahead` are made before they are asked for."""
    coming = deque(pool.submit(does, part) for part in parts[:ahead])
    try:
        for part in parts[ahead:]:
            made = coming.popleft().result()
            coming.append(pool.submit(does, part))
            yield made
        while coming:
            yield coming.popleft().result()
    finally:
        for left in coming:
            left.cancel()


def said_of(wanted: Foreground, voxels: Voxels, seconds: float) -> str:
    """In words: how much there is, and what finding it took."""
    background, foreground = voxels.counts
    has = int((foreground > 0).sum())
    share = foreground.sum() / max(1, (background + foreground).sum())
    return (
        f"foreground: {counting(int(foreground.sum()), 'voxel')} ({share:.2%}) in {has} of "
        f"{counting(len(foreground), 'volume')}; found in {seconds:.1f} s, "
        f"{voxels.nbytes / 1e6:.1f} MB"
    )
