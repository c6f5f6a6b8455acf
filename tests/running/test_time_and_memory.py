"""What takes too long, or too much memory, costs itself only."""

from __future__ import annotations

import hashlib
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from pydicom.uid import JPEG2000Lossless

from dicom2cache.errors import OutOfTime
from dicom2cache.frames.isolate import Allowance, Child
from dicom2cache.running import pool
from tests.support.caches import attributes, by_path, run_cli, run_here, table
from tests.support.dicom_files import pattern, uid, write_dicom
from tests.support.faults import with_fault

_FREED = """
import ctypes, resource, sys
from dicom2cache.sources import system
kept = sys.argv[1] == "keep" and system.keep_freed()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def once():
    taken = [libc.malloc(900 << 10) for _ in range(4)]
    for place in taken:
        ctypes.memset(place, 1, 900 << 10)
    for place in taken:
        libc.free(place)
once(), once()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
once()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, kept)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_memory_that_a_decoder_frees_is_there_for_the_next_frame() -> None:
    """3.5 MiB in four pieces are 900 pages, which the system zeroes one by one."""
    faults = {}
    for how in ("keep", "as it is"):
        command = [sys.executable, "-c", _FREED, how]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        faults[how] = int(said[0]), said[1] == "True"
    assert faults["keep"][1]
    assert faults["keep"][0] < 50 < 800 < faults["as it is"][0]


_AMPLE = Allowance(60, 1 << 30, "frame_seconds")


def _used(count: int) -> int:
    return len(bytearray(count))


def _killed_once(mark: str) -> str:
    if not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def _killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_call_that_takes_too_long_is_ended() -> None:
    start = time.monotonic()
    with Child() as child:
        with pytest.raises(OutOfTime, match=r"not done after 0\.8 seconds.*limits\.frame_seconds"):
            child.call(time.sleep, 60, allowance=Allowance(0.2, 1 << 30, "frame_seconds"))
        # Four times as long is enough for this one.
        child.call(time.sleep, 1, allowance=Allowance(0.5, 1 << 30, "frame_seconds"))
        assert child.call(_used, 7, allowance=_AMPLE) == 7
    assert time.monotonic() - start < 30


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_call_that_takes_too_much_memory() -> None:
    little = Allowance(60, 256 << 20, "frame_seconds")
    with Child() as child:
        with pytest.raises(MemoryError):
            child.call(_used, 2 << 30, allowance=little)
        assert child.call(_used, 512 << 20, allowance=little) == 512 << 20  # at the second try
        with pytest.raises(MemoryError):
            child.call(_used, 512 << 20, allowance=Allowance(60, 64 << 20, "x"), tries=1)
        assert child.call(_used, 7, allowance=little) == 7


def test_what_is_killed_once_is_tried_again(tmp_path: Path) -> None:
    with Child() as child:
        assert child.call(_killed_once, str(tmp_path / "mark"), allowance=_AMPLE) == "done"
        with pytest.raises(MemoryError, match="killed"):
            child.call(_killed, allowance=_AMPLE)


def _wavelets(source: Path) -> str:
    """Three JPEG 2000 files and another one, two shards; the digest of the second's codestream."""
    streams = [
        imagecodecs.jpeg2k_encode(pattern(str(k), (16, 16)), level=0, codecformat="j2k")
        for k in range(3)
    ]
    streams = [stream + bytes(len(stream) % 2) for stream in streams]
    for k, stream in enumerate(streams):
        write_dicom(
            source / f"{k}.dcm", np.zeros((16, 16), np.uint16), syntax=str(JPEG2000Lossless),
            encoded=[stream], BitsStored=12, HighBit=11,
            SeriesInstanceUID=uid(str(k)),
        )  # fmt: skip
    write_dicom(source / "other.dcm", np.zeros((9, 9), np.uint16))
    return hashlib.sha256(streams[1]).hexdigest()


@pytest.mark.parametrize(("jobs", "held"), [("1", ""), ("2", ""), ("1", " held"), ("2", " held")])
def test_a_decoder_that_sleeps_costs_its_frame_only(tmp_path: Path, jobs: str, held: str) -> None:
    source, cache = tmp_path / "source", tmp_path / "cache"
    fault = f"sleep {_wavelets(source)}{held}"
    start = time.monotonic()
    ran = run_cli(
        "build", source, cache, "--jobs", jobs, "--limits", "frame_seconds=2",
        env=with_fault(fault),
    )  # fmt: skip
    assert ran.returncode == 1, ran.stderr
    assert time.monotonic() - start < 120
    assert {path for path, _ in by_path(cache)} == {"0.dcm", "2.dcm", "other.dcm"}
    (row,) = table(cache, "failures")
    assert (row["path"], row["frame"], row["stage"]) == ("1.dcm", 0, "limit")
    assert "not done after 8 seconds" in row["reason"]
    assert attributes(cache)["counts"]["frames_limited"] == 1
    assert "1 failed for memory or time" in run_here("info", cache).stdout


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_decoder_that_eats_memory_costs_its_frame_only(tmp_path: Path, jobs: str) -> None:
    source, cache = tmp_path / "source", tmp_path / "cache"
    fault = f"eat {_wavelets(source)}"
    ran = run_cli("build", source, cache, "--jobs", jobs, env=with_fault(fault))
    assert ran.returncode == 1, ran.stderr
    assert {path for path, _ in by_path(cache)} == {"0.dcm", "2.dcm", "other.dcm"}
    (row,) = table(cache, "failures")
    assert (row["path"], row["frame"], row["stage"]) == ("1.dcm", 0, "limit")
    assert "memory does not suffice" in row["reason"]


def _taken(count: int, most: int) -> int:
    with pool.bounded(most):
        return len(bytes(count))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_the_memory_of_a_worker_is_bounded() -> None:
    def by_worker(*arguments: int) -> int:
        (found,) = pool.parallel(1, "loky", iter([(_taken, arguments, {})]), ordered=True)
        return found

    with pytest.raises(MemoryError):
        by_worker(512 << 20, 256 << 20)
    assert by_worker(512 << 20, 1 << 30) == 512 << 20  # and not for good
    assert _taken(512 << 20, 256 << 20) == 512 << 20  # this process is somebody else's


@pytest.mark.parametrize(("jobs", "here"), [("1", ""), ("2", ""), ("1", " here"), ("2", " here")])
def test_a_header_that_takes_too_long_costs_its_file_only(
    tmp_path: Path, jobs: str, here: str
) -> None:
    source, cache = tmp_path / "source", tmp_path / "cache"
    for k in range(6):
        write_dicom(source / f"{k}.dcm", pattern(str(k), (16, 16)))
    ran = run_cli(
        "build", source, cache, "--jobs", jobs, "--limits", "header_seconds=2",
        env=with_fault(f"sleep-header 3.dcm{here}"),
    )  # fmt: skip
    assert ran.returncode == 1, ran.stderr
    assert {path for path, _ in by_path(cache)} == {f"{k}.dcm" for k in (0, 1, 2, 4, 5)}
    (row,) = table(cache, "failures")
    assert (row["path"], row["frame"], row["stage"]) == ("3.dcm", None, "limit")
    assert "limits.header_seconds" in row["reason"]


def _hoarded(count: int) -> None:
    hoard = []
    while True:
        hoard.append(bytearray(count))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_child_without_memory_says_nothing_on_the_terminal(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with Child() as child, pytest.raises(MemoryError):
        child.call(_hoarded, 4096, allowance=Allowance(60, 64 << 20, "x"), tries=1)
    assert tuple(capfd.readouterr()) == ("", "")


def test_a_worker_that_died_while_it_was_idle_is_replaced(tmp_path: Path) -> None:
    write_dicom(tmp_path / "source" / "a.dcm", pattern("a", (16, 16)))
    for name in ("one", "other"):
        ran = run_here("build", tmp_path / "source", tmp_path / name, "--jobs", "1")
        assert ran.returncode == 0, ran.stderr
        os.kill(pool._crew(os.getpid()).workers[0].process.pid, signal.SIGKILL)
        time.sleep(0.5)
