"""Masks and doses beside images: which images have them, and what a batch gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trainer_adapter.cache import Cache
from trainer_adapter.errors import LabelError, counting
from trainer_adapter.loading.classes import names_of
from trainer_adapter.loading.options import Target
from trainer_adapter.order.permutations import Ints
from trainer_adapter.reading.masks.named import numbers_of
from trainer_adapter.reading.masks.paint import Painter, painter_of
from trainer_adapter.reading.masks.whole import dtype_of, unannotated
from trainer_adapter.reading.opened import Core
from trainer_adapter.reading.spots import Corners, Reading
from trainer_adapter.volumes.dose import Doses, doses_of

_MISSING = ("error", "drop", "zeros", "ignore")
_CHOICE = (
    'give missing="drop" to leave them out, "zeros", or "ignore" for the ignore index, of doses NaN'
)


@dataclass(frozen=True, eq=False)
class Beside:
    """What a batch has beside its images; pickles as arrays."""

    name: str
    """of the part of a batch: `mask` or `dose`"""
    painter: Painter | Doses
    numbers: Mapping[str, int]
    """of masks: {class: number}"""
    nothing: float | None
    """what each pixel is that nobody knows: of a dose, of all of an image; None: 0"""
    dtype: np.dtype[Any]
    """of label maps uint8, or int32, since torch can do little with uint16; of doses float32"""

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
        """Of images, or of crops of them, into `out`, (b, h, w)."""
        self.painter.paint(out, samples, core, corners, reading)
        if self.nothing is None:
            return
        if isinstance(self.painter, Painter):
            self.painter.leave(out, int(self.nothing), samples, core, corners, reading)
        else:
            out[~self.painter.known(samples)] = self.nothing

    def counts(self, cache: Cache) -> dict[Any, int]:
        """{class: images that have a pixel of it}. Raises ValueError for doses."""
        some = self._shown(cache)
        return dict(zip(self.names, some.sum(axis=0).tolist(), strict=True))

    def weights(self, cache: Cache) -> NDArray[np.float64]:
        """(n,) float64, the weight of each image by the rarest class that is in it.

        n / (classes * images with that class), as "balanced" where each has one class; what has
        none is a class too. Raises ValueError for doses.
        """
        some = self._shown(cache)
        there = np.column_stack([~some.any(axis=1), some])
        images = there.sum(axis=0)
        each = len(there) / (max(1, np.count_nonzero(images)) * np.maximum(images, 1))
        return np.asarray(np.where(there, each, 0).max(axis=1), np.float64)

    def _shown(self, cache: Cache) -> NDArray[np.bool_]:
        if self.name != "mask":
            raise ValueError(f"a {self.name} has no classes")
        return np.asarray(cache.mask_counts(dict(self.numbers)) > 0)


def beside(cache: Cache, target: Target) -> tuple[NDArray[np.int64], Beside]:
    """(positions of the frames that are kept, what is beside them).

    Masks, doses and waveforms themselves are no images, and left out. Raises LabelError for images
    that have none, unless `missing` says what then, or if all have none; ValueError for what is not
    legal.
    """
    if target.what not in _MAKERS:
        raise ValueError(f"target {target.what!r}; legal: {', '.join(_MAKERS)}")
    if target.missing not in _MISSING:
        raise ValueError(f"missing {target.missing!r}; legal: {', '.join(_MISSING)}")
    make = _MAKERS[target.what]
    none = pc.is_in(cache.column("kind"), value_set=_NO_IMAGES).to_numpy()
    kept = np.flatnonzero(~none)
    made = make(cache, cache.indices[kept], target)
    known = made.painter.known(cache.indices[kept])
    if target.missing in ("error", "drop") and not known.all():
        if target.missing == "error" or not known.any():
            said = _lost(cache.core, cache.indices[kept], np.flatnonzero(~known), made)
            raise LabelError(f"{said}; {_CHOICE}" if known.any() else said)
        kept = kept[known]
        made = make(cache, cache.indices[kept], target)
    return kept, made


_NO_IMAGES = pa.array(["mask", "dose", "waveform"])


def _masks(cache: Cache, samples: Ints, target: Target) -> Beside:
    numbers = numbers_of(cache.core, target.classes)
    rows = None if target.rows is None else target.rows.indices
    painter = painter_of(cache.core, samples, numbers, target.combine, rows)
    ignore = target.ignore if target.missing == "ignore" else None
    narrow = dtype_of(painter.most, ignore, numbers.values())
    dtype = narrow if narrow == np.uint8 else np.dtype(np.int32)
    return Beside("mask", painter, numbers, ignore, dtype)


def _doses(cache: Cache, samples: Ints, target: Target) -> Beside:
    if target.classes is not None:
        raise ValueError(f"classes {target.classes!r}; a dose has none")
    rows = None if target.rows is None else target.rows.indices
    nothing = np.nan if target.missing == "ignore" else None
    doses = doses_of(cache.core, samples, rows)
    return Beside("dose", doses, {}, nothing, np.dtype(np.float32))


_MAKERS: dict[str, Callable[[Cache, Ints, Target], Beside]] = {"mask": _masks, "dose": _doses}


def _lost(core: Core, samples: Ints, lost: Ints, made: Beside) -> str:
    if made.name == "mask":
        return str(unannotated(core, samples, lost, made.numbers))
    path = core.column("path")[int(samples[lost[0]])].as_py()
    return (
        f"{len(lost)} of {counting(len(samples), 'image has', 'images have')} no dose in their "
        f"frame of reference, such as {path}"
    )
