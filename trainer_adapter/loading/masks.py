"""Masks beside images: which images of a selection have them, and what a batch gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from trainer_adapter.cache import Cache
from trainer_adapter.errors import LabelError
from trainer_adapter.loading.classes import names_of
from trainer_adapter.loading.options import Target
from trainer_adapter.order.permutations import Ints
from trainer_adapter.reading.masks.named import numbers_of
from trainer_adapter.reading.masks.paint import Painter, painter_of
from trainer_adapter.reading.masks.whole import dtype_of, unannotated
from trainer_adapter.reading.opened import Core
from trainer_adapter.reading.spots import Corners, Reading

_MISSING = ("error", "drop", "zeros", "ignore")
_CHOICE = 'give missing="drop" to leave them out, "zeros", or "ignore" for the ignore index'


@dataclass(frozen=True, eq=False)
class Masks:
    """The label maps of the images that are trained on; pickles as arrays."""

    painter: Painter
    numbers: Mapping[str, int]
    ignore: int | None
    """what each pixel is of images that nobody drew on; None: 0"""
    dtype: np.dtype[Any]
    """of label maps: uint8, or int32, since torch can do little with uint16"""

    @property
    def names(self) -> list[Any]:
        """The class of each number from 1."""
        return names_of(self.numbers)[1:]

    def fill(
        self,
        out: NDArray[Any],
        samples: Ints,
        core: Core,
        corners: Corners | None,
        reading: Reading,
    ) -> None:
        """The label maps of images, or of crops of them, into `out`, (b, h, w)."""
        self.painter.paint(out, samples, core, corners, reading)
        if self.ignore is not None:
            out[~self.painter.known(samples)] = self.ignore

    def counts(self, cache: Cache) -> dict[Any, int]:
        """{class: images that have a pixel of it}."""
        some = cache.mask_counts(dict(self.numbers)) > 0
        return dict(zip(self.names, some.sum(axis=0).tolist(), strict=True))

    def weights(self, cache: Cache) -> NDArray[np.float64]:
        """(n,) float64, the weight of each image by the rarest class that is in it.

        n / (classes * images with that class), as "balanced" where each has one class; what has
        none is a class too.
        """
        some = cache.mask_counts(dict(self.numbers)) > 0
        there = np.column_stack([~some.any(axis=1), some])
        images = there.sum(axis=0)
        each = len(there) / (max(1, np.count_nonzero(images)) * np.maximum(images, 1))
        return np.asarray(np.where(there, each, 0).max(axis=1), np.float64)


def masks_of(cache: Cache, target: Target) -> tuple[NDArray[np.int64], Masks]:
    """(positions of the frames that are kept, what is drawn on them).

    Masks themselves are no images, and left out. Raises LabelError if nobody drew on some, unless
    `missing` says what then, or on none; ValueError for what is not legal.
    """
    if target.what != "mask":
        raise ValueError(f"target {target.what!r}; legal: mask")
    if target.missing not in _MISSING:
        raise ValueError(f"missing {target.missing!r}; legal: {', '.join(_MISSING)}")
    numbers = numbers_of(cache.core, target.classes)
    is_mask = pc.equal(cache.column("kind"), "mask").to_numpy()
    kept = np.flatnonzero(~is_mask)
    samples = cache.indices[kept]
    painter = painter_of(cache.core, samples, numbers, target.combine)
    known = painter.known(samples)
    if target.missing in ("error", "drop") and not known.all():
        lost = np.flatnonzero(~known)
        if target.missing == "error" or not known.any():
            said = unannotated(cache.core, samples, lost, numbers)
            raise LabelError(f"{said}; {_CHOICE}" if known.any() else str(said))
        kept, samples = kept[known], samples[known]
        painter = painter_of(cache.core, samples, numbers, target.combine)
    ignore = target.ignore if target.missing == "ignore" else None
    narrow = dtype_of(painter.most, ignore, numbers.values())
    dtype = narrow if narrow == np.uint8 else np.dtype(np.int32)
    return kept, Masks(painter, numbers, ignore, dtype)
