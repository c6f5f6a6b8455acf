"""Types of the columns that this package computes with: another one is refused by name.

A whole number may be of another width, as long as its values fit, and text may be large.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from trainer_adapter.errors import DamagedError
from trainer_adapter.format.files import REMEDY

_WINDOW = [("center", pa.float64()), ("width", pa.float64()), ("function", pa.string())]
_SEGMENT = [("number", pa.int32()), ("label", pa.string()), ("type", pa.string())]
_DRAWN = [("value", pa.int32())]
_CHANNEL = [("label", pa.string()), ("source", pa.string()), ("unit", pa.string())]
_MEMBERS = {"windows": _WINDOW, "segments": _SEGMENT, "drawn": _DRAWN, "channels": _CHANNEL}
"""members that lists of structs have; later versions may add some"""
_TYPES = {
    **dict.fromkeys(("array", "root", "part_of_frame", "same_root", "bits_stored"), pa.int16()),
    **dict.fromkeys(("image_frame", "referenced_frame", "segment"), pa.int32()),
    **dict.fromkeys(("sop_uid", "frame_of_reference_uid", "image_sop_uid"), pa.string()),
    **dict.fromkeys(("referenced_sop_uid", "segment_label"), pa.string()),
    **dict.fromkeys(("height", "width", "source_height", "source_width", "frame"), pa.int32()),
    **dict.fromkeys(("stack_index", "matrix_row", "shard", "frames", "slots", "part"), pa.int32()),
    **dict.fromkeys(("temporal_index", "acquisition"), pa.int32()),
    **dict.fromkeys(("row", "stack", "stack_of", "bytes"), pa.int64()),
    **dict.fromkeys(("crc32c", "index_crc32c"), pa.uint32()),
    **dict.fromkeys(("scale_y", "scale_x", "offset_y", "offset_x"), pa.float64()),
    **dict.fromkeys(("slope", "intercept", "spacing_y", "spacing_x", "tilt"), pa.float64()),
    **dict.fromkeys(("padding_value", "padding_limit", "full_scale", "mask_reach"), pa.float64()),
    **dict.fromkeys(("mean", "std", "p0_5", "p99_5"), pa.float64()),
    **dict.fromkeys(("time", "trigger_time", "phase", "echo_time", "b_value"), pa.float64()),
    **dict.fromkeys(("flip_angle", "inversion_time", "sampling_rate"), pa.float64()),
    **dict.fromkeys(("kind", "unit", "modality", "polarity", "patient", "path"), pa.string()),
    **dict.fromkeys(("same_path", "outcome", "stage", "reason"), pa.string()),
    **dict.fromkeys(("study_uid", "series_uid", "asl_label"), pa.string()),
    "image_part": pa.int16(),
    "points": pa.list_(pa.float64()),
    "mask_counts": pa.list_(pa.int64()),
    "mask_reaches": pa.list_(pa.float64()),
    "segments": pa.list_(pa.struct(_SEGMENT)),
    "drawn": pa.list_(pa.struct(_DRAWN)),
    "padding_fraction": pa.float32(),
    "stack_regular": pa.bool_(),
    "stack_flags": pa.list_(pa.string()),
    "position": pa.list_(pa.float64(), 3),
    "gradient": pa.list_(pa.float64(), 3),
    "orientation": pa.list_(pa.float64(), 6),
}


def type_of(name: str) -> pa.DataType:
    """The type of a column that this package computes with."""
    return _TYPES[name]


NEVER_NULL = {
    "frames": (
        "array", "row", "height", "width", "kind", "root", "path", "frame", "stack", "stack_index",
        "crc32c",
    ),
    "failures": ("root", "path", "outcome"),
    "shards": ("array", "shard", "bytes", "index_crc32c", "frames", "slots"),
    "contours": ("root", "path", "structure"),
}  # fmt: skip
"""columns that every cache has, for every row"""


def fitting(table: pa.Table, kind: str, where: Path) -> pa.Table:
    """The table with those columns in the types of FORMAT.md. Raises DamagedError, naming one."""
    for k, name in enumerate(table.column_names):
        column, wanted = table[k], _TYPES.get(name)
        if name in NEVER_NULL[kind] and column.null_count:
            raise _damaged(where, f"column {name} must not be null")
        if name in _MEMBERS:
            _hold_members(column.type, name, where)
            continue
        if wanted is None or column.type.equals(wanted):
            continue
        if not _alike(column.type, wanted):
            raise _damaged(where, f"column {name} is {column.type}, {wanted} expected")
        try:
            table = table.set_column(k, name, column.cast(wanted))
        except pa.ArrowException as e:
            raise _damaged(where, f"column {name} is no {wanted}: {e}") from e
    return table


def _alike(kind: pa.DataType, wanted: pa.DataType) -> bool:
    if pa.types.is_integer(wanted):
        return bool(pa.types.is_integer(kind))
    if pa.types.is_floating(wanted):
        return bool(pa.types.is_floating(kind))
    if pa.types.is_string(wanted):
        return bool(pa.types.is_large_string(kind))
    if pa.types.is_list(wanted) and pa.types.is_list(kind):
        return bool(kind.value_type.equals(wanted.value_type))
    if pa.types.is_fixed_size_list(wanted) and pa.types.is_fixed_size_list(kind):
        return bool(kind.list_size == wanted.list_size and kind.value_type.equals(pa.float64()))
    return False


def _hold_members(kind: pa.DataType, name: str, where: Path) -> None:
    inner = kind.value_type if pa.types.is_list(kind) else None
    members = {f.name: f.type for f in inner} if inner and pa.types.is_struct(inner) else {}
    if any(members.get(member) != wanted for member, wanted in _MEMBERS[name]):
        raise _damaged(where, f"column {name} is {kind}")


def _damaged(where: Path, what: str) -> DamagedError:
    return DamagedError(f"{where}: {what}; {REMEDY}")
