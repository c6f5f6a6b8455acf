"""Whoever writes a cache may write anything: its reader works, or raises an error of its own."""

from __future__ import annotations

import contextlib
import copy
import math
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support import hand_made
from tests.support.hostile import MIB, tried
from tests.support.share import TIMES
from tests.support.signed import adopt, rewrite, sign, with_column

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS holds on Linux only")
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2**31, 2**40, 2**63, -(2**63), 10**30, 1.5, 1e308, math.nan,
    math.inf, "", "x", "../x", "/etc/passwd", "a" * 300, "zstd", "float16", "int16", [], [None],
    [1], [2**40, 2**40, 2**40], ["a"] * 3, [[[[]]]], {}, {"path": 1}, "\ud800", "\0",
]  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile") / "cache"
    hand_made.write(folder, "lz4")
    return folder


@pytest.fixture
def cache(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "cache"))


def places_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where all members of a document are."""
    if path:
        yield path
    members = list(enumerate(value)) if isinstance(value, list) else []
    for key, item in value.items() if isinstance(value, dict) else members:
        yield from places_of(item, (*path, key))


def changed(about: dict[str, Any], path: tuple[Any, ...], change: Callable[[Any, Any], Any]) -> Any:
    """The document after `change` of what holds the member at `path`, by its key."""
    found = copy.deepcopy(about)
    holder: Any = found
    for key in path[:-1]:
        holder = holder[key]
    change(holder, path[-1])
    return found


def _gone(holder: Any, key: Any) -> None:
    del holder[key]


def _twice(holder: Any, key: Any) -> None:
    if isinstance(holder, list):
        holder.append(holder[key])
    else:
        holder[f"{key}2"] = holder[key]


def _to(value: Any) -> Callable[[Any, Any], None]:
    return lambda holder, key: holder.__setitem__(key, value)


def test_every_member_of_the_root(cache: Path, tmp_path: Path) -> None:
    assert tried(cache, tmp_path / "node", "as it is")
    first = (cache / "zarr.json").read_bytes()
    about, rng = hand_made.read_root(cache), random.Random(17)
    outcomes = []
    for path in places_of(about):
        if path == ("sha256",) or path[:1] == ("counts",) or path[-2:-1] == ("columns",):
            continue
        for change in rng.sample([_gone, _twice, *map(_to, VALUES)], min(TIMES, 30)):
            wrong = changed(about, path, change)
            sign(cache, lambda now, wrong=wrong: (now.clear(), now.update(wrong)))
            outcomes.append(tried(cache, tmp_path / "node", (path, change)))
            (cache / "zarr.json").write_bytes(first)
    assert outcomes.count(True) > 25
    assert outcomes.count(False) > 75


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"attributes": []}', b"[" * 200_000,
        b'{"attributes": {"dicom2cache": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_002,
        b'{"attributes": {"dicom2cache": {"format": 1' + b"0" * 5000 + b"}}}",
        b'{"attributes": {"dicom2cache": {"format": true}}}',
        b'{"attributes": {"dicom2cache": {"format": NaN}}}',
        b'{"attributes": {"dicom2cache": {"format": 1, "format": 1}}}',
    ],
)  # fmt: skip
def test_a_root_that_is_no_metadata(cache: Path, tmp_path: Path, text: bytes) -> None:
    (cache / "zarr.json").write_bytes(text)
    assert not tried(cache, tmp_path / "node", text[:50])


def test_a_root_of_a_terabyte(cache: Path, tmp_path: Path) -> None:
    os.truncate(cache / "zarr.json", 1 << 40)
    assert not tried(cache, tmp_path / "node", "a root of a terabyte")


_KINDS = [pa.int8(), pa.uint64(), pa.float64(), pa.string(), pa.bool_(), pa.list_(pa.int64())]


@pytest.mark.parametrize("kind", ["frames", "shards", "failures"])
def test_columns_of_other_types(cache: Path, tmp_path: Path, kind: str) -> None:
    path, rng = cache / kind / "0.parquet", random.Random(18)
    whole, table = path.read_bytes(), pq.read_table(path)
    for name in table.column_names:
        for other in rng.sample([*_KINDS, None], min(TIMES, 7)):
            values = table[name].to_pylist()
            try:
                changed_column = pa.array(values, other) if other else pa.nulls(len(values))
            except (pa.ArrowException, TypeError, OverflowError, ValueError):
                changed_column = pa.nulls(len(values), other)
            rewrite(
                cache, kind, lambda t, c=changed_column, n=name: t.set_column(
                    t.schema.get_field_index(n), n, c
                ),
            )  # fmt: skip
            tried(cache, tmp_path / "node", (name, other))
        rewrite(cache, kind, lambda t, n=name: t.drop_columns([n]))
        tried(cache, tmp_path / "node", (name, "gone"))
        path.write_bytes(whole)


_NUMBERS = [-1, 0, 1, 2, 2**15 - 1, 2**31 - 1, -(2**31), 2**40, 2**63 - 1, -(2**63), None]


@pytest.mark.parametrize("kind", ["frames", "shards"])
def test_numbers_that_lie(cache: Path, tmp_path: Path, kind: str) -> None:
    path, rng = cache / kind / "0.parquet", random.Random(19)
    whole, table = path.read_bytes(), pq.read_table(path)
    for name in table.column_names:
        if not pa.types.is_integer(table.schema.field(name).type):
            continue
        for number in rng.sample(_NUMBERS, min(3 * TIMES, 11)):
            values = table[name].to_pylist()
            values[rng.randrange(len(values))] = number
            with contextlib.suppress(pa.ArrowInvalid, OverflowError):
                rewrite(cache, kind, with_column(name, values))
            tried(cache, tmp_path / "node", (name, number))
            path.write_bytes(whole)


@pytest.mark.parametrize("kind", ["frames", "shards", "failures"])
def test_tables_of_random_bytes(cache: Path, tmp_path: Path, kind: str) -> None:
    """Cut, overwritten and flipped, and signed as they are: what Arrow is given is hostile."""
    path, rng = cache / kind / "0.parquet", random.Random(20)
    whole = path.read_bytes()
    end = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for k in range(20 * TIMES):
        data = bytearray(whole)
        if k % 10 == 0:
            data = data[: rng.randrange(len(data))]
        elif k % 10 == 1:
            data[4:-8] = rng.randbytes(len(data) - 12)
        else:  # mostly the metadata, and page headers
            places = range(end, len(data)) if k % 2 else range(4, end)
            for _ in range(rng.randrange(1, 4)):
                data[rng.choice(places)] = rng.randrange(256)
        path.write_bytes(data)
        adopt(cache, kind, like=whole)
        tried(cache, tmp_path / "node", f"mutant {k}")


def _bomb(cache: Path, column: pa.Array, rows: int) -> None:
    """A frames/ whose column `path` is as given, all others repeated."""
    path = cache / "frames" / "0.parquet"
    table = pq.read_table(path).slice(0, 1).take(pa.array([0] * rows))
    table = table.set_column(table.column_names.index("path"), "path", column)
    table = table.set_column(table.column_names.index("row"), "row", pa.array(range(rows)))
    pq.write_table(table, path, compression="zstd", row_group_size=rows)
    adopt(cache, "frames")
    sign(cache, lambda about: about["arrays"][0].update(slots=rows + 100))


def test_text_that_is_large_only_when_it_is_read(cache: Path, tmp_path: Path) -> None:
    # 40,000 rows that refer to one text of a MiB: 40 GB.
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 40_000, pa.int32()), ["x" * MIB])
    _bomb(cache, text, 40_000)
    assert (cache / "frames" / "0.parquet").stat().st_size < MIB
    assert not tried(cache, tmp_path / "node", "one text of a MiB")


def test_text_that_compresses_well(cache: Path, tmp_path: Path) -> None:
    texts = pa.array([f"{k}{'x' * (20 * MIB)}" for k in range(20)])
    _bomb(cache, texts, 20)
    assert (cache / "frames" / "0.parquet").stat().st_size < MIB
    assert not tried(cache, tmp_path / "node", "20 texts of 20 MiB")


@pytest.mark.parametrize("rows", [10**6, 10**12, 2**62])
def test_a_footer_that_claims_rows(cache: Path, tmp_path: Path, rows: int) -> None:
    path = cache / "frames" / "0.parquet"
    data = path.read_bytes()
    end = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    footer = data[end:-8]
    many = pq.read_metadata(path).num_rows

    def zigzag(number: int) -> bytes:  # as Thrift's compact protocol writes whole numbers
        number, out = 2 * number, bytearray()
        while number > 127:
            out.append(number & 127 | 128)
            number >>= 7
        return bytes([*out, number])

    # Field 3 of the file and of a row group, an i64: the number of rows.
    swollen = footer.replace(b"\x16" + zigzag(many), b"\x16" + zigzag(rows))
    assert swollen != footer
    path.write_bytes(data[:end] + swollen + len(swollen).to_bytes(4, "little") + b"PAR1")
    assert pq.read_metadata(path).num_rows == rows
    adopt(cache, "frames")
    assert not tried(cache, tmp_path / "node", rows)


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_chunks_that_lie(tmp_path: Path, codec: str) -> None:
    """Bytes of chunks, their headers first, under an index, tables and checksums that fit."""
    cache, rng = tmp_path / "cache", random.Random(21)
    hand_made.write(cache, codec)
    path = cache / "grey" / "c.0.0.0"
    whole = path.read_bytes()
    for k in range(20 * TIMES):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 3)):
            data[rng.randrange(16 if k % 2 else len(data) - 68)] = rng.choice([0, 1, 127, 255])
        path.write_bytes(data)
        tried(cache, tmp_path / "node", f"mutant {k}")


@pytest.mark.parametrize("codec", ["none", "lz4"])
def test_frames_that_are_large_only_by_their_word(tmp_path: Path, codec: str) -> None:
    cache = tmp_path / "cache"
    hand_made.write(cache, codec)
    sign(cache, lambda about: about["arrays"][0].update(slot=[30_000, 30_000]))
    rewrite(cache, "frames", with_column("height", [30_000] * 5 + [4] * 2))
    rewrite(cache, "frames", with_column("width", [30_000] * 5 + [7] * 2))
    assert not tried(cache, tmp_path / "node", "30,000 rows and columns")
