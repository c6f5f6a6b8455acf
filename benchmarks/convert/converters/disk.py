"""The bytes alone: as many as the frames have, written and synced; the floor that the disk sets."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from pathlib import Path

from benchmarks.convert.converters.common import Options, Work
from benchmarks.convert.sources import Kind

PACKAGES = ()
SETTINGS = (
    "as many bytes as the frames have, 4 MiB at a time, past the page cache where the file system "
    "can (O_DIRECT), fdatasync once for each 128 MiB; nothing is read; the median of 5 passes"
)
_CHUNK, _FILE = 4 << 20, 128 << 20


def opened(kind: Kind, files: Sequence[Path], options: Options) -> Work:
    """One write after the other, by one thread."""
    size = kind.frame_bytes * kind.frames
    chunk = mmap.mmap(-1, _CHUNK)
    chunk[:] = os.urandom(_CHUNK)

    def work(files: Sequence[Path], out: Path) -> None:
        left, number = size * len(files), 0
        while left > 0:
            descriptor = _create(out / str(number))
            for place in range(0, min(left, _FILE), _CHUNK):
                os.pwrite(descriptor, chunk, place)
            os.fdatasync(descriptor)
            os.close(descriptor)
            left, number = left - _FILE, number + 1

    return work


def _create(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT
    try:
        return os.open(path, flags | getattr(os, "O_DIRECT", 0), 0o644)
    except OSError:
        return os.open(path, flags, 0o644)
