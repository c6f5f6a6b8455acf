"""What LightlyTrain leaves out, without a word, of the files that it is given: refused before."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainer_adapter.errors import NotServedError, counting
from trainer_adapter.lightly.paths import Names

_REMEDY = (
    "write stubs, lightly.stubs(cache, FOLDER), which have such a suffix for each frame, name "
    "those, and give serve(cache, root=FOLDER)"
)


def hold_rows(args: Any, extensions: set[str], cache: str) -> None:
    """Look at the rows of a CSV of classes as LightlyTrain's ImageClassificationDatasetArgs does.

    Raises NotServedError for rows with a label that it would leave out: of files without a suffix
    that it knows, or that are not there.
    """
    table = Path(args.dir_or_file)
    try:
        with open(table, newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError:  # its own error
        return
    unknown, absent, labelled = [], [], 0
    for row in rows:
        name, label = (
            (row.get(column) or "").strip()
            for column in (args.csv_image_column, args.csv_label_column)
        )
        if not name or not label:
            continue
        labelled += 1
        if Path(name).suffix.lower() not in extensions:
            unknown.append(name)
        elif not (table.parent / name).is_file():
            absent.append(name)
    for lost, why in (
        (unknown, "have no suffix that LightlyTrain knows, such as .dcm"),
        (absent, "are not there"),
    ):
        if lost:
            raise NotServedError(
                f"{table}: the files of {len(lost)} of {counting(labelled, 'row')} {why}, and it "
                f"would train without them and not say so: {lost[0]}; {_REMEDY} ({cache})"
            )


def hold_folder(folder: str | os.PathLike[str], extensions: set[str], names: Names) -> None:
    """Raises NotServedError if a folder has files of the cache that LightlyTrain does not list."""
    for path in _without(folder, extensions):
        if names.holds(path):
            raise NotServedError(
                f"{path}: is in {names.called}, and has no suffix that LightlyTrain knows, such "
                f"as .dcm: of {os.fspath(folder)} it would train without this file and not say so; "
                "for pretraining give data=lightly.names(cache), for fine-tuning "
                f"{_REMEDY}"
            )


def hold_pairs(args: Any, many: int, cache: str) -> None:
    """Raises NotServedError if LightlyTrain has listed fewer pairs than the folder has images.

    `args`: its arguments of semantic or panoptic segmentation, `many`: the pairs that it has.
    """
    from lightly_train._data import file_helpers

    images = sum(1 for _ in file_helpers.list_image_filenames_from_dir(args.image_dir))
    if many < images:
        raise NotServedError(
            f"{args.image_dir}: {images - many} of {counting(images, 'image has', 'images have')} "
            f"no mask at {args.mask_dir_or_file}, and LightlyTrain would train without them and "
            f"not say so; give masks='/{{image_path}}', as lightly.data(cache, FOLDER) does "
            f"({cache})"
        )


def hold_list(data: Any, cache: str) -> None:
    """Raises NotServedError for masks of images that are not given as one folder."""
    if os.environ.get("LIGHTLY_TRAIN_MASK_DIR") and not isinstance(data, str | os.PathLike):
        raise NotServedError(
            "LIGHTLY_TRAIN_MASK_DIR is set, and LightlyTrain pretrains with masks from one folder "
            f"only, not from names: lightly.stubs(cache, FOLDER), data=FOLDER, that variable the "
            f"same FOLDER, serve(cache, root=FOLDER, masks=...) ({cache})"
        )


def _without(folder: str | os.PathLike[str], extensions: set[str]) -> Iterator[str]:
    for above, _, files in os.walk(folder, followlinks=True):
        for name in files:
            if os.path.splitext(name)[1].lower() not in extensions:
                yield os.path.join(above, name)
