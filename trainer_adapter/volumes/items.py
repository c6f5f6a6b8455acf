"""What an export makes, file by file; and by what a file of an earlier run is known."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer_adapter.volumes import convert, sidecar
from trainer_adapter.volumes.files import Write, as_nifti, as_text
from trainer_adapter.volumes.image import SpatialImage
from trainer_adapter.volumes.methods import Conversions
from trainer_adapter.volumes.pieces import Piece
from trainer_adapter.volumes.placed import is_mask
from trainer_adapter.volumes.placed import said as told
from trainer_adapter.volumes.stacks import Stacks

_MADE_BY = 1
"""raised when the same options come to make other files"""


@dataclass(frozen=True)
class Options:
    """How volumes are written."""

    to: str
    """one of FORMATS"""
    spacing: tuple[float, float, float] | None = None
    """(z, y, x) in mm; None: as they lie"""
    upright: bool = False
    """tilted stacks are made upright, else refused"""
    gaps: bool = False
    """what is missing, or lies unevenly, is interpolated, else refused"""


@dataclass(frozen=True)
class Made:
    """One item, to be written."""

    about: dict[str, Any]
    """the sidecar, without its digest"""
    files: dict[str, Write]
    """path below the folder -> what writes it, in order"""


@dataclass(frozen=True)
class Item:
    """A file that stands for one or several stacks."""

    stacks: tuple[int, ...]
    file: str
    """below the folder; written last"""
    image: str
    """below the folder; the same, but of a case of nnU-Net, which has its label map too"""
    sidecar: str
    digest: str
    make: Callable[[], Made]


_TOLD = (
    "crc32c", "position", "orientation", "spacing_y", "spacing_x", "padding_value", "time",
    "trigger_time", "phase", "b_value", "gradient",
)  # fmt: skip
"""columns of frames that a file is made of, besides those of which its sidecar tells"""


def digest(stacks: Stacks, parts: Sequence[int], options: Options, more: Any = None) -> str:
    """SHA-256 of all that a file is made of: frames, where they lie, their headers, the options."""
    said = [_MADE_BY, options.to, options.spacing, stacks.number[list(parts)].tolist(), more]
    said += [(sidecar.words(stacks, [k]), made_even(stacks, k, options)) for k in parts]
    found = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for k in parts:
        for column in _TOLD:
            found.update(repr(told(stacks.core, column, stacks.frames(k))).encode())
    return found.hexdigest()


def made_even(stacks: Stacks, k: int, options: Options) -> bool:
    """Whether the options make another volume of a stack than it is, but for its spacing."""
    tilted = options.upright and not np.isnan(stacks.tilt[k])
    uneven = options.gaps and np.isnan(stacks.affine[k]).any() and not is_mask(stacks, k)
    return bool(tilted or uneven)


def taken(cache: Conversions, stacks: Stacks, k: int, options: Options) -> SpatialImage:
    """One stack, as the options want it. Raises VolumeError."""
    stack = int(stacks.number[k])
    if options.spacing is not None or made_even(stacks, k, options):
        return cache.resample(stack, options.spacing, gaps=options.gaps)
    return cache.image(stack)


def placed_words(images: Sequence[SpatialImage], numbers: Sequence[int]) -> dict[str, Any]:
    """Of the sidecar, what is of the file and not of the headers."""
    first = images[0]
    shape = [len(images)] * (len(images) > 1) + list(first.voxels.shape)
    return {
        "Kind": first.kind,
        "Shape": shape,
        "DataType": first.voxels.dtype.name,
        "Spacing": [round(v, 6) for v in first.spacing],
        "AffineLPS": first.affine.round(6).tolist(),
        "Stacks": list(numbers),
        "ConversionSoftware": "dicom2cache",
    }


def item_of(cache: Conversions, stacks: Stacks, piece: Piece, options: Options) -> Item:
    """One file of NIfTI or npy."""
    parts = list(piece.parts)
    file = piece.name + (".npy" if options.to == "npy" else ".nii.gz")
    numbers = tuple(int(stacks.number[k]) for k in parts)

    def make() -> Made:
        images = [taken(cache, stacks, k, options) for k in parts]
        voxels, first = [image.voxels for image in images], images[0]
        about = sidecar.words(stacks, parts) | placed_words(images, numbers)
        if options.to == "npy":
            array = np.stack(voxels) if len(voxels) > 1 else voxels[0]
            return Made(about, {file: lambda f: np.save(f, array, allow_pickle=False)})
        step = sidecar.time_step(stacks, parts) if len(parts) > 1 else None
        image = convert.nifti(voxels, first.affine, first.name, step)
        texts = sidecar.fsl(stacks, parts, first.affine) if len(parts) > 1 else {}
        files = {piece.name + suffix: as_text(text) for suffix, text in texts.items()}
        return Made(about, {**files, file: as_nifti(image, file)})

    return Item(numbers, file, file, piece.name + ".json", digest(stacks, parts, options), make)
