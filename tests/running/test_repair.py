"""Damage of every kind is mended: afterwards each byte of the cache is as it was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicom2cache.running.originals import Originals
from dicom2cache.running.repair.shards import Mended, mend
from dicom2cache.store.layout import attributes_sha256
from tests.conftest import example_files
from tests.support.caches import Ran, attributes, built, run_cli, run_here, stored, table, tree
from tests.support.faults import wavelets, with_fault
from trainer_adapter import open_cache

ARRAY = "int16_512x512"  # of ct_series: 12 frames in 6 shards of 2


@pytest.fixture
def cache(tmp_path: Path, ct_series_cache: Path) -> Path:
    return Path(shutil.copytree(ct_series_cache, tmp_path / "cache"))


def _repair(cache: Path, *words: object, status: int = 0) -> Ran:
    ran = run_here("repair", cache, "--jobs", "1", *words)
    assert ran.returncode == status, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
    return ran


def flip(path: Path, place: int) -> None:
    """Turn one bit of a file over; counted from its end if below 0."""
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)


def cut(path: Path, size: int) -> None:
    os.truncate(path, size)


def swap(one: Path, other: Path) -> None:
    between = one.with_name("between")
    os.rename(one, between)
    os.rename(other, one)
    os.rename(between, other)


SHARD = f"{ARRAY}/c.2.0.0"
DAMAGE: dict[str, Callable[[Path], object]] = {
    "nothing": lambda c: None,
    "root gone": lambda c: (c / "zarr.json").unlink(),
    "root flipped": lambda c: flip(c / "zarr.json", 300),
    "root flipped beside ours": lambda c: flip(c / "zarr.json", -40),
    "root is other bytes": lambda c: (c / "zarr.json").write_bytes(os.urandom(500)),
    "root empty": lambda c: cut(c / "zarr.json", 0),
    "array metadata gone": lambda c: (c / ARRAY / "zarr.json").unlink(),
    "array metadata and copy": lambda c: [
        flip(p, 50) for p in (c / ARRAY / "zarr.json", c / ".spare" / f"{ARRAY}.zarr.json")
    ],
    "frames flipped": lambda c: flip(c / "frames" / "0.parquet", 1000),
    "frames gone": lambda c: shutil.rmtree(c / "frames"),
    "failures cut": lambda c: cut(c / "failures" / "0.parquet", 10),
    "shards flipped": lambda c: flip(c / "shards" / "0.parquet", -200),
    "copies gone": lambda c: [
        p.unlink() for p in (c / ".spare").iterdir() if p.name not in ("times.json", "seen.bin")
    ],
    "a copy flipped": lambda c: flip(c / ".spare" / "frames.0.parquet", 99),
    "copy of the root flipped": lambda c: flip(c / ".spare" / "root.json", 99),
    "shard gone": lambda c: (c / SHARD).unlink(),
    "all of an array gone": lambda c: shutil.rmtree(c / ARRAY),
    "shard cut": lambda c: cut(c / SHARD, 600_000),
    "shard empty": lambda c: cut(c / SHARD, 0),
    "shard longer": lambda c: (c / SHARD).write_bytes((c / SHARD).read_bytes() + b"x"),
    "data flipped": lambda c: flip(c / SHARD, 1000),
    "index flipped": lambda c: flip(c / SHARD, -20),
    "checksum of the index flipped": lambda c: flip(c / SHARD, -2),
    "every frame flipped": lambda c: [
        flip(p, k * 524288 + 7) for p in (c / ARRAY).glob("c.*") for k in (0, 1)
    ],
    "shards swapped": lambda c: swap(c / SHARD, c / ARRAY / "c.4.0.0"),
    "a FIFO": lambda c: ((c / SHARD).unlink(), os.mkfifo(c / SHARD)),
    "a link": lambda c: ((c / SHARD).unlink(), (c / SHARD).symlink_to("c.1.0.0")),
    "all at once": lambda c: [
        (c / "zarr.json").unlink(), flip(c / "frames" / "0.parquet", 1), (c / SHARD).unlink(),
        flip(c / ARRAY / "c.0.0.0", 5), cut(c / ARRAY / "c.1.0.0", 99),
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_each_byte_is_as_it_was(cache: Path, kind: str) -> None:
    before = tree(cache)
    DAMAGE[kind](cache)
    ran = _repair(cache)
    assert tree(cache) == before
    assert f"{cache}: whole" in ran.stdout
    assert run_here("verify", cache).returncode == 0
    assert _repair(cache).stdout == f"{cache}: whole\n"  # nothing is left to do


def test_it_says_what_it_did(cache: Path) -> None:
    flip(cache / "frames" / "0.parquet", 1000)
    flip(cache / SHARD, 1000)
    assert _repair(cache).stdout.splitlines() == [
        f"{cache}/frames/0.parquet: restored from its other copy",
        f"{cache}/{SHARD}: written anew, 1 of 2 frames from sources",
        f"{cache}: whole",
    ]


@pytest.mark.parametrize("name", ["zarr.json", "frames/0.parquet", "shards/0.parquet"])
def test_what_is_lost_with_its_copy_is_beyond_repair(
    cache: Path, ct_series: Path, name: str
) -> None:
    from dicom2cache.store.layout import spare_path

    before = tree(cache)
    flip(cache / name, 300)
    flip(cache / spare_path(name), 301)
    ran = _repair(cache, status=2)
    assert f"{cache / name}: lost or damaged, and so is its copy" in ran.stderr
    assert "`dicom2cache build` with --overwrite" in ran.stderr
    again = run_here("build", ct_series, cache, "--overwrite", "--shard-mib", "1", "--jobs", "1")
    assert again.returncode == 0, again.stderr
    assert tree(cache) == before


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda p: p.unlink(),
        lambda p: flip(p, 3),
        lambda p: flip(p, 5000),
        lambda p: flip(p, -9),
        lambda p: cut(p, p.stat().st_size - 30),
    ],
    ids=["gone", "chunk's header", "chunk", "index", "cut"],
)
def test_compressed_shards(
    tmp_path: Path, ct_series: Path, codec: str, damage: Callable[[Path], object]
) -> None:
    flags = ("--shard-mib", "2", "--jobs", "1", "--codec", codec)
    cache = built(ct_series, tmp_path / "cache", *flags)
    before = tree(cache)
    damage(cache / ARRAY / "c.0.0.0")
    _repair(cache)
    assert tree(cache) == before


def test_frames_that_are_whole_need_no_source(tmp_path: Path, ct_series: Path) -> None:
    """An index that is lost, and a frame that is damaged: the others' sources are gone."""
    for codec in ("none", "zstd"):
        source = Path(shutil.copytree(ct_series, tmp_path / codec))
        cache = built(source, tmp_path / f"cache.{codec}", "--shard-mib", "8", "--codec", codec)
        before, (first, *rest) = tree(cache), table(cache, "frames")
        (shard,) = (cache / ARRAY).glob("c.*")
        flip(shard, 4000)  # of the first slot
        flip(shard, -9)  # of the index
        for row in rest:
            (source / row["path"]).unlink()
        ran = _repair(cache)
        assert "1 of 12 frames from sources" in ran.stdout
        assert tree(cache) == before
        assert (source / first["path"]).exists()


def _rows_of_shard(cache: Path, shard: int) -> list[dict[str, Any]]:
    return [row for row in table(cache, "frames") if row["row"] // 2 == shard]


def test_a_source_that_is_gone_costs_only_its_own_frame(tmp_path: Path, ct_series: Path) -> None:
    source = Path(shutil.copytree(ct_series, tmp_path / "source"))
    cache = built(source, tmp_path / "cache", "--shard-mib", "1", "--jobs", "1")
    before = {k: v for k, v in tree(cache).items() if k != SHARD}
    first, second = _rows_of_shard(cache, 2)
    whole = (cache / SHARD).read_bytes()
    flip(cache / SHARD, 1000)
    flip(cache / SHARD, 525000)
    damaged = (cache / SHARD).read_bytes()
    hidden = source / second["path"]
    os.rename(hidden, tmp_path / "hidden")
    ran = _repair(cache, status=1)
    assert f"{hidden}, frame 0: the source cannot be read (No such file" in ran.stderr
    assert "1 of 2 frames from sources" in ran.stdout
    assert (cache / SHARD).read_bytes() == whole[:524288] + damaged[524288:]
    assert first["path"] not in ran.stderr
    assert {k: v for k, v in tree(cache).items() if k != SHARD} == before
    assert _repair(cache, status=1).stdout == ""  # it does not write what would be the same
    os.rename(tmp_path / "hidden", hidden)
    _repair(cache)
    assert (cache / SHARD).read_bytes() == whole


def test_a_shard_that_readers_refuse_is_not_half_mended(tmp_path: Path, ct_series: Path) -> None:
    """With a right index, a frame that is still damaged would be served in silence."""
    source = Path(shutil.copytree(ct_series, tmp_path / "source"))
    cache = built(source, tmp_path / "cache", "--shard-mib", "1", "--jobs", "1")
    (source / _rows_of_shard(cache, 2)[1]["path"]).unlink()
    cut(cache / SHARD, 530_000)
    ran = _repair(cache, status=1)
    assert "stays as it is" in ran.stderr
    assert (cache / SHARD).stat().st_size == 530_000
    (cache / SHARD).unlink()
    assert _repair(cache, status=1).stdout == ""
    assert not (cache / SHARD).exists()
    assert not (cache / "build").exists()


def test_a_source_that_changed_is_never_stored(tmp_path: Path, ct_series: Path) -> None:
    source = Path(shutil.copytree(ct_series, tmp_path / "source"))
    cache = built(source, tmp_path / "cache", "--shard-mib", "1", "--jobs", "1")
    row = _rows_of_shard(cache, 2)[0]
    flip(source / row["path"], -100)  # a pixel
    flip(cache / SHARD, 1000)
    before = (cache / SHARD).read_bytes()
    ran = _repair(cache, status=1)
    said = f"{source / row['path']}, frame 0: what is made of it now differs from what was stored"
    assert said in ran.stderr
    assert (cache / SHARD).read_bytes() == before
    shutil.copy(ct_series / row["path"], source / row["path"])  # other times, the same bytes
    _repair(cache)
    assert run_here("verify", cache).returncode == 0


def test_sources_that_lie_elsewhere_by_now(tmp_path: Path, ct_series: Path) -> None:
    source = Path(shutil.copytree(ct_series, tmp_path / "source"))
    cache = built(source, tmp_path / "cache", "--shard-mib", "1", "--jobs", "1")
    before = tree(cache)
    os.rename(source, tmp_path / "moved")
    (cache / SHARD).unlink()
    assert "the source folder cannot be read" in _repair(cache, status=1).stderr
    ran = _repair(cache, "--source", tmp_path, "--source", tmp_path, status=2)
    assert "made from 1 folder, and 2 were given" in ran.stderr
    _repair(cache, "--source", tmp_path / "moved")
    assert tree(cache) == before


RECIPES: dict[str, tuple[object, ...]] = {
    "percentiles": ("--intensity", "percentiles", "--dtype", "uint8"),
    "windows": ("--intensity", "window", "--window", "40,400", "--dtype", "uint8"),
    "size": ("--size", "64"),
    "spacing": ("--spacing", "1.5"),
    "auto": ("--codec", "auto"),
    "few arrays": ("--max-arrays", "6"),
}


@pytest.mark.parametrize("name", RECIPES)
def test_what_was_chosen_from_many_frames_is_kept(
    tmp_path: Path, config_home: Path, name: str
) -> None:
    """All shards are lost; frames of all kinds are made again with what their stacks came to."""
    where = ("--where", "modality in ('CT', 'MR')") if name in ("spacing", "percentiles") else ()
    cache = tmp_path / "cache"
    (tmp_path / "disc").mkdir()
    paths = example_files(tmp_path / "disc")
    ran = run_here("build", *paths, cache, "--jobs", "1", *where, *RECIPES[name])
    assert ran.returncode in (0, 1), ran.stderr
    before = tree(cache)
    for path in cache.glob("*/c.*"):
        path.unlink()
    _repair(cache)
    assert tree(cache) == before


def test_failed_frames_keep_their_empty_slot(tmp_path: Path, ct_series: Path) -> None:
    source = Path(shutil.copytree(ct_series, tmp_path / "source"))
    path = sorted(source.iterdir())[4]
    cut(path, path.stat().st_size - 100)
    cache = built(source, tmp_path / "cache", "--shard-mib", "8", "--jobs", "1", status=1)
    before = tree(cache)
    (shard,) = (cache / ARRAY).glob("c.*")
    rows = {row["row"] for row in table(cache, "frames")}
    (empty,) = set(range(12)) - rows or {None}
    if empty is not None:
        flip(shard, empty * 524288 + 9)
    else:
        flip(shard, 9)
    _repair(cache)
    assert tree(cache) == before


def test_a_reader_that_has_it_open_keeps_the_old_bytes(cache: Path) -> None:
    flip(cache / SHARD, 525000)  # of its second frame: the first that is asked for is looked at
    reader = open_cache(cache)
    assert reader[4].shape == (512, 512)
    before = np.array(reader[5])
    _repair(cache)
    np.testing.assert_array_equal(reader[5], before)
    after = open_cache(cache)
    assert after[4].shape == (512, 512)
    assert not np.array_equal(after[5], before)


def _mended_here(cache: Path, shard: int) -> Mended:
    """What becomes of a shard, in this process."""
    about = attributes(cache)
    folders = {s["root"]: s["path"] for s in about["sources"]}
    return mend(str(cache), about["sha256"], 0, shard, Originals(folders))


def test_a_lost_permission_is_no_lost_file(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    works = os.open

    def refuses(path: Any, *arguments: Any, **options: Any) -> int:
        if os.fspath(path).endswith(SHARD):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return works(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuses)
    shard = _mended_here(cache, 2)
    assert (shard.written, shard.why) == (False, "cannot be read (Permission denied): give it back")


def test_other_versions_may_not_make_other_bytes(
    tmp_path: Path, ct_series: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Blosc that compresses otherwise: the frames are right, but not the bytes."""
    from dicom2cache.store import compression

    cache = built(ct_series, tmp_path / "cache", "--jobs", "1", "--codec", "zstd")
    flip(cache / ARRAY / "c.0.0.0", 5000)
    before = tree(cache)
    monkeypatch.setattr(compression, "_level", lambda spec: 9)
    shard = _mended_here(cache, 0)
    assert (shard.written, "another size or index" in shard.why) == (False, True)
    shutil.rmtree(cache / "build")
    assert tree(cache) == before


def test_never_committed_is_said(tmp_path: Path, ct_series: Path) -> None:
    assert run_here("plan", ct_series, tmp_path / "cache").returncode == 0
    assert "not committed yet" in _repair(tmp_path / "cache", status=2).stderr
    (tmp_path / "empty").mkdir()
    assert "not a cache" in _repair(tmp_path / "empty", status=2).stderr
    assert list((tmp_path / "empty").iterdir()) == []


def test_two_repairs_at_once(cache: Path) -> None:
    before = tree(cache)
    DAMAGE["all at once"](cache)
    words = [sys.executable, "-m", "dicom2cache.cli", "repair", str(cache), "--jobs", "1"]
    runs = [subprocess.Popen(words, stdout=subprocess.DEVNULL) for _ in range(3)]
    assert [run.wait(120) for run in runs] == [0, 0, 0]
    assert tree(cache) == before


def test_worker_processes(cache: Path) -> None:
    before = tree(cache)
    for path in (cache / ARRAY).glob("c.*"):
        flip(path, 99)
    ran = run_cli("repair", cache, "--jobs", "2")
    assert ran.returncode == 0, ran.stderr
    assert tree(cache) == before


@pytest.mark.parametrize("command", ["build", "plan", "convert", "commit"])
@pytest.mark.parametrize("kind", ["root flipped", "shard gone", "frames flipped", "shard cut"])
def test_damage_is_said_by_who_finds_a_cache_there(
    cache: Path, ct_series: Path, command: str, kind: str
) -> None:
    DAMAGE[kind](cache)
    flags = ("--shard-mib", "1", "--jobs", "1")
    words = (ct_series, cache, *flags) if command in ("build", "plan") else (cache,)
    ran = run_here(command, *words)
    assert ran.returncode == 2
    assert f"run `dicom2cache repair {cache}`" in ran.stderr
    _repair(cache)
    assert run_here(command, *words).returncode == 0


def test_pixels_are_those_of_the_sources(cache: Path) -> None:
    before = [pixels.copy() for _, pixels in stored(cache)]
    for path in (cache / ARRAY).glob("c.*"):
        path.unlink()
    _repair(cache)
    for (_, pixels), expected in zip(stored(cache), before, strict=True):
        np.testing.assert_array_equal(pixels, expected)
    assert json.loads((cache / "zarr.json").read_bytes())["attributes"]
    assert attributes(cache)["counts"]["frames_stored"] == 12


def test_slices_of_mosaics_and_tiles(tmp_path: Path, config_home: Path) -> None:
    from tests.support.siemens import write_mosaic
    from tests.whole.test_slides import write_slide

    (tmp_path / "in").mkdir()
    slices = np.arange(7 * 12 * 16, dtype=np.uint16).reshape(7, 12, 16)
    write_mosaic(tmp_path / "in" / "m.dcm", slices, [1, 0, 0, 0, 1, 0], [0, 0, 1])
    write_slide(tmp_path / "in" / "s.dcm", 6, (30, 40))
    for codec in ("none", "lz4"):
        cache = built(tmp_path / "in", tmp_path / codec, "--jobs", "1", "--codec", codec)
        before = tree(cache)
        assert {row["part_of_frame"] for row in table(cache, "frames")} >= {0, 1, 2}
        for path in cache.glob("*/c.*"):
            path.unlink()
        _repair(cache)
        assert tree(cache) == before


def test_a_de_identified_cache_needs_its_key_for_shards_only(
    tmp_path: Path, ct_series: Path
) -> None:
    key = tmp_path / "key"
    key.touch(0o600)
    key.write_bytes(b"0123456789abcdef")
    flags = ("--shard-mib", "1", "--jobs", "1")
    cache = built(ct_series, "--deidentify", key, tmp_path / "cache", *flags)
    before = tree(cache)
    flip(cache / "frames" / "0.parquet", 1000)
    _repair(cache)
    assert tree(cache) == before
    (cache / SHARD).unlink()
    ran = _repair(cache, status=1)
    assert "give --deidentify KEYFILE, and --source FOLDER" in ran.stderr
    _repair(cache, "--deidentify", key, "--source", ct_series)
    assert tree(cache) == before


def test_a_full_disk_is_named_and_leaves_all_as_it_was(cache: Path, tmp_path: Path) -> None:
    flip(cache / SHARD, 1000)
    flip(cache / "frames" / "0.parquet", 1000)
    before, whole = tree(cache), attributes(cache)
    for function in ("fsync", "replace", "ftruncate"):
        ran = run_cli(
            "repair",
            cache,
            "--jobs",
            "1",
            env=with_fault("errno", function, 28),
        )
        assert ran.returncode == 2, ran.stdout + ran.stderr
        assert str(cache) in ran.stderr
        assert "Traceback" not in ran.stderr
    _repair(cache)
    assert attributes(cache) == whole
    assert run_here("verify", cache).returncode == 0
    assert {k for k, v in tree(cache).items() if before[k] != v} == {SHARD, "frames/0.parquet"}


def test_killed_at_each_step_it_is_run_again(tmp_path: Path, ct_series_cache: Path) -> None:
    """The killed one leaves no cache that looks whole and is not; the next one ends the work."""
    damaged = Path(shutil.copytree(ct_series_cache, tmp_path / "damaged"))
    whole = tree(damaged)
    DAMAGE["all at once"](damaged)
    (tmp_path / "runs").mkdir()
    words = [sys.executable, "-m", "tests.support.kill_repair", damaged, tmp_path / "runs"]
    ran = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=200)
    assert ran.returncode == 0, ran.stderr
    steps = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(steps) > 15
    for step, name, killed, opened, status, found in steps:
        assert (killed, status) == (-9, 0), (step, name)
        left = {k: v for k, v in opened.items() if k.split("/")[0] != "build"}
        assert left in ({}, whole), f"a root before all was mended, at {step} {name}"
        assert found == whole, (step, name)


def test_what_a_worker_dies_of_costs_its_own_frame(tmp_path: Path, config_home: Path) -> None:
    (tmp_path / "source").mkdir()
    _, digest = wavelets(tmp_path / "source")
    flags = ("--shard-mib", "1", "--jobs", "1")
    cache = built(tmp_path / "source", tmp_path / "cache", *flags)
    before = tree(cache)
    for path in cache.glob("*/c.*"):
        flip(path, 7)
        flip(path, 524288 + 7)
    ran = run_cli("repair", cache, "--jobs", "2", env=with_fault("abort-decoder", digest))
    assert ran.returncode == 1, ran.stderr
    assert "j3.dcm, frame 0: " in ran.stderr
    assert "Traceback" not in ran.stderr
    _repair(cache)
    assert tree(cache) == before


def test_a_cache_of_before_there_were_copies(cache: Path) -> None:
    """Its shards are mended; it gets no copies, since nobody would look after them."""
    document = json.loads((cache / "zarr.json").read_bytes())
    about = document["attributes"]["dicom2cache"]
    del about["identity"]
    about["sha256"] = attributes_sha256(about)
    (cache / "zarr.json").write_text(json.dumps(document, indent=1) + "\n")
    shutil.rmtree(cache / ".spare")
    before = tree(cache)
    (cache / SHARD).unlink()
    _repair(cache)
    assert tree(cache) == before
    flip(cache / "frames" / "0.parquet", 99)
    assert "so is its copy" in _repair(cache, status=2).stderr
