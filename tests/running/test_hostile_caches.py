"""A cache folder that lies: every command ends by a status and a sentence, in bounded time."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa
import pytest

from dicom2cache import verify
from tests.running import hostile_roots
from tests.support.caches import Ran, run_here
from tests.support.faults import at_most
from tests.support.share import TIMES
from tests.support.signed import rewrite, sign


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """(cache, another one of the same sources, the sources)."""
    return hostile_roots.make(tmp_path_factory.mktemp("made"))


@pytest.fixture
def cache(made: tuple[Path, Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made[0], tmp_path / "cache"))


def every_command(cache: Path, made: tuple[Path, Path, Path]) -> list[Ran]:
    """What each command comes to on the cache: a status, and a sentence unless that is 0."""
    found = []
    for call in [*hostile_roots.commands(cache, made[1], made[2]), ("repair", cache)]:
        with at_most(20):
            ran = run_here(*call)
        assert "Traceback" not in ran.stderr, call
        assert ran.returncode == 0 or ran.stderr or call[0] == "compare", call
        found.append(ran)
    return found


def test_roots_that_lie() -> None:
    """One in a hundred of all mutations; `python -m tests.running.hostile_roots` tries all."""
    with tempfile.TemporaryDirectory() as folder, at_most(120):
        assert list(hostile_roots.wrong(Path(folder), every=100, first=7)) == []


def _socket(path: Path) -> None:
    before = os.getcwd()
    os.chdir(path.parent)  # names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(before)


KINDS: dict[str, Callable[[Path], object]] = {
    "a FIFO": os.mkfifo,
    "a folder": os.mkdir,
    "a socket": _socket,
    "a link": lambda p: p.symlink_to("/etc/passwd"),
}
FILES = (
    "zarr.json", "uint16_8x6", "uint16_8x6/zarr.json", "uint16_8x6/c.0.0.0", "frames",
    "frames/0.parquet", "failures/0.parquet", "shards/0.parquet", ".spare", ".spare/root.json",
    ".spare/times.json", "build", "build/plan.json",
)  # fmt: skip


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file(cache: Path, made: tuple[Path, Path, Path], name: str, kind: str) -> None:
    path = cache / name
    if path.is_dir():
        if kind == "a folder":
            return
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    KINDS[kind](path)
    ran = every_command(cache, made)
    if name.startswith("build"):  # any command removes what a run left there
        assert (ran[0].returncode, path.exists()) in ((0, False), (1, True))
        return
    assert ran[0].returncode > 0
    assert name.split("/")[-1] in ran[0].stderr or name == "zarr.json"


def _column(name: str, change: Callable[[pa.Array], pa.Array]) -> Callable[[pa.Table], pa.Table]:
    def of(table: pa.Table) -> pa.Table:
        k = table.column_names.index(name)
        return table.set_column(k, name, change(table[k].combine_chunks()))

    return of


def _filled(value: Any, kind: Any = None) -> Callable[[pa.Array], pa.Array]:
    return lambda column: pa.array([value] * len(column), kind or column.type)


TABLES: dict[str, tuple[str, Callable[[pa.Table], pa.Table]]] = {
    "rows of text": ("frames", _column("row", _filled("7", pa.string()))),
    "rows of fractions": ("frames", _column("row", _filled(0.5, pa.float64()))),
    "rows of null": ("frames", _column("row", _filled(None))),
    "rows below 0": ("frames", _column("row", _filled(-1))),
    "rows beyond all": ("frames", _column("row", _filled(2**62))),
    "an array below 0": ("frames", _column("array", _filled(-1))),
    "heights of 0": ("frames", _column("height", _filled(0))),
    "widths beyond the slot": ("frames", _column("width", _filled(7))),
    "paths of numbers": ("frames", _column("path", _filled(7, pa.int64()))),
    "paths of null": ("frames", _column("path", _filled(None))),
    "a root that is not there": ("frames", _column("root", _filled(9))),
    "stacks of null": ("frames", _column("stack", _filled(None))),
    "stacks of text": ("frames", _column("stack", _filled("x", pa.string()))),
    "windows of numbers": ("frames", _column("windows", _filled(1, pa.int64()))),
    "positions of text": (
        "frames",
        _column("position", _filled([["x"]], pa.list_(pa.list_(pa.string())))),
    ),
    "no rows": ("frames", lambda t: t.slice(0, 0)),
    "a row too many": ("frames", lambda t: pa.concat_tables([t, t.slice(0, 1)])),
    "no column": ("frames", lambda t: t.select(["path"])),
    "no crc32c": ("frames", lambda t: t.drop_columns(["crc32c"])),
    "a column twice": ("frames", lambda t: t.append_column("row", t["row"])),
    "outcomes of null": ("failures", _column("outcome", _filled(None))),
    "outcomes unknown": ("failures", _column("outcome", _filled("x"))),
    "reasons of numbers": ("failures", _column("reason", _filled(1, pa.int64()))),
    "failures without columns": ("failures", lambda t: t.select([])),
    "shards of text": ("shards", _column("shard", _filled("x", pa.string()))),
    "a shard below 0": ("shards", _column("shard", _filled(-1))),
    "a shard beyond all": ("shards", _column("shard", _filled(2**31 - 1))),
    "shards of no array": ("shards", _column("array", _filled(7))),
    "shards of 0 bytes": ("shards", _column("bytes", _filled(0))),
    "slots of null": ("shards", _column("slots", _filled(None))),
    "shards without bytes": ("shards", lambda t: t.drop_columns(["bytes"])),
    "no shards": ("shards", lambda t: t.slice(0, 0)),
}


@pytest.mark.parametrize("what", TABLES)
def test_tables_that_lie(cache: Path, made: tuple[Path, Path, Path], what: str) -> None:
    kind, change = TABLES[what]
    rewrite(cache, kind, change)
    ran = every_command(cache, made)
    assert ran[0].returncode == 1, ran[0].stderr


@pytest.mark.parametrize(
    ("kind", "column", "command"), [("frames", "modality", "info"), ("frames", "path", "compare"),
                                    ("failures", "reason", "info")],
)  # fmt: skip
def test_a_text_that_stands_there_a_million_times(
    cache: Path, made: tuple[Path, Path, Path], kind: str, column: str, command: str
) -> None:
    """Some KiB of Parquet that would be 100 GB of text."""
    rows = 100_000

    def many(table: pa.Table) -> pa.Table:
        table = table.take(pa.array(np.zeros(rows, np.int64)))
        text = pa.array(["x" * (1 << 20)]).dictionary_encode()
        codes = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), text.dictionary)
        return table.set_column(table.column_names.index(column), column, codes)

    rewrite(cache, kind, many)
    assert (cache / kind / "0.parquet").stat().st_size < 1 << 20
    ran = run_here(command, cache, *([made[1]] if command == "compare" else []))
    assert ran.returncode == 2
    assert f"column {column} has more than 4096 bytes of text a row" in ran.stderr


@pytest.mark.parametrize("kind", ["frames", "failures", "shards"])
def test_tables_of_noise(cache: Path, made: tuple[Path, Path, Path], kind: str) -> None:
    path, chance = cache / kind / "0.parquet", random.Random(kind)
    whole = path.read_bytes()
    for n in range(9 * TIMES):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(4, len(data) - 4)] ^= 1 << chance.randrange(8)
        path.write_bytes(data[: chance.choice([len(data), len(data) // 2])])
        entry = {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        sign(cache, lambda a, e=entry: a["tables"][kind][0].update(e))
        for call in hostile_roots.commands(cache, made[1], made[2])[n % 3 : 8 : 3]:
            with at_most(20):
                assert "Traceback" not in run_here(*call).stderr
        path.write_bytes(whole)


def test_chunks_of_noise(cache: Path, made: tuple[Path, Path, Path]) -> None:
    """Blosc takes its header at its word; ours does not."""
    shard, chance = cache / "uint16_8x6" / "c.0.0.0", random.Random(3)
    whole = shard.read_bytes()
    for n in range(18 * TIMES):
        data = bytearray(whole)
        if n % 2:
            for _ in range(3):
                data[chance.randrange(64)] = chance.randrange(256)
        else:  # an index that points anywhere, with a checksum that fits
            start = len(data) - 4 - 16 * 16384
            place = start + 8 * chance.randrange(4)
            value = chance.choice([0, 1, 2**31, 2**62, 2**63, 2**64 - 2, len(data)])
            data[place : place + 8] = np.array(value, "<u8").tobytes()
            crc = google_crc32c.value(bytes(data[start:-4]))
            data[-4:] = crc.to_bytes(4, "little")
            rewrite(cache, "shards", _column("index_crc32c", _filled(crc)))
        shard.write_bytes(data)
        with at_most(30):
            assert verify(cache)
            for call in hostile_roots.commands(cache, made[1], made[2])[1 + n // 2 % 3 : 8 : 3]:
                assert "Traceback" not in run_here(*call).stderr


@pytest.mark.parametrize(
    "command", ["verify", "info", "convert", "commit", "plan", "build", "compare"]
)
def test_a_newer_format_is_refused_by_name(
    cache: Path, made: tuple[Path, Path, Path], command: str
) -> None:
    sign(cache, lambda a: a.update(format=2))
    for call in hostile_roots.commands(cache, made[1], made[2]):
        if call[0] == command:
            ran = run_here(*call)
            assert ran.returncode == 2, call
            said = "a cache of format 2; this version knows 1, install a newer dicom2cache"
            assert said in ran.stderr
    ran = run_here("build", made[2], cache, "--overwrite")  # it may have what we would not remove
    assert (ran.returncode, "format 2" in ran.stderr) == (2, True)
    assert (cache / "zarr.json").exists()
