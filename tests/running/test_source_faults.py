"""Files that cannot be read, or lie about lengths, and machines that fail: each by its name."""

from __future__ import annotations

import errno
import os
import re
import resource
import sys
from pathlib import Path
from typing import Any

import pytest

from dicom2cache.recipes.limits import Limits
from dicom2cache.running import inventory, job
from tests.support.caches import built, failures, run_cli, run_here, table
from tests.support.dicom_files import pattern, write_dicom

_SOUND = pattern("sound", (16, 16))


def _little_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))


@pytest.mark.parametrize(
    ("before", "element"),
    [
        (b"\x10\0\x20\0LO", b"\x10\0\x20\0UN"),  # wanted: its value would be read
        (b"\x08\0\x60\0CS", b"\x08\0\x50\x01UN"),  # not wanted: passed over
        (b"\x02\0\x03\0UI", b"\x02\0\x03\0UN"),  # in group 2
    ],
)
def test_a_length_beyond_the_file_costs_that_file_only(
    tmp_path: Path, before: bytes, element: bytes
) -> None:
    source = tmp_path / "source"
    write_dicom(source / "good.dcm", _SOUND)
    path = write_dicom(source / "bad.dcm", _SOUND)
    data = path.read_bytes()
    at = data.index(before)
    path.write_bytes(data[:at] + element + b"\0\0\xf0\xff\xff\xff" + data[at + 8 :])
    ran = run_cli("build", source, tmp_path / "cache", "--jobs", "1", preexec_fn=_little_memory)
    assert ran.returncode == 1, ran.stderr
    assert [row["path"] for row in table(tmp_path / "cache", "frames")] == ["good.dcm"]
    ((_, (outcome, why)),) = failures(tmp_path / "cache").items()
    assert outcome == "failed"
    assert why == "the file is truncated: it ends in the middle of its header; copy it again"


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_file_that_gives_eio_costs_itself_only(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_dicom(source / "good.dcm", _SOUND)
    (source / "bad.dcm").symlink_to("/proc/self/mem")
    cache = built(source, tmp_path / "cache", "--jobs", "1", status=1)
    assert failures(cache) == {
        ("bad.dcm", None): (
            "failed", "cannot read the file: Input/output error; its storage may be failing"
        )
    }  # fmt: skip
    for k in range(9):  # then it is the disk
        (source / f"bad{k}.dcm").symlink_to("/proc/self/mem")
    ran = run_here("build", source, cache, "--overwrite")
    assert ran.returncode == 2
    assert re.search(r"dicom2cache: .*/source/bad\d?\.dcm: Input/output error", ran.stderr)


def test_a_fault_of_the_machine_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_dicom(tmp_path / "in" / "a.dcm", _SOUND)
    assert run_here("plan", path, tmp_path / "cache").returncode == 0
    (header,) = job.load_job(tmp_path / "cache").plan.files.to_pylist()

    def fails(*_: Any) -> Any:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", fails)
    with pytest.raises(OSError, match="Input/output error") as raised:
        inventory.pixel_digest([str(tmp_path / "in")], header, Limits())
    assert str(path) in str(raised.value)


def _small_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))


def test_plan_on_a_full_disk_names_the_path(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "in" / "a.dcm", _SOUND)
    ran = run_cli("plan", path, tmp_path / "cache", preexec_fn=_small_files)
    assert ran.returncode == 2
    last = ran.stderr.splitlines()[-1]
    said = rf"dicom2cache: {tmp_path}/cache/build/[0-9a-f]+/files\.arrow: File too large; .*"
    assert re.fullmatch(said, last), last
