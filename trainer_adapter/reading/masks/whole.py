"""What a cache says of its masks: label maps of images, classes, counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trainer_adapter.errors import LabelError, MixedShapesError, counting
from trainer_adapter.reading.masks.contours import contours_of
from trainer_adapter.reading.masks.joined import Ints, joined, spread
from trainer_adapter.reading.masks.named import (
    MOST,
    hold_names,
    mask_classes,
    numbers_of,
    segments,
)
from trainer_adapter.reading.masks.paint import Bools, painter_of
from trainer_adapter.reading.opened import Core

MISSING = ("zeros", "ignore", "error")
_NAMES = 5
"""of classes that an error shows"""
HAS_MASK = "has_mask"
"""what `select` and its texts know beside the columns of frames/"""


class Masked:
    """A cache some of whose images have masks."""

    core: Core

    @property
    def indices(self) -> NDArray[np.int64]:
        """(n,) sample indices of this selection."""
        raise NotImplementedError

    def column(self, name: str) -> pa.ChunkedArray:
        """One column of frames/ for this selection."""
        raise NotImplementedError

    def samples(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sample indices of frames of this selection."""
        raise NotImplementedError

    @property
    def mask_classes(self) -> tuple[str, ...]:
        """The classes of the cache's masks: the `rois` of its recipe, else all labels, sorted."""
        return mask_classes(self.core)

    def contours(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Contours of structure sets, as they are: contours/ (FORMAT.md), or `columns` of it.

        A row for each contour, `points` flat (x, y, z, ...) in mm; of a selection those of its
        studies. Empty where the cache has none. Raises KeyError, DamagedError.
        """
        return contours_of(self.core, self.indices, columns)

    def labelmap(
        self,
        indices: Any,
        classes: Any = None,
        out: NDArray[Any] | None = None,
        *,
        missing: str = "zeros",
        ignore: int = 255,
        combine: str = "union",
    ) -> NDArray[Any]:
        """(b, H, W) uint8, or uint16: class numbers of the pixels of images, 0 where nothing is.

        `classes`: names, numbered from 1, or {name: number}; None: `mask_classes`. The masks are
        those of the whole cache that lie on the images, selected or not. Where several are drawn
        on a pixel, it has the greatest number; of a fraction, what is drawn by half or more.
        `combine`: of several mask files on a stack all ("union"), or the "first". `missing`: what
        an image is of which nobody knows (`annotated`): "zeros", `ignore` in each pixel but those
        of what is drawn all the same, or an "error". Raises MixedShapesError for images of several
        sizes, LabelError, ValueError for what is not legal, IndexError.
        """
        if missing not in MISSING:
            raise ValueError(f"missing {missing!r}; legal: {', '.join(MISSING)}")
        samples = self.samples(np.asarray(indices, np.int64))
        _hold_images(self.core, samples)
        numbers = numbers_of(self.core, classes)
        painter = painter_of(self.core, samples, numbers, combine)
        dtype = dtype_of(painter.most, ignore if missing == "ignore" else None, numbers.values())
        shape = self._one_size(samples)
        if out is None:
            out = np.empty(shape, dtype)
        elif (
            out.shape != shape or out.dtype.itemsize < dtype.itemsize or out.dtype.kind not in "ui"
        ):
            raise ValueError(f"out is {out.shape} {out.dtype}; these images need {shape} {dtype}")
        lost = np.flatnonzero(~painter.known(samples))
        if missing == "error" and len(lost):
            raise unannotated(self.core, samples, lost, numbers)
        painter.paint(out, samples, self.core)
        if missing == "ignore":
            painter.leave(out, ignore, samples, self.core)
        return out

    def has_mask(self, name: str | Sequence[str] | None = None) -> Bools:
        """(n,) whether a pixel of a frame is drawn on: by any mask, or one of this name (or these).

        False where that is not known, too (`annotated`). Raises ValueError for a name that no mask
        has.
        """
        counts = self.mask_counts(self._names(name))
        return np.asarray((counts > 0).any(axis=1))

    def annotated(self, name: str | Sequence[str] | None = None) -> Bools:
        """(n,) whether it is known what masks (of this name, or these) draw on a frame.

        It is if one lies on an image of its stack, unless the frame is between planes of a mask
        that are farther apart than the slices, or of a structure of contours, of those names each.
        Raises ValueError as `has_mask`.
        """
        numbers = numbers_of(self.core, self._names(name))
        return painter_of(self.core, self.indices, numbers).known(self.indices)

    def drawn_on(self, value: Any) -> Bools:
        """(n,) which frames are what `has_mask` of `select` asks for."""
        if value is None or isinstance(value, bool):
            drawn = self.has_mask()
            known = drawn | self.annotated()
            return ~known if value is None else known & (drawn == value)
        return self.has_mask(value)

    def said(self, name: str) -> Any:
        """A column for `where`: of frames/, or `has_mask`, null where nobody knows."""
        if name != HAS_MASK:
            return self.column(name)
        return pa.array(self.drawn_on(True), mask=self.drawn_on(None))

    def _names(self, name: str | Sequence[str] | None) -> Sequence[str]:
        if name is None:
            return segments(self.core).names
        names = [name] if isinstance(name, str) else name
        hold_names(self.core, names)
        return names

    def mask_counts(self, classes: Any = None) -> NDArray[np.int64]:
        """(n, k) int64 pixels of each class on each frame, each mask by itself where they overlap.

        `classes` as of `labelmap`; k counts their numbers from 1. Of caches from before such counts
        came, pixels are counted when this is asked first.
        """
        numbers = numbers_of(self.core, classes)
        return counts_of(self.core, self.indices, numbers)

    def _one_size(self, samples: Ints) -> tuple[int, int, int]:
        places = self.core.places
        sizes = np.unique(np.stack([places.height[samples], places.width[samples]]), axis=1)
        if sizes.shape[1] > 1:
            raise MixedShapesError(
                f"label maps of one batch have one size, these {counting(len(samples), 'image')} "
                f"are of {', '.join(f'{h} x {w}' for h, w in sizes.T[:5].tolist())}"
            )
        height, width = sizes[:, 0].tolist() if sizes.size else (0, 0)
        return len(samples), height, width


def _hold_images(core: Core, samples: Ints) -> None:
    """Raises ValueError for waveforms."""
    waves = pc.equal(core.said("kind", samples), "waveform").fill_null(False)
    if some := pc.sum(waves).as_py():
        raise ValueError(
            f"{some} of {counting(len(samples), 'frame is a waveform', 'frames are waveforms')}, "
            'on which no mask lies; select(kind="image")'
        )


def dtype_of(most: int, ignore: int | None, numbers: Any) -> np.dtype[Any]:
    """uint8, or uint16 where a number needs it. Raises ValueError for `ignore` that is a class."""
    if ignore is not None:
        if type(ignore) is not int or not 0 < ignore < MOST or ignore in numbers:
            raise ValueError(f"ignore {ignore!r}; legal: 1 to {MOST - 1}, and no class number")
        most = max(most, ignore)
    return np.dtype(np.uint8 if most < 256 else np.uint16)


def unannotated(core: Core, samples: Ints, lost: Ints, numbers: Any) -> LabelError:
    """Why some images have no label map, and what to do; `lost`: their places in `samples`."""
    path = core.column("path")[int(samples[lost[0]])].as_py()
    pairs = joined(core)
    why = ""
    apart = int(np.count_nonzero(painter_of(core, samples[lost], numbers).between))
    if apart:
        why = (
            f"; {apart} of them lie between planes of a mask that are farther apart than the "
            f"slices ({_apart(core, samples[lost], numbers)}): "
            'build the cache with masks = "labelmap" and mask_grid = "image", so that '
            "each slice has what the plane that covers it has (contours have none between them: "
            'leave such slices out, missing="drop", or give them missing="ignore")'
        )
    elif pairs.misfits:
        why = (
            f"; {counting(pairs.misfits, 'mask is', 'masks are')} stored in another size than the "
            'image that they name: build the cache with masks = "labelmap" and mask_grid = "image"'
        )
    elif not len(pairs.masks):
        why = "; the cache has no masks at all"
    elif alone := len(pairs.masks) - len(np.unique(pairs.mask)):
        masks = counting(len(pairs.masks), "mask of the cache lies", "masks of the cache lie")
        why = f"; {alone} of {masks} on none of its images"
    return LabelError(
        f"{len(lost)} of {counting(len(samples), 'image has', 'images have')} no mask of "
        f"{', '.join(map(repr, numbers))} on them or in their stacks, such as {path}{why}"
    )


def _apart(core: Core, samples: Ints, numbers: Any) -> str:
    """The names of classes whose planes are, with the number of images between them."""
    shown = []
    for name in numbers:
        count = int(np.count_nonzero(painter_of(core, samples, {name: 1}).between))
        shown += [f"{name!r} {count}"] if count else []
    return ", ".join(shown[:_NAMES]) + (", ..." if len(shown) > _NAMES else "")


def counts_of(core: Core, samples: Ints, numbers: Any) -> NDArray[np.int64]:
    """(n, k) pixels of each class number from 1 on images."""
    pairs, named = joined(core), segments(core)
    meant = np.array([numbers.get(name, 0) for name in named.names], np.int64)
    width = max(numbers.values(), default=0)
    counts = np.zeros((len(samples), width), np.int64)
    which, at = pairs.of(samples)
    place = np.searchsorted(pairs.masks, pairs.mask[at])
    of, entry = spread(named.ends[place], named.ends[place + 1])
    number = meant[named.name[entry]]
    of, entry, number = (c[number > 0] for c in (of, entry, number))
    count = named.count[entry]
    for row in np.unique(place[of[count < 0]]).tolist():
        _measure(core, row)
    np.add.at(counts, (which[of], number - 1), named.count[entry])
    return counts


def _measure(core: Core, place: int) -> None:
    """Count the pixels of a row of a mask of before, into what is known of it."""
    named = segments(core)
    sample = joined(core).masks[place : place + 1]
    spots = core.spots(sample)
    array, shard, slot = (int(c[0]) for c in (spots.array, spots.shard, spots.slot))
    frame = core.mapped.frame(array, shard, slot)[: spots.height[0], : spots.width[0]]
    mine = slice(int(named.ends[place]), int(named.ends[place + 1]))
    unit, full = (core.said(c, sample)[0].as_py() for c in ("unit", "full_scale"))
    if unit == "labelmap":
        values, counts = np.unique(frame, return_counts=True)
        known = dict(zip(values.tolist(), counts.tolist(), strict=True))
        named.count[mine] = [known.get(v, 0) for v in named.number[mine].tolist()]
    else:
        inside = frame >= full / 2 if unit == "fractional" and full else frame != 0
        named.count[mine] = np.count_nonzero(inside)
