"""A new file as a model saw those of a cache: by the cache's own recipe."""

from __future__ import annotations

import os

import numpy as np
import pyarrow as pa
import torch

from trainer_adapter.cache import Cache, open_cache
from trainer_adapter.errors import ConvertError, counting
from trainer_adapter.loading.convert import Paths, converted
from trainer_adapter.loading.files import Files
from trainer_adapter.reading.hashed import is_deidentified


def load(
    path: str | os.PathLike[str],
    cache: Cache | str | os.PathLike[str],
    beside: Paths | None = None,
    *,
    frame: int | None = None,
    part: int | None = None,
) -> torch.Tensor:
    """The frame in the file at `path`, (H, W) or (H, W, C), in the dtype that the cache would have.

    A file that the cache was made of comes from it; any other is converted by its recipe, which
    takes half a second and needs dicom2cache. `frame`, from 0, of a file of several, and `part`, of
    a mosaic's slices. `beside`: files or folders with the rest of its stack, where the recipe takes
    percentiles of a stack; without, they are those of this file.

    Warns if the converter or a codec is of another version than the cache's. Raises ConvertError
    with the converter's words, ValueError for a frame that is not there or not said.
    """
    like = cache if isinstance(cache, Cache) else open_cache(cache)
    if not is_deidentified(like.attributes):
        whole = Cache(like.core, None)  # what a selection leaves out is there all the same
        stored = _frames(whole, path)
        if len(stored):
            return _one(stored, path, frame, part)
    with converted(path, like, beside or ()) as made:
        found = _frames(made, path)
        if not len(found):
            raise ConvertError(f"{path}: nothing of it could be stored")
        return _one(found, path, frame, part)


def _frames(cache: Cache, path: str | os.PathLike[str]) -> Cache:
    """The frames of a file, be it a copy of one that is stored."""
    named = Files(cache, None).named(pa.array([os.path.abspath(path)], pa.string()), None)
    return cache.select(np.flatnonzero((named.frames == named.stored[0]) & (named.frames >= 0)))


def _one(
    of_file: Cache, path: str | os.PathLike[str], frame: int | None, part: int | None
) -> torch.Tensor:
    chosen = of_file
    for name, wanted in (("frame", frame), ("part_of_frame", part)):
        try:
            chosen = chosen if wanted is None else chosen.select(**{name: wanted})
        except KeyError:  # of before it came
            chosen = chosen if wanted == 0 else chosen[:0]
    if len(chosen) == 1:
        return torch.from_numpy(np.array(chosen[0]))
    what = "frame" if len(of_file.column("frame").unique()) > 1 else "part"
    said = {"frame": frame, "part": part}
    raise ValueError(
        f"{path}: {counting(len(of_file), 'frame of it is', 'frames of it are')} stored, "
        f"{len(chosen) or 'none'} of them with {', '.join(f'{k}={v}' for k, v in said.items())}; "
        f"give the {what} that is meant, from 0"
    )
