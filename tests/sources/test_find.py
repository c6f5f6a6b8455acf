"""Folders are listed by several threads, and found as one would find them."""

from __future__ import annotations

import errno
import os
import random
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom2cache.sources import find
from tests.support.caches import run_here
from tests.support.dicom_files import pattern, write_dicom


@pytest.fixture(scope="module")
def many() -> Iterator[Path]:
    """3,000 folders with 9,000 files, at any depth, in memory."""
    rng = random.Random(7)
    top = Path("/dev/shm") / f"dicom2cache-find-{os.getpid()}"
    top.mkdir()
    folders = [top]
    for k in range(3000):
        folder = rng.choice(folders) / f"{k}"
        folder.mkdir()
        folders.append(folder)
    for k in range(9000):
        (rng.choice(folders) / f"{k}.dcm").write_bytes(bytes(k % 7))
    yield top
    shutil.rmtree(top)


def test_what_os_walk_finds(many: Path) -> None:
    expected = {}
    for folder, _, files in os.walk(many):
        for name in files:
            path = os.path.join(folder, name)
            status = os.stat(path)
            relative = os.path.relpath(path, many)
            expected[relative] = (status.st_size, status.st_mtime_ns, status.st_ino)
    told: list[int] = []
    roots, candidates, rejects = find.scan([many], Path("/nowhere"), told.append)
    assert roots == [str(many)]
    assert [c.path for c in candidates] == sorted(expected)
    assert {c.path: (c.size, c.mtime_ns, c.inode) for c in candidates} == expected
    assert rejects.num_rows == 0
    assert sum(told) == 3000 + 9000
    assert len(told) == 3001


def test_folders_are_listed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four listings wait for each other: one after the other they would for ever."""
    for k in range(4):
        (tmp_path / f"{k}").mkdir()
        (tmp_path / f"{k}" / "a.dcm").touch()
    works, all_of_them = os.scandir, threading.Barrier(4, timeout=30)

    def together(path: str) -> object:
        if path != str(tmp_path):
            all_of_them.wait()
        return works(path)

    monkeypatch.setattr(os, "scandir", together)
    _, candidates, _ = find.scan([tmp_path], Path("/nowhere"))
    assert [c.path for c in candidates] == ["0/a.dcm", "1/a.dcm", "2/a.dcm", "3/a.dcm"]


def test_an_error_of_the_machine_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no file's fault, in whichever thread it is met."""
    for k in range(100):
        (tmp_path / f"{k:03}").mkdir()
        (tmp_path / f"{k:03}" / "a.dcm").touch()
    works = os.stat

    def fails(path: str, **options: bool) -> os.stat_result:
        if str(path).endswith("050/a.dcm"):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)
        return works(path, **options)

    monkeypatch.setattr(os, "stat", fails)
    with pytest.raises(OSError, match=r"050/a\.dcm") as raised:
        find.scan([tmp_path], Path("/nowhere"))
    assert raised.value.errno == errno.ESTALE


def test_the_listing_says_how_far_it_is(tmp_path: Path) -> None:
    for k in range(3):
        write_dicom(tmp_path / "source" / f"{k}" / "a.dcm", pattern(f"{k}", (16, 16)))
    ran = run_here("plan", tmp_path / "source", tmp_path / "cache")
    assert "listing: 6 entries\n" in ran.stderr
