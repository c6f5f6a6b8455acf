"""The segments that mask files list, and the values that they are drawn with; pure and columnar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dicom2cache.arrow import Codes, combine, ints, mask_of
from dicom2cache.recipes.recipe import Recipe
from dicom2cache.recipes.rois import class_of

Rows = NDArray[np.int64]
BACKGROUND = 0
"""number of no segment (PS3.3 C.8.20.4): some files list it all the same"""


@dataclass(frozen=True)
class Segments:
    """k segments of mask files, in the order of files; and what n frames of masks show."""

    owner: Rows
    """row of its file"""
    number: Codes
    label: Any
    """(k,) texts"""
    value: Codes
    """number of its class, or its own; 0: it is left out"""
    shown: Codes
    """(n,) number of the segment that a frame shows; -1: not said, or the file is a label map"""
    drawn: Codes
    """(n,) value of that; -1: of a label map"""
    chosen: bool
    """by the recipe's rois"""

    @classmethod
    def of(
        cls,
        files: pa.Table,
        file: NDArray[np.int32],
        said: dict[str, Any],
        rows: Rows,
        recipe: Recipe,
    ) -> Segments:
        """Of the frames `rows` of a plan."""
        lists = files["segments"].combine_chunks()
        owner = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False).astype(np.int64)
        flat = lists.flatten()
        number = ints(pc.struct_field(flat, "number"), -1)
        label = pc.struct_field(flat, "label")
        value = np.where(number > BACKGROUND, number, 0)
        if recipe.rois:
            coded = label.dictionary_encode()
            texts = coded.dictionary.to_pylist()
            known = np.array([*(class_of(text, recipe.rois) for text in texts), 0], np.int64)
            value = np.where(number > BACKGROUND, known[ints(coded.indices, -1)], 0)
        shown = ints(said["segment"], -1)[rows]
        mine = file[rows].astype(np.int64)
        alone = np.bincount(owner, minlength=files.num_rows) == 1
        only = np.full(files.num_rows, -1, np.int64)
        only[owner] = number
        shown = np.where((shown < 0) & alone[mine], only[mine], shown)
        key = combine([np.r_[mine, owner], np.r_[shown, number]])
        own, there = key[: len(mine)], key[len(mine) :]
        order = np.argsort(there, kind="stable")
        at = np.minimum(np.searchsorted(there[order], own), max(0, len(there) - 1))
        drawn = np.where(shown > BACKGROUND, 0 if recipe.rois else shown, 0)
        if len(there):
            listed = there[order][at] == own
            drawn = np.where(listed, value[order][at], drawn)
        whole = mask_of(pc.equal(files["unit"], "labelmap"))[mine]
        return cls(
            owner,
            number,
            label,
            value,
            np.where(whole, -1, shown),
            np.where(whole, -1, drawn),
            bool(recipe.rois),
        )

    def taken(self, files: int) -> NDArray[np.bool_]:
        """(files,) True for those with a segment that is not left out."""
        return np.bincount(self.owner[self.value > 0], minlength=files) > 0
