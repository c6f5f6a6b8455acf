"""Which parts of which frames a batch is made of, and their copies into it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer_adapter.batch.units import Units
from trainer_adapter.cache import Cache
from trainer_adapter.loading.centers import Centers, found_in
from trainer_adapter.loading.crew import Helpers
from trainer_adapter.loading.epoch import Shapes
from trainer_adapter.order.permutations import Ints
from trainer_adapter.reading.spots import Box, Corners, Reading, Spots, boxes_of
from trainer_adapter.volumes.around import Around, hold_grey
from trainer_adapter.volumes.foreground import Foreground, said_of
from trainer_adapter.volumes.patches import Patches, starts

_TOGETHER, _SAMPLES = 32, 4096
"""batches that are worked out at once, and samples of them: NumPy's overhead is that of a call"""


@dataclass(frozen=True)
class Taken:
    """What the images of one batch are."""

    indices: Ints
    """(b,) positions in the selection"""
    chosen: Ints
    """(b,) their sample indices"""
    samples: Ints
    """sample indices of what is read: the same, or (b * each,) slices, one after the other"""
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
    boxes: Sequence[Box | None] = ()
    """of patches, (b,)"""


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

    def in_turn(
        self, epoch: int, batches: Iterable[tuple[int, Ints]]
    ) -> Iterator[Callable[[], Taken]]:
        """What each of `batches`, (samples before it of all epochs, indices), is made of.

        To be called for, by any thread; where frames and patches lie is worked out for many at
        once.
        """
        around = self.around
        if isinstance(around, Around):
            yield from (partial(self._with_neighbours, around, epoch, i) for _, i in batches)
            return
        for some in _together(batches):
            first = self._cache.samples(np.array([indices[0] for _, indices in some]))
            looks = map(self._shapes.frame, first.tolist())
            for (frame, dtype), run in groupby(
                zip(looks, some, strict=True), key=lambda pair: pair[0]
            ):
                alike = [batch for _, batch in run]
                made = (
                    self._frames(epoch, [i for _, i in alike], frame, dtype)
                    if around is None
                    else self._patches(epoch, around, alike, frame, dtype)
                )
                for taken in made:
                    yield partial(_same, taken)

    def _frames(
        self, epoch: int, batches: list[Ints], frame: tuple[int, ...], dtype: np.dtype[Any]
    ) -> Iterator[Taken]:
        """What batches of frames are made of, (h, w[, C]) of one dtype."""
        indices = np.concatenate(batches)
        samples = self._cache.samples(indices)
        spots, corners = self._cache.core.spots(samples), None
        if self._crop is not None or not self._shapes.whole:
            corners = self._corners(epoch, indices, samples, spots, dtype)
        start = 0
        for batch in batches:
            of = slice(start, start + len(batch))
            start = of.stop
            yield Taken(
                indices[of], samples[of], samples[of], spots.part(of),
                None if corners is None else corners.part(of), (len(batch), *frame), frame, dtype,
                {},
            )  # fmt: skip

    def _with_neighbours(self, around: Around, epoch: int, indices: Ints) -> Taken:
        """What a batch of frames is made of, and of the slices beside them."""
        cache = self._cache
        chosen = cache.samples(indices)
        frame, dtype = self._shapes.frame(int(chosen[0]))
        spots, corners = cache.core.spots(chosen), None
        if self._crop is not None or not self._shapes.whole:
            corners = self._corners(epoch, indices, chosen, spots, dtype).repeated(around.each)
        samples = around.of(chosen).ravel()
        spots = cache.core.spots(samples)
        shape = len(indices), around.each, *frame
        return Taken(indices, chosen, samples, spots, corners, shape, frame, dtype, {})

    def _patches(
        self,
        epoch: int,
        patches: Patches,
        batches: list[tuple[int, Ints]],
        frame: tuple[int, ...],
        dtype: np.dtype[Any],
    ) -> Iterator[Taken]:
        """What batches of patches are made of, (h, w) of one dtype."""
        core, indices = self._cache.core, np.concatenate([i for _, i in batches])
        told: dict[str, NDArray[Any]] = {}
        if self.centers is not None:
            which = [self.centers.positives(start, len(i)) for start, i in batches]
            drawn = self.centers.of(epoch, np.concatenate(which), indices)
            indices = drawn.indices
            told = {"positive": drawn.positive, "center": drawn.center}
        samples = self._cache.samples(indices)
        spots, center = core.spots(samples), told.get("center")
        corners = self._corners(epoch, indices, samples, spots, dtype)
        if center is not None:
            top = starts(center[:, 1], frame[0], spots.height)
            corners = Corners(top, starts(center[:, 2], frame[1], spots.width), corners.fill)
        first = patches.first(samples, None if center is None else center[:, 0])
        told |= patches.told(samples, first, corners)
        slices, corners = patches.slices(samples, first, corners)
        spots, depth = core.spots(slices), patches.each
        boxes = boxes_of(spots, corners, depth, frame[0], core.root.arrays)
        ends = np.cumsum([0, *(len(i) for _, i in batches)]).tolist()
        for a, b in pairwise(ends):
            of = slice(a * depth, b * depth)
            yield Taken(
                indices[a:b], samples[a:b], slices[of], spots.part(of), corners.part(of),
                (b - a, 1, depth, *frame), frame, dtype,
                {name: values[a:b] for name, values in told.items()}, boxes[a:b],
            )  # fmt: skip

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
        self, out: NDArray[Any], taken: Taken, reading: Reading, helpers: Helpers | None
    ) -> None:
        """Copy them into `out`, of `taken.shape`; patches by helpers too."""
        if isinstance(self.around, Patches):
            assert taken.corners is not None
            slices = out.reshape(len(out), self.around.each, *taken.slice)
            copy = reading.patches(slices, taken.spots, taken.corners, taken.boxes)
            if helpers is None:
                for k in range(len(out)):
                    copy(k)
            else:
                helpers.share(copy, len(out))
            return
        out = out.reshape(-1, *taken.slice)
        if taken.corners is None:
            reading.whole(out, taken.spots)
        else:
            reading.crops(out, taken.spots, taken.corners)


def _together(batches: Iterable[tuple[int, Ints]]) -> Iterator[list[tuple[int, Ints]]]:
    some, count = list[tuple[int, Ints]](), 0
    for batch in batches:
        some.append(batch)
        count += len(batch[1])
        if len(some) == _TOGETHER or count >= _SAMPLES:
            yield some
            some, count = [], 0
    if some:
        yield some


def _same(taken: Taken) -> Taken:
    return taken
