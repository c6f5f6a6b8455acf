"""Digests of tables: what a stranger computes from FORMAT.md; each byte is in just one of them."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dicom2cache.store.digests import table_digests
from tests.support.caches import attributes
from tests.support.signed import column_digests


def test_the_entry_of_frames(ct_series_cache: Path) -> None:
    (entry,) = attributes(ct_series_cache)["tables"]["frames"]
    path = ct_series_cache / "frames" / "0.parquet"
    own = column_digests(path.read_bytes(), pq.read_metadata(path))
    assert set(own["columns"]) == set(pq.read_schema(path).names)
    assert {k: entry[k] for k in ("footer", "columns")} == own
    for kind in ("failures", "shards"):
        assert set(attributes(ct_series_cache)["tables"][kind][0]) == {
            "path", "bytes", "sha256", "rows",
        }  # fmt: skip


def _written(path: Path, rows: int) -> pa.Table:
    """A table of row groups of 10 rows, with columns of no, one and several leaves."""
    flags = [["a", "b"][: k % 3] or None for k in range(rows)]
    pairs = [[{"one": k, "two": str(k)}] * (k % 2) for k in range(rows)]
    table = pa.table(
        {
            "row": pa.array(range(rows), pa.int64()),
            "flags": pa.array(flags, pa.list_(pa.string())),
            "pairs": pa.array(
                pairs, pa.list_(pa.struct([("one", pa.int64()), ("two", pa.string())]))
            ),
            "text": pa.array([f"text {k}" for k in range(rows)], pa.string()),
            "truth": pa.array([k % 3 == 0 for k in range(rows)], pa.bool_()),
        }
    )
    pq.write_table(table, path, row_group_size=10, compression="zstd")
    return table


@pytest.mark.parametrize("rows", [0, 1, 35])
def test_any_table(tmp_path: Path, rows: int) -> None:
    path = tmp_path / "table.parquet"
    _written(path, rows)
    found, data = table_digests(path), path.read_bytes()
    own = column_digests(data, pq.read_metadata(path))
    assert found.sha256 == hashlib.sha256(data).hexdigest()
    assert found.footer == own["footer"]
    assert found.columns == own["columns"]
    assert set(own["columns"]) == {"row", "flags", "pairs", "text", "truth"}


def test_each_byte_is_in_one_digest(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    _written(path, 35)
    data, metadata = path.read_bytes(), pq.read_metadata(path)
    whole = column_digests(data, metadata)
    end = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    seen = set()
    for place in {0, 3, 4, end - 1, end, *random.Random(1).sample(range(len(data) - 8), 300)}:
        changed = bytearray(data)
        changed[place] ^= 1
        now = column_digests(bytes(changed), metadata)
        differ = [k for k, v in whole["columns"].items() if now["columns"][k] != v]
        differ += ["the footer"] * (now["footer"] != whole["footer"])
        assert len(differ) == 1, place
        seen |= set(differ)
    assert seen == {"row", "flags", "pairs", "text", "truth", "the footer"}
