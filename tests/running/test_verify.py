"""Each kind of damage is found, named with its source file and frame, and has its own remedy."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dicom2cache.pipeline import findings
from dicom2cache.running.attempts import attempt_name
from dicom2cache.running.verify.layout import extra
from tests.support.caches import attributes, run_here, table

SHARD = "int16_512x512/c.3.0.0"
_SLOT = 512 * 512 * 2


@pytest.fixture
def cache(ct_series_cache: Path, tmp_path: Path) -> Path:
    """A copy of the CT cache: six shards of two frames."""
    return Path(shutil.copytree(ct_series_cache, tmp_path / "cache"))


def flip(path: Path, place: int, bit: int = 0) -> None:
    with open(path, "rb+") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1 << bit]))


def test_a_whole_cache_has_none(ct_series_cache: Path) -> None:
    assert findings(ct_series_cache) == []
    assert findings(ct_series_cache, quick=True) == []


def test_a_finding_names_shard_slot_source_and_frame(cache: Path) -> None:
    flip(cache / SHARD, _SLOT + 99)
    (found,) = findings(cache)
    assert (found.cache, found.name, found.kind) == (cache, SHARD, "slots")
    assert (found.array, found.shard, found.slots) == (0, 3, (1,))
    (frame,) = found.frames
    row = table(cache, "frames")[7]
    assert (frame.root, frame.path, frame.frame, frame.part) == (0, row["path"], 0, 0)
    assert str(found).startswith(
        f"{cache / SHARD}: slot 1 is damaged (CRC-32C) ({frame.folder}/{row['path']}, frame 0); "
    )


@pytest.mark.parametrize(
    ("name", "damage", "kind", "said"),
    [
        (SHARD, Path.unlink, "shard", "No such file or directory"),
        (SHARD, lambda p: os.truncate(p, 7), "shard", "7 bytes, 1048612 expected"),
        (SHARD, lambda p: flip(p, 2 * _SLOT + 3), "shard", "the CRC-32C of its index"),
        (SHARD, lambda p: (p.unlink(), p.mkdir()), "place", "a folder, and not a file"),
        (SHARD, lambda p: (p.unlink(), os.mkfifo(p)), "place", "a FIFO, and not a file"),
        (SHARD, lambda p: (p.rename(p.with_name("x")), p.symlink_to("x")), "place", "a link"),
    ],
)
def test_a_shard_that_is_lost_names_all_its_frames(
    cache: Path, name: str, damage: Callable[[Path], object], kind: str, said: str
) -> None:
    damage(cache / name)
    found = next(f for f in findings(cache, quick=True) if f.name == name)
    assert (found.kind, found.array, found.shard, found.slots) == (kind, 0, 3, (0, 1))
    assert said in found.what
    rows = table(cache, "frames")[6:8]
    assert [f.path for f in found.frames] == [r["path"] for r in rows]


@pytest.mark.parametrize(
    ("name", "damage", "kind"),
    [
        ("frames/0.parquet", lambda p: flip(p, 50), "table"),
        ("failures/0.parquet", Path.unlink, "table"),
        ("shards/0.parquet", lambda p: os.truncate(p, 9), "table"),
        ("shards/0.parquet", lambda p: (p.unlink(), os.mkfifo(p)), "place"),
        ("int16_512x512/zarr.json", lambda p: flip(p, 30), "metadata"),
        ("int16_512x512/zarr.json", Path.unlink, "metadata"),
        ("zarr.json", lambda p: flip(p, 0), "root"),
        ("zarr.json", lambda p: flip(p, 200), "root"),
        ("notes.txt", Path.touch, "extra"),
        ("int16_512x512/c.6.0.0", Path.touch, "extra"),
        ("frames/1.parquet.old", Path.touch, "extra"),
        ("empty", Path.mkdir, "extra"),
        ("build", lambda p: (p.mkdir(), (p / "mine").touch()), "extra"),
        (".spare/frames.0.parquet", lambda p: flip(p, 50), "spare"),
        (".spare/root.json", Path.unlink, "spare"),
        (".spare/int16_512x512.zarr.json", lambda p: flip(p, 30), "spare"),
        (".spare/times.json", lambda p: flip(p, 20), "spare"),
        (".spare/seen.bin", lambda p: flip(p, 60), "spare"),
        (".spare/zarr.json", Path.touch, "extra"),
    ],
)
def test_what_is_wrong_is_told_by_kind(
    cache: Path, name: str, damage: Callable[[Path], object], kind: str
) -> None:
    damage(cache / name)
    (found,) = findings(cache, quick=True)
    assert (found.name, found.kind, found.array if kind == "metadata" else 0) == (name, kind, 0)
    assert str(found).startswith(f"{cache / name}: ")


def test_a_repair_that_begins_or_ends_meanwhile_is_nothing_wrong(cache: Path) -> None:
    """Its folder comes before it, and is gone after it."""
    for then, left in (
        (lambda: (cache / "build").rmdir(), []),
        (lambda: (cache / "build" / "repair" / attempt_name("tables")).mkdir(parents=True), []),
        (lambda: None, ["build"]),
    ):
        (cache / "a").touch()
        shutil.rmtree(cache / "build", ignore_errors=True)
        (cache / "build").mkdir()
        found = extra(cache, attributes(cache), None)
        assert next(found).name == "a"  # what the folder has is listed by now
        then()
        assert [f.name for f in found] == left


@pytest.fixture
def not_root(ct_series_cache: Path) -> Iterator[Path]:
    """A copy of the CT cache, and a user who may not read everything."""
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(shutil.copytree(ct_series_cache, Path(folder) / "cache"))
        findings(cache)  # all that is imported late
        if (user := os.geteuid()) == 0:
            Path(folder).chmod(0o755)
            os.seteuid(65534)  # nobody
        try:
            yield cache
        finally:
            os.seteuid(user)


@pytest.mark.parametrize("name", [SHARD, "frames/0.parquet", "int16_512x512/zarr.json", "shards"])
def test_a_lost_permission_is_no_lost_file(not_root: Path, name: str) -> None:
    owner, now = (not_root / name).stat().st_uid, os.geteuid()
    os.seteuid(owner)
    (not_root / name).chmod(0)
    os.seteuid(now)
    found = findings(not_root)
    assert {f.kind for f in found} == {"unreadable"}
    assert found[0].name.startswith(name)
    assert "nothing is known to be lost" in str(found[0])


def test_bytes_of_a_slot_without_a_frame_are_zeros(tmp_path: Path) -> None:
    from tests.support import hand_made

    hand_made.write(tmp_path)
    assert findings(tmp_path) == []
    flip(tmp_path / "grey" / "c.0.0.0", 2 * 60 + 59, 7)  # the third frame of the shard failed
    (found,) = findings(tmp_path)
    assert (found.name, found.kind, found.slots) == ("grey/c.0.0.0", "shard", ())
    assert "slot 2 holds no frame, and not only zeros; no frame is lost" in found.what


def test_the_command_prints_a_line_each(cache: Path) -> None:
    (cache / SHARD).unlink()
    (cache / "empty").mkdir()
    ran = run_here("verify", cache)
    assert ran.returncode == 1
    lines = ran.stderr.splitlines()
    assert [line.split(": ")[0] for line in lines] == [str(cache / "empty"), str(cache / SHARD)]
    assert lines[0].endswith("it is none of the cache's: move it elsewhere, or delete it")
