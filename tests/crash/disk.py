"""A disk that fails at will: disk.c, compiled, and what it shall do."""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

KINDS = (
    "open", "read", "write", "pwrite", "fsync", "rename", "link", "mkdir", "unlink", "truncate",
    "readdir", "stat",
)  # fmt: skip
PUBLISHING = ("fsync", "rename", "link", "mkdir", "unlink", "truncate")
_FORMAT = f"{len(KINDS) + 1}l"


def compiled(folder: Path) -> Path:
    """The shared object of disk.c."""
    made = folder / "disk.so"
    source = Path(__file__).with_name("disk.c")
    command = [os.environ.get("CC", "cc"), "-O2", "-shared", "-fPIC", "-o", made, source, "-ldl"]
    subprocess.run(command, check=True)
    return made


@contextmanager
def preloaded() -> Iterator[None]:
    """A block with disk.c in this process: this program is started again with it. Linux only."""
    if _MARK not in os.environ:
        made = compiled(Path(tempfile.mkdtemp(prefix="dicom2cache-disk-")))
        env = {**os.environ, "LD_PRELOAD": str(made), _MARK: str(made)}
        os.execve(sys.executable, [sys.executable, "-m", "tests.crash", *sys.argv[1:]], env)
    try:
        yield
    finally:
        shutil.rmtree(Path(os.environ[_MARK]).parent)


_MARK = "DISK_IN"


@dataclass(frozen=True)
class Disk:
    """What the calls on paths below `prefix` shall come to."""

    prefix: Path
    counters: Path
    action: str = "none"
    """none, fail, kill, stop"""
    kind: str = "any"
    nth: int = 1
    times: int = 1
    number: int = 5
    log: Path | None = None

    def begin(self) -> None:
        """Set this process, and those that it starts, to it; counts begin at 0."""
        self.counters.write_bytes(bytes(struct.calcsize(_FORMAT)))
        said = (
            self.prefix, self.counters, self.log or "-", self.action, self.kind, self.nth,
            self.times, self.number,
        )  # fmt: skip
        os.environ["DISK"] = " ".join(map(str, said))
        ctypes.CDLL(None).disk_set(os.environ["DISK"].encode())

    def counts(self) -> dict[str, int]:
        """Calls so far, of each kind and `any`."""
        found = struct.unpack(_FORMAT, self.counters.read_bytes())
        return dict(zip((*KINDS, "any"), found, strict=True))
