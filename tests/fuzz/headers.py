"""Headers: both ways to read one agree, and what they raise is foreseen."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from dicom2cache.errors import FrameError, NoPixels, NotDicom
from dicom2cache.headers.read import read_header
from dicom2cache.privacy.keys import PatientKey
from dicom2cache.records import Candidate, Header
from tests.fuzz.choices import Choices
from tests.fuzz.datasets import (
    BIG,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    bases,
    drawn_file,
    part_10,
)
from tests.support.headers import is_scanned

_KEY = PatientKey(bytes(16))


def in_memory() -> str | None:
    """A folder for temporary ones, in memory where there is such; None: the usual."""
    shared = "/dev/shm"
    return shared if "TMPDIR" not in os.environ and os.path.isdir(shared) else None


class Place:
    """A file of this process, written anew for each run."""

    def __init__(self) -> None:
        self._room = TemporaryDirectory(prefix="dicom2cache-fuzz-", dir=in_memory())
        self.folder = Path(self._room.name)
        self.path = self.folder / "file.dcm"
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT)

    def write(self, data: bytes) -> Candidate:
        """Make `data` its content."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, data, 0)
        status = os.fstat(self._descriptor)
        return Candidate(0, self.path.name, status.st_size, status.st_mtime_ns)


@cache
def place() -> Place:
    """That of this process."""
    return Place()


def read(candidate: Candidate, scanned: bool) -> Header | str:
    """The row of FILES, or the foreseen reason that there is none."""
    try:
        return read_header([str(place().folder)], candidate, _KEY, scanned)
    except (NoPixels, NotDicom, FrameError) as e:
        return f"{type(e).__name__}: {e}"


def header_of(data: bytes) -> Header | str:
    """As `read`, by both ways, which must agree."""
    candidate = place().write(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scanned = read(candidate, True)
        if not is_scanned(place().path, candidate):
            return scanned  # by pydicom already
        parsed = read(candidate, False)
    if repr(scanned) != repr(parsed):  # a NaN is no NaN's equal, but has its text
        if isinstance(scanned, str) or isinstance(parsed, str):
            raise AssertionError(f"scan: {scanned}\npydicom: {parsed}")
        one, other = dict(scanned), dict(parsed)
        differ = [k for k in one if repr(one[k]) != repr(other.get(k))]
        raise AssertionError(f"scan and pydicom: {[(k, one[k], other.get(k)) for k in differ]}")
    return scanned


def header_bytes(data: bytes) -> None:
    """`data` is a file."""
    header_of(data)


def header_elements(data: bytes) -> None:
    """`data` chooses a real file and what is changed in it."""
    header_of(drawn_file(Choices(data)))


def whole_files() -> Iterator[bytes]:
    """The files whose elements `header_elements` edits, as they are."""
    for elements, syntax in bases():
        native = syntax in (IMPLICIT, EXPLICIT, BIG, DEFLATED)
        yield part_10(elements, syntax, syntax if native else EXPLICIT)


def of_each_base() -> Iterator[bytes]:
    """A choice for each real file, and a few changes."""
    for k in range(len(bases())):
        yield bytes([k])
        yield bytes([k, 1, *range(40)])
