"""Images of a cache that masks are added to, as their own files said them; pure and columnar."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from dicom2cache.arrow import floats, vector_column, vectors
from dicom2cache.pixels.resize import Placement
from dicom2cache.schema import FRAMES_TABLE

PLACEMENT = tuple(Placement.__annotations__)
"""height, width, scale and offset of the stored frame"""
COLUMNS = (
    "sop_uid", "frame", "part_of_frame", "kind", "patient", "frame_of_reference_uid", "study_uid",
    "series_uid", "position", "orientation", "spacing_y", "spacing_x", "source_height",
    "source_width", "thickness", "matrix_row", "matrix_column", "z_offset", "temporal_index",
    "acquisition", "time", "trigger_time", "echo_time", "b_value", "gradient", *PLACEMENT,
)  # fmt: skip
"""of frames/ that a plan wants of images"""
NONE = pa.schema([FRAMES_TABLE.field(name) for name in COLUMNS]).empty_table()
"""no image"""


def as_in_files(rows: pa.Table) -> pa.Table:
    """COLUMNS of rows of frames/, places and spacings those of the source, before any resizing."""
    rows = pa.table(
        {n: rows[n] if n in rows.column_names else pa.nulls(rows.num_rows) for n in COLUMNS}
    ).cast(NONE.schema)
    scale = [np.nan_to_num(floats(rows[f"scale_{a}"]), nan=1.0) for a in "yx"]
    offset = [np.nan_to_num(floats(rows[f"offset_{a}"])) for a in "yx"]
    spacing = [floats(rows[f"spacing_{a}"]) * s for a, s in zip("yx", scale, strict=True)]
    cosines, position = vectors(rows["orientation"], 6), vectors(rows["position"], 3)
    moved = np.any([(s != 1) | (o != 0) for s, o in zip(scale, offset, strict=True)], axis=0)
    down, right = (
        ((0.5 - o) / s - 0.5) * mm for o, s, mm in zip(offset, scale, spacing, strict=True)
    )
    first = position - right[:, None] * cosines[:, :3] - down[:, None] * cosines[:, 3:]
    found: dict[str, Any] = {name: rows[name] for name in COLUMNS}
    found["position"] = vector_column(np.where(moved[:, None], first, position))
    for axis, mm in zip("yx", spacing, strict=True):
        found[f"spacing_{axis}"] = pa.array(mm, from_pandas=True)
    return pa.table(found).cast(NONE.schema)
