"""A machine that cannot see the sources, or sees them now and then: no file is blamed for it."""

from __future__ import annotations

import errno
import json
import os
import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicom2cache import Recipe, pipeline
from dicom2cache.errors import FrameError, SourceAway, is_environment
from dicom2cache.frames.decode import Buffer, Source, Stored
from dicom2cache.headers.read import read_headers
from dicom2cache.privacy.keys import PatientKey
from dicom2cache.records import Candidate
from dicom2cache.running import choices, convert
from dicom2cache.running.choices import codec_path, percentiles_path
from dicom2cache.running.each_frame import Worker
from dicom2cache.running.job import Job, scratch
from dicom2cache.store.durable import write_first
from tests.support.caches import attributes, by_path, failures, run_cli, run_here, table, tree
from tests.support.dicom_files import write_dicom, write_series
from tests.support.faults import without_override


def _planned(source: Path, cache: Path, **recipe: Any) -> Job:
    job = pipeline.plan(source, cache, Recipe(**recipe), jobs=1)
    assert job is not None
    return job


def _moved(source: Path) -> None:
    source.rename(source.with_name("away"))


def _emptied(source: Path) -> None:
    _moved(source)
    source.mkdir()  # a mount point without its mount


def _closed(source: Path) -> None:
    source.chmod(0)


def _back(source: Path) -> None:
    if source.exists() and source.with_name("away").exists():
        source.rmdir()
    if source.with_name("away").exists():
        source.with_name("away").rename(source)
    source.chmod(0o700)


@pytest.mark.parametrize("lose", [_moved, _emptied, _closed])
def test_a_node_without_the_sources_fails_no_frame(
    tmp_path: Path, ct_series_cache: Path, lose: Any
) -> None:
    source, cache = tmp_path / "series", tmp_path / "cache"
    write_series(source, 12)
    assert run_here("plan", source, cache, "--shard-mib", "1").returncode == 0
    lose(source)
    try:
        ran = run_cli("convert", cache, "--part", "0/2", preexec_fn=without_override)
    finally:
        _back(source)
    assert ran.returncode == 2
    for said in (str(source), platform.node(), "run the same command again"):
        assert said in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not list(cache.glob("build/*/receipts/*"))
    assert run_here("convert", cache, "--jobs", "1").returncode == 0
    assert run_here("commit", cache).returncode == 0
    assert failures(cache) == {}
    theirs = {name for name in tree(ct_series_cache) if "/c." in name}
    assert theirs == {name for name in tree(cache) if "/c." in name}
    for name in theirs:
        assert (cache / name).read_bytes() == (ct_series_cache / name).read_bytes()


def test_only_the_folders_of_the_part_are_needed(tmp_path: Path) -> None:
    write_series(tmp_path / "a", 2, size=700)  # an array, and so a shard, for each size
    write_series(tmp_path / "b", 1, size=64)
    cache = tmp_path / "cache"
    assert run_here("plan", tmp_path / "a", tmp_path / "b", cache).returncode == 0
    _moved(tmp_path / "b")
    assert run_here("convert", cache, "--part", "0/2", "--jobs", "1").returncode == 0
    ran = run_here("convert", cache, "--part", "1/2", "--jobs", "1")
    assert (ran.returncode, str(tmp_path / "b") in ran.stderr) == (2, True)
    assert [path.name for path in cache.glob("build/*/receipts/*")] == ["1.0.arrow"]


def test_sources_that_go_away_in_the_middle_of_a_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "series"
    write_series(source, 3, size=64)
    job = _planned(source, tmp_path / "cache")

    read = Source._native

    def read_once(opened: Source, frame: int, room: Any) -> Buffer:
        found = read(opened, frame, room)
        _moved(source)
        return found

    monkeypatch.setattr(Source, "_native", read_once)
    done = convert.convert_task(str(job.cache), job.nonce, job.tasks[0])
    monkeypatch.undo()
    assert done.environment is not None
    assert str(source) in done.environment
    assert not list(job.cache.glob("build/*/receipts/*"))
    assert not list(job.cache.glob("build/*/attempts/*"))
    _back(source)
    assert convert.convert_task(str(job.cache), job.nonce, job.tasks[0]).failed == 0


def test_a_file_that_comes_back_at_once_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = write_series(tmp_path / "series", 1, size=64)
    job = _planned(tmp_path / "series", tmp_path / "cache")

    def flickers(opened: Source, frame: int, room: Any) -> Buffer:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))

    monkeypatch.setattr(Source, "_native", flickers)
    done = convert.convert_task(str(job.cache), job.nonce, job.tasks[0])
    assert done.environment is not None
    assert f"{path}: was gone for a moment" in done.environment


def test_a_folder_that_goes_away_while_headers_are_read(tmp_path: Path) -> None:
    (path,) = write_series(tmp_path / "series", 1, size=64)
    status = path.stat()
    there = Candidate(0, path.name, status.st_size, status.st_mtime_ns)
    gone = Candidate(0, "gone.dcm", 100, 0)
    files, rejects, *_ = read_headers([str(path.parent)], [there, gone], PatientKey(b"key"))
    assert (files.num_rows, rejects["path"].to_pylist()) == (1, ["gone.dcm"])
    _moved(path.parent)
    with pytest.raises(SourceAway, match="No such file or directory"):
        read_headers([str(path.parent)], [there], PatientKey(b"key"))


def test_verify_does_not_blame_a_cache_for_sources_that_are_away(tmp_path: Path) -> None:
    source, cache = tmp_path / "series", tmp_path / "cache"
    write_series(source, 1, size=64)
    assert run_here("build", source, cache, "--jobs", "1").returncode == 0
    _moved(source)
    ran = run_here("verify", cache, "--deep", "1")
    assert (ran.returncode, str(source) in ran.stderr) == (2, True)
    assert "decoded again" not in ran.stderr


@pytest.mark.parametrize("number", [errno.ENOTCONN, errno.EHOSTDOWN, errno.ESTALE, errno.EIO])
def test_errors_of_a_network_are_not_the_file_s(number: int) -> None:
    assert is_environment(OSError(number, os.strerror(number)))


def test_exit_status_of_convert(tmp_path: Path) -> None:
    """1 for a bad frame of the part, each time; 0 for parts without one."""
    source, cache = tmp_path / "source", tmp_path / "cache"
    write_series(source, 2, size=700)
    (small,) = write_series(tmp_path / "other", 1, size=64)
    small.rename(source / "small.dcm")
    assert run_here("plan", source, cache).returncode == 0
    (source / "small.dcm").unlink()
    for _ in range(2):
        assert run_here("convert", cache, "--part", "0/2", "--jobs", "1").returncode == 0
        ran = run_here("convert", cache, "--part", "1/2", "--jobs", "1")
        assert (ran.returncode, "frames that failed: 1;" in ran.stderr) == (1, True)
    assert run_here("commit", cache).returncode == 1
    assert run_here("convert", cache, "--part", "1/2", "--jobs", "1").returncode == 1
    assert failures(cache) == {
        ("small.dcm", 0): (
            "failed", "the file has vanished since plan; build again with --overwrite",
        )
    }  # fmt: skip
    assert attributes(cache)["counts"]["frames_stored"] == 2


def _steps(folder: Path) -> list[Path]:
    """Three slices of one stack: values 0 to 99, 1000 to 1099 and 2000 to 2099."""
    return [
        write_dicom(
            folder / f"{k}.dcm",
            (1000 * k + np.arange(100, dtype=np.uint16)).reshape(10, 10),
            InstanceNumber=k,
            ImagePositionPatient=[0.0, 0.0, float(k)],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            FrameOfReferenceUID="1.2.3",
        )
        for k in range(3)
    ]


def test_a_frame_that_did_not_count_in_the_percentiles_is_not_clipped_by_them(
    tmp_path: Path,
) -> None:
    """The last slice has the greatest values, and cannot be read while percentiles are taken."""
    *_, last = _steps(tmp_path / "source")
    cache = tmp_path / "cache"
    job = _planned(tmp_path / "source", cache, intensity="percentiles", percentiles=(0, 100))
    row, header = job.plan.frames.to_pylist()[0], job.plan.files.to_pylist()[0]
    times = last.stat().st_atime_ns, last.stat().st_mtime_ns
    os.utime(last)
    limits = choices.limits_of(job, row, header, Worker())
    assert limits == choices.Limits((0.0, 1099.0), None)
    os.utime(last, ns=times)
    assert pipeline.convert(cache, jobs=1) == 1
    pipeline.commit(cache)
    ((key, (outcome, reason)),) = failures(cache).items()
    assert (key, outcome) == (("2.dcm", 0), "failed")
    assert reason.startswith(
        "readable now, but not when the percentiles of its stack were taken, so it does not count "
        "in them (changed since plan: "
    )
    said = [(row["window_low"], row["window_high"]) for row in table(cache, "frames")]
    assert said == [(0.0, 1099.0)] * 2
    # 255 * 1050 / 1099 = 243.6
    assert by_path(cache)["1.dcm", 0][1][5, 0] == 244


def test_a_frame_that_never_can_be_decoded_keeps_its_own_reason(tmp_path: Path) -> None:
    _, _, last = _steps(tmp_path / "source")
    cut = last.read_bytes()[:-50]
    last.write_bytes(cut)
    cache = tmp_path / "cache"
    arguments = ("--intensity", "percentiles", "--percentiles", "0,100", "--jobs", "1")
    assert run_here("build", tmp_path / "source", cache, *arguments).returncode == 1
    ((_, reason),) = failures(cache).values()
    assert "truncated" in reason
    assert "percentiles" not in reason


def test_no_percentiles_are_kept_of_folders_that_are_away(tmp_path: Path) -> None:
    _steps(tmp_path / "source")
    job = _planned(tmp_path / "source", tmp_path / "cache", intensity="percentiles", codec="auto")
    row, header = job.plan.frames.to_pylist()[0], job.plan.files.to_pylist()[0]
    _moved(tmp_path / "source")
    with pytest.raises(SourceAway):
        choices.limits_of(job, row, header, Worker())
    with pytest.raises(SourceAway):
        choices.settled(job, 0, Worker())
    assert not list(job.cache.glob("build/*/choices/*"))


def test_a_frame_without_percentiles_costs_no_look_at_the_plan(tmp_path: Path) -> None:
    _steps(tmp_path / "source")
    job = _planned(tmp_path / "source", tmp_path / "cache")
    row, header = job.plan.frames.to_pylist()[0], job.plan.files.to_pylist()[0]
    bare: Any = replace(job, plan=None)  # a table of a million files would be read for nothing
    assert choices.limits_of(bare, row, header, Worker()) is None


def test_of_two_nodes_that_differ_the_first_counts_for_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _steps(tmp_path / "source")
    job = _planned(tmp_path / "source", tmp_path / "cache", intensity="percentiles", codec="auto")
    row, header = job.plan.frames.to_pylist()[0], job.plan.files.to_pylist()[0]
    limits = {"ends": [7.0, 70.0], "left_out": [[1, 0, "not seen"]]}
    codec = {"codec": "zstd", "plain": 3, "lz4": 2, "zstd": 1}
    paths = percentiles_path(job, row["stack"]), codec_path(job, 0)

    read = Source.read

    def read_later(source: Source, frame: int, room: Any = None) -> Stored:
        for path, said in zip(paths, (limits, codec), strict=True):
            if not path.exists():  # the other node is faster
                path.write_text(json.dumps(said))
        return read(source, frame, room)

    monkeypatch.setattr(Source, "read", read_later)
    found = choices.limits_of(job, row, header, Worker())
    assert found == choices.Limits((7.0, 70.0), None)
    paths[1].unlink()
    assert choices.settled(job, 0, Worker()).codec == "zstd"
    assert json.loads(paths[0].read_bytes()) == limits
    assert json.loads(paths[1].read_bytes()) == codec
    other = choices.limits_of(job, {**row, "file": 1}, header, Worker())
    assert other == choices.Limits((7.0, 70.0), "not seen")
    with pytest.raises(FrameError, match=r"\(not seen\)"):
        other.check()
    assert not list(scratch(job).iterdir())


@pytest.mark.parametrize("links", [True, False])
def test_what_is_kept_is_never_replaced(tmp_path: Path, links: bool) -> None:
    _steps(tmp_path / "source")
    job = _planned(tmp_path / "source", tmp_path / "cache")
    path = codec_path(job, 0)
    for data in (b"first", b"second"):
        assert write_first(path, data, scratch(job), links) == (data == b"first")
        assert path.read_bytes() == b"first"
    assert not list(scratch(job).iterdir())
