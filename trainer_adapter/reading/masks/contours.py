"""Contours of structure sets, as a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trainer_adapter.reading.opened import Core

_NONE = pa.schema(
    {
        "root": pa.int16(), "path": pa.string(), "structure": pa.int32(), "name": pa.string(),
        "type": pa.string(), "algorithm": pa.string(), "colour": pa.list_(pa.int16(), 3),
        "contour": pa.int32(), "geometry": pa.string(), "points": pa.list_(pa.float64()),
        "referenced_sop_uid": pa.string(), "referenced_frame": pa.int32(),
        "slab_thickness": pa.float64(), "slab_offset": pa.list_(pa.float64(), 3),
        "frame_of_reference_uid": pa.string(), "referenced_series_uid": pa.string(),
        "sop_uid": pa.string(), "patient": pa.string(), "study_uid": pa.string(),
        "series_uid": pa.string(), "flags": pa.list_(pa.string()),
    }.items()
)  # fmt: skip
"""what contours/ has (FORMAT.md)"""


def contours_of(core: Core, samples: NDArray[np.int64], columns: Sequence[str] | None) -> pa.Table:
    """Contours of the studies of these frames; of all frames all."""
    wanted = None if columns is None else list(columns)
    studies = None
    if len(samples) < len(core.places.row):
        studies = core.column("study_uid").take(samples).unique()
    more = [] if wanted is None or studies is None or "study_uid" in wanted else ["study_uid"]
    table = core.root.contours(None if wanted is None else [*wanted, *more])
    if table is None:
        table = _NONE.empty_table() if wanted is None else _NONE.empty_table().select(wanted)
    elif studies is not None:
        table = table.filter(pc.is_in(table["study_uid"], value_set=studies.cast(pa.string())))
    return table if wanted is None else table.select(wanted)
