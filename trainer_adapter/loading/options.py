"""What a loader is asked for, in records: order, labels, ranks; and the keywords that make them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypedDict

import numpy as np
import torch

from trainer_adapter.batch.dtypes import held_by
from trainer_adapter.cache import Cache
from trainer_adapter.format.keywords import alike


@dataclass(frozen=True, eq=False)
class Order:
    """In which order frames come, and which of them share a batch."""

    shuffle: bool | str = False
    """False, True, or "windowed": frames shuffled within windows of `window` shards"""
    window: int = 64
    """shards"""
    weights: Any = None
    """(n,) for each frame of the cache: frames are drawn by weight, with replacement; "balanced":
    each class as often as any other"""
    samples: int | None = None
    """of them are an epoch, where weights draw; None: as many as there are frames"""
    seed: int = 0
    drop_last: bool = False
    """leave out a last batch that is not full"""
    bucket: str = "size"
    """batches of one "size", or of one "array", whose slots hold frames of about that size in their
    upper left corner, zero elsewhere"""


@dataclass(frozen=True, eq=False)
class Labels:
    """Which frames, and their labels."""

    label: str | Sequence[str] | None = None
    """a column of frames/, or of the table `labels`; several: (b, k) labels; None: no labels"""
    labels: Any = None
    """a table: pyarrow, pandas, Polars, dictionary of lists, path to .csv, .tsv or .parquet"""
    on: str | Sequence[str] | Mapping[str, str] | None = None
    """what it is joined on: a column of both, a DICOM keyword, {column of the table: one of these},
    or several of them"""
    missing: str = "error"
    """what to do with frames without a label: "error" or "drop\""""
    kind: str | None = "image"
    """frames of this kind; None: all"""
    key: str | os.PathLike[str] | None = None
    """the key file: of patients and accession numbers (None: the user's own), or of a de-identified
    cache, where names of the table are to be hashed"""
    classes: Any = None
    """which number each value has: a list of values in their order, {value: number}, another
    dataset or loader; False: numbers that are no classes; None: by the frames that are there"""


@dataclass(frozen=True, eq=False)
class Target:
    """What is learned of each pixel, beside the images."""

    what: str = "mask"
    """"mask": the segmentations that lie on the images, as label maps; "dose": RT Dose, linear
    between its voxels, 0 outside of them"""
    classes: Any = None
    """of masks: names, numbered from 1, or {name: number}; another dataset or loader with a target;
    None: the cache's `mask_classes`. What is none of them is 0"""
    missing: str = "error"
    """of images on whose stacks no mask of these classes lies, or that have no dose: "error",
    "drop" (left out), "zeros", or "ignore" (each pixel is `ignore`, of doses NaN)"""
    ignore: int = 255
    combine: str = "union"
    """of several mask files on a stack: all, or the "first\""""
    rows: Any = None
    """a selection of the cache: of masks or doses only these count, such as those of one reader"""


@dataclass(frozen=True)
class Ranks:
    """The share of one of several processes that train together."""

    rank: int | None = None
    """None: that of torch.distributed"""
    ranks: int | None = None
    """how many there are; None: as torch.distributed says"""
    pad: bool = True
    """repeat samples so that all ranks have as many; else drop some"""


class Keywords(TypedDict, total=False):
    """The fields of the records, as keywords of CacheLoader."""

    shuffle: bool | str
    window: int
    weights: Any
    samples: int | None
    seed: int
    drop_last: bool
    bucket: str
    label: str | Sequence[str] | None
    labels: Any
    on: str | Sequence[str] | Mapping[str, str] | None
    missing: str
    classes: Any
    kind: str | None
    key: str | os.PathLike[str] | None
    rank: int | None
    ranks: int | None
    pad: bool


def target_of(target: Target | str | None, labelling: Labels) -> tuple[Target | None, Labels]:
    """The target, with `classes` and `missing` where no label is there that they could be of."""
    if not isinstance(target, str) or labelling.label is not None:
        return (Target(target) if isinstance(target, str) else target), labelling
    target = Target(target, classes=labelling.classes, missing=labelling.missing)
    return target, replace(labelling, classes=None, missing="error")


def hold_images(cache: Cache, columns: Any, dtype: torch.dtype | None) -> None:
    """Raises ValueError for columns that are one text, and a dtype too small for these frames."""
    if isinstance(columns, str):
        raise ValueError(f"columns {columns!r}; legal: a list of names")
    if dtype is not None:
        for number in np.unique(cache.core.places.array[cache.indices]).tolist():
            held_by(dtype, cache.arrays[number].dtype)


def records(keywords: Keywords, given: tuple[Any, Any, Any]) -> tuple[Order, Labels, Ranks]:
    """The records that were given, or that the keywords make.

    Raises TypeError for a keyword that no record has, or one of a record that was given too.
    """
    left: dict[str, Any] = dict(keywords)
    made: list[Any] = []
    for kind, record in zip((Order, Labels, Ranks), given, strict=True):
        own = {f.name: left.pop(f.name) for f in fields(kind) if f.name in left}
        if record is not None and own:
            raise TypeError(f"{', '.join(own)}: said by the {kind.__name__} that was given too")
        made.append(kind(**own) if record is None else record)
    if left:
        legal = ", ".join(f.name for kind in (Order, Labels, Ranks) for f in fields(kind))
        hint = alike(next(iter(left)), legal.split(", "))
        raise TypeError(
            f"unknown {', '.join(left)}; legal besides the loader's own: {legal}"
            f"{'; ' * bool(hint)}{hint.rstrip()}"
        )
    return made[0], made[1], made[2]
