"""LightlyTrain from a cache: its own calls, with images that are decoded already.

```
with trainer_adapter.lightly.serve("cache") as served:
    lightly_train.pretrain(out="out", data="scans", model="torchvision/resnet18", method="dino")
print(served.counts)
```
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from trainer_adapter.cache import Cache, open_cache
from trainer_adapter.lightly_args import transform_args
from trainer_adapter.lightly_convert import Paths
from trainer_adapter.lightly_images import Images, wants_rgb
from trainer_adapter.lightly_names import Roots, frame_names, stub_tree
from trainer_adapter.lightly_look import look
from trainer_adapter.lightly_pixels import Image
from trainer_adapter.lightly_serve import Server, active, serving

__all__ = ["load", "mean_std", "names", "serve", "stubs", "transform_args"]

CachePath = Cache | str | os.PathLike[str]


def serve(
    cache: CachePath,
    *,
    window: Any = None,
    dtype: str = "uint8",
    root: Roots = None,
    missing: str = "error",
    mode: str | None = None,
) -> AbstractContextManager[Server]:
    """A context in which every image that LightlyTrain opens comes from `cache`.

    Serves pretraining, distillation, fine-tuning and `model.predict`, in this process and in its
    DataLoader workers, however they are started. `window` makes channels of HU: a preset, (center,
    width), or a list of these; None: lung, soft and bone. `dtype` "uint8", or "float32" from 0 to
    1. `root`: where the source folder is now, if it was moved. `missing` says what to do with a
    path that is not in the cache: "error", "pass" (LightlyTrain opens it itself), or "convert"
    (as `load`); a new DICOM file is always converted for `model.predict`. `mode` "UNCHANGED" is for
    predicting with a model of other than 3 channels: there LightlyTrain does not say what it wants.

    Yields a Server: `counts`, `load(path)`, `mean_std()`. Raises NotServedError where LightlyTrain
    opens what is not there, UnknownLightlyError for a LightlyTrain whose doors are not known,
    RuntimeError within another such context.
    """
    return serving(Images(_opened(cache), look(window, dtype), root), missing, mode)


def names(cache: CachePath, kind: str | None = "image") -> list[str]:
    """A name for each frame, for `pretrain(data=names(cache))`: no DICOM file needs to be there.

    Of one `kind` (image, dose, map), or None for all but masks.
    """
    opened = _opened(cache)
    kinds = ["image", "dose", "map"] if kind is None else kind
    return frame_names(opened.select(kind=kinds))


def stubs(cache: CachePath, folder: str | os.PathLike[str], kind: str | None = "image") -> Path:
    """Empty files below `folder`, one for each frame, to fine-tune on without the DICOM files.

    Fine-tuning looks whether its images are there: label these, and give serve(cache, root=folder).
    """
    opened = _opened(cache)
    kinds = ["image", "dose", "map"] if kind is None else kind
    return stub_tree(opened.select(kind=kinds), folder)


def load(
    path: str | os.PathLike[str],
    cache: CachePath | None = None,
    *,
    window: Any = None,
    dtype: str = "uint8",
    root: Roots = None,
    mode: str | None = None,
    beside: Paths = (),
) -> Image:
    """The image at `path`, (H, W, C), as serve(cache, ...) would give it to a model.

    From the cache, or, if the file is new, converted by the cache's own recipe, which takes half a
    second and needs dicom2cache. Without `cache`, that of the context one is in, with its options.
    `beside`: the rest of a new file's stack, where the recipe takes percentiles of a stack.

    Raises ValueError without a cache, ConvertError, NotServedError.
    """
    served = active()
    if cache is None:
        if served is None:
            raise ValueError("load(path) outside of serve(...): give the cache, load(path, cache)")
        return served.load(path, beside=beside)
    images = Images(_opened(cache), look(window, dtype), root)
    return images.open(path, wants_rgb(mode), True, beside)[0]


def mean_std(
    cache: CachePath, *, window: Any = None, dtype: str = "uint8"
) -> dict[str, tuple[float, ...]]:
    """Mean and std of three channels of what is served, for transform_args(normalize=...)."""
    return Images(_opened(cache), look(window, dtype)).mean_std()


def _opened(cache: CachePath) -> Cache:
    return cache if isinstance(cache, Cache) else open_cache(cache)
