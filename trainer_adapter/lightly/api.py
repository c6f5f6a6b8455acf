"""The calls of `trainer_adapter.lightly`: what a user names, and the context that serves it."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from trainer_adapter.cache import Cache, open_cache
from trainer_adapter.lightly.doors import Server, active, serving
from trainer_adapter.lightly.images import Images, wants_rgb
from trainer_adapter.lightly.look import look
from trainer_adapter.lightly.masks import BACKGROUND, Asked, LabelMaps, Masks, masks_of
from trainer_adapter.lightly.paths import frame_names, of_kind, stub_tree
from trainer_adapter.lightly.pixels import Image
from trainer_adapter.lightly.roots import Roots
from trainer_adapter.lightly.transforms import transform_args
from trainer_adapter.lightly.written import hold_classes, write_data
from trainer_adapter.loading.convert import Paths

__all__ = [
    "Masks",
    "classes",
    "data",
    "load",
    "mean_std",
    "names",
    "serve",
    "stubs",
    "transform_args",
]

CachePath = Cache | str | os.PathLike[str]


def serve(
    cache: CachePath,
    *,
    window: Any = None,
    dtype: str = "uint8",
    root: Roots = None,
    missing: str = "error",
    mode: str | None = None,
    key: str | os.PathLike[str] | None = None,
    masks: Asked = None,
) -> AbstractContextManager[Server]:
    """A context in which every image that LightlyTrain opens comes from `cache`.

    Serves pretraining, distillation, fine-tuning and `model.predict`, in this process and in its
    DataLoader workers, however they are started. `window` makes channels of HU: a preset, (center,
    width), or a list of these; None: lung, soft and bone. `dtype` "uint8", or "float32" from 0 to
    1. `root`: where the source folder is now, if it was moved. `missing` says what to do with a
    path that is not in the cache: "error", "pass" (LightlyTrain opens it itself), or "convert"
    (as `load`); a new DICOM file is always converted for `model.predict`. `mode` "UNCHANGED" is for
    predicting with a model of other than 3 channels: there LightlyTrain does not say what it wants.
    `key`: the key file of a de-identified cache, which knows paths by hashes only; `root` goes with
    it. `masks`: every mask comes from `cache` too, drawn from its DICOM segmentations and contours;
    True, classes by name (numbered from 1), name to number, or Masks; None: masks are files.

    Yields a Server: `counts`, `mask_counts`, `load(path)`, `mean_std()`. Warns where boxes or
    polygons of files are trained on frames that a recipe's size moved, and on leaving of files that
    LightlyTrain did not list. Raises NotServedError where LightlyTrain opens what is not there,
    UnknownLightlyError for a LightlyTrain or torch whose doors are not known, ValueError for a
    `window` that nothing in the cache is for, and for classes that it does not have, RuntimeError
    within another such context.
    """
    opened, asked = _opened(cache), masks_of(masks)
    maps = None if asked is None else LabelMaps(opened, asked)
    if maps is not None:
        hold_classes(maps, root)
    return serving(_images(opened, window, dtype, root, key), missing, mode, maps)


def names(cache: CachePath, kind: str | None = "image") -> list[str]:
    """A name for each frame, for `pretrain(data=names(cache))`: no DICOM file needs to be there.

    Of one `kind` (image, dose, map), or None for all but masks. Raises ValueError for another kind.
    """
    return frame_names(of_kind(_opened(cache), kind))


def stubs(cache: CachePath, folder: str | os.PathLike[str], kind: str | None = "image") -> Path:
    """Empty files below `folder`, one for each frame, to fine-tune on without the DICOM files.

    Fine-tuning looks whether its images are there: label these, and give serve(cache, root=folder),
    for caches of several source folders too. Raises ValueError for an unknown kind, and for a
    folder with stubs of another source.
    """
    return stub_tree(of_kind(_opened(cache), kind), folder)


def data(
    cache: CachePath,
    folder: str | os.PathLike[str],
    task: str = "semantic_segmentation",
    masks: Asked = True,
) -> dict[str, str]:
    """One split for LightlyTrain's `data={"train": ..., "val": ...}`, of the images of `cache`.

    Writes below `folder` an empty stub for each image frame, and for tasks that need it COCO's JSON
    of what the masks hold: `task` is "semantic_segmentation", "panoptic_segmentation",
    "instance_segmentation" or "object_detection". `masks` as in serve(cache, masks=...,
    root=[folder of each split]); the same there.

    Warns where nobody knows what is on images, with their number. Raises ValueError for an unknown
    task, classes that the cache does not have, and a folder with stubs of other frames.
    """
    asked = masks_of(masks) or Masks()
    return write_data(LabelMaps(of_kind(_opened(cache), "image"), asked), folder, task)


def classes(cache: CachePath, masks: Asked = True) -> dict[int, str]:
    """{number: name} of the classes of masks, 0 is background: `data["classes"]` of semantic
    segmentation. Raises ValueError for classes that the cache does not have."""
    numbers = LabelMaps(_opened(cache), masks_of(masks) or Masks()).numbers
    return {0: BACKGROUND} | {k: name for name, k in numbers.items()}


def load(
    path: str | os.PathLike[str],
    cache: CachePath | None = None,
    *,
    window: Any = None,
    dtype: str = "uint8",
    root: Roots = None,
    mode: str | None = None,
    beside: Paths = (),
    key: str | os.PathLike[str] | None = None,
) -> Image:
    """The image at `path`, (H, W, C), as serve(cache, ...) would give it to a model.

    From the cache, or, if the file is new, converted by the cache's own recipe, which takes half a
    second and needs dicom2cache. Without `cache`, that of the context one is in, with its options.
    `beside`: the rest of a new file's stack, where the recipe takes percentiles of a stack. `key`
    as in serve().

    Raises ValueError without a cache or for a window that nothing in it is for, ConvertError,
    NotServedError.
    """
    served = active()
    if cache is None:
        if served is None:
            raise ValueError("load(path) outside of serve(...): give the cache, load(path, cache)")
        return served.load(path, beside=beside)
    images = _images(cache, window, dtype, root, key)
    return images.open(path, wants_rgb(mode), True, beside)[0]


def mean_std(
    cache: CachePath, *, window: Any = None, dtype: str = "uint8", kind: str | None = "image"
) -> dict[str, tuple[float, ...]]:
    """Mean and std of each channel of what is served, for transform_args(normalize=...).

    Of the frames that names(cache, kind) names. Raises ValueError if there is none.
    """
    return _images(cache, window, dtype).mean_std(kind)


def _images(
    cache: CachePath,
    window: Any,
    dtype: str,
    root: Roots = None,
    key: str | os.PathLike[str] | None = None,
) -> Images:
    images = Images(_opened(cache), look(window, dtype), root, key=key)
    if window is not None:
        images.check_window()
    return images


def _opened(cache: CachePath) -> Cache:
    return cache if isinstance(cache, Cache) else open_cache(cache)
