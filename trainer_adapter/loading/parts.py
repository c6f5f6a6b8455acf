"""Which parts of which frames a batch is made of, and their copies into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer_adapter.batch.units import Units
from trainer_adapter.cache import Cache
from trainer_adapter.loading.centers import Centers, found_in
from trainer_adapter.loading.epoch import Shapes
from trainer_adapter.order.permutations import Ints
from trainer_adapter.reading.spots import Corners, Reading, Spots
from trainer_adapter.volumes.around import Around, hold_grey
from trainer_adapter.volumes.foreground import Foreground, said_of
from trainer_adapter.volumes.patches import Patches, starts


@dataclass(frozen=True)
class Taken:
    """What the images of one batch are."""

    indices: Ints
    """(b,) positions in the selection"""
    samples: Ints
    """sample indices of what is read: (b,) frames, or (b * each,) slices, one after the other"""
    spots: Spots
    """where they lie"""
    corners: Corners | None
    """which part of each; None: all of it"""
    shape: tuple[int, ...]
    """of the batch"""
    slice: tuple[int, ...]
    """of what is read of each of `samples`, (h, w[, C])"""
    dtype: np.dtype[Any]
    told: dict[str, NDArray[Any]]
    """columns of the batch that say where a patch was taken"""


class Parts:
    """Of the frames of a selection: all of each or a crop, with its neighbours, or patches."""

    def __init__(
        self, shapes: Shapes, units: Units, boxes: NDArray[Any] | None, context: int, depth: int
    ) -> None:
        """`context`: so many neighbours on either side; `depth`: of patches, or 0.

        Raises ValueError for colour with either, VolumeError for patches of what is no volume.
        """
        self._shapes, self._units, self._boxes = shapes, units, boxes
        self._cache, self._crop = shapes.cache, shapes.crop
        self.around: Around | Patches | None = None
        if context or depth:
            core, chosen = self._cache.core, self._cache.indices
            hold_grey(core, chosen, "context" if context else "patch")
            self.around = Around(core, context) if context else Patches(core, chosen, depth)
        self.centers: Centers | None = None
        """of patches; None: at random"""

    @property
    def context(self) -> int:
        """Neighbours on either side."""
        return self.around.context if isinstance(self.around, Around) else 0

    def middle(self, corners: Corners | None) -> Corners | None:
        """Of the frames, among those of their neighbours."""
        if corners is None:
            return None
        own = slice(self.context, None, self.each)
        return Corners(corners.top[own], corners.left[own])

    @property
    def each(self) -> int:
        """Frames that are read for one of a batch."""
        return 1 if self.around is None else self.around.each

    def near(self) -> Cache:
        """The selection, and what else is read with it."""
        if self.around is None:
            return self._cache
        return Cache(self._cache.core, np.unique(self.around.of(self._cache.indices)))

    def draw_around(
        self,
        wanted: Foreground,
        groups: Sequence[Ints],
        weights: NDArray[Any] | None,
        reading: Reading,
        seed: int,
        threads: int,
    ) -> str:
        """Look for foreground in all volumes, once; in words, what was found.

        Raises ValueError if a group has none, or nothing else, or a threshold is of several units.
        """
        assert isinstance(self.around, Patches)
        cache, patches = self._cache, self.around
        units = self._units.of(np.arange(len(cache)))
        if not wanted.masks and len(units) > 1:
            raise ValueError(
                f"{wanted}: values in several units ({', '.join(map(str, units))}), in which one "
                "number means different things; select volumes of one"
            )
        voxels, seconds = found_in(cache, patches, wanted, reading, threads)
        self.centers = Centers(cache, patches, groups, weights, wanted, voxels, seed)
        return said_of(wanted, voxels, seconds)

    def of(self, epoch: int, start: int, indices: Ints) -> Taken:
        """What a batch of these is made of, before which `start` samples came in the epoch."""
        cache, drawn = self._cache, None
        if self.centers is not None:
            drawn = self.centers.of(epoch, start, indices)
            indices = drawn.indices
        samples = cache.samples(indices)
        frame, dtype = self._shapes.frame(int(samples[0]))
        spots, corners = cache.core.spots(samples), None
        if self._crop is not None or not self._shapes.whole:
            corners = self._corners(epoch, indices, samples, spots, dtype)
        shape: tuple[int, ...] = len(indices), *frame
        told: dict[str, NDArray[Any]] = {}
        if isinstance(self.around, Patches):
            assert corners is not None
            first = self.around.first(samples, None if drawn is None else drawn.center[:, 0])
            if drawn is not None:
                top, left = (
                    starts(drawn.center[:, a], frame[a - 1], sizes)
                    for a, sizes in ((1, spots.height), (2, spots.width))
                )
                corners = Corners(top, left, corners.fill)
                told = {"positive": drawn.positive, "center": drawn.center}
            told |= self.around.told(samples, first, corners)
            shape = self.around.shape(len(indices), frame)
            samples, corners = self.around.slices(samples, first, corners)
        elif self.around is not None:
            shape, samples = self.around.shape(len(indices), frame), self.around.of(samples).ravel()
            corners = None if corners is None else corners.repeated(self.around.each)
        if self.around is not None:
            spots = cache.core.spots(samples)
        return Taken(indices, samples, spots, corners, shape, frame, dtype, told)

    def _corners(
        self, epoch: int, indices: Ints, samples: Ints, spots: Spots, dtype: np.dtype[Any]
    ) -> Corners:
        crop, boxes = self._crop, self._boxes
        fill = None if crop is None else crop.fill
        nothing = self._units.nothing(indices, dtype) if fill is None else fill
        if crop is None:
            return Corners(np.zeros_like(indices), np.zeros_like(indices), nothing)
        heights, widths = spots.height.astype(np.int64), spots.width.astype(np.int64)
        given = None if boxes is None else boxes[indices]
        return Corners(*crop.places(epoch, samples, heights, widths, given), nothing)

    def read(
        self, out: NDArray[Any], taken: Taken, reading: Reading, helpers: Executor | None, many: int
    ) -> None:
        """Copy them into `out`, of `taken.shape`; patches by up to `many` helpers too."""
        if isinstance(self.around, Patches):
            assert taken.corners is not None
            slices = out.reshape(len(out), self.around.each, *taken.slice)
            copy = reading.patches(slices, taken.spots, taken.corners)
            shared(copy, len(out), helpers, many)
            return
        out = out.reshape(-1, *taken.slice)
        if taken.corners is None:
            reading.whole(out, taken.spots)
        else:
            reading.crops(out, taken.spots, taken.corners)


def shared(does: Callable[[int], None], count: int, helpers: Executor | None, many: int) -> None:
    """Call `does` for 0 to count - 1, here and by up to `many` helpers that have nothing to do.

    Nothing of it goes on when this returns or raises.
    """
    numbers, lock = iter(range(count)), Lock()

    def taken() -> Iterator[int]:
        while True:
            with lock:
                k = next(numbers, None)
            if k is None:
                return
            yield k

    def some() -> None:
        for k in taken():
            does(k)

    asked = [helpers.submit(some) for _ in range(min(many, count - 1))] if helpers else []
    try:
        some()
    finally:
        with lock:
            numbers = iter(())
        left = [f for f in asked if not f.cancel()]
        errors = [e for e in (f.exception() for f in left) if e is not None]
    if errors:
        raise errors[0]
