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
from trainer_adapter.lightly.look import Look
from trainer_adapter.lightly.paths import Names, of_kind, parse_name
from trainer_adapter.lightly.pixels import RADIOGRAPHS, Facts, Image, image_of
from trainer_adapter.lightly.roots import Roots
from trainer_adapter.loading.convert import Paths, converted

_TEXTS = ("kind", "unit", "modality", "polarity")
_NUMBERS = ("padding_value", "padding_limit", "bits_stored", "full_scale")
_LATER = {"padding_limit", "bits_stored", "full_scale"}
"""columns that the first caches do not have"""
_MOST = 1024
"""frames that mean and standard deviation are taken from"""


def wants_rgb(mode: str | None) -> bool:
    """Whether a door that does not say gives three channels: by LightlyTrain's own variable."""
    return (mode or os.environ.get("LIGHTLY_TRAIN_IMAGE_MODE") or "RGB") == "RGB"


class Images:
    """Frames of a cache in one look; pickles as what it was made of, without its tables."""

    def __init__(
        self,
        cache: Cache,
        look: Look,
        root: Roots = None,
        called: str | None = None,
        key: str | os.PathLike[str] | None = None,
    ) -> None:
        """`called`: how errors name the cache, if it is no cache of the user's; `key`: the key file
        of one that is de-identified."""
        self.cache, self.look, self.root, self._called, self._key = cache, look, root, called, key

    def __reduce__(self) -> tuple[Any, ...]:
        return Images, (self.cache, self.look, self.root, self._called, self._key)

    @cached_property
    def names(self) -> Names:
        """Which frame a path stands for."""
        return Names(self.cache, self.root, self._called, self._key)

    def prepare(self) -> Images:
        """Read the tables now: what is forked later shares them."""
        self.names, self._columns  # noqa: B018  (cached at first touch)
        return self

    @cached_property
    def _columns(self) -> tuple[list[Any], list[Any], list[Any], NDArray[Any], Any]:
        """What facts() needs, as small as it goes: every spawned worker has it."""
        texts, numbers = ([self._coded(c) for c in names] for names in (_TEXTS, _NUMBERS))
        low, high, slope, intercept = (
            self._column(c).to_numpy() for c in ("p0_5", "p99_5", "slope", "intercept")
        )
        plain = (slope == 1) & (intercept == 0) | (slope == -1) & (intercept == 255)
        return texts, numbers, [low, high], plain, self._column("windows").combine_chunks()

    def _column(self, name: str) -> Any:
        """A column of frames/, which the cache does not keep; null if it is older than that."""
        try:
            column = self.cache.core.root.read("frames", [name])[name]
        except KeyError:
            if name not in _LATER:
                raise
            return pa.chunked_array([pa.nulls(len(self.cache), pa.float64())])
        return column.take(self.cache.indices)

    def _coded(self, name: str) -> tuple[NDArray[Any], list[Any]]:
        """(number of the value of each frame, the values); the last value is None."""
        column = self._column(name)
        column = column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
        coded = column.combine_chunks().dictionary_encode()
        codes = coded.indices.fill_null(-1).to_numpy()
        small = np.min_scalar_type(-1 - len(coded.dictionary))
        return codes.astype(small), [*coded.dictionary.to_pylist(), None]

    def facts(self, i: int) -> Facts:
        """What frames/ says of frame `i`."""
        texts, numbers, ends, plain, windows = self._columns
        kind, unit, modality, polarity = (known[codes[i]] for codes, known in texts)
        padding, limit, bits, scale = (known[codes[i]] for codes, known in numbers)
        low, high = (None if n[i] != n[i] else float(n[i]) for n in ends)  # null is NaN
        # A list of structs takes longer than all the rest.
        said = windows[i].as_py() if modality in RADIOGRAPHS else None
        voi = (said[0]["center"], said[0]["width"], said[0]["function"]) if said else None
        return Facts(
            kind, unit, modality, polarity, padding, low, high, voi, limit, bool(plain[i]), bits,
            scale,
        )  # fmt: skip

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
            file, *_ = parse_name(os.fspath(path))
            if not convert or not os.path.isfile(file):
                raise
        with converted(file, self.cache, beside) as made:
            new = Images(made, self.look, called="what it was converted to")
            return new.image(new.names[path], rgb), "converted"

    def check_window(self) -> None:
        """Refuse a window where no frame has HU that it could apply to. Raises ValueError."""
        units = set(self.cache.column("unit").unique().to_pylist())
        if "HU" in units or not len(self.cache):
            return
        if "window" in units:
            raise ValueError(
                f"{self.cache.path}: it was windowed when it was built, and holds no HU; build it "
                "without the recipe for other windows, or leave window= out"
            )
        raise ValueError(
            f"{self.cache.path}: nothing in it is in HU, which window= is for; leave it out"
        )

    def listed(self, path: str | os.PathLike[str]) -> bool:
        """Whether LightlyTrain finds the file of a path or a name, if it is given its folder."""
        return os.path.splitext(parse_name(os.fspath(path))[0])[1].lower() == ".dcm"

    def unlisted(self) -> tuple[int, str | None]:
        """(how many images are in files that it does not find, the path of one)."""
        paths = of_kind(self.cache, "image").column("path").cast(pa.string())
        found = paths.filter(pc.invert(pc.ends_with(paths, ".dcm", ignore_case=True)))
        return len(found), found[0].as_py() if len(found) else None

    def resized(self) -> int:
        """How many frames a recipe's size moved within the picture: there, boxes lie elsewhere.

        Stretched ones do not count: a share of the width stays one.
        """
        moved = np.zeros(len(self.cache), bool)
        for axis, size in (("y", "height"), ("x", "width")):
            names = (f"offset_{axis}", f"scale_{axis}", f"source_{size}", size)
            offset, scale, before, now = (self._column(c).to_numpy() for c in names)
            # Half a pixel is what rounding a size can come to.
            moved |= (np.abs(offset) > 0.5) | (np.abs(scale * before - now) > 0.5)
        return int(np.count_nonzero(moved))

    def mean_std(
        self, kind: str | None = "image", frames: int = _MOST
    ) -> dict[str, tuple[float, ...]]:
        """Mean and standard deviation of each channel after windowing, as shares of 1.

        Three channels, or as many as there are windows. Of at most `frames` images of a kind at
        even distances, each with the same weight, as LightlyTrain scales them all to one size.
        Raises ValueError for a cache without images, or with images of other channels.
        """
        chosen = of_kind(self.cache, kind)
        if not len(chosen):
            raise ValueError(f"{self.cache.path}: no images to take mean and std of")
        images = Images(chosen, self.look)
        rgb = len(self.look.windows) in (1, 3)
        places = np.unique(np.linspace(0, len(chosen) - 1, min(frames, len(chosen))).round())
        moments = []
        for i in places.astype(np.int64).tolist():
            image = images.image(i, rgb).astype(np.float64)
            image /= 255.0 if self.look.dtype == "uint8" else 1.0
            moments.append([image.mean((0, 1)), np.square(image).mean((0, 1))])
        channels = {len(mean) for mean, _ in moments}
        if len(channels) > 1:
            raise ValueError(
                f"{self.cache.path}: images of {' and of '.join(map(str, sorted(channels)))} "
                "channels have no common mean and std; select those of one kind"
            )
        mean, square = np.mean(moments, axis=0)
        std = np.sqrt(np.maximum(square - mean**2, 1e-12))
        return {"mean": tuple(mean.tolist()), "std": tuple(std.tolist())}
