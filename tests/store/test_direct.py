"""Files written past the page cache hold the bytes that were given, on every file system."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom2cache.sources.system import set_direct
from dicom2cache.store.direct import DirectFile, _write, file_system


@pytest.fixture(params=["here", "/dev/shm"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """On the disk, and on a file system in memory, where direct I/O is not wanted."""
    if request.param == "here":
        yield tmp_path
        return
    path = Path(request.param) / f"{tmp_path.name}-{os.getpid()}"
    path.mkdir()
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("seed", range(6))
def test_bytes_and_holes_lie_where_they_were_put(folder: Path, seed: int) -> None:
    rng = random.Random(seed)
    said, path = bytearray(), folder / "file"
    file = DirectFile(path)
    for _ in range(24):
        size = rng.choice((0, 1, 4095, 4096, 524_288, 921_600, (4 << 20) + 1, rng.randrange(9**7)))
        if rng.random() < 0.4:
            file.skip(size)
            said += bytes(size)
        elif rng.random() < 0.5 and (room := file.room(size)) is not None:
            room[:] = part = rng.randbytes(size)
            file.wrote(size)
            said += part
        else:
            part = bytearray(rng.randbytes(size))
            file.write(memoryview(part))
            said += part
            part[:] = bytes(size)  # the caller may use its memory again
    file.write(memoryview(b"end"))
    assert file.finish() == len(said) + 3
    file.close()
    assert path.read_bytes() == said + b"end"


def test_a_gap_of_many_blocks_is_a_hole(tmp_path: Path) -> None:
    file = DirectFile(tmp_path / "file")
    file.write(memoryview(b"a"))
    file.skip(1 << 40)
    file.write(memoryview(b"b"))
    assert file.finish() == (1 << 40) + 2
    file.close()
    assert os.stat(tmp_path / "file").st_blocks * 512 < 1 << 20


def test_many_gaps_together_are_a_hole(tmp_path: Path) -> None:
    file = DirectFile(tmp_path / "file")
    for _ in range(1000):  # as of a file that claims frames: each slot's memory is asked for first
        file.room(262_144)
        file.skip(262_144)
    file.write(memoryview(b"b"))
    assert file.finish() == 262_144_001
    file.close()
    assert (tmp_path / "file").stat().st_blocks * 512 < 16 << 20
    assert (tmp_path / "file").read_bytes() == bytes(262_144_000) + b"b"


def test_direct_io_is_used_where_it_was_measured_and_nowhere_else(folder: Path) -> None:
    known = subprocess.run(
        ["stat", "-f", "-c", "%T", str(folder)], capture_output=True, text=True, check=True
    ).stdout.strip()
    file = DirectFile(folder / "file")
    flags = fcntl.fcntl(file._descriptor, fcntl.F_GETFL)
    file.close()
    assert bool(flags & os.O_DIRECT) == (known in ("ext2/ext3", "xfs"))


def test_a_file_system_is_named_as_mount_names_it() -> None:
    assert file_system(Path("/dev/shm")) == "tmpfs"
    assert file_system(Path("/proc/self/stat")) == "proc"


def test_what_direct_io_refuses_is_written_in_the_usual_way(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    set_direct(descriptor, True)
    _write(descriptor, memoryview(b"odd"), 5)  # neither size nor place is that of a block
    os.close(descriptor)
    assert (tmp_path / "file").read_bytes() == b"\0\0\0\0\0odd"


@pytest.mark.parametrize("before", [True, False])
def test_no_memory_for_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    """Since a frame took all of it: what is stored of others is stored all the same."""

    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    file = None if before else DirectFile(tmp_path / "file")
    monkeypatch.setattr(threading.Thread, "start", refused)
    file = file or DirectFile(tmp_path / "file")
    for k in range(10):
        file.write(memoryview(bytes([k]) * (1 << 20)))
    assert file.finish() == 10 << 20
    file.close()
    assert (tmp_path / "file").read_bytes() == b"".join(bytes([k]) * (1 << 20) for k in range(10))


_WRITE = """
import resource, sys
from pathlib import Path
from dicom2cache.store.direct import DirectFile
resource.setrlimit(resource.RLIMIT_FSIZE, (10 << 20, 10 << 20))
file = DirectFile(Path(sys.argv[1]))
try:
    for _ in range(int(sys.argv[2])):
        file.write(memoryview(bytes(1 << 20)))
    file.finish()
except OSError as e:
    print(e.strerror)
file.close()
"""


@pytest.mark.parametrize(
    ("count", "said"), [(9, ""), (11, "File too large"), (40, "File too large")]
)
def test_a_write_that_fails_behind_is_an_error(tmp_path: Path, count: int, said: str) -> None:
    command = [sys.executable, "-c", _WRITE, str(tmp_path / "file"), str(count)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == said


def test_no_descriptor_or_thread_is_left(tmp_path: Path) -> None:
    def count() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    before = count()
    for k in range(20):
        file = DirectFile(tmp_path / str(k))
        file.write(memoryview(bytes(9 << 20)))
        if k % 2:
            file.finish()
        file.close()
        file.close()
    assert count() == before
