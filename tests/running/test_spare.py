"""The second copies of what cannot be made again; build/ is gone once a cache is committed."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from dicom2cache import commit, convert, info, plan
from tests.support.caches import Ran, run_here, tree

_FLAGS = ("--shard-mib", "1", "--jobs", "1")


@pytest.fixture
def cache(tmp_path: Path, ct_series_cache: Path) -> Path:
    return Path(shutil.copytree(ct_series_cache, tmp_path / "cache"))


def test_copies_are_other_bytes(ct_series_cache: Path) -> None:
    copies = {
        "root.json": "zarr.json",
        "int16_512x512.zarr.json": "int16_512x512/zarr.json",
        "frames.0.parquet": "frames/0.parquet",
        "failures.0.parquet": "failures/0.parquet",
        "shards.0.parquet": "shards/0.parquet",
    }
    spare = ct_series_cache / ".spare"
    assert {p.name for p in spare.iterdir()} == {*copies, "times.json", "seen.bin"}
    for name, path in copies.items():
        assert (spare / name).read_bytes() == (ct_series_cache / path).read_bytes()
        assert (spare / name).stat().st_nlink == 1
        assert not os.path.samefile(spare / name, ct_series_cache / path)


def test_times_of_sources_are_in_two_files_only(tmp_path: Path, ct_series: Path) -> None:
    source = Path(shutil.copytree(ct_series, tmp_path / "source"))
    assert run_here("build", source, tmp_path / "one", *_FLAGS).returncode == 0
    for path in source.iterdir():
        os.utime(path, (1, 1))
    assert run_here("build", source, tmp_path / "other", *_FLAGS).returncode == 0
    one, other = tree(tmp_path / "one"), tree(tmp_path / "other")
    assert {k for k in one if one[k] != other.get(k)} == {
        ".spare/times.json", ".spare/seen.bin",
    }  # fmt: skip
    assert len(one) == len(other)
    ran = run_here("build", source, tmp_path / "one", *_FLAGS)
    assert (ran.returncode, "made from other files" in ran.stderr) == (2, True)
    (tmp_path / "one" / ".spare" / "times.json").write_text('{"times": "0"}')  # damaged: not known
    assert run_here("info", tmp_path / "one").returncode == 0


def _left_over(source: Path, cache: Path) -> None:
    """A cache whose converter died between the root and the removal of its state."""
    assert plan(source, cache, jobs=1)
    convert(cache, jobs=1)
    shutil.copytree(cache / "build", cache.parent / "state")
    commit(cache)
    os.rename(cache.parent / "state", cache / "build")


@pytest.mark.parametrize("command", ["info", "verify", "convert", "commit", "compare", "build"])
def test_any_command_ends_what_a_killed_one_left(
    tmp_path: Path, ct_series: Path, command: str
) -> None:
    cache = tmp_path / "cache"
    _left_over(ct_series, cache)
    assert list((cache / "build").rglob("*.arrow"))
    words: dict[str, tuple[Any, ...]] = {"compare": (cache, cache), "build": (ct_series, cache)}
    assert run_here(command, *words.get(command, (cache,))).returncode == 0
    assert not (cache / "build").exists()


def test_who_may_not_write_leaves_it(
    tmp_path: Path, ct_series: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    _left_over(ct_series, cache)

    def read_only(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for name in ("rename", "unlink", "rmdir"):
        monkeypatch.setattr(os, name, read_only)
    assert info(cache)["counts"]["frames_stored"] == 12


def test_a_plan_that_comes_late_leaves_the_cache(tmp_path: Path, ct_series: Path) -> None:
    """A planner that began before there was a cache, and ends after it was committed."""
    from dicom2cache.errors import Unfinished
    from dicom2cache.running.job import save_plan

    cache = tmp_path / "cache"
    late = plan(ct_series, cache, jobs=1)
    assert late is not None
    convert(cache, jobs=1)
    commit(cache)
    before = tree(cache)
    from dataclasses import replace

    again = plan(ct_series, tmp_path / "other", jobs=1)
    assert again is not None
    with pytest.raises(Unfinished, match="committed already"):
        save_plan(replace(late, plan=again.plan, nonce="0" * 16))
    assert tree(cache) == before


def _overwritten(series: Path, cache: Path) -> Ran:
    return run_here("build", series, cache, "--overwrite", *_FLAGS)


def test_a_wreck_is_named_and_can_be_overwritten(cache: Path, ct_series: Path) -> None:
    before = tree(cache)
    (cache / "zarr.json").write_text("{")
    shutil.rmtree(cache / ".spare")
    ran = run_here("build", ct_series, cache, *_FLAGS)
    assert (ran.returncode, "give --overwrite to make it again" in ran.stderr) == (2, True)
    assert _overwritten(ct_series, cache).returncode == 0
    assert tree(cache) == before


def test_overwrite_removes_only_what_a_cache_names(cache: Path, ct_series: Path) -> None:
    mine = [cache / folder / "mine.txt" for folder in ("frames", "int16_512x512", ".spare")]
    for path in mine:
        path.write_text("precious")
    assert _overwritten(ct_series, cache).returncode == 0
    assert [path.read_text() for path in mine] == ["precious"] * 3


def test_an_overwrite_that_was_killed_is_known(cache: Path, ct_series: Path) -> None:
    from dicom2cache.running import remains

    before = tree(cache)
    remains.mark_as_replaced(cache)
    (cache / "zarr.json").unlink()  # and then it died
    ran = run_here("build", ct_series, cache, *_FLAGS)
    assert (ran.returncode, "being replaced" in ran.stderr) == (2, True)
    assert _overwritten(ct_series, cache).returncode == 0
    assert tree(cache) == before


def test_a_lost_root_is_named_with_its_remedy(cache: Path, ct_series: Path) -> None:
    (cache / "zarr.json").unlink()
    for words in (("build", ct_series, cache, *_FLAGS), ("info", cache), ("commit", cache)):
        ran = run_here(*words)
        assert ran.returncode == 2
        assert f"run `dicom2cache repair {cache}`" in ran.stderr
