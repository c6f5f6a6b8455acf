"""Who does not read what is said, early or late: the work is done, and the status is 141."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.caches import command, run_here
from tests.support.dicom_files import write_dicom


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """in/ with an image and 400 texts, and cache/ of them: failures/ is longer than a pipe."""
    top = tmp_path_factory.mktemp("pipes")
    write_dicom(top / "in" / "a.dcm", np.zeros((8, 8), np.uint8))
    for k in range(400):
        (top / "in" / f"{k:0200}.txt").write_bytes(b"text")
    assert run_here("build", top / "in", top / "cache", "-j1").returncode == 0
    return top


def _unread(*arguments: object, err: Any = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """A command whose stdout was closed by who was to read it, before it began."""
    read, write = os.pipe()
    os.close(read)
    try:
        return subprocess.run(
            command(*arguments), stdout=write, stderr=err, text=True, check=False, timeout=60
        )
    finally:
        os.close(write)


@pytest.mark.parametrize("said", [("info",), ("verify", "--json")], ids=" ".join)
def test_early(top: Path, said: tuple[str, ...]) -> None:
    verb, *flags = said
    ran = _unread(verb, top / "cache", *flags)
    assert (ran.returncode, ran.stderr) == (141, "")


@pytest.mark.parametrize("flag", ["--json", "--verbose"])
def test_what_was_to_be_done_is_done(top: Path, tmp_path: Path, flag: str) -> None:
    """Nor does it stop for progress that nobody reads, as by `2>&1 | head -1`."""
    err = subprocess.STDOUT if flag == "--verbose" else subprocess.PIPE
    ran = _unread("build", top / "in", tmp_path / "cache", "-j1", flag, err=err)
    assert (ran.returncode, ran.stderr or "") == (141, "")
    assert (tmp_path / "cache" / "zarr.json").exists()


def test_pages_and_pictures_are_written_before_words(top: Path, tmp_path: Path) -> None:
    page = tmp_path / "plan.html"
    assert _unread("plan", top / "in", tmp_path / "c", "-v", "--report", page).returncode == 141
    assert page.exists()


def test_late(top: Path, tmp_path: Path) -> None:
    """A line is read, then no more."""
    for arguments in (
        ("failures", top / "cache", "--each"),
        ("build", top / "in", tmp_path / "cache", "-j1", "--json"),
    ):
        with subprocess.Popen(
            command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        ) as run:
            assert run.stdout is not None
            assert run.stderr is not None
            assert run.stdout.read(1)
            run.stdout.close()
            said = run.stderr.read()
            assert (run.wait(60), said) == (141, b"")
    assert (tmp_path / "cache" / "zarr.json").exists()


def test_what_could_not_be_done_is_still_said(tmp_path: Path) -> None:
    ran = _unread("build", tmp_path / "none", tmp_path / "cache", "--json")
    assert ran.returncode == 2
    assert "no such file or folder" in ran.stderr
