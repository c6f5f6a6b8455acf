"""Archives of anybody's making; what zipfile and gzip read of one too is the same."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from dicom2cache.errors import FrameError
from dicom2cache.recipes.limits import Limits
from dicom2cache.records import Candidate
from dicom2cache.sources.archives.kinds import clean
from dicom2cache.sources.archives.listed import look
from dicom2cache.sources.claims import check_claims
from dicom2cache.sources.place import SEPARATOR, open_at, place_of
from tests.fuzz.choices import Choices
from tests.fuzz.headers import place

_SUFFIXES = (".zip", ".tar", ".gz")
_LIMITS = Limits(inflate_mib=4)
_MOST = 40
"""members"""


def archive_bytes(data: bytes) -> None:
    """The first byte chooses the kind; the others are the file."""
    c = Choices(data)
    suffix = c.pick(_SUFFIXES)
    path = place().folder / f"archive{suffix}"
    path.write_bytes(c.rest())
    found = look(str(path), os.stat(path), _MOST)
    names = [one.name for one in found or ()]
    assert len(set(names)) == len(names), "a name is there twice"
    read = {}
    for one in found or ():
        assert (one.member is None) == (one.problem is not None)
        if one.member is not None:
            whole = f"{path}{SEPARATOR}{one.name}" if one.name else str(path)
            assert one.name or suffix == ".gz"
            content = _content(Candidate(0, whole, one.size, 0, one.member.offset, one.member))
            if content is not None:
                read[one.name] = content
    theirs = {".zip": _by_zipfile, ".tar": _by_nobody, ".gz": _by_gzip}[suffix](path)
    for name in read.keys() & theirs.keys():
        assert read[name] == theirs[name], name


def _content(candidate: Candidate) -> bytes | None:
    """All of a member, looked at as a build does; None if it is refused."""
    try:
        check_claims(candidate, _LIMITS)
        with open_at(place_of(candidate.path, candidate)) as file:
            head = file.read(0, 200)
            file.check_whole()
            content = file.read(0, file.size)
    except FrameError:
        return None
    assert len(content) == candidate.size
    assert content.startswith(head)
    return content


def _by_zipfile(path: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist()[:_MOST]:
                name = clean(info.orig_filename)
                found.pop(name, None)  # the last of a name counts
                if info.file_size <= 4 << 20:
                    found[name] = archive.read(info)
    except Exception:  # whatever it provokes there is not ours
        return {}
    return found


def _by_gzip(path: Path) -> dict[str, bytes]:
    try:
        with gzip.open(path) as file:
            return {"": file.read(4 << 20)}
    except (OSError, EOFError, zlib.error):
        return {}


def _by_nobody(_: Path) -> dict[str, bytes]:
    return {}


def seeds() -> Iterator[bytes]:
    """Archives that are right, of each kind."""
    some = {"a.dcm": bytes(128) + b"DICM" + bytes(range(64)), "x/b": b"text " * 30, "c": b""}
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        made = _zip(some, method)
        yield b"\0" + made
        yield b"\0a program that unpacks itself" + made
    streamed = io.BytesIO()
    with (
        zipfile.ZipFile(_Stream(streamed), "w", zipfile.ZIP_DEFLATED) as archive,  # type: ignore[arg-type]
        archive.open("big", "w", force_zip64=True) as member,
    ):
        member.write(b"streamed " * 20)
    yield b"\0" + streamed.getvalue()
    for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w", format=kind) as packed:
            for name, content in {**some, "n" * 120: b"long"}.items():
                about = tarfile.TarInfo(name)
                about.size = len(content)
                packed.addfile(about, io.BytesIO(content))
            about = tarfile.TarInfo("link")
            about.type, about.linkname = tarfile.SYMTYPE, "a.dcm"
            packed.addfile(about)
        yield b"\1" + tar.getvalue().rstrip(b"\0") + bytes(1024)
    one = gzip.compress(some["a.dcm"], mtime=0)
    yield b"\2" + one
    yield b"\2" + one + one


def _zip(some: dict[str, bytes], method: int) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, content in some.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return made.getvalue()


class _Stream:
    """A file that cannot be sought in, as a pipe: sizes stand behind members then."""

    def __init__(self, to: io.BytesIO) -> None:
        self._to = to

    def write(self, data: bytes) -> int:
        """As of any file."""
        return self._to.write(data)

    def flush(self) -> None:
        """As of any file."""
