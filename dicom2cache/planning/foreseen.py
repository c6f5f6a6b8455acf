"""What of a recipe a plan shows to be in vain, or hardly meant, in sentences; pure."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dicom2cache.arrow import ints, mask_of
from dicom2cache.pixels.window import PRESETS
from dicom2cache.recipes.recipe import Recipe

_IN_HU = ("CT",)
"""modalities whose values presets are for"""


def foreseen(files: pa.Table, recipe: Recipe, is_update: bool = False) -> Iterator[str]:
    """Sentences about rules that decide for no file, and presets for what is not in HU.

    `files` are those of a plan. Of an update nothing is said of rules: it sees a few files only.
    """
    rule = ints(files["rule"], 0)
    count = np.bincount(rule, minlength=len(recipe.treatments))
    for number, one in enumerate(() if is_update else recipe.rules, 1):
        if not count[number]:
            yield f"rule {number} ({one.where}) decides for no file"
    graded = mask_of(pc.equal(files["unit"], "window"))
    ct = mask_of(pc.is_in(files["modality"], value_set=pa.array(_IN_HU)))
    for number, treatment in enumerate(recipe.treatments):
        presets = [name for name in treatment.window if name in PRESETS]
        mine = graded & (rule == number) & ~ct
        if treatment.intensity != "window" or not presets or not mine.any():
            continue
        names = files["modality"].filter(pa.array(mine)).cast(pa.string()).fill_null("unknown")
        found = {row["values"]: row["counts"] for row in names.value_counts().to_pylist()}
        said = ", ".join(f"{found[name]} of {name}" for name in sorted(found))
        yield (
            f"window {', '.join(presets)} is in HU, and is applied to files whose values are none: "
            f"{said}; give them a rule of their own"
        )
