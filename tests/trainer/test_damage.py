"""A damaged cache is refused at first touch, by an error that names the file and the remedy."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.support.signed import rewrite, sign, with_column
from trainer_adapter import DamagedError, FormatError, NotACacheError, open_cache
from trainer_adapter.lightly import names
from trainer_adapter.lightly.paths import Names

SHARD = "int16_512x512/c.1.0.0"


@pytest.fixture
def cache(ct_series_cache: Path, tmp_path: Path) -> Path:
    """A copy of the CT cache: six shards of two frames."""
    return Path(shutil.copytree(ct_series_cache, tmp_path / "cache"))


def edit(path: Path, change: Callable[[bytearray], Any]) -> None:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(bytes(data))


def flip(place: int) -> Callable[[bytearray], Any]:
    def change(data: bytearray) -> None:
        data[place] ^= 0x40

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (flip(-20), "CRC-32C"),  # a bit of the index
        (flip(-1), "CRC-32C"),  # a bit of its checksum
        (lambda data: data.pop(), "bytes"),  # truncated by one
        (lambda data: data.clear(), "bytes"),  # a copy that never began
        (lambda data: data.extend(b"\0" * 4096), "bytes"),
    ],
)
def test_a_damaged_shard(cache: Path, change: Callable[[bytearray], Any], message: str) -> None:
    edit(cache / SHARD, change)
    opened = open_cache(cache)
    assert opened[0].shape == (512, 512)  # the shard before it is whole
    for touch in (lambda: opened[2], lambda: opened.gather([0, 3]), lambda: opened.volume(0)):
        with pytest.raises(DamagedError, match=message) as caught:
            touch()
        assert str(cache / SHARD) in str(caught.value)
        assert "dicom2cache verify" in str(caught.value)


def test_a_missing_shard(cache: Path) -> None:
    (cache / SHARD).unlink()
    with pytest.raises(DamagedError, match="missing"):
        open_cache(cache)[2]


def test_another_whole_shard_in_its_place(cache: Path) -> None:
    # Same size, valid index: only where the frames of a shard differ in number can this be seen
    # here; the pixels are what `dicom2cache verify` is for.
    other = cache / "int16_512x512/c.0.0.0"
    data = bytearray(other.read_bytes())
    data[-36:-4] = b"\xff" * 32  # an index that says that nothing is stored
    (cache / SHARD).write_bytes(data)
    with pytest.raises(DamagedError, match="CRC-32C"):
        open_cache(cache)[2]


def test_no_cache(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(NotACacheError, match="dicom2cache build"):
        open_cache(tmp_path / "nowhere")
    (cache / "zarr.json").unlink()
    (cache / "build").mkdir(exist_ok=True)
    with pytest.raises(NotACacheError, match="not finished"):
        open_cache(cache)
    with pytest.raises(FileNotFoundError):  # callers may catch either
        open_cache(cache)


def test_not_ours(tmp_path: Path) -> None:
    (tmp_path / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    with pytest.raises(NotACacheError, match="not the metadata"):
        open_cache(tmp_path)


def test_a_newer_format(cache: Path) -> None:
    sign(cache, lambda about: about.update(format=2))
    with pytest.raises(FormatError, match="format 2, this reader knows 1"):
        open_cache(cache)


def test_an_unknown_codec(cache: Path) -> None:
    sign(cache, lambda about: about["arrays"][0].update(codec="new"))
    with pytest.raises(FormatError, match="codec new"):
        open_cache(cache)


def test_an_edited_root(cache: Path) -> None:
    edit(cache / "zarr.json", lambda d: d.__setitem__(slice(None), d.replace(b'"CT"', b'"MR"')))
    text = (cache / "zarr.json").read_text()
    (cache / "zarr.json").write_text(text.replace('"frames": 12', '"frames": 13'))
    with pytest.raises(DamagedError, match="edited"):
        open_cache(cache)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_column("row", [1, 0, *range(2, 12)]), "order"),
        (with_column("row", [*range(11), 12]), "outside"),
        (with_column("array", [0] * 11 + [1]), "not in zarr.json"),
        (with_column("height", [512] * 11 + [513]), "does not fit"),
        (with_column("width", [0] + [512] * 11), "does not fit"),
    ],
)
def test_a_frames_table_that_lies(
    cache: Path, change: Callable[[pa.Table], pa.Table], message: str
) -> None:
    rewrite(cache, "frames", change)
    with pytest.raises(DamagedError, match=message):
        open_cache(cache)


def test_a_table_of_another_size(cache: Path) -> None:
    with open(cache / "frames" / "0.parquet", "ab") as file:
        file.write(b"x")
    with pytest.raises(DamagedError, match="bytes"):
        open_cache(cache)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("frames", c) for c in ("array", "row", "width", "path", "stack", "stack_index", "crc32c")]
    + [("shards", c) for c in ("array", "slots", "index_crc32c")]
    + [("failures", c) for c in ("root", "path", "outcome")],
)
def test_a_table_without_a_column_that_all_have(cache: Path, kind: str, name: str) -> None:
    rewrite(cache, kind, lambda table: table.drop_columns([name]))

    def use() -> None:
        opened = open_cache(cache)
        if kind == "failures":
            _ = Names(opened)[f"{opened.core.root.sources[0]}/absent"]
        opened.volume(0)
        names(opened)

    with pytest.raises(DamagedError, match=rf"{kind}: has no column {name}; "):
        use()
