"""The user's own columns of frames/: from texts of the plan's files to typed values, columnar."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dicom2cache.recipes.columns import REALS, WHOLES, Own
from dicom2cache.schema import FRAMES_TABLE


def type_of(one: Own) -> pa.DataType:
    """float64, int64 or text; a list where the element may have several numbers."""
    kind = pa.float64() if one.vr in REALS else pa.int64() if one.vr in WHOLES else pa.string()
    return pa.list_(kind) if one.many and kind != pa.string() else kind


def schema_with(own: Sequence[Own]) -> pa.Schema:
    """That of frames/ with the user's columns, which come last."""
    schema = FRAMES_TABLE
    for one in own:
        about = {"tag": f"{one.tag:08x}", "creator": one.creator, "vr": one.vr}
        schema = schema.append(pa.field(one.name, type_of(one), metadata=about))
    return schema


def own_columns(files: pa.Table, own: Sequence[Own]) -> pa.Table:
    """A column for each of `own`, of the plan's files."""
    rows = files["own"].combine_chunks()
    columns = {}
    offsets = rows.offsets.to_numpy()
    known = rows.is_valid().to_numpy(zero_copy_only=False)
    for k, one in enumerate(own):
        place = pa.array(offsets[:-1] + k, mask=~known)
        texts = rows.values.take(place)
        kind = type_of(one)
        if pa.types.is_list(kind):
            columns[one.name] = texts.cast(kind)
        else:
            length = pc.list_value_length(texts).fill_null(0).to_numpy()
            flat = texts.flatten()
            at = np.cumsum(length) - length
            taken = flat.take(pa.array(at, mask=length == 0))
            columns[one.name] = taken.cast(kind)
    return pa.table(columns)
