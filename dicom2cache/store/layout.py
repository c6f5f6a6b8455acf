"""Paths and metadata of the cache, pure. FORMAT.md is the contract."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from dicom2cache.records import ArraySpec
from dicom2cache.store.compression import zarr_codecs

FORMAT_VERSION = 1
MISSING = (1 << 64) - 1
ROOT = "zarr.json"
SPARE = ".spare"
"""folder of the second copies of root, tables and the arrays' metadata"""
_LENGTH = re.compile(rb'("shape"\s*:\s*\[\s*)(\d+)')


def shard_path(spec: ArraySpec, shard: int) -> str:
    """Path of a shard below the cache."""
    return f"{spec.name}/c.{shard}" + ".0" * len(spec.slot)


def spare_path(path: str) -> str:
    """Where the second copy of a file of the cache is, such as .spare/frames.0.parquet.

    No copy is called zarr.json: else readers of Zarr would take the folder for a group.
    """
    return f"{SPARE}/{'root.json' if path == ROOT else path.replace('/', '.')}"


TIMES = f"{SPARE}/times.json"
"""digest of the modification times of the sources: all else in a cache is the same for the same
bytes, whenever they were written"""


SEEN = f"{SPARE}/seen.bin"
"""digests of size and modification time of each source: by them an update knows what has changed"""


NUMBERINGS = "numberings"
"""folder of the roots of earlier numberings"""


def numbering_path(numbering: int) -> str:
    """Where the root is kept that an earlier numbering ended with, until it is purged."""
    return f"{NUMBERINGS}/{numbering}.json"


def spare_paths(attributes: dict[str, Any]) -> set[str]:
    """All that is in .spare/ of a cache with these attributes of its root, by path."""
    entries = [e for tables in attributes["tables"].values() for e in tables]
    entries += [about["metadata"] for about in attributes["arrays"]]
    return {TIMES, SEEN, spare_path(ROOT), *(spare_path(entry["path"]) for entry in entries)}


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
    return lengthened(metadata, slots)


def lengthened(metadata: bytes, slots: int) -> bytes:
    """An array's zarr.json with another number of `slots`, all other bytes as they are."""
    found = _LENGTH.search(metadata)
    if found is None:
        raise ValueError("no shape")
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
