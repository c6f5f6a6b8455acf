"""Data sets that LightlyTrain reads from disk: empty stubs for images, JSON for what masks hold."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from trainer_adapter.errors import counting
from trainer_adapter.lightly.masks import LabelMaps, class_of
from trainer_adapter.lightly.paths import write_stubs
from trainer_adapter.lightly.roots import Roots

TASKS = (
    "semantic_segmentation",
    "panoptic_segmentation",
    "instance_segmentation",
    "object_detection",
)
TEMPLATE = "/{image_path}"
"""of masks: the image's own path. LightlyTrain makes a template absolute before it fills it in"""
_NUMBERS = ".masks"
"""in a folder of stubs: the classes of masks that it was written for, JSON"""


def write_data(maps: LabelMaps, folder: str | os.PathLike[str], task: str) -> dict[str, str]:
    """One split of LightlyTrain's `data` for a task, below `folder`, of the images of `maps`.

    Warns of images of which nobody knows what is on them. Raises ValueError for an unknown task,
    for a selection without images, and for a folder with stubs of other frames.
    """
    if task not in TASKS:
        raise ValueError(f"task {task!r}; legal: {', '.join(TASKS)}")
    folder = Path(folder).absolute()
    if not len(maps.cache):
        raise ValueError(
            f"{folder}: no images are selected for it; of a split by few patients a side may be "
            "empty: give other fractions, a seed, or balance"
        )
    _say_unknown(maps, folder, task)
    files = write_stubs(maps.cache, folder, distinct=task == "panoptic_segmentation")
    _hold_stubs(folder, files)
    (folder / _NUMBERS).write_text(json.dumps(_said(maps)))
    if task == "semantic_segmentation":
        return {"images": str(folder), "masks": TEMPLATE}
    table = folder / "annotations.json"
    panoptic = task == "panoptic_segmentation"
    new = table.with_name(f".{table.name}.{os.getpid()}")
    with open(new, "w", encoding="utf-8") as file:
        (_panoptic if panoptic else _instances)(maps, files, file)
    os.replace(new, table)
    said = {"images": str(folder), "annotations": str(table)}
    return {**said, "masks": TEMPLATE} if panoptic else said


def _say_unknown(maps: LabelMaps, folder: Path, task: str) -> None:
    """Warn of images that are trained as background where nobody knows what is on them."""
    maps_only = task in ("semantic_segmentation", "panoptic_segmentation")
    images, painter = maps.cache.indices, maps.painter
    lost = int(np.count_nonzero(~painter.known(images)))
    if not lost or maps.asked.missing == "error" or (maps_only and maps.asked.missing == "ignore"):
        return
    between = int(np.count_nonzero(painter.is_between(images)))
    names = list(maps.numbers)
    ignore = ', or ignore what nobody knows, Masks(missing="ignore")' if maps_only else ""
    warnings.warn(
        f"{folder}: of {lost} of {counting(len(images), 'image')} nobody knows what is on them: "
        f"{between} lie between planes of a mask, or contours of a structure, that are farther "
        f"apart than the slices, {lost - between} are in stacks without a mask. What is not drawn "
        f"is background there; leave them out, data(images.select(images.annotated({names})), "
        f"...){ignore}",
        stacklevel=4,
    )


def _hold_stubs(folder: Path, files: list[str]) -> None:
    """Raises ValueError for stubs of an earlier call: these would be trained on too."""
    known, others = set(files), []
    for above, _, names in os.walk(folder):
        below = os.path.relpath(above, folder)
        paths = (os.path.normpath(os.path.join(below, name)) for name in names)
        others += [path for path in paths if path.endswith(".dcm") and path not in known]
    if others:
        raise ValueError(
            f"{folder}: has {len(others)} stubs of frames that are not asked for now, such as "
            f"{min(others)}, and LightlyTrain would train on them; remove the folder, or choose "
            "another"
        )


def _said(maps: LabelMaps) -> dict[str, Any]:
    return {"numbers": maps.numbers, "things": sorted(maps.things)}


def hold_classes(maps: LabelMaps, root: Roots) -> None:
    """Raises ValueError where a folder of stubs was written for other classes than are served:

    the numbers that training names would mean something else. Labels that came by an update move
    the numbers of those behind them.
    """
    several = [root] if isinstance(root, str | os.PathLike) else root
    folders = several.values() if isinstance(several, Mapping) else several or ()
    for folder in folders:
        try:
            said = json.loads((Path(folder) / _NUMBERS).read_text())
        except (OSError, ValueError):  # not written by `data`
            continue
        if said != _said(maps):
            raise ValueError(
                f"{folder}: written for masks {said['numbers']}, things {said['things']}, and "
                f"served are {maps.numbers}, {sorted(maps.things)}; give data() and serve() the "
                "same masks, by name, or write the folder anew"
            )


def _categories(maps: LabelMaps) -> list[dict[str, Any]]:
    return [
        {"id": k, "name": name, "isthing": int(k in maps.things)}
        for name, k in maps.numbers.items()
    ]


def _panoptic(maps: LabelMaps, files: list[str], out: TextIO) -> None:
    """COCO's panoptic JSON, as far as LightlyTrain reads it: a segment for each id of a mask."""
    rows = (
        {
            "image_id": i,
            "file_name": os.path.basename(files[i]),
            "segments_info": [
                {"id": k, "category_id": class_of(k), "iscrowd": 0, "area": area, "bbox": box}
                for k, area, box, _ in _found(maps, i)
            ],
        }
        for i in range(len(files))
    )
    _write(out, maps, files, rows)


def _instances(maps: LabelMaps, files: list[str], out: TextIO) -> None:
    """COCO's JSON of instances: boxes, and masks as uncompressed run lengths, which are exact."""
    numbers = count(1)
    rows = (
        {
            "id": next(numbers),
            "image_id": i,
            "category_id": class_of(k),
            "iscrowd": 0,
            "area": area,
            "bbox": box,
            "segmentation": {"size": list(mask.shape), "counts": run_lengths(mask)},
        }
        for i in range(len(files))
        for k, area, box, mask in _found(maps, i)
    )
    _write(out, maps, files, rows)


def _write(out: TextIO, maps: LabelMaps, files: list[str], rows: Iterator[dict[str, Any]]) -> None:
    """Row by row: all run lengths of an archive at once are more than memory holds."""
    shapes = zip(*(maps.cache.column(c).to_pylist() for c in ("height", "width")), strict=True)
    images = (
        {"id": i, "file_name": name, "height": height, "width": width}
        for i, (name, (height, width)) in enumerate(zip(files, shapes, strict=True))
    )
    out.write(f'{{"categories": {json.dumps(_categories(maps))},\n')
    for key, several, end in (("images", images, "],\n"), ("annotations", rows, "]}\n")):
        out.write(f'"{key}": [')
        for k, row in enumerate(several):
            out.write(",\n" * (k > 0) + json.dumps(row))
        out.write(end)


def _found(maps: LabelMaps, i: int) -> Iterator[tuple[int, int, list[int], NDArray[np.bool_]]]:
    """(id, pixels, [x, y, width, height], mask) of each segment of image `i`."""
    if not maps.drawn(i):
        return
    ids = maps.segments(i)
    for k in np.unique(ids).tolist():
        if k:
            mask = ids == k
            rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
            top, left = int(rows[0]), int(columns[0])
            box = [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]
            yield k, int(np.count_nonzero(mask)), box, mask


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """COCO's counts of a mask (H, W): of zeros, ones, zeros, ..., column by column."""
    flat = mask.ravel(order="F")
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts: list[int] = np.diff([0, *ends.tolist(), len(flat)]).tolist()
    return [0, *counts] if flat[0] else counts
