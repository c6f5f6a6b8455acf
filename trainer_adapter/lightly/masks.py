"""Masks for LightlyTrain, from a cache's mask rows: which frame a path means, and its labels."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trainer_adapter.cache import Cache
from trainer_adapter.errors import MissingLibraryError, NotServedError
from trainer_adapter.lightly.paths import Names
from trainer_adapter.reading.masks.named import numbers_of
from trainer_adapter.reading.masks.paint import Painter, painter_of
from trainer_adapter.reading.masks.whole import dtype_of, unannotated

BACKGROUND = "background"
_IGNORED = 255
_PIECES = 1 << 16
"""an id of a piece is its class number + this times the number of the piece, from 1"""


@dataclass(frozen=True)
class Masks:
    """Which classes masks have, for `serve(cache, masks=...)` and `data(...)`; give both the same.

    `classes`: names, numbered from 1 in that order, or name to number; None: the cache's own
    (`cache.mask_classes`). 0 is background. `things`: the classes of which each connected piece
    (in the frame, corners touch) is an instance of its own, in panoptic and instance segmentation
    and in detection; None: all. `missing`: where nobody knows what is on an image
    (`cache.annotated`) that is background ("zeros"), ignored ("ignore": 255, which is no class), or
    an error ("error"); what is drawn on it all the same stays.
    """

    classes: Sequence[str] | Mapping[str, int] | None = None
    things: Sequence[str] | None = None
    missing: Literal["zeros", "ignore", "error"] = "zeros"


Asked = Masks | Sequence[str] | Mapping[str, int] | bool | None
"""what `masks=` takes: True is Masks()"""


def masks_of(asked: Asked) -> Masks | None:
    """What `masks=` asks for. Raises ValueError for what says nothing."""
    if asked is None or asked is False:
        return None
    if isinstance(asked, str):
        raise ValueError(f"masks {asked!r}; legal: True, a list of classes, name to number, Masks")
    if not isinstance(asked, Masks):
        asked = Masks(None if asked is True else asked)
    if asked.missing not in ("zeros", "ignore", "error"):
        raise ValueError(f"missing {asked.missing!r}; legal: zeros, ignore, error")
    return asked


class LabelMaps:
    """Label maps of a cache's images; pickles as what it was made of, and without its tables."""

    def __init__(self, cache: Cache, asked: Masks, looked: dict[str, Any] | None = None) -> None:
        """`looked`: what was read of the tables already, by the process that this one is of.

        Raises ValueError for classes or things that the cache does not have.
        """
        self.cache, self.asked = cache, asked
        if looked is not None:
            vars(self).update(looked)
            return
        if not cache.mask_classes:
            raise ValueError(
                f"{cache.path}: it has no masks; build it with the folder of the segmentations "
                "too, or leave masks= out, and LightlyTrain opens files"
            )
        if not self.numbers:
            raise ValueError(f"masks of no class; legal: some of {', '.join(cache.mask_classes)}")
        for name in asked.things or ():
            if name not in self.numbers:
                raise ValueError(f"things {name!r}; legal: {', '.join(self.numbers)}")

    def __reduce__(self) -> tuple[Any, ...]:
        looked = {"numbers": self.numbers, "painter": self.painter}
        return LabelMaps, (self.cache, self.asked, looked)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """{name of a class: its number in label maps}, in the order of numbers; none is 0."""
        numbers = numbers_of(self.cache.core, self.asked.classes)
        return {name: k for name, k in sorted(numbers.items(), key=lambda entry: entry[1]) if k}

    @cached_property
    def _dtype(self) -> np.dtype[Any]:
        ignore = _IGNORED if self.asked.missing == "ignore" else None
        return dtype_of(max(self.numbers.values()), ignore, self.numbers.values())

    @cached_property
    def things(self) -> list[int]:
        """Those of `numbers` whose pieces are instances."""
        things = self.asked.things
        return [k for name, k in self.numbers.items() if things is None or name in things]

    @cached_property
    def painter(self) -> Painter:
        """What is drawn on which image, all of them."""
        return painter_of(self.cache.core, self.cache.indices, self.numbers)

    def prepare(self) -> LabelMaps:
        """Read the tables now: what is forked later shares them. Raises ValueError."""
        self.painter, self._dtype  # noqa: B018  (cached at first touch)
        return self

    def annotated(self, i: int) -> bool:
        """Whether it is known what masks of these classes draw on image `i`."""
        return bool(self.painter.known(self.cache.samples(np.array([i])))[0])

    def drawn(self, i: int) -> bool:
        """Whether a mask of these classes lies on image `i` itself."""
        row = int(np.searchsorted(self.painter.images, self.cache.samples(np.array([i]))[0]))
        return bool(self.painter.ends[row] < self.painter.ends[row + 1])

    def label_map(self, i: int) -> NDArray[Any]:
        """(H, W) of class numbers of image `i`, uint8 or uint16; 0 is background.

        Raises LabelError for an image without a mask, if these are not allowed.
        """
        core, sample = self.cache.core, self.cache.samples(np.array([i]))
        if self.asked.missing == "error" and not self.painter.known(sample)[0]:
            raise unannotated(core, sample, np.zeros(1, np.int64), self.numbers)
        height, width = (int(c[sample[0]]) for c in (core.places.height, core.places.width))
        labels: NDArray[Any] = np.empty((1, height, width), self._dtype)
        self.painter.paint(labels, sample, core)
        if self.asked.missing == "ignore":
            self.painter.leave(labels, _IGNORED, sample, core)
        map_of_one: NDArray[Any] = labels[0]
        return map_of_one

    def segments(self, i: int) -> NDArray[np.int64]:
        """(H, W) of ids: a class number, or of a piece of a thing number + 65536 k, k from 1."""
        labels = self.label_map(i)
        ids = labels.astype(np.int64)
        if self.asked.missing == "ignore":
            ids[labels == _IGNORED] = 0  # no class, and no piece of one
        for number in self.things:
            ids += _PIECES * _pieces(labels == number)
        return ids


def class_of(segment: int) -> int:
    """The class number of an id of `segments`."""
    return segment % _PIECES


def _pieces(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(H, W): the connected pieces of a mask, numbered from 1 by their first pixels."""
    if not mask.any():
        return np.zeros(mask.shape, np.int64)
    try:
        from scipy import ndimage
    except ImportError as e:
        raise MissingLibraryError("scipy", "instances of masks") from e
    return np.asarray(ndimage.label(mask, np.ones((3, 3)))[0], np.int64)


def mask_place(names: Names, path: str | os.PathLike[str]) -> int:
    """Index of the image frame that a path of a mask stands for.

    The path is the image's own, by the template `/{image_path}` with one slash too many, or it ends
    in `.png` where the image's ends in `.dcm`. Raises NotServedError.
    """
    said = os.fspath(path)
    if said.startswith("//"):
        said = "/" + said.lstrip("/")
    try:
        return names[said]
    except NotServedError:
        stem, suffix = os.path.splitext(said)
        for other in (".dcm", ".DCM") if suffix == ".png" else ():
            try:
                return names[stem + other]
            except NotServedError:
                continue
        raise
