"""The segments that rows of masks list, pure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from dicom2cache.recipes.rois import Rois, class_of
from dicom2cache.records import Drawn, Segment
from dicom2cache.schema import FRAMES_TABLE


def segments_shown(files: pa.Table, frames: pa.Table, rois: Rois) -> Any:
    """Of a mask the segments that a row of the plan shows: its own, or all that its values are."""
    kind = FRAMES_TABLE.field("segments").type
    if files["segments"].null_count == files.num_rows:
        return pa.nulls(frames.num_rows, kind)
    known = {
        int(file): files["segments"][int(file)].as_py()
        for file in np.flatnonzero(files["segments"].is_valid().to_numpy(zero_copy_only=False))
    }
    lists: list[Any] = [None]
    place: dict[Any, int] = {}
    taken = []
    columns = (frames[c].to_pylist() for c in ("file", "segment", "unit", "drawn"))
    for file, segment, unit, drawn in zip(*columns, strict=True):
        if file not in known:
            taken.append(0)
            continue
        values = None if drawn is None else tuple((d["number"], d["value"]) for d in drawn)
        key = file, segment, unit, values
        if key not in place:
            shown = _shown(known[file], segment, unit, drawn, rois)
            place[key] = len(lists) if shown else 0
            lists += [shown] if shown else []
        taken.append(place[key])
    return pa.array(lists, kind).take(pa.array(taken, pa.int64()))


def _shown(
    listed: list[Segment], segment: int | None, unit: str | None, drawn: list[Drawn] | None,
    rois: Rois,
) -> list[Segment]:  # fmt: skip
    if unit != "labelmap":
        return [_classed(s, rois) for s in listed if s["number"] == segment][:1]
    if drawn is None:
        return listed
    if any(one["value"] is None for one in drawn):  # numbers as they are
        return [s for s in listed if s["number"] != 0]
    values = sorted({one["value"] or 0 for one in drawn})
    return [_of_value(listed, value, rois) for value in values]


def _classed(segment: Segment, rois: Rois) -> Segment:
    number = class_of(segment["label"], rois)
    if not number:
        return segment
    return {**segment, "number": number, "label": rois[number - 1][0]}


def _of_value(listed: list[Segment], value: int, rois: Rois) -> Segment:
    """The first segment that is drawn as a value."""
    none: Segment = {
        "number": value, "label": None, "category": None, "type": None, "type_meaning": None
    }  # fmt: skip
    if not rois:
        return next((s for s in listed if s["number"] == value), none)
    return next((_classed(s, rois) for s in listed if class_of(s["label"], rois) == value), none)
