"""Real small file systems: too few bytes, too few inodes, mounted read-only. They need root."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.caches import attributes, run_cli, tree

_AGAIN = "run the same command again"


def _mount(folder: Path, options: str) -> None:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting needs root; tests/crash does without")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    yield folder
    while subprocess.run(["umount", folder], capture_output=True, check=False).returncode == 0:
        pass


@pytest.mark.parametrize("options", ["size=2m", "size=64m,nr_inodes=14"])
def test_a_disk_that_is_too_small(
    disk: Path, ct_series: Path, ct_series_cache: Path, options: str
) -> None:
    _mount(disk, options)
    cache = disk / "cache"
    again = ("build", ct_series, cache, "--shard-mib", "1", "--jobs", "1", "--force")
    ran = run_cli(*again)
    assert ran.returncode == 2
    for said in (str(cache), "No space left on device", "free some space there", _AGAIN):
        assert said in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not (cache / "zarr.json").exists()
    larger = ["mount", "-o", "remount,size=64m,nr_inodes=1000", disk]
    subprocess.run(larger, check=True)
    assert run_cli(*again).returncode == 0
    assert tree(cache) == tree(ct_series_cache)


def test_a_disk_that_is_mounted_read_only(
    disk: Path, ct_series: Path, ct_series_cache: Path
) -> None:
    _mount(disk, "size=64m")
    cache = disk / "cache"
    flags = ("--shard-mib", "1", "--jobs", "1")
    assert run_cli("plan", ct_series, cache, *flags).returncode == 0
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    for command in (("convert", cache, "--jobs", "1"), ("build", ct_series, cache, *flags)):
        ran = run_cli(*command)
        assert ran.returncode == 2
        for said in (str(cache), "Read-only file system", "mount it so that", _AGAIN):
            assert said in ran.stderr
        assert "Traceback" not in ran.stderr
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    assert run_cli("build", ct_series, cache, *flags).returncode == 0
    assert tree(cache) == tree(ct_series_cache)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)  # a committed one is read
    assert run_cli("verify", cache).returncode == 0
    assert run_cli("info", cache).returncode == 0
    assert run_cli("build", ct_series, cache, *flags).returncode == 0


def test_a_removal_that_has_no_room(disk: Path, ct_series_cache: Path) -> None:
    _mount(disk, "size=64m")
    cache = Path(shutil.copytree(ct_series_cache, disk / "cache"))
    before = tree(cache)
    used = shutil.disk_usage(disk).used
    subprocess.run(["mount", "-o", f"remount,size={used // 1024 + 128}k", disk], check=True)
    command = ("remove", cache, "--where", "instance == 1")  # its neighbour is copied, 0.5 MiB
    ran = run_cli(*command)
    assert (ran.returncode, tree(cache)) == (2, before)
    assert "524288 bytes would be copied, and " in ran.stderr
    ran = run_cli(*command, "--force")
    assert ran.returncode == 2
    for said in (str(cache), "No space left on device", _AGAIN):
        assert said in ran.stderr
    assert "Traceback" not in ran.stderr
    about = attributes(cache)
    assert (about.get("numbering", 0), about["counts"]["frames_stored"]) == (0, 12)
    assert run_cli("verify", cache).returncode == 0
    subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
    ran = run_cli(*command)
    assert ran.returncode == 0, ran.stderr
    assert attributes(cache)["counts"]["frames_stored"] == 11
    assert run_cli("purge", cache).returncode == 0
    assert run_cli("verify", cache).returncode == 0
