"""Tables are held to the digests in the root, column by column, whoever reads them."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.support.dicom_files import uid
from tests.support.signed import adopt, rewrite, sign
from trainer_adapter import CacheLoader, DamagedError, open_cache
from trainer_adapter.lightly import names
from trainer_adapter.lightly.paths import Names
from trainer_adapter.loading.labels import from_table
from trainer_adapter.stage import staged


@pytest.fixture
def cache(ct_series_cache: Path, tmp_path: Path) -> Path:
    """A copy of the CT cache: six shards of two frames."""
    return Path(shutil.copytree(ct_series_cache, tmp_path / "cache"))


def flip_in_column(path: Path, name: str) -> None:
    """Flip the last bit of the data of a column of a table."""
    metadata = pq.read_metadata(path)
    leaves = [metadata.row_group(0).column(k) for k in range(metadata.num_columns)]
    (chunk, *_) = [c for c in leaves if c.path_in_schema.split(".")[0] == name]
    first = chunk.dictionary_page_offset or chunk.data_page_offset
    flip(path, first + chunk.total_compressed_size - 1)


def flip(path: Path, place: int, bit: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= bit
    path.write_bytes(data)


def _labels(path: Path) -> Any:
    labels = {"series_uid": [uid("series")], "y": [1]}
    return from_table(open_cache(path), labels, "series_uid", "y")


READS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "open": ("row", open_cache),
    "open, height": ("height", open_cache),
    "column": ("slope", lambda c: open_cache(c).column("slope")),
    "nested column": ("position", lambda c: open_cache(c).column("position")),
    "text": ("path", lambda c: open_cache(c).column("path")),
    "frames": ("thickness", lambda c: open_cache(c).frames),
    "select": ("modality", lambda c: open_cache(c).select(modality="CT")),
    "select by expression": (
        "b_value", lambda c: open_cache(c).select(pc.field("b_value") > 1),
    ),
    "batches with columns": ("age", lambda c: CacheLoader(open_cache(c), columns=["age"])),
    "labels from a column": (
        "modality", lambda c: CacheLoader(open_cache(c), label="modality"),
    ),
    "labels from a table": ("series_uid", _labels),
    "volume": ("stack", lambda c: open_cache(c).volume(0)),
    "volume, order": ("stack_index", lambda c: open_cache(c).volume(0)),
    "names": ("path", names),
    "first frame": ("crc32c", lambda c: open_cache(c)[0]),
}  # fmt: skip


@pytest.mark.parametrize("how", READS)
def test_a_flipped_bit_in_a_column(cache: Path, how: str) -> None:
    column, read = READS[how]
    read(cache)  # while it is whole
    flip_in_column(cache / "frames" / "0.parquet", column)
    said = rf"frames/0\.parquet: the SHA-256 of its column {column} is not .* `dicom2cache verify`"
    with pytest.raises(DamagedError, match=said):
        read(cache)


def test_other_columns_are_read_all_the_same(cache: Path) -> None:
    flip_in_column(cache / "frames" / "0.parquet", "slope")
    opened = open_cache(cache)
    assert opened.column("modality").to_pylist() == ["CT"] * 12
    assert opened[11].shape == (512, 512)


def test_any_flipped_bit_of_frames_is_found(cache: Path) -> None:
    path = cache / "frames" / "0.parquet"
    whole = path.read_bytes()
    rng = random.Random(5)
    ends = [*range(4), *range(len(whole) - 9, len(whole))]
    for place in [*ends, *rng.sample(range(len(whole)), 250)]:
        flip(path, place, 1 << rng.randrange(8))
        with pytest.raises(DamagedError, match=r"frames/0\.parquet: "):
            _ = open_cache(cache).frames
        path.write_bytes(whole)
    assert open_cache(cache).frames.num_rows == 12


@pytest.mark.parametrize("kind", ["shards", "failures"])
def test_any_flipped_bit_of_the_small_tables_is_found(cache: Path, kind: str) -> None:
    path = cache / kind / "0.parquet"
    whole, rng = path.read_bytes(), random.Random(6)
    absent = f"{open_cache(cache).attributes['sources'][0]['path']}/absent"
    for place in rng.sample(range(len(whole)), 60):
        flip(path, place, 1 << rng.randrange(8))
        with pytest.raises(DamagedError, match=rf"{kind}/0\.parquet: the SHA-256 of it is not"):
            _ = open_cache(cache)[0] if kind == "shards" else Names(open_cache(cache))[absent]
        path.write_bytes(whole)


def test_a_table_is_checked_on_its_way_to_the_node(cache: Path, tmp_path: Path) -> None:
    opened = open_cache(cache)
    flip_in_column(cache / "frames" / "0.parquet", "slope")
    with pytest.raises(DamagedError, match=r"frames/0\.parquet: its SHA-256"):
        staged(opened, tmp_path / "node")
    assert not list((tmp_path / "node").glob("*/zarr.json"))


def test_errata_are_counted_of_checked_columns(cache: Path) -> None:
    sign(cache, lambda about: about["software"].update(dicom2cache="0.1.0"))
    flip_in_column(cache / "frames" / "0.parquet", "kind")
    with pytest.raises(DamagedError, match="column kind"):
        open_cache(cache)


def test_older_caches_are_read_as_they_were(cache: Path) -> None:
    def older(about: dict[str, Any]) -> None:
        for member in ("columns", "footer"):
            del about["tables"]["frames"][0][member]

    sign(cache, older)
    opened = open_cache(cache)
    assert opened.frames.num_rows == 12
    assert opened.volume(0).shape == (12, 512, 512)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda entry: entry["columns"].pop("row"), "column row"),
        (lambda entry: entry["columns"].update(row="0" * 64), "column row"),
        (lambda entry: entry.update(footer="0" * 64), "its footer"),
        (lambda entry: entry.pop("footer"), "footer is None; legal: text"),
        (lambda entry: entry.update(rows=11), "12 rows, 11 expected"),
    ],
)
def test_an_entry_that_does_not_fit(
    cache: Path, change: Callable[[dict[str, Any]], Any], said: str
) -> None:
    sign(cache, lambda about: change(about["tables"]["frames"][0]))
    with pytest.raises(DamagedError, match=said):
        open_cache(cache)


@pytest.mark.parametrize(
    ("kind", "column"),
    [("frames", "array"), ("frames", "row"), ("frames", "height"), ("shards", "slots"),
     ("shards", "index_crc32c")],
)  # fmt: skip
def test_a_table_without_what_reading_hangs_on(cache: Path, kind: str, column: str) -> None:
    """As the root names it: no KeyError, which is that of a column that the caller asked for."""
    rewrite(cache, kind, lambda table: table.drop_columns([column]))
    with pytest.raises(DamagedError, match=rf"{kind}: has no column {column}; "):
        open_cache(cache)[0]


def test_lists_of_text_in_several_row_groups(cache: Path) -> None:
    """As of a cache of more than 100,000 frames: Arrow reads text in lists a group at a time."""
    path = cache / "frames" / "0.parquet"
    table = pq.read_table(path)
    flags = [["one"], None, ["two", "one"], ["three"]] * 3
    table = table.set_column(
        table.column_names.index("stack_flags"), table.schema.field("stack_flags"), [flags]
    )
    pq.write_table(table, path, row_group_size=5)
    adopt(cache, "frames")
    opened = open_cache(cache)
    assert opened.column("stack_flags").to_pylist() == flags
    assert opened.frames.drop_columns("stack_flags") == table.drop_columns("stack_flags")
    assert opened.volume(0).shape == (12, 512, 512)
