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

BACKGROUND = "background"
_IGNORED = 255
"""what pixels of an image without a mask are, if they are to be ignored: in no class"""
_PIECES = 1 << 16
"""an id of a piece is its class number + this times the number of the piece, from 1"""


@dataclass(frozen=True)
class Masks:
    """Which classes masks have, for `serve(cache, masks=...)` and `data(...)`; give both the same.

    `classes`: names, numbered from 1 in that order, or name to number; None: the cache's own
    (`cache.mask_classes`). 0 is background. `things`: the classes of which each connected piece
    (in the frame, corners touch) is an instance of its own, in panoptic and instance segmentation
    and in detection; None: all. `missing`: images without a mask are background ("zeros"), ignored
    (255, "ignore"; panoptic: no segment), or an error ("error").
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
    """Label maps of a cache's image frames; pickles as what it was made of."""

    def __init__(self, cache: Cache, asked: Masks) -> None:
        """Raises ValueError for classes or things that the cache does not have."""
        self.cache, self.asked = cache, asked
        known = list(cache.mask_classes)
        if not known:
            raise ValueError(
                f"{cache.path}: it has no masks of its images; build it with the folder of its "
                "segmentations too, or leave masks= out, and LightlyTrain opens files"
            )
        unknown = [name for name in self.numbers if name not in known]
        unknown += [name for name in asked.things or () if name not in self.numbers]
        if unknown:
            raise ValueError(
                f"{cache.path}: no class {', '.join(map(repr, unknown))}; it has {', '.join(known)}"
            )
        bad = {name: k for name, k in self.numbers.items() if not 0 < k < _PIECES or k == _IGNORED}
        if bad:
            raise ValueError(f"class numbers {bad}; legal: 1 to {_PIECES - 1}, but {_IGNORED}")

    def __reduce__(self) -> tuple[Any, ...]:
        return LabelMaps, (self.cache, self.asked)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """{name of a class: its number in label maps}, in the order of numbers."""
        asked = self.cache.mask_classes if self.asked.classes is None else self.asked.classes
        if not isinstance(asked, Mapping):
            asked = {name: k for k, name in enumerate(asked, 1)}
        return dict(sorted(asked.items(), key=lambda entry: entry[1]))

    @cached_property
    def things(self) -> dict[str, int]:
        """Those of `numbers` whose pieces are instances."""
        things = self.asked.things
        return {c: k for c, k in self.numbers.items() if things is None or c in things}

    @cached_property
    def present(self) -> NDArray[np.bool_]:
        """(n,) bool: which frames of the cache have a mask of any of the classes."""
        found = np.zeros(len(self.cache), bool)
        for name in self.numbers:
            found |= self.cache.has_mask(name)
        return found

    def prepare(self) -> LabelMaps:
        """Read the tables now: what is forked later shares them."""
        self.present  # noqa: B018  (cached at first touch)
        return self

    def label_map(self, i: int) -> NDArray[Any]:
        """(H, W) of class numbers, uint8 or uint16; 0 is background. Raises NotServedError."""
        asked = self.asked
        if asked.missing == "error" and not self.present[i]:
            path, frame = (self.cache.column(c)[i].as_py() for c in ("path", "frame"))
            raise NotServedError(
                f"{path}, frame {frame}: {self.cache.path} has no mask of it; leave it out, "
                "lightly.data(cache.select(has_mask=True), ...), or give missing='zeros'"
            )
        maps: NDArray[Any] = self.cache.labelmap(
            [i], classes=self.numbers, missing=asked.missing, ignore=_IGNORED
        )
        return maps[0]

    def segments(self, i: int) -> NDArray[np.int64]:
        """(H, W) of ids: a class number, or of a piece of a thing number + 65536 k, k from 1."""
        labels = self.label_map(i)
        ids = labels.astype(np.int64)
        for number in self.numbers.values():
            if number in self.things.values():
                pieces = _pieces(labels == number)
                ids += _PIECES * pieces
        ids[~np.isin(labels, list(self.numbers.values()))] = 0
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
