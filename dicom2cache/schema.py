"""The catalogue of columns: what each table has, in order."""

from __future__ import annotations

import pyarrow as pa

WINDOW = pa.struct(
    [
        ("center", pa.float64()),
        ("width", pa.float64()),
        ("function", pa.string()),
        ("explanation", pa.string()),
    ]
)
"""one VOI window, in units of the modality values"""

VECTOR3, VECTOR6 = pa.list_(pa.float64(), 3), pa.list_(pa.float64(), 6)

PER_FRAME = pa.struct(
    [
        ("slope", pa.float64()),
        ("intercept", pa.float64()),
        ("position", VECTOR3),
        ("orientation", VECTOR6),
        ("spacing_y", pa.float64()),
        ("spacing_x", pa.float64()),
        ("thickness", pa.float64()),
        ("stack_name", pa.string()),
        ("temporal_index", pa.int32()),
        ("echo_time", pa.float64()),
        ("b_value", pa.float64()),
        ("acquisition", pa.int32()),
        ("trigger_time", pa.float64()),
        ("image_type", pa.string()),
        ("gradient", VECTOR3),
        ("in_stack", pa.int32()),
        ("segment", pa.int32()),
        ("segment_label", pa.string()),
        ("referenced_sop_uid", pa.string()),
        ("referenced_frame", pa.int32()),
        ("windows", pa.list_(WINDOW)),
    ]
)
"""what a multi-frame file says of one frame; null where the file's own value holds"""

PER_FRAME_FIELDS = tuple(field.name for field in PER_FRAME)

FILES = pa.schema(
    [
        ("root", pa.int16()),
        ("path", pa.string()),
        ("size", pa.int64()),  # bytes
        ("mtime_ns", pa.int64()),
        # where and how the pixels lie
        ("transfer_syntax", pa.string()),
        ("pixel_keyword", pa.string()),  # PixelData, FloatPixelData or DoubleFloatPixelData
        ("pixel_vr", pa.string()),
        ("pixel_offset", pa.int64()),  # of the value in the file; null: only through a parser
        ("pixel_length", pa.int64()),  # bytes; null: undefined length (encapsulated)
        ("frames", pa.int32()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("samples", pa.int16()),
        ("planar", pa.int8()),
        ("bits_allocated", pa.int16()),
        ("bits_stored", pa.int16()),
        ("high_bit", pa.int16()),
        ("overlay_bits", pa.int32()),  # mask of the stored bits that overlays are declared in
        ("signed", pa.bool_()),
        ("photometric", pa.string()),
        ("palette_bits", pa.int8()),  # 8 or 16: bits of an RGB sample; null: no palette
        ("lut_low", pa.float64()),  # least and greatest output of the modality LUT; null: none
        ("lut_high", pa.float64()),
        # what the values mean
        ("slope", pa.float64()),
        ("intercept", pa.float64()),
        ("unit", pa.string()),
        ("inverted", pa.bool_()),  # the file's own display turns larger into darker
        ("padding_value", pa.float64()),  # stored value, as declared
        ("padding_limit", pa.float64()),
        ("windows", pa.list_(WINDOW)),
        ("voi_lut", pa.bool_()),  # there is a VOI LUT sequence
        ("voi", pa.bool_()),  # there is a window or a VOI LUT, for the file or its frames
        ("suv_factor", pa.float64()),  # SUV by body weight = factor * value
        ("suv_refusal", pa.string()),  # why there is no factor; null: not PET, or there is one
        ("dose_type", pa.string()),
        ("rule", pa.int16()),  # place in the recipe's treatments
        ("flags", pa.list_(pa.string())),
        # who and what
        ("kind", pa.string()),
        ("study_uid", pa.string()),
        ("series_uid", pa.string()),
        ("sop_uid", pa.string()),
        ("frame_of_reference_uid", pa.string()),
        ("sop_class_uid", pa.string()),
        ("patient", pa.string()),  # keyed hashes: the plain text never leaves headers/
        ("accession", pa.string()),
        ("sex", pa.string()),
        ("age", pa.float32()),  # years
        ("modality", pa.string()),
        ("manufacturer", pa.string()),
        ("model", pa.string()),
        ("body_part", pa.string()),
        ("laterality", pa.string()),
        ("view_position", pa.string()),
        ("image_type", pa.string()),
        ("presentation_intent", pa.string()),
        ("kvp", pa.float64()),
        ("kernel", pa.string()),
        ("thickness", pa.float64()),
        ("echo_time", pa.float64()),
        ("repetition_time", pa.float64()),
        ("b_value", pa.float64()),
        ("temporal_index", pa.int32()),
        ("trigger_time", pa.float64()),
        ("acquisition", pa.int32()),
        ("instance", pa.int32()),
        ("contrast", pa.bool_()),
        ("lossy", pa.bool_()),
        ("burned_in", pa.bool_()),
        ("spacing_y", pa.float64()),
        ("spacing_x", pa.float64()),
        ("spacing_tag", pa.string()),
        ("position", VECTOR3),
        ("orientation", VECTOR6),
        ("gradient", VECTOR3),  # diffusion gradient direction
        ("in_stack", pa.int32()),
        ("segment", pa.int32()),
        ("segment_label", pa.string()),
        ("referenced_sop_uid", pa.string()),
        ("referenced_frame", pa.int32()),  # from 0
        ("stack_name", pa.string()),
        ("per_frame", pa.list_(PER_FRAME)),
    ]
)
FILE_COLUMNS = tuple(
    name
    for name in FILES.names
    if not pa.types.is_nested(FILES.field(name).type)
    and name not in {"voi_lut", "pixel_offset", "overlay_bits", "suv_factor", "suv_refusal", "rule"}
)
"""what a `where` may name"""

FRAMES = pa.schema(
    [
        ("file", pa.int32()),  # row of the plan's file table
        ("frame", pa.int32()),  # from 0
        ("array", pa.int16()),
        ("row", pa.int64()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("scale_y", pa.float64()),  # stored pixels per source pixel; null: as it is
        ("scale_x", pa.float64()),
        ("offset_y", pa.float64()),  # stored pixels before the source's first
        ("offset_x", pa.float64()),
        ("slope", pa.float64()),
        ("intercept", pa.float64()),
        ("spacing_y", pa.float64()),
        ("spacing_x", pa.float64()),
        ("thickness", pa.float64()),
        ("temporal_index", pa.int32()),
        ("echo_time", pa.float64()),
        ("b_value", pa.float64()),
        ("acquisition", pa.int32()),
        ("image_type", pa.string()),
        ("position", VECTOR3),
        ("orientation", VECTOR6),
        ("segment", pa.int32()),
        ("segment_label", pa.string()),
        ("referenced_sop_uid", pa.string()),
        ("referenced_frame", pa.int32()),
        ("windows", pa.list_(WINDOW)),  # null: the file's
        ("stack", pa.int64()),
        ("stack_index", pa.int32()),
        ("stack_regular", pa.bool_()),
    ]
)

REJECTS = pa.schema(
    [
        ("root", pa.int16()),
        ("path", pa.string()),
        ("frame", pa.int32()),  # null: the whole file
        ("outcome", pa.string()),
        ("stage", pa.string()),
        ("reason", pa.string()),
    ]
)
"""the rows of failures/"""


FRAMES_TABLE = pa.schema(
    [
        ("array", pa.int16()),
        ("row", pa.int64()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("source_height", pa.int32()),
        ("source_width", pa.int32()),
        ("scale_y", pa.float64()),
        ("scale_x", pa.float64()),
        ("offset_y", pa.float64()),
        ("offset_x", pa.float64()),
        ("kind", pa.string()),
        ("root", pa.int16()),
        ("path", pa.string()),
        ("frame", pa.int32()),
        ("study_uid", pa.string()),
        ("series_uid", pa.string()),
        ("sop_uid", pa.string()),
        ("frame_of_reference_uid", pa.string()),
        ("sop_class_uid", pa.string()),
        ("patient", pa.string()),
        ("accession", pa.string()),
        ("sex", pa.string()),
        ("age", pa.float32()),
        ("modality", pa.string()),
        ("manufacturer", pa.string()),
        ("model", pa.string()),
        ("body_part", pa.string()),
        ("laterality", pa.string()),
        ("view_position", pa.string()),
        ("image_type", pa.string()),
        ("presentation_intent", pa.string()),
        ("kvp", pa.float64()),
        ("kernel", pa.string()),
        ("thickness", pa.float64()),
        ("echo_time", pa.float64()),
        ("repetition_time", pa.float64()),
        ("b_value", pa.float64()),
        ("temporal_index", pa.int32()),
        ("acquisition", pa.int32()),
        ("instance", pa.int32()),
        ("dose_type", pa.string()),
        ("segment", pa.int32()),
        ("segment_label", pa.string()),
        ("referenced_sop_uid", pa.string()),
        ("referenced_frame", pa.int32()),
        ("contrast", pa.bool_()),
        ("photometric", pa.string()),
        ("bits_stored", pa.int16()),
        ("full_scale", pa.float64()),
        ("transfer_syntax", pa.string()),
        ("codec", pa.string()),
        ("unit", pa.string()),
        ("slope", pa.float64()),
        ("intercept", pa.float64()),
        ("windows", pa.list_(WINDOW)),
        ("window_low", pa.float64()),
        ("window_high", pa.float64()),
        ("rule", pa.int16()),
        ("polarity", pa.string()),
        ("padding_value", pa.float64()),
        ("padding_limit", pa.float64()),
        ("padding_fraction", pa.float32()),
        ("lossy", pa.bool_()),
        ("burned_in", pa.bool_()),
        ("spacing_y", pa.float64()),
        ("spacing_x", pa.float64()),
        ("spacing_tag", pa.string()),
        ("position", VECTOR3),
        ("orientation", VECTOR6),
        ("stack", pa.int64()),
        ("stack_index", pa.int32()),
        ("stack_regular", pa.bool_()),
        ("min", pa.float64()),
        ("max", pa.float64()),
        ("mean", pa.float64()),
        ("std", pa.float64()),
        ("p0_5", pa.float64()),
        ("p1", pa.float64()),
        ("p50", pa.float64()),
        ("p99", pa.float64()),
        ("p99_5", pa.float64()),
        ("crc32c", pa.uint32()),
        ("flags", pa.list_(pa.string())),
    ]
)

SHARDS_TABLE = pa.schema(
    [
        ("array", pa.int16()),
        ("shard", pa.int32()),
        ("bytes", pa.int64()),
        ("index_crc32c", pa.uint32()),
        ("frames", pa.int32()),
        ("slots", pa.int32()),
    ]
)


RESULTS = pa.schema(
    [
        ("reason", pa.string()),  # null: stored
        ("codec", pa.string()),
        ("crc32c", pa.uint32()),
        ("padding_fraction", pa.float32()),
        ("window_low", pa.float64()),
        ("window_high", pa.float64()),
        *((name, pa.float64()) for name in ("min", "max", "mean", "std")),
        *((name, pa.float64()) for name in ("p0_5", "p1", "p50", "p99", "p99_5")),
        ("flags", pa.list_(pa.string())),
    ]
)
"""one row for each slot of a shard, in order"""
