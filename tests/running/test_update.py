"""Caches that grow: what is new is added, and nothing that is there changes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr

from dicom2cache import Recipe, build, convert, verify
from dicom2cache.errors import CacheError, SourceError
from dicom2cache.pipeline import standing, update
from dicom2cache.running.remains import tidy
from tests.support.caches import Ran, attributes, command, run_here, table, tree
from tests.support.dicom_files import pattern, uid, write_dicom, write_series
from tests.support.share import stride
from trainer_adapter import CacheLoader, NewerWarning, open_cache

_FLAGS = ("--shard-mib", "1", "--jobs", "1")


def _slice(folder: Path, number: int) -> Path:
    """One more slice of the series that `write_series` writes."""
    name = f"slice{number:03}.dcm"
    whole = folder.parent / f"{folder.name} as far as {number}"
    write_series(whole, number + 1)
    shutil.copy2(whole / name, folder / name)
    shutil.rmtree(whole)
    return folder / name


def _killed(source: Path, cache: Path) -> None:
    """An update of `cache` that is killed when it has planned and decoded, and has no receipt."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.support.kill_update", source, cache],
        cwd=Path(__file__).parents[2], check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    assert (cache / "build" / "plan.json").exists()
    assert not list(cache.glob("build/*/receipts/*"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three slices of 0.5 MiB: two shards at 1 MiB, the last of one slot."""
    folder = tmp_path / "source"
    write_series(folder, 3)
    return folder


@pytest.fixture
def cache(source: Path, tmp_path: Path) -> Path:
    """A cache of them."""
    ran = run_here("build", source, tmp_path / "cache", *_FLAGS)
    assert ran.returncode == 0, ran.stderr
    return tmp_path / "cache"


def _updated(*arguments: object, status: int = 0) -> Ran:
    ran = run_here("update", *arguments, "--jobs", "1")
    assert ran.returncode == status, ran.stdout + ran.stderr
    return ran


def _told(ran: Ran) -> list[str]:
    """What was said on stderr beside progress."""
    return [
        s for s in ran.stderr.splitlines() if not s.startswith(("listing", "reading", "converting"))
    ]


def _rows(cache: Path, *columns: str) -> list[tuple[Any, ...]]:
    """Rows of frames/ of all generations."""
    parts = [pq.read_table(cache / e["path"]) for e in attributes(cache)["tables"]["frames"]]
    return [tuple(row[c] for c in columns) for part in parts for row in part.to_pylist()]


def _published(cache: Path) -> dict[str, tuple[int, int, bytes]]:
    """{name: (inode, time, bytes)} of all shards and tables that the root lists."""
    about = attributes(cache)
    names = [e["path"] for entries in about["tables"].values() for e in entries]
    for e in about["tables"]["shards"]:
        for row in pq.read_table(cache / e["path"]).to_pylist():
            array = about["arrays"][row["array"]]
            names.append(f"{array['name']}/c.{row['shard']}" + ".0" * len(array["slot"]))
    found = {}
    for name in names:
        status = (cache / name).stat()
        found[name] = status.st_ino, status.st_mtime_ns, (cache / name).read_bytes()
    return found


def test_new_slices_of_a_series(source: Path, cache: Path) -> None:
    before = _published(cache)
    assert sorted(n for n in before if "/c." in n) == [
        "int16_512x512/c.0.0.0",
        "int16_512x512/c.1.0.0",
    ]
    for number in (3, 4, 5):
        _slice(source, number)
    ran = _updated(source, cache)
    assert ran.stdout == f"{cache}: 3 frames of 3 files added; 6 frames now\n"
    after = _published(cache)
    assert {name: after[name] for name in before} == before
    assert sorted(set(after) - set(before)) == [
        "failures/1.parquet", "frames/1.parquet", "int16_512x512/c.2.0.0", "int16_512x512/c.3.0.0",
        "shards/1.parquet",
    ]  # fmt: skip
    columns = ("path", "row", "stack", "stack_index", "stack_of", "part", "stack_flags")
    assert _rows(cache, *columns) == [
        ("slice000.dcm", 0, 0, 0, 0, 0, None),
        ("slice001.dcm", 1, 0, 1, 0, 0, None),
        ("slice002.dcm", 2, 0, 2, 0, 0, None),
        ("slice003.dcm", 4, 1, 0, 0, 1, ["continues"]),
        ("slice004.dcm", 5, 1, 1, 0, 1, ["continues"]),
        ("slice005.dcm", 6, 1, 2, 0, 1, ["continues"]),
    ]
    pixels = np.stack([pattern(f"slice{k}", (512, 512)).astype(np.int16) - 1024 for k in range(6)])
    stored = zarr.open_array(cache / "int16_512x512", mode="r")[:]
    np.testing.assert_array_equal(stored[[0, 1, 2, 4, 5, 6]], pixels)
    assert not stored[3].any()
    about = attributes(cache)
    (array,) = about["arrays"]
    assert (about["generation"], array["slots"], array["frames"]) == (1, 7, 6)
    found = array["statistics"]
    assert (found["count"], found["min"], found["max"]) == (
        pixels.size, int(pixels.min()), int(pixels.max()),
    )  # fmt: skip
    assert found["mean"] == pytest.approx(pixels.mean(dtype=float), rel=1e-12)
    assert found["std"] == pytest.approx(pixels.std(dtype=float), rel=1e-9)
    assert about["counts"]["files"] == about["counts"]["files_stored"] == 6
    assert not verify(cache)
    assert not (cache / "build").exists()


def test_twice_and_a_third_time(source: Path, cache: Path) -> None:
    for number in (3, 4):
        _slice(source, number)
        _updated(source, cache)
    assert _rows(cache, "row", "stack", "stack_of", "part") == [
        (0, 0, 0, 0), (1, 0, 0, 0), (2, 0, 0, 0), (4, 1, 0, 1), (6, 2, 0, 2),
    ]  # fmt: skip
    before = tree(cache)
    ran = _updated(source, cache)
    assert ran.stdout == f"{cache}: nothing new; 5 frames\n"
    assert tree(cache) == before
    assert not verify(cache)


def test_another_array_and_another_folder(source: Path, cache: Path, tmp_path: Path) -> None:
    other = tmp_path / "another"
    write_dicom(other / "a" / "x.dcm", pattern("x", (40, 30)), SeriesInstanceUID=uid("x"))
    (other / "notes.txt").write_text("no image")
    ran = _updated(other, cache)
    assert "1 frame of 1 file added; 4 frames now" in ran.stdout
    assert _rows(cache, "root", "path", "array", "row", "stack", "stack_of")[3:] == [
        (1, "a/x.dcm", 1, 0, 1, 1),
    ]  # fmt: skip
    assert attributes(cache)["sources"] == [
        {"root": 0, "path": str(source)},
        {"root": 1, "path": str(other)},
    ]
    assert [a["name"] for a in attributes(cache)["arrays"]] == ["int16_512x512", "uint16_40x30"]
    rows = pq.read_table(cache / "failures" / "1.parquet").to_pylist()
    assert [(r["root"], r["path"], r["outcome"]) for r in rows] == [(1, "notes.txt", "not-dicom")]
    assert not verify(cache)
    assert _updated(other, source, cache).stdout.endswith("nothing new; 4 frames\n")
    # The folder above both: each file has the number of the folder that the cache knows.
    assert _updated(tmp_path / "another" / "a", cache).stdout.endswith("nothing new; 4 frames\n")
    write_dicom(other / "b" / "y.dcm", pattern("y", (40, 30)), SeriesInstanceUID=uid("y"))
    _updated(other / "b", cache)
    assert _rows(cache, "root", "path")[4:] == [(1, "b/y.dcm")]


def test_files_without_an_image_are_looked_at_once(source: Path, cache: Path) -> None:
    (source / "notes.txt").write_text("no image")
    assert "0 frames of 0 files added" in _updated(source, cache).stdout
    assert attributes(cache)["counts"]["files_not_dicom"] == 1
    assert pq.read_table(cache / "frames" / "1.parquet").num_rows == 0
    assert not verify(cache)
    assert len(open_cache(cache)) == 3
    np.testing.assert_array_equal(
        open_cache(cache)[2], pattern("slice2", (512, 512)).astype(np.int16) - 1024
    )
    assert "nothing new" in _updated(source, cache).stdout
    _slice(source, 3)
    _updated(source, cache)
    assert _rows(cache, "row")[3:] == [(4,)]


def test_changed_and_gone(source: Path, cache: Path) -> None:
    before = _published(cache)
    os.utime(source / "slice001.dcm", ns=(1, 1))
    (source / "slice002.dcm").unlink()
    _slice(source, 3)
    ran = _updated(source, cache, status=1)
    assert _told(ran) == [
        f"{source}/slice001.dcm: changed since it was stored; the cache keeps it as it was",
        f"{source}/slice002.dcm: gone; the cache keeps it as it was",
    ]
    assert "1 frame of 1 file added; 4 frames now" in ran.stdout
    after = _published(cache)
    assert {name: after[name] for name in before} == before
    write_dicom(source / "slice000.dcm", pattern("larger", (600, 512)))
    ran = _updated(source, cache, status=1)
    assert [line.partition(":")[0] for line in _told(ran)] == [
        f"{source}/slice000.dcm", f"{source}/slice001.dcm", f"{source}/slice002.dcm",
    ]  # fmt: skip


def test_files_that_are_gone_alone_are_no_failure(source: Path, cache: Path) -> None:
    (source / "slice002.dcm").unlink()
    ran = _updated(source, cache)
    assert (ran.stdout, _told(ran)) == (
        f"{cache}: nothing new; 3 frames\n",
        [f"{source}/slice002.dcm: gone; the cache keeps it as it was"],
    )
    # What was not looked at is not missed.
    other = source.parent / "other"
    write_dicom(other / "x.dcm", pattern("x", (40, 30)), SeriesInstanceUID=uid("x"))
    assert _told(_updated(other, cache)) == []


def test_a_cache_that_does_not_know_how_its_sources_were(source: Path, cache: Path) -> None:
    (cache / ".spare" / "seen.bin").unlink()
    assert not verify(cache)
    os.utime(source / "slice001.dcm", ns=(1, 1))
    (source / "slice002.dcm").unlink()
    _slice(source, 3)
    ran = _updated(source, cache)
    assert _told(ran) == [f"{source}/slice002.dcm: gone; the cache keeps it as it was"]


def test_copies(source: Path, cache: Path) -> None:
    shutil.copy(source / "slice001.dcm", source / "copy.dcm")
    same = {"SOPInstanceUID": uid("slice002.dcm"), "SeriesInstanceUID": uid("again")}
    write_dicom(source / "otherwise.dcm", pattern("o", (512, 512)), **same)
    _updated(source, cache)
    rows = pq.read_table(cache / "failures" / "1.parquet").to_pylist()
    assert [(r["path"], r["outcome"], r["same_root"], r["same_path"]) for r in rows] == [
        ("copy.dcm", "duplicate", 0, "slice001.dcm"),
    ]  # fmt: skip
    assert _rows(cache, "path", "flags") == [
        ("slice000.dcm", None), ("slice001.dcm", None), ("slice002.dcm", None),
        ("otherwise.dcm", ["sop-uid-repeated"]),
    ]  # fmt: skip


@pytest.mark.parametrize("change", ["gone", "changed"])
def test_a_copy_of_what_cannot_be_read_any_more(source: Path, cache: Path, change: str) -> None:
    shutil.copy(source / "slice001.dcm", source / "copy.dcm")
    if change == "gone":
        (source / "slice001.dcm").unlink()
    else:
        os.utime(source / "slice001.dcm", ns=(1, 1))
    _updated(source, cache, status=int(change == "changed"))
    assert _rows(cache, "path", "flags")[3:] == [("copy.dcm", ["sop-uid-repeated"])]
    assert pq.read_table(cache / "failures" / "1.parquet").num_rows == 0


def test_recipe_versions_and_keys_are_held(
    source: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _slice(source, 3)
    before = tree(cache)
    ran = run_here("update", source, cache, "--size", "256")
    assert ran.returncode == 2
    assert "made by another recipe: shard_mib is 1 there, " in ran.stderr
    assert "; size is None there, [256, 256] here. Leave the recipe out" in ran.stderr
    (tmp_path / "key").write_text("another key of another user, long enough")
    (tmp_path / "key").chmod(0o600)
    ran = run_here("update", source, cache, "--patient-key", tmp_path / "key")
    assert ran.returncode == 2
    assert "patients are hashed by another key" in ran.stderr
    assert "give --patient-key FILE" in ran.stderr
    with monkeypatch.context() as other:
        other.setattr("dicom2cache.running.versions.__version__", "9.9")
        ran = run_here("update", source, cache)
        assert ran.returncode == 2
        assert "dicom2cache 0.2.0.dev0 planned, 9.9 here" in ran.stderr
        assert "build again with --overwrite" in ran.stderr
    assert tree(cache) == before
    _updated(source, cache, "--shard-mib", "1")  # the recipe it has


def test_what_cannot_be_added_to(source: Path, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="make one with `dicom2cache build`"):
        update(source, tmp_path / "nowhere")
    with pytest.raises(SourceError, match="no such file"):
        update(source / "nothing", cache)
    shard = cache / "int16_512x512" / "c.0.0.0"
    shard.write_bytes(shard.read_bytes()[:-9])
    _slice(source, 3)
    with pytest.raises(CacheError, match=r"c\.0\.0\.0.*repair"):
        update(source, cache)


def test_build_knows_what_an_update_made(source: Path, cache: Path, tmp_path: Path) -> None:
    _slice(source, 3)
    refused = run_here("build", source, cache, *_FLAGS)
    assert refused.returncode == 2
    assert "add files by `dicom2cache update`" in refused.stderr
    _updated(source, cache)
    other = tmp_path / "another"
    write_dicom(other / "x.dcm", pattern("x", (40, 30)), SeriesInstanceUID=uid("x"))
    _updated(other, cache)
    before = tree(cache)
    assert run_here("build", source, other, cache, *_FLAGS).returncode == 0
    assert tree(cache) == before
    for sources in ((source,), (other,)):
        assert run_here("build", *sources, cache, *_FLAGS).returncode == 2
    os.utime(source / "slice001.dcm", ns=(1, 1))
    assert run_here("build", source, other, cache, *_FLAGS).returncode == 2
    assert run_here("build", source, other, cache, *_FLAGS, "--overwrite").returncode == 0
    assert attributes(cache)["generation"] == 0
    assert sorted(p.name for p in (cache / "frames").iterdir()) == ["0.parquet"]


@pytest.mark.parametrize("codec", ["none", "auto", "zstd"])
def test_codecs(source: Path, tmp_path: Path, codec: str) -> None:
    cache = tmp_path / "cache"
    build(source, cache, Recipe(shard_mib=1, codec=codec), jobs=1)
    _slice(source, 3)
    update(source, cache, jobs=1)
    (array,) = attributes(cache)["arrays"]
    expected = pattern("slice3", (512, 512)).astype(np.int16) - 1024
    np.testing.assert_array_equal(open_cache(cache)[3], expected)
    assert not verify(cache)
    assert array["codec"] == {"none": "none", "auto": "lz4", "zstd": "zstd"}[codec]


def test_whoever_has_the_cache_open_goes_on(source: Path, cache: Path) -> None:
    opened = open_cache(cache)
    loader = CacheLoader(opened, 2, seed=1, threads=0)
    first = [b.index.tolist() for b in loader]
    assert opened.newer() == 0
    for number in (3, 4):
        _slice(source, number)
    _updated(source, cache)
    assert (opened.newer(), len(opened)) == (2, 3)
    with pytest.warns(NewerWarning, match="2 frames were added since it was opened"):
        batches = list(loader)
    assert sorted(k for b in batches for k in b.index.tolist()) == [0, 1, 2]
    for batch in batches:
        for image, k in zip(batch.image.numpy(), batch.index.tolist(), strict=True):
            expected = pattern(f"slice{k}", (512, 512)).astype(np.int16) - 1024
            np.testing.assert_array_equal(image, expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loader.set_epoch(0)
        assert [b.index.tolist() for b in loader] == first
    again = open_cache(cache)
    assert (again.newer(), len(again)) == (0, 5)
    np.testing.assert_array_equal(again[4], pattern("slice4", (512, 512)).astype(np.int16) - 1024)


def test_while_it_is_under_way(source: Path, cache: Path) -> None:
    """Planned and converted, and not committed: both what is there and what is to come hold."""
    for number in (3, 4):
        _slice(source, number)
    _killed(source, cache)
    assert attributes(cache)["generation"] == 0
    assert not verify(cache)
    assert len(open_cache(cache)) == 3
    assert standing(cache) is not None
    said = run_here("info", cache)
    assert "3 frames of 3 files" in said.stdout
    assert "adding files: 0 of 1 shard, 0 of 2 frames" in said.stdout
    assert json.loads(run_here("info", cache, "--json").stdout)["generation"] == 0
    assert run_here("build", source, cache, *_FLAGS).returncode == 2  # neither of the two
    assert convert(cache, jobs=1) == 0
    assert attributes(cache)["generation"] == 0
    assert not verify(cache)
    assert run_here("repair", cache).returncode == 0
    (source / "slice004.dcm").unlink()  # and what was planned is ended first
    _slice(source, 5)
    ran = _updated(source, cache)
    assert [p for (p,) in _rows(cache, "path")] == [f"slice00{k}.dcm" for k in (0, 1, 2, 3, 4, 5)]
    assert "3 frames of 3 files added; 6 frames now" in ran.stdout
    assert attributes(cache)["generation"] == 2
    assert not verify(cache)
    assert not (cache / "build").exists()


def test_two_at_once(source: Path, cache: Path, tmp_path: Path) -> None:
    for number in (3, 4, 5):
        _slice(source, number)
    alone = Path(shutil.copytree(cache, tmp_path / "alone"))
    _updated(source, alone)
    again = command("update", source, cache, "--jobs", "1")
    runs = [
        subprocess.Popen(again, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    ended = [(run.communicate(timeout=300), run.returncode) for run in runs]
    assert [code for _, code in ended] == [0] * 3, ended
    assert tree(cache) == tree(alone)


def test_killed_before_durable_steps(source: Path, cache: Path, tmp_path: Path) -> None:
    """Before every fifth; before each: `make test-more`."""
    every = stride(5)
    for number in (3, 4):
        _slice(source, number)
    write_dicom(source / "x.dcm", pattern("x", (40, 30)), SeriesInstanceUID=uid("x"))
    before = _published(cache)
    whole = Path(shutil.copytree(cache, tmp_path / "whole"))
    _updated(source, whole)
    expected = tree(whole)
    driver = [sys.executable, "-m", "tests.support.kill_update", source, cache]
    halves = [
        subprocess.Popen(
            [*driver, tmp_path, str(first), str(2 * every)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=Path(__file__).parents[2],
        )
        for first in (0, every)
    ]  # fmt: skip
    said = [half.communicate(timeout=300) for half in halves]
    steps = [json.loads(line) for out, _ in said for line in out.splitlines()]
    for number, name, killed, problems, frames, status, found in steps:
        where = f"killed before step {number}, {name}: {said[number // every % 2][1]}"
        assert (killed, status) == (-signal.SIGKILL, 0), where
        assert problems == [], where
        assert frames in (3, 6), where
        assert found == expected, where
    assert {name for _, name, *_ in steps} >= {"fsync", "link"}
    assert len(steps) > 40 // every
    assert [half.returncode for half in halves] == [0, 0]
    assert _published(cache) == before


def test_deidentified(source: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(bytes(range(32)))
    key.chmod(0o600)
    cache = tmp_path / "cache"
    assert run_here("build", source, cache, *_FLAGS, "--deidentify", key).returncode == 0
    _slice(source, 3)
    shutil.copy(source / "slice001.dcm", source / "copy.dcm")
    refused = run_here("update", source, cache)
    assert refused.returncode == 2
    assert "--deidentify KEYFILE" in refused.stderr
    _updated(source, cache, "--deidentify", key)
    assert _rows(cache, "row", "stack", "stack_of", "part", "stack_flags", "root") == [
        (0, 0, 0, 0, None, 0), (1, 0, 0, 0, None, 0), (2, 0, 0, 0, None, 0),
        (4, 1, 0, 1, ["one-place", "continues"], 0),
    ]  # fmt: skip
    assert attributes(cache)["counts"]["files_duplicate"] == 1
    assert len(attributes(cache)["sources"]) == 1
    for path in cache.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert b"slice00" not in data, path
            assert str(source).encode() not in data, path
    assert "nothing new" in _updated(source, cache, "--deidentify", key).stdout
    assert run_here("build", source, cache, *_FLAGS, "--deidentify", key).returncode == 0
    os.utime(source / "slice001.dcm", ns=(1, 1))
    ran = _updated(source, cache, "--deidentify", key, status=1)
    assert f"{source}/slice001.dcm: changed" in ran.stderr
    assert not verify(cache)


def test_a_root_that_is_lost_meanwhile(source: Path, cache: Path) -> None:
    _slice(source, 3)
    _killed(source, cache)
    (cache / "zarr.json").unlink()
    for refused in ("convert", "commit", "info", "verify"):
        ran = run_here(refused, cache)
        assert (ran.returncode, "dicom2cache repair" in ran.stderr) == (2, True), (refused, ran)
    assert run_here("repair", cache).returncode == 0
    assert attributes(cache)["generation"] == 0
    _updated(source, cache)
    assert attributes(cache)["generation"] == 1
    assert [k for (k,) in _rows(cache, "row")] == [0, 1, 2, 4]
    assert [row["array"] for row in table(cache, "shards")] == [0, 0]


def test_an_update_that_nodes_share(source: Path, cache: Path, tmp_path: Path) -> None:
    """Planned first, then converted in two parts at once, one of which was killed before."""
    for number in (3, 4, 5, 6):
        _slice(source, number)
    alone = Path(shutil.copytree(cache, tmp_path / "alone"))
    _updated(source, alone)
    ran = run_here("plan", source, cache, "--update")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("4 frames of 4 files, 2.0 MiB in 2 shards")
    assert len(open_cache(cache)) == 3
    dies = (
        "import os, sys; from dicom2cache import convert\n"
        "os.link = lambda *a, **k: os.kill(os.getpid(), 9)\n"
        "convert(sys.argv[1], part='0/2', backend='threading', jobs=1)"
    )
    killed = subprocess.run([sys.executable, "-c", dies, str(cache)], check=False)
    assert killed.returncode == -signal.SIGKILL
    parts = [
        subprocess.Popen(
            command("convert", cache, "--part", f"{k}/2", "--jobs", "1"),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for k in (0, 1)
    ]  # fmt: skip
    for part in parts:
        said = part.communicate(timeout=300)
        assert part.returncode == 0, said
    assert len(open_cache(cache)) == 3
    ran = run_here("commit", cache)
    assert ran.returncode == 0, ran.stderr
    assert tree(cache) == tree(alone)
    inodes = sum(path.is_file() for path in cache.rglob("*"))
    assert inodes == 4 + 4 + 2 + 2 * 6  # shards; 4 of the cache, 2 of an array, 6 of a generation
    ran = run_here("plan", source, cache, "--update")  # nothing is new
    assert (ran.returncode, ran.stdout.split(", ")[0]) == (0, f"{cache}: 7 frames of 7 files")
    assert not (cache / "build").exists()


def test_no_more_arrays_than_the_recipe_says(tmp_path: Path) -> None:
    """A size that is new goes into a slot that is there, or the update is refused."""
    source, cache = tmp_path / "source", tmp_path / "cache"

    def added(side: int) -> None:
        write_dicom(source / f"{side}.dcm", pattern(str(side), (side, side)))

    for side in (16, 20):
        added(side)
    ran = run_here("build", source, cache, "--max-arrays", "2", "--jobs", "1")
    assert ran.returncode == 0, ran.stderr
    added(18)
    _updated(source, cache)
    arrays = [(a["name"], a["frames"]) for a in attributes(cache)["arrays"]]
    assert arrays == [("uint16_16x16", 1), ("uint16_20x20", 2)]
    assert np.array_equal(open_cache(cache)[2], pattern("18", (18, 18)))
    assert verify(cache) == []
    before = tree(cache)
    added(21)
    ran = _updated(source, cache, status=2)
    assert "max_arrays 2 is too few: the cache has 2 arrays" in ran.stderr
    assert tree(cache) == before


@pytest.mark.parametrize("veiled", [False, True])
def test_files_that_were_not_whole_yet(source: Path, tmp_path: Path, veiled: bool) -> None:
    """A copy under way, a file that was none of DICOM, and one that stays bad."""
    (tmp_path / "key").touch(0o600)
    (tmp_path / "key").write_bytes(bytes(32))
    key = ("--deidentify", tmp_path / "key") if veiled else ()
    cache, whole = tmp_path / "cache", {k: _slice(source, k).read_bytes() for k in (3, 4)}
    half, other, bad = source / "slice003.dcm", source / "other", source / "bad.dcm"
    (source / "slice004.dcm").unlink()
    half.write_bytes(whole[3][: len(whole[3]) // 2])
    other.write_bytes(b"not yet")
    bad.write_bytes(whole[3][:-100])
    assert run_here("build", source, cache, *_FLAGS, *key).returncode == 1
    counts = attributes(cache)["counts"]
    assert (counts["files"], counts["files_failed"], counts["files_not_dicom"]) == (6, 2, 1)
    assert "nothing new" in _updated(source, cache, *key).stdout  # as they were
    half.write_bytes(whole[3])
    other.write_bytes(whole[4])
    bad.write_bytes(whole[3][:-200])
    ran = _updated(source, cache, *key, status=1)
    assert "2 frames of 2 files added; 5 frames now" in ran.stdout
    assert "not stored: 1 failed" in ran.stdout
    counts = attributes(cache)["counts"]
    assert {name: n for name, n in counts.items() if n} == {
        "files": 6, "files_stored": 5, "files_failed": 1, "frames_stored": 5,
    }  # fmt: skip
    assert verify(cache) == []
    assert len(set(_rows(cache, "path"))) == 5
    assert "nothing new" in _updated(source, cache, *key).stdout
    assert "not stored: 1 failed\n" in run_here("info", cache).stdout


@pytest.mark.parametrize("veiled", [False, True])
def test_a_source_folder_that_moved(
    source: Path, cache: Path, tmp_path: Path, veiled: bool
) -> None:
    key: tuple[object, ...] = ()
    if veiled:
        (tmp_path / "key").touch(0o600)
        (tmp_path / "key").write_bytes(bytes(32))
        key = ("--deidentify", tmp_path / "key")
        cache = tmp_path / "veiled"
        assert run_here("build", source, cache, *_FLAGS, *key).returncode == 0
    new = tmp_path / "else=where"
    source.rename(new)
    _slice(new, 3)
    if not veiled:  # all would be decoded again, to find copies
        before = tree(cache)
        assert f"give --moved {source}={new}" in _updated(new, cache, status=2).stderr
        assert tree(cache) == before
    ran = _updated(new, cache, "--moved", f"{source}={new}", *key)
    assert ran.stdout == f"{cache}: 1 frame of 1 file added; 4 frames now\n"
    assert [s["root"] for s in attributes(cache)["sources"]] == [0]
    if not veiled:
        assert attributes(cache)["sources"][0]["path"] == str(new)
    assert "nothing new" in _updated(new, cache, *key).stdout  # it is known by now
    assert verify(cache) == []
    ran = _updated(new, cache, "--moved", f"/nowhere={new}", *key, status=2)
    assert "/nowhere was none of its source folders" in ran.stderr or veiled


def test_a_folder_that_was_copied(
    source: Path, cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(source, tmp_path / "copy")
    _updated(tmp_path / "copy", cache)
    assert "3 files there are as those that the cache has from" in caplog.text
    assert "--moved OLD=NEW" in caplog.text
    rows = pq.read_table(cache / "failures" / "1.parquet").to_pylist()
    assert [row["outcome"] for row in rows] == ["duplicate"] * 3
    assert open_cache(cache).newer() == 0


def test_a_plan_of_an_update_replaces_nothing(source: Path, cache: Path) -> None:
    ran = run_here("plan", source, cache, "--update", "--overwrite")
    assert ran.returncode == 2
    assert "give one only" in ran.stderr
    ran = run_here("plan", source, cache.with_name("none"), "--update")
    assert ran.returncode == 2
    assert "not a cache" in ran.stderr


def test_whoever_comes_by_leaves_a_plan_that_is_being_made(
    source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any command tidies up what was left of plans; here one after each folder of a new plan."""
    _slice(source, 3)
    works, made = os.mkdir, list[str]()

    def mkdir(path: Any, *rest: Any, **named: Any) -> None:
        works(path, *rest, **named)
        if Path(path).is_relative_to(cache / "build") and len(made) < 9:
            made.append(str(path))
            tidy(cache)

    monkeypatch.setattr(os, "mkdir", mkdir)
    assert update(source, cache, jobs=1, backend="threading").added["frames_stored"] == 1
    assert len(made) == 9
    assert not (cache / "build").exists()


def test_what_a_small_command_does_not_import(source: Path, cache: Path) -> None:
    """Start-up is most of what a small update costs."""
    code = (
        "import sys; from dicom2cache import build, update; command, *paths = sys.argv[1:]\n"
        "({'build': build, 'update': update}[command])(paths[:-1], paths[-1], jobs=1)\n"
        "print(*sys.modules)"
    )

    def imported(*arguments: object) -> set[str]:
        ran = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        return set(ran.stdout.split())

    slow = {"pydicom", "zarr", "joblib", "torch"}
    nothing_new = imported("update", source, cache)
    assert not nothing_new & {*slow, "dicom2cache.planning.plan", "dicom2cache.frames.decode"}
    _slice(source, 3)
    slow.remove("pydicom")  # a header is read
    assert not imported("update", source, cache) & slow
    assert len(_rows(cache, "row")) == 4
    assert not imported("build", source, cache.with_name("other")) & slow
