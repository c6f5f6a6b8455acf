"""A row for each stack of a selection."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from trainer_adapter.volumes.geometry import Floats, spacings
from trainer_adapter.volumes.stacks import Stacks

_COLUMNS = (
    "patient", "study_uid", "series_uid", "modality", "kind", "unit", "stack_of", "part",
    "position", "orientation", "spacing_y", "spacing_x",
)  # fmt: skip


def table_of(stacks: Stacks) -> pa.Table:
    """What Cache.stacks gives."""
    stacks.core.ahead(_COLUMNS)
    core, first = stacks.core, stacks.first
    places, specs = core.places, core.root.arrays
    array = places.array[first].astype(np.int64)

    def said(name: str) -> pa.Array:
        return core.said(name, first)

    axes = np.array([2 + len(spec.slot[2:]) for spec in specs], np.int64)[array] + 1
    channels = np.array([(*spec.slot, 1)[2] for spec in specs], np.int64)[array]
    sizes = np.stack([stacks.count, places.height[first], places.width[first], channels], axis=1)
    shape = pa.ListArray.from_arrays(
        pa.array(np.append(0, np.cumsum(axes)), pa.int32()),
        pa.array(sizes[np.arange(4) < axes[:, None]]),
    )
    affine, (_, plane) = stacks.affine, stacks.plane
    spacing = np.column_stack([spacings(affine)[:, 0], plane])
    names = pa.array([spec.dtype.name for spec in specs], pa.string())
    return pa.table(
        {
            "stack": stacks.number,
            "patient": said("patient"),
            "study": said("study_uid"),
            "series": said("series_uid"),
            "modality": said("modality"),
            "kind": said("kind"),
            "unit": said("unit"),
            "shape": shape,
            "dtype": names.take(pa.array(array)),
            "spacing": _lists(spacing, np.zeros(len(first), bool)),
            "affine": _lists(affine.reshape(-1, 16), np.isnan(affine).any(axis=(1, 2))),
            "tilt": pa.array(stacks.tilt, from_pandas=True),
            "regular": stacks.regular,
            "flags": stacks.flags,
            "stack_of": said("stack_of"),
            "part": said("part"),
            "holes": stacks.holes,
        }
    )


def _lists(values: Floats, missing: Any) -> pa.Array:
    """Rows as fixed lists; NaN as null."""
    flat = pa.array(values.ravel(), from_pandas=True)
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1], mask=pa.array(missing))
