"""The labels of masks that a plan has, with the classes that they are drawn as, for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dicom2cache.arrow import ints, mask_of
from dicom2cache.cli.words import counting, one_line
from dicom2cache.recipes.rois import Rois, class_of

_SHOWN = 100  # most labels


def named(files: pa.Table, frames: pa.Table, rois: Rois) -> Iterator[str]:
    """A line for each label of a segment, that of most rows first: rows, files, and its class.

    Of a label map each label of a file counts with all rows of the file.
    """
    lists = files["segments"].combine_chunks()
    owner = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    flat = lists.flatten()
    if not len(flat):
        return
    number = ints(pc.struct_field(flat, "number"), -1)
    label = pc.struct_field(flat, "label").fill_null("").to_pylist()
    mine = frames.filter(pc.is_in(frames["file"], value_set=pa.array(np.unique(owner), pa.int32())))
    file, segment = ints(mine["file"], 0), ints(mine["segment"], -1)
    whole = np.bincount(file[segment < 0], minlength=files.num_rows)
    single = Counter(zip(file[segment >= 0].tolist(), segment[segment >= 0].tolist(), strict=True))
    in_files: Counter[str] = Counter()
    in_rows: Counter[str] = Counter()
    background = mask_of(pc.equal(files["unit"], "labelmap"))
    for f, n, text in zip(owner.tolist(), number.tolist(), label, strict=True):
        if n == 0 and background[f]:
            continue
        in_files[text] += 1
        in_rows[text] += single[f, n] + int(whole[f])
    yield f"segments: {counting(len(in_files), 'label')}"
    most = sorted(in_files, key=lambda text: (-in_rows[text], text))
    for text in most[:_SHOWN]:
        rows, count = in_rows[text], in_files[text]
        yield (
            f"  {one_line(text) or '(none)'}: {counting(rows, 'frame')} in "
            f"{counting(count, 'file')}{classed(text, rois)}"
        )
    if len(most) > _SHOWN:
        yield f"  and {len(most) - _SHOWN} more"


def classed(text: str, rois: Rois) -> str:
    """What the recipe's classes make of a label."""
    if not rois:
        return ""
    found = class_of(text, rois)
    return f": {one_line(rois[found - 1][0])} ({found})" if found else ": left out"
