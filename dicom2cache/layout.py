"""Paths and metadata of the cache, pure. FORMAT.md is the contract."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import pyarrow as pa

from dicom2cache.compression import zarr_codecs
from dicom2cache.records import VECTOR3, VECTOR6, WINDOW, ArraySpec

FORMAT_VERSION = 1
MISSING = (1 << 64) - 1
ROOT = "zarr.json"

_LENGTH = re.compile(rb'("shape"\s*:\s*\[\s*)(\d+)')

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


def shard_path(spec: ArraySpec, shard: int) -> str:
    """Path of a shard below the cache."""
    return f"{spec.name}/c.{shard}" + ".0" * len(spec.slot)


def array_metadata(spec: ArraySpec) -> bytes:
    """The array's zarr.json (Zarr v3 core and sharding codec v1)."""
    little: dict[str, Any] = {"name": "bytes", "configuration": {"endian": "little"}}
    inner: dict[str, Any] = {"name": "bytes"} if spec.dtype == "uint8" else little
    names = ["frame", "y", "x", "channel"][: 1 + len(spec.slot)]
    return to_json(
        {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [spec.slots, *spec.slot],
            "data_type": spec.dtype,
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": [spec.frames_per_shard, *spec.slot]},
            },
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
            "fill_value": 0.0 if spec.dtype.startswith("float") else 0,
            "codecs": [
                {
                    "name": "sharding_indexed",
                    "configuration": {
                        "chunk_shape": [1, *spec.slot],
                        "codecs": [inner, *zarr_codecs(spec)],
                        "index_codecs": [little, {"name": "crc32c"}],
                        "index_location": "end",
                    },
                }
            ],
            "attributes": {},
            "dimension_names": names,
        }
    )


def shortened(metadata: bytes, slots: int) -> bytes:
    """An array's zarr.json as it was when the array had `slots`; shorter than that it stays.

    An array grows before the root that says so: the digest in a root is of what it was by then.
    """
    found = _LENGTH.search(metadata)
    if found is None or int(found[2]) < slots:
        return metadata
    return metadata[: found.start(2)] + str(slots).encode() + metadata[found.end(2) :]


def root_metadata(attributes: dict[str, Any], arrays: dict[str, bytes]) -> bytes:
    """The cache's zarr.json; adds the SHA-256 of the attributes to them.

    `arrays` has the zarr.json of each array: in the root too, as zarr-python's consolidated
    metadata, so that it lists the arrays without looking into frames/ or build/.
    """
    signed = {**attributes, "sha256": attributes_sha256(attributes)}
    consolidated = {
        "kind": "inline",
        "must_understand": False,
        "metadata": {name: json.loads(data) for name, data in arrays.items()},
    }
    return to_json(
        {
            "zarr_format": 3,
            "node_type": "group",
            "attributes": {"dicom2cache": signed},
            "consolidated_metadata": consolidated,
        }
    )


def attributes_sha256(attributes: dict[str, Any]) -> str:
    """SHA-256 (FIPS 180-4) of the attributes without their own digest, in canonical JSON."""
    plain = {k: v for k, v in attributes.items() if k != "sha256"}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def to_json(value: Any) -> bytes:
    """Indented JSON, keys as given."""
    return (json.dumps(value, indent=1, ensure_ascii=True, allow_nan=False) + "\n").encode()
