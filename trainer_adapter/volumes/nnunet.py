"""A raw data set of nnU-Net v2: images, label maps of the masks drawn on them, dataset.json.

A case is one stack of images; its label map lies on the same grid. Cases without a mask go to
imagesTs. nnU-Net's documentation/dataset_format.md.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from trainer_adapter.errors import VolumeError, counting
from trainer_adapter.reading.masks.between import between
from trainer_adapter.reading.masks.joined import joined
from trainer_adapter.reading.masks.named import segments
from trainer_adapter.volumes import convert, sidecar
from trainer_adapter.volumes.files import as_nifti
from trainer_adapter.volumes.image import SpatialImage
from trainer_adapter.volumes.items import Item, Made, Options, digest, placed_words, taken
from trainer_adapter.volumes.methods import Conversions
from trainer_adapter.volumes.pieces import Piece
from trainer_adapter.volumes.placed import is_mask, said
from trainer_adapter.volumes.stacks import Stacks

TOLD = "dataset.json"
_END = ".nii.gz"
Spare = list[tuple[int, str]]
"""(stack, why it is not in the data set)"""


def items_of(
    cache: Conversions, stacks: Stacks, pieces: Sequence[Piece], options: Options
) -> tuple[list[Item], dict[str, Any], Spare]:
    """(cases, what `told` tells, stacks that are left out).

    Raises ValueError for images of several modalities: a data set of nnU-Net has one for each
    channel, and which belong together nobody says.
    """
    every = [k for piece in pieces for k in piece.parts]
    images = [k for k in every if not is_mask(stacks, k)]
    masks = [k for k in every if is_mask(stacks, k)]
    modalities = Counter(said(stacks.core, "modality", stacks.first[images]))
    if len(modalities) > 1:
        shown = ", ".join(f"{m} ({counting(n, 'stack')})" for m, n in modalities.most_common())
        raise ValueError(
            f"nnU-Net wants images of one modality, here are {shown}; select one, and its masks, "
            'as by --where \'modality in ["CT", "SEG"]\''
        )
    drawn, spare = _drawn_on(stacks, images, masks)
    names = sorted({name for k in masks for _, name in _segments(stacks, k)})
    labels = {name: n for n, name in enumerate(names, 1)}
    items = [_case(cache, stacks, k, drawn[k], labels, options) for k in images]
    about = {
        "channel_names": {"0": next(iter(modalities), None) or "OT"},
        "labels": {"background": 0, **labels},
        "file_ending": _END,
    }
    return items, about, spare


def told(about: dict[str, Any], files: set[str]) -> str:
    """dataset.json, of the files that are there: nnU-Net counts the cases itself, too."""
    cases = sum(name.startswith("labelsTr/") for name in files)
    return json.dumps(about | {"numTraining": cases}, indent=1) + "\n"


def _drawn_on(
    stacks: Stacks, images: list[int], masks: list[int]
) -> tuple[dict[int, list[int]], Spare]:
    """The masks of each image: by the instance they refer to, else by a space with one image."""
    drawn: dict[int, list[int]] = defaultdict(list)
    spare: Spare = []
    if not masks or not images:
        return drawn, [(int(stacks.number[k]), "it refers to no image here") for k in masks]
    frames = np.concatenate([stacks.frames(k) for k in images])
    owner = np.repeat(images, [len(stacks.frames(k)) for k in images])
    instances = stacks.core.said("sop_uid", frames)
    spaces: dict[str | None, set[int]] = defaultdict(set)
    for k, uid in zip(images, said(stacks.core, "frame_of_reference_uid", stacks.first[images]),
                      strict=True):  # fmt: skip
        spaces[uid].add(k)
    for mask in masks:
        mine = stacks.frames(mask)
        referred = stacks.core.said("referenced_sop_uid", mine).cast(instances.type)
        at = pc.index_in(referred, value_set=instances, skip_nulls=True).drop_null().to_numpy()
        if len(at):
            drawn[int(Counter(owner[at].tolist()).most_common(1)[0][0])].append(mask)
            continue
        space = said(stacks.core, "frame_of_reference_uid", mine[:1])[0]
        there = spaces.get(space, set()) if space is not None else set()
        if len(there) == 1:
            drawn[next(iter(there))].append(mask)
            continue
        why = f"{len(there)} lie in its frame of reference" if there else "no image here"
        spare.append((int(stacks.number[mask]), f"it refers to no image here; {why}"))
    return drawn, spare


def _segments(stacks: Stacks, k: int) -> list[tuple[int, str]]:
    """(stored value, name) of what a mask shows; value 0 of one segment: all that is not 0."""
    frame = stacks.frames(k)[:1]
    (unit,), (label,), (number,), (listed,) = (
        said(stacks.core, c, frame) for c in ("unit", "segment_label", "segment", "segments")
    )
    listed = listed or []
    if unit == "labelmap":
        return [(s["number"], _name(s["label"], s["type"], s["number"])) for s in listed
                if s["number"]]  # fmt: skip
    return [(0, _name(label, listed[0]["type"] if listed else None, number))]


def _name(label: str | None, kind: str | None, number: int | None) -> str:
    """Of a segment in dataset.json, where "background" is the name of 0."""
    name = label or kind or f"segment {number}"
    return f"{name} (segment)" if name == "background" else name


def _case(
    cache: Conversions, stacks: Stacks, k: int, masks: list[int], labels: dict[str, int],
    options: Options,
) -> Item:  # fmt: skip
    numbers = tuple(int(stacks.number[j]) for j in (k, *masks))
    case = f"stack_{numbers[0]:06}"
    image_file = f"images{'Tr' if masks else 'Ts'}/{case}_0000{_END}"
    label_file = f"labelsTr/{case}{_END}"

    drawn = [(_segments(stacks, j), said(stacks.core, "full_scale", stacks.first[j : j + 1]))
             for j in masks]  # fmt: skip

    def make() -> Made:
        image = taken(cache, stacks, k, options)
        about = sidecar.words(stacks, [k]) | placed_words([image], numbers)
        writes = {image_file: as_nifti(convert.nifti([image.voxels], image.affine, image.name),
                                       image_file)}  # fmt: skip
        if masks:
            _hold_known(stacks, k)
            found, overlapping = _labelled(cache, stacks, image, masks, labels)
            shown = convert.nifti([found], image.affine, image.name)
            writes[label_file] = as_nifti(shown, label_file)
            about["OverlappingVoxels"] = overlapping
        return Made(about, writes)

    return Item(
        numbers, label_file if masks else image_file, image_file, f"sidecars/{case}.json",
        digest(stacks, [k, *masks], options, [labels, drawn]), make,
    )  # fmt: skip


def _hold_known(stacks: Stacks, k: int) -> None:
    """Raises VolumeError if nobody knows what masks draw on some slices: a label map has no word
    for it."""
    core, frames = stacks.core, np.sort(stacks.frames(k))
    pairs = joined(core)
    every = np.ones(len(segments(core).names), bool)
    near, _ = between(core, frames, np.arange(len(pairs.masks)), every)
    if lost := len(np.unique(near)):
        raise VolumeError(
            f"{lost} of its {counting(len(frames), 'slice lies', 'slices lie')} between planes of "
            "a mask that are farther apart than the slices, and nobody knows what is on them; "
            'build the cache with mask_grid = "image" (of contours that does not help), or leave '
            "this stack out"
        )


def _labelled(
    cache: Conversions, stacks: Stacks, image: SpatialImage, masks: list[int],
    labels: dict[str, int],
) -> tuple[NDArray[Any], int]:  # fmt: skip
    """(label map on the image's grid, voxels that several segments claim: the last has them)."""
    dtype = np.uint8 if len(labels) < 256 else np.uint16
    found, overlapping = np.zeros(image.voxels.shape[:3], dtype), 0
    for k in masks:
        (full,), (unit,) = (said(stacks.core, c, stacks.first[k : k + 1])
                            for c in ("full_scale", "unit"))  # fmt: skip
        drawn = cache.resample(
            int(stacks.number[k]), like=image, gaps=True, across_spaces=True,
            interpolation="linear" if unit == "fractional" else None,
        ).voxels  # fmt: skip
        for value, name in _segments(stacks, k):
            if value:
                inside = drawn == value
            else:
                inside = drawn >= full / 2 if unit == "fractional" and full else drawn != 0
            overlapping += int(np.count_nonzero(found[inside]))
            found[inside] = labels[name]
    return found, overlapping
