"""Files of labels that are no tables: LabelError, with the path and what is legal."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.caches import built
from tests.support.dicom_files import write_series
from trainer_adapter import LabelError, open_cache
from trainer_adapter.cache import Cache
from trainer_adapter.loading.labels import from_table


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    folder = tmp_path_factory.mktemp("labels")
    write_series(folder / "in", 2, size=8)
    return open_cache(built(folder / "in", folder / "cache"))


def test_a_table_that_fits(tmp_path: Path, series: Cache) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"path,label\nslice000.dcm,b\nslice001.dcm,a\n")
    found = from_table(series, path, "path", "label")
    assert (found.classes, found.values.tolist()) == (["a", "b"], [1, 0])


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.CSV", b"\xef\xbb\xbfpath;label\r\nslice000.dcm;b\r\nslice001.dcm;a\r\n"),  # Excel's
        ("a.tsv", b"path\tlabel\nslice000.dcm\tb\nslice001.dcm\ta\n"),
        ("a.csv", b'label,path\n"b",slice000.dcm\n"a","slice001.dcm"\n'),
        ("a.csv.gz", gzip.compress(b"path,label\nslice000.dcm,b\nslice001.dcm,a\n", mtime=0)),
    ],
)
def test_tables_as_spreadsheets_write_them(
    tmp_path: Path, series: Cache, name: str, data: bytes
) -> None:
    (tmp_path / name).write_bytes(data)
    found = from_table(series, tmp_path / name, "path", "label")
    assert (found.classes, found.values.tolist()) == (["a", "b"], [1, 0])


def test_a_type_is_that_of_all_rows(tmp_path: Path, series: Cache) -> None:
    lines = [f"x{k},1" for k in range(200_000)]  # more than one block of Arrow's
    rows = ["path,label", "slice000.dcm,2", *lines, "slice001.dcm,late"]
    (tmp_path / "a.csv").write_text("\n".join(rows))
    found = from_table(series, tmp_path / "a.csv", "path", "label")
    assert (found.classes, found.values.tolist()) == (["2", "late"], [0, 1])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "Empty CSV file"),
        (b"path,label\nslice000.dcm\n", "Expected 2 columns, got 1"),
        (b"path,lab\xffel\nslice000.dcm,a\n", "can't decode byte 0xff"),
        (b"path,label,label\nslice000.dcm,a,b\n", "two columns of one name"),
    ],
)
def test_csv_that_is_none(tmp_path: Path, series: Cache, data: bytes, why: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(data)
    with pytest.raises(LabelError, match=rf"a\.csv: .*{why}"):
        from_table(series, path, "path", "label")


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "page"])
def test_parquet_that_is_none(tmp_path: Path, series: Cache, damage: str) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"path": ["slice000.dcm", "slice001.dcm"], "label": ["a", "b"]})
    pq.write_table(table, path, compression="none")
    data = path.read_bytes()
    page = data[:4] + b"\xff" * 12 + data[16:]
    made = {"empty": b"", "text": b"path,label\n", "cut": data[:-20], "page": page}[damage]
    path.write_bytes(made)
    with pytest.raises(LabelError, match=r"a\.parquet: no table that can be read"):
        from_table(series, path, "path", "label")


def test_a_file_that_is_not_there_is_told_as_that(tmp_path: Path, series: Cache) -> None:
    with pytest.raises(FileNotFoundError):
        from_table(series, tmp_path / "a.csv", "path", "label")


@pytest.mark.parametrize("data", [b"path,label\n", b"path,label\nslice000.dcm,\n"])
def test_labels_of_no_type_are_missing(tmp_path: Path, series: Cache, data: bytes) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(data)
    assert from_table(series, path, "path", "label").known.tolist() == [False, False]


def test_labels_that_are_lists(tmp_path: Path, series: Cache) -> None:
    table = pa.table({"path": ["slice000.dcm", "slice001.dcm"], "label": [[1], [2]]})
    with pytest.raises(LabelError, match=r"'label' is list<.*labels are text, numbers"):
        from_table(series, table, "path", "label")
