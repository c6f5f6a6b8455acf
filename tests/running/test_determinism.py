"""The same sources and recipe give the same bytes, whoever does the work in whatever order."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pydicom import examples

from tests.support.caches import attributes, built, failures, run_cli, run_here, table, tree
from tests.support.dicom_files import pattern, uid, write_dicom
from tests.support.faults import with_fault

_EXAMPLES = [Path(examples.get_path(n)) for n in ("jpeg2k", "rt_dose", "ct", "waveform", "mr")]


@pytest.mark.parametrize(
    ("options", "fork"),
    [
        (("--jobs", "1"), "all-workers"),  # however little there is to do
        (("--jobs", "2"), "all-workers"),
        (("--jobs", "2"), "all-workers; no-fork"),
        (("--jobs", "2", "--backend", "threading"), "all-workers"),
    ],
)
def test_number_and_kind_of_workers(
    tmp_path: Path, ct_series: Path, ct_series_cache: Path, options: tuple[str, ...], fork: str
) -> None:
    cache = tmp_path / "cache"
    fault = with_fault(fork)
    ran = run_cli("build", ct_series, cache, "--shard-mib", "1", *options, env=fault)
    assert (ran.returncode, "12 frames of 12 files" in ran.stdout) == (0, True)
    assert len([name for name in tree(cache) if "/c." in name]) == 6
    assert tree(cache) == tree(ct_series_cache)


def test_order_of_the_arguments(tmp_path: Path) -> None:
    first = built(*_EXAMPLES, tmp_path / "first", "--jobs", "1")
    second = built(*reversed(_EXAMPLES), _EXAMPLES[0], tmp_path / "second", "--jobs", "1")
    assert tree(first) == tree(second)


def test_overlapping_sources(tmp_path: Path, ct_series: Path, ct_series_cache: Path) -> None:
    inside = sorted(ct_series.iterdir())[3]
    cache = built(inside, ct_series, f"{ct_series}/", tmp_path / "cache", "--shard-mib", "1")
    assert tree(cache) == tree(ct_series_cache)


def test_order_in_the_folder(tmp_path: Path, ct_series: Path) -> None:
    # Two folders with the same files, written in opposite order, each under the same path.
    trees = []
    for order in (1, -1):
        source = tmp_path / "source"
        source.mkdir()
        for path in sorted(ct_series.iterdir())[::order]:
            shutil.copy2(path, source)
        cache = built(source, tmp_path / f"cache{order}", "--shard-mib", "1")
        trees.append(tree(cache))
        shutil.rmtree(source)
    assert trees[0] == trees[1]


def test_parts_in_any_order(tmp_path: Path, ct_series: Path, ct_series_cache: Path) -> None:
    cache = tmp_path / "cache"
    assert run_here("plan", ct_series, cache, "--shard-mib", "1").returncode == 0
    for index in (2, 0):
        assert run_here("convert", cache, "--part", f"{index}/3", "--jobs", "1").returncode == 0
    early = run_here("commit", cache)  # a part is missing
    assert early.returncode == 2
    assert "is not converted; run `dicom2cache convert" in early.stderr
    assert not (cache / "zarr.json").exists()
    assert run_here("convert", cache, "--part", "1/3", "--jobs", "1").returncode == 0
    assert run_here("convert", cache, "--part", "0/3").returncode == 0  # a second time: nothing
    assert run_here("commit", cache).returncode == 0
    assert run_here("commit", cache).returncode == 0  # done already
    assert tree(cache) == tree(ct_series_cache)


def test_building_again_changes_nothing(tmp_path: Path) -> None:
    cache = built(*_EXAMPLES, tmp_path / "cache")
    before, times = tree(cache), {p: p.stat().st_mtime_ns for p in cache.rglob("*")}
    built(*_EXAMPLES, cache)
    assert tree(cache) == before
    assert {p: p.stat().st_mtime_ns for p in cache.rglob("*")} == times
    built(*_EXAMPLES, cache, "--overwrite")  # from scratch
    assert tree(cache) == before


def test_moved_cache_is_the_same_cache(tmp_path: Path, ct_series_cache: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(ct_series_cache, moved)
    assert run_here("verify", moved).returncode == 0


def test_no_time_host_or_user_in_it(ct_series: Path, ct_series_cache: Path) -> None:
    said = attributes(ct_series_cache)
    assert set(said) == {
        "format", "generation", "arrays", "tables", "sources", "counts", "recipe", "software",
        "codecs", "patient_key", "identity", "sha256",
    }  # fmt: skip
    assert said["sources"] == [{"root": 0, "path": str(ct_series)}]


def _copies(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders with the same file under the same relative path, as after a backup."""
    first, second = tmp_path / "first", tmp_path / "second"
    write_dicom(first / "a.dcm", pattern("a", (8, 8)))
    write_dicom(second / "a.dcm", pattern("a", (8, 8)))
    return first, second


def test_copy_in_another_folder_is_a_duplicate(tmp_path: Path) -> None:
    first, second = _copies(tmp_path)
    cache = built(first, second, tmp_path / "cache")
    counts = attributes(cache)["counts"]
    assert (counts["files_stored"], counts["files_duplicate"]) == (1, 1)
    (lost,) = table(cache, "failures")
    assert (lost["root"], lost["path"], lost["outcome"]) == (1, "a.dcm", "duplicate")
    assert tree(built(second, first, tmp_path / "other")) == tree(cache)


def test_duplicates_in_one_folder(tmp_path: Path) -> None:
    source = tmp_path / "source"
    pixels = pattern("a", (8, 8))
    same = {"SOPInstanceUID": uid("same")}
    write_dicom(source / "b.dcm", pixels, **same)
    write_dicom(source / "a.dcm", pixels, StationName="other header, same pixels", **same)
    write_dicom(source / "c.dcm", pixels + 1, **same)  # same UID, other pixels: kept
    write_dicom(source / "d.dcm", pixels)  # same pixels, another UID: kept
    write_dicom(source / "e.dcm", pixels.astype("u1"), **same)  # same UID, other depth: kept
    cache = built(source, tmp_path / "cache")
    outcome, reason = failures(cache).pop(("b.dcm", None))
    assert outcome == "duplicate"
    assert reason == "duplicate of a.dcm: same SOP Instance UID, same pixels"
    flags = {row["path"]: row["flags"] for row in table(cache, "frames")}
    assert flags == {
        "a.dcm": ["sop-uid-repeated"], "c.dcm": ["sop-uid-repeated"],
        "e.dcm": ["sop-uid-repeated"], "d.dcm": None,
    }  # fmt: skip


def test_links_count_once(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_dicom(source / "real" / "a.dcm", pattern("a", (8, 8)))
    (source / "loop").symlink_to(source)  # into its own parent
    (source / "real" / "self").symlink_to("self")
    (source / "nowhere.dcm").symlink_to(tmp_path / "missing")
    cache = built(source, tmp_path / "cache", status=1)
    assert [row["path"] for row in table(cache, "frames")] == ["real/a.dcm"]
    assert {k[0]: v[0] for k, v in failures(cache).items()} == {
        "nowhere.dcm": "failed", "real/self": "failed",
    }  # fmt: skip
