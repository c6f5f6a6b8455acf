"""What lies below the sources and is no file of theirs: named, and never opened."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from dicom2cache.running.job import plan_path
from tests.support.caches import attributes, built, command, failures, run_cli, run_here, table
from tests.support.dicom_files import pattern, uid, write_dicom

_LEAVE_OUT = "it is not opened, since a read may never end; remove it from the sources"
_CACHE = "a cache of dicom2cache: it is no source; give the files that it was made from"


def _source(folder: Path) -> Path:
    write_dicom(folder / "a.dcm", pattern("a", (8, 8)))
    return folder


def _bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        here = os.open(path.parent, os.O_RDONLY)
        try:  # a socket's own path has 107 bytes at most
            one.bind(f"/proc/self/fd/{here}/{path.name}")
        finally:
            os.close(here)


def test_what_is_no_file_is_named_and_not_opened(tmp_path: Path) -> None:
    """A FIFO without a writer would stop the run for good."""
    source = _source(tmp_path / "source")
    (source / "deep").mkdir()
    os.mkfifo(source / "deep" / "pipe.dcm")
    _bound(source / "socket")
    (source / "null.dcm").symlink_to("/dev/null")
    (source / "to_pipe").symlink_to(source / "deep" / "pipe.dcm")
    cache = tmp_path / "cache"
    ran = run_cli("build", source, cache, "--jobs", "1")
    assert ran.returncode == 1, ran.stderr
    assert failures(cache) == {
        ("deep/pipe.dcm", None): ("failed", f"a FIFO (named pipe): {_LEAVE_OUT}"),
        ("to_pipe", None): ("failed", f"a FIFO (named pipe): {_LEAVE_OUT}"),
        ("socket", None): ("failed", f"a socket: {_LEAVE_OUT}"),
        ("null.dcm", None): ("failed", f"a device: {_LEAVE_OUT}"),
    }
    assert [row["path"] for row in table(cache, "frames")] == ["a.dcm"]


@pytest.mark.parametrize("device", [False, True])
def test_a_fifo_or_a_device_as_the_source_itself(tmp_path: Path, device: bool) -> None:
    given = Path("/dev/zero") if device else tmp_path / "pipe.dcm"
    if not device:
        os.mkfifo(given)
    ran = run_cli("build", given, tmp_path / "cache", "--jobs", "1")
    assert ran.returncode == 2
    assert f"{given.name}: {'a device' if device else 'a FIFO (named pipe)'}" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_file_that_becomes_a_fifo_after_the_plan(tmp_path: Path) -> None:
    """Between two looks a name may come to mean something else."""
    source, cache = _source(tmp_path / "source"), tmp_path / "cache"
    write_dicom(source / "b.dcm", pattern("b", (8, 8)), SOPInstanceUID=uid("b"))
    assert run_here("plan", source, cache, "--jobs", "1").returncode == 0
    (source / "b.dcm").unlink()
    os.mkfifo(source / "b.dcm")
    done = subprocess.run(command("convert", cache, "--jobs", "1"), timeout=60, check=False)
    assert done.returncode == 1
    assert run_here("commit", cache).returncode == 1
    (reason,) = (reason for _, reason in failures(cache).values())
    assert reason.startswith("changed since plan: 0 bytes now")


def test_folders_that_link_to_each_other_end(tmp_path: Path) -> None:
    """Twelve folders, each with links to all others, have 12! paths without a bound."""
    source = _source(tmp_path / "source")
    folders = [source / f"f{k}" for k in range(12)]
    for folder in folders:
        folder.mkdir()
        for other in folders:
            (folder / f"to_{other.name}").symlink_to(other)
    write_dicom(folders[0] / "b.dcm", pattern("b", (8, 8)), SOPInstanceUID=uid("b"))
    ran = run_cli("build", source, tmp_path / "cache", "--jobs", "1")
    assert ran.returncode == 1, ran.stderr
    found = failures(tmp_path / "cache")
    reasons = {reason for outcome, reason in found.values() if outcome == "failed"}
    assert reasons == {"not followed: 16 other links led to this folder already"}
    copies = [path for (path, _), (outcome, _) in found.items() if outcome == "duplicate"]
    assert len(copies) == 16  # one name is the folder's own
    assert {row["path"] for row in table(tmp_path / "cache", "frames")} == {"a.dcm", "f0/b.dcm"}


def test_another_cache_below_the_sources_is_left_out(tmp_path: Path) -> None:
    source = _source(tmp_path / "source")
    whole = built(source, source / "old" / "whole", "--jobs", "1")
    half = source / "half"
    assert run_here("plan", source / "a.dcm", half, "--jobs", "1").returncode == 0
    before = source / "before"  # killed before the plan had its name
    shutil.copytree(half, before)
    plan_path(before).unlink()
    (source / "build").mkdir()  # a folder of the user's that is only called so
    write_dicom(source / "build" / "b.dcm", pattern("b", (8, 8)), SOPInstanceUID=uid("b"))
    (source / "foreign.zarr").mkdir()
    (source / "foreign.zarr" / "zarr.json").write_text('{"zarr_format": 3, "attributes": {}}')
    cache = built(source, tmp_path / "cache", "--jobs", "1")
    assert failures(cache) == {
        ("old/whole", None): ("excluded", _CACHE),
        ("half", None): ("excluded", _CACHE),
        ("before", None): ("excluded", _CACHE),
        ("foreign.zarr/zarr.json", None): (
            "not-dicom", "no DICM at byte 128 and no data element at byte 0",
        ),
    }  # fmt: skip
    assert {row["path"] for row in table(cache, "frames")} == {"a.dcm", "build/b.dcm"}
    ran = run_here("build", whole, tmp_path / "of_a_cache")
    assert ran.returncode == 2
    assert _CACHE in ran.stderr


def test_a_cache_in_its_own_source_is_said_once_and_never_read(tmp_path: Path) -> None:
    source = tmp_path / "scans"
    _source(source)
    ran = run_here("build", source, source / "cache", "-j1")
    assert ran.returncode == 0
    assert f"{source / 'cache'}: will lie in {source}, a source: there it is left out" in ran.stderr
    again = run_here("build", source, source / "cache", "-j1")
    assert (again.returncode, "will lie in" in again.stderr) == (0, False)
    assert run_here("update", source, source / "cache", "-j1").returncode == 0
    assert attributes(source / "cache")["counts"]["files"] == 1
    other = built(source, tmp_path / "other", "-j1")
    assert [path for path, _ in failures(other)] == ["cache"]
    (source / "cache" / "zarr.json").unlink()  # its second copy tells what it was
    wreck = built(source, tmp_path / "wreck", "-j1")
    assert [path for path, _ in failures(wreck)] == ["cache"]
