"""What a committed cache says of itself: its arrays, and its tables of all generations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dicom2cache.errors import on_path
from dicom2cache.records import ArraySpec
from dicom2cache.store.layout import ROOT, attributes_sha256, spare_path
from dicom2cache.store.names import below, checked


def whole_root(cache: Path, spare: bool = False) -> dict[str, Any] | None:
    """The attributes in the root, or in its second copy; None unless they are as signed."""
    path = cache / (spare_path(ROOT) if spare else ROOT)
    with on_path(path):
        return attributes_of(path.read_bytes()) if path.is_file() else None


def attributes_of(root: bytes) -> dict[str, Any] | None:
    """The attributes in the bytes of a root; None unless they are as their SHA-256 says."""
    try:
        found = json.loads(root)["attributes"]["dicom2cache"]
        return found if attributes_sha256(found) == found["sha256"] else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def read_table(
    cache: Path, attributes: dict[str, Any], kind: str, columns: list[str] | None = None
) -> pa.Table:
    """frames/, failures/ or shards/ of all generations, in order; text is plain.

    A column is null where a generation lacks it, and left out if all do.
    """
    parts = []
    for entry in attributes["tables"][kind]:
        path = below(cache, entry["path"], cache / ROOT)
        with on_path(path), pq.ParquetFile(path) as file:
            here = file.schema_arrow.names
            table = file.read(columns=columns and [c for c in columns if c in here])
        for k, field in enumerate(table.schema):
            if pa.types.is_dictionary(field.type):
                text = field.type.value_type
                table = table.set_column(k, pa.field(field.name, text), table[k].cast(text))
        parts.append(table)
    whole = pa.concat_tables(parts, promote_options="permissive")
    known = whole.column_names
    return whole.select(known if columns is None else [c for c in columns if c in known])


def spec_of(array: dict[str, Any]) -> ArraySpec:
    """An array, of its entry in the root metadata. Raises CacheError for a name that is none."""
    checked(array["name"], ROOT)
    keys = ("name", "dtype", "slots", "frames_per_shard", "codec")
    return ArraySpec(slot=tuple(array["slot"]), **{k: array[k] for k in keys})
