"""Images by path or name: what LightlyTrain's loader is replaced with."""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trainer_adapter.cache import Cache
from trainer_adapter.errors import NotServedError
from trainer_adapter.lightly_convert import Paths, converted
from trainer_adapter.lightly_names import Names, Roots, parse_name
from trainer_adapter.lightly_look import Look
from trainer_adapter.lightly_pixels import RADIOGRAPHS, Facts, Image, image_of

_TEXTS = ("kind", "unit", "modality", "polarity")
_NUMBERS = (
    "padding_value", "p0_5", "p99_5", "padding_limit", "slope", "intercept", "bits_stored",
    "full_scale",
)  # fmt: skip
_LATER = {"padding_limit", "bits_stored", "full_scale"}
"""columns that the first caches do not have"""
_MOST = 1024
"""frames that mean and standard deviation are taken from"""


def wants_rgb(mode: str | None) -> bool:
    """Whether a door that does not say gives three channels: by LightlyTrain's own variable."""
    return (mode or os.environ.get("LIGHTLY_TRAIN_IMAGE_MODE") or "RGB") == "RGB"


class Images:
    """Frames of a cache in one look; pickles as what it was made of, without its tables."""

    def __init__(self, cache: Cache, look: Look, root: Roots = None) -> None:
        self.cache, self.look, self.root = cache, look, root

    def __reduce__(self) -> tuple[Any, ...]:
        return Images, (self.cache, self.look, self.root)

    @cached_property
    def names(self) -> Names:
        """Which frame a path stands for."""
        return Names(self.cache, self.root)

    def prepare(self) -> Images:
        """Read the tables now: what is forked later shares them."""
        self.names, self._columns  # noqa: B018  (cached at first touch)
        return self

    @cached_property
    def _columns(self) -> tuple[list[Any], list[Any], Any]:
        texts = []
        for name in _TEXTS:
            column = self.cache.column(name).cast(pa.string()).combine_chunks().dictionary_encode()
            codes = column.indices.fill_null(-1).to_numpy()
            texts.append((codes, [*column.dictionary.to_pylist(), None]))
        numbers = [self._numbers(name) for name in _NUMBERS]
        return texts, numbers, self.cache.column("windows").combine_chunks()

    def _numbers(self, name: str) -> NDArray[Any]:
        """A column, null as NaN; all NaN where the cache is older than the column."""
        try:
            return np.asarray(self.cache.column(name).to_numpy())
        except KeyError:
            if name not in _LATER:
                raise
            return np.broadcast_to(np.float64(np.nan), len(self.cache))

    def facts(self, i: int) -> Facts:
        """What frames/ says of frame `i`."""
        texts, numbers, windows = self._columns
        kind, unit, modality, polarity = (known[codes[i]] for codes, known in texts)
        padding, low, high, *more = (None if n[i] != n[i] else float(n[i]) for n in numbers)
        # A list of structs takes longer than all the rest.
        said = windows[i].as_py() if modality in RADIOGRAPHS else None
        voi = (said[0]["center"], said[0]["width"], said[0]["function"]) if said else None
        return Facts(kind, unit, modality, polarity, padding, low, high, voi, *more)

    def image(self, i: int, rgb: bool) -> Image:
        """Frame `i`, (H, W, C); ValueError names the file if it cannot be an image."""
        try:
            return image_of(self.cache[i], self.facts(i), self.look, rgb)
        except ValueError as e:
            path, frame = (self.cache.column(c)[i].as_py() for c in ("path", "frame"))
            raise ValueError(f"{path}, frame {frame}: {e}") from e

    def open(
        self, path: str | os.PathLike[str], rgb: bool, convert: bool, beside: Paths = ()
    ) -> tuple[Image, str]:
        """(image at a path or name, "cached" or "converted"): a new file is converted as the cache
        was, if `convert` allows it. Raises NotServedError, ConvertError."""
        try:
            return self.image(self.names[path], rgb), "cached"
        except NotServedError:
            if not convert or not os.path.exists(parse_name(os.fspath(path))[0]):
                raise
        with converted(path, self.cache, beside) as made:
            new = Images(made, self.look)
            return new.image(new.names[path], rgb), "converted"

    def mean_std(self, frames: int = _MOST) -> dict[str, tuple[float, ...]]:
        """Mean and standard deviation of each of three channels after windowing, as shares of 1.

        Of at most `frames` images at even distances, each with the same weight, as LightlyTrain
        scales them all to one size. Raises ValueError for a cache without images.
        """
        chosen = np.flatnonzero(pc.not_equal(self.cache.column("kind"), "mask").to_numpy())
        if not len(chosen):
            raise ValueError(f"{self.cache.path}: no images to take mean and std of")
        places = np.unique(np.linspace(0, len(chosen) - 1, min(frames, len(chosen))).round())
        moments = []
        for i in chosen[places.astype(np.int64)].tolist():
            image = self.image(i, rgb=True).astype(np.float64)
            image /= 255.0 if self.look.dtype == "uint8" else 1.0
            moments.append([image.mean((0, 1)), np.square(image).mean((0, 1))])
        mean, square = np.mean(moments, axis=0)
        std = np.sqrt(np.maximum(square - mean**2, 1e-12))
        return {"mean": tuple(mean.tolist()), "std": tuple(std.tolist())}
