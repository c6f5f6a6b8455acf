"""Where the bytes of a source file lie: in a file of its own, or in an archive.

Who reads a file asks an `Opened` for bytes by their offsets, and does not know which it is. What is
stored, and what a tar has, is read where it lies. What is deflated is inflated at its beginning for
a header, and as a whole, in memory, for all else.
"""

from __future__ import annotations

import errno
import io
import os
import threading
import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, cast

from dicom2cache.errors import FrameError
from dicom2cache.records import Candidate, Member, MemberRow
from dicom2cache.sources.archives import zips
from dicom2cache.sources.archives.kinds import DEFLATED, GZIP, MAGIC, STORED, within
from dicom2cache.sources.file import HEAD, ITEMS, opened, read_into, read_range, reused

_HEAD = 1 << 20
"""bytes that are inflated one after the other, as a header asks for them"""
_INPUT = 1 << 12
_STEP = 1 << 12
"""bytes that are inflated at least: a header asks for a few at once"""
_AT_ONCE = 1 << 20
SEPARATOR = "!/"
"""between an archive and the name of a member"""


class Place(NamedTuple):
    """Where a file lies, by its path, and by its place in an archive."""

    path: str
    """of a member that of the archive, !/ and its name"""
    member: Member | None = None
    size: int = 0
    """bytes of a member, without compression"""

    @property
    def file(self) -> str:
        """The file that is opened."""
        if self.member is None or self.member.kind == GZIP:
            return self.path
        return self.path[: -self.member.inside - len(SEPARATOR)]

    @property
    def inside(self) -> str:
        """Name in the archive."""
        return self.path[len(self.file) + len(SEPARATOR) :]


Where = str | os.PathLike[str] | Place


def place_of(path: str, said: Candidate | Mapping[str, Any]) -> Place:
    """The place of a candidate, or of a row of FILES, whose whole path this is."""
    member = said.member if isinstance(said, Candidate) else said.get("member")
    size = said.size if isinstance(said, Candidate) else said["size"]
    return Place(path, None if member is None else member_of(member), size)


def member_of(said: Member | Mapping[str, Any]) -> Member:
    """A Member from the row that a table has of it."""
    return said if isinstance(said, Member) else Member(**said)


def packed_of(candidate: Candidate) -> MemberRow | None:
    """What a row of FILES has of a candidate's member."""
    return None if candidate.member is None else cast(MemberRow, candidate.member._asdict())


class Opened:
    """A file that is open to be read by offsets; all ranges end where it ends."""

    at_once = 16384, 65536
    """bytes of a header that are worth asking for at first, and then: most end in the first"""

    def __init__(self, where: Where) -> None:
        """Raises OSError, and FrameError if the archive is not as it was listed."""
        self.place = where if isinstance(where, Place) else Place(os.fspath(where))
        self.member = self.place.member
        self._descriptor = opened(self.place.file)
        try:
            self._status = os.fstat(self._descriptor)
            self._start, self.size = 0, self._status.st_size
            if self.member is not None:
                self._start, self.size = self._member(self.member)
        except BaseException:
            os.close(self._descriptor)
            raise

    def _member(self, member: Member) -> tuple[int, int]:
        if self._status.st_size != member.archive:
            raise FrameError(
                f"its archive has changed since it was listed: {self._status.st_size} bytes now, "
                f"{member.archive} then; run again when it is at rest"
            )
        start = member.offset
        if member.kind in (STORED, DEFLATED):
            start = zips.start_of(self._descriptor, member, self.place.inside)
        return start, member.packed

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it; it may be closed already."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    @property
    def key(self) -> tuple[int, ...]:
        """What tells it from all other files, and from what it was at other times."""
        s = self._status
        return s.st_dev, s.st_ino, s.st_mtime_ns, s.st_size, self._start

    def was_as(self, size: int, mtime_ns: int) -> bool:
        """Whether it had this size and modification time when it was opened."""
        expected = size if self.member is None else self.member.archive
        return (self._status.st_size, self._status.st_mtime_ns) == (expected, mtime_ns)

    def is_as(self, size: int, mtime_ns: int) -> tuple[bool, int]:
        """(whether the open file has this size and modification time by now, its size)."""
        status = os.fstat(self._descriptor)
        expected = size if self.member is None else self.member.archive
        return (status.st_size, status.st_mtime_ns) == (expected, mtime_ns), status.st_size

    def read(self, offset: int, count: int) -> bytes:
        """`count` bytes from `offset` on; fewer where it ends."""
        if self.member is not None:
            count = max(0, min(count, self.size - offset))
        return read_range(self._descriptor, self._start + offset, count)

    def into(self, offset: int, buffer: memoryview) -> int:
        """The bytes from `offset` on into `buffer`; how many there are."""
        if self.member is not None:
            buffer = buffer[: max(0, self.size - offset)]
        return read_into(self._descriptor, self._start + offset, buffer)

    def check_whole(self) -> None:
        """Raises FrameError if the content of a member is not what its archive has a CRC of."""
        if self.member is not None and self.member.crc is not None:
            _checked(self.key, _Held(self))

    def crc(self) -> int:
        """CRC-32 of all of it."""
        found = at = 0
        with reused(_AT_ONCE) as buffer:
            while done := self.into(at, buffer):
                found, at = zlib.crc32(buffer[:done], found), at + done
        return found


class Inflated(Opened):
    """A file whose content is deflated: a member of a zip, or a gzip file."""

    at_once = 6144, 16384  # what nobody needs takes time

    def __init__(self, where: Place) -> None:
        """As of any file; `size` of the place is what the archive says."""
        super().__init__(where)
        self._packed, self.size = self.size, where.size
        self._gzip = self.place.member is not None and self.place.member.kind == GZIP
        self._stream: Any = None
        self._head, self._taken, self._waiting = bytearray(), 0, b""
        self._whole: memoryview | None = None
        self._turn = threading.Lock()  # frames of one file may be read side by side

    def _new(self) -> Any:
        return zlib.decompressobj(zlib.MAX_WBITS + 16 if self._gzip else -zlib.MAX_WBITS)

    def read(self, offset: int, count: int) -> bytes:
        """`count` bytes from `offset` on; fewer where it ends. Raises FrameError, as `into`."""
        stop = min(offset + count, self.size)
        if self._whole is None and stop <= _HEAD:
            try:
                with self._turn:
                    return bytes(self._begun(stop)[offset:stop])
            except zlib.error as e:
                raise self._damaged(str(e)) from e
        return bytes(self.whole()[offset:stop]) if offset < stop else b""

    def into(self, offset: int, buffer: memoryview) -> int:
        """The bytes from `offset` on into `buffer`; how many there are."""
        found = self.whole()[offset : offset + len(buffer)]
        buffer[: len(found)] = found
        return len(found)

    def check_whole(self) -> None:
        """As of any file; what is inflated as a whole was checked."""
        self.whole()

    def _begun(self, stop: int) -> bytearray:
        if self._stream is None:
            self._stream = self._new()
        while len(self._head) < stop and not self._stream.eof:
            if not self._waiting:
                count = min(_INPUT, self._packed - self._taken)
                self._waiting = read_range(self._descriptor, self._start + self._taken, count)
                self._taken += len(self._waiting)
                if not self._waiting:
                    break
            most = min(_HEAD, max(stop, len(self._head) + _STEP)) - len(self._head)
            self._head += self._stream.decompress(self._waiting, most)
            self._waiting = self._stream.unconsumed_tail
        return self._head

    def close(self) -> None:
        """Close it, and let go of what was inflated."""
        super().close()
        self._whole = None

    def whole(self) -> memoryview:
        """All of it, inflated and held to its size and CRC; kept. Raises FrameError."""
        with self._turn:
            return self._inflated()

    def _inflated(self) -> memoryview:
        if self._whole is None:
            if self._packed > self.size + (self.size >> 8) + (1 << 16):  # 5 of 65,535
                raise self._damaged(f"{self._packed} bytes are more than {self.size} deflate to")
            self._whole = None if self._gzip else self._at_once()
            if self._whole is not None:
                return self._whole
            packed, stream = read_range(self._descriptor, self._start, self._packed), self._new()
            try:
                found: bytes = stream.decompress(packed, self.size + 1)
            except zlib.error as e:
                raise self._damaged(str(e)) from e
            if len(found) <= self.size and not stream.eof and not stream.unconsumed_tail:
                raise self._damaged("the stream is cut off")
            if self._gzip and stream.unused_data[:2] == MAGIC[".gz"][0][1]:
                raise FrameError(
                    "a gzip file of several members, one behind the other: it is not read; gunzip "
                    "it first"
                )
            if len(found) != self.size or not stream.eof or (self._gzip and stream.unused_data):
                raise self._damaged(
                    f"it is said to inflate to {self.size} bytes, and that is not all, or not there"
                )
            crc = self.member.crc if self.member else None
            if crc is not None and zlib.crc32(found) != crc:
                raise self._damaged(f"CRC-32 {zlib.crc32(found):08x}, its archive says {crc:08x}")
            self._whole = memoryview(found)
        return self._whole

    def _at_once(self) -> memoryview | None:
        """All of it by libdeflate, in half the time; None where zlib shall say what is wrong."""
        try:
            import imagecodecs

            out = bytearray(self.size)
            packed = read_range(self._descriptor, self._start, self._packed)
            done = imagecodecs.deflate_decode(packed, raw=True, out=out)
            crc = None if self.member is None else self.member.crc
            whole = len(done) == self.size and imagecodecs.deflate_crc32(out) == crc
            return memoryview(out) if whole else None
        except (ImportError, AttributeError, RuntimeError, ValueError):
            return None

    def _damaged(self, why: str) -> FrameError:
        what = "gzip file" if self._gzip else "member of the archive"
        also = "; unpack it by gunzip if it is right" if self._gzip else ""
        return FrameError(f"the {what} is damaged ({why}); copy it again{also}")


class _Held:
    """An open file as an argument that no cache keeps or compares."""

    def __init__(self, file: Opened) -> None:
        self.file: Opened | None = file

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held)

    def __hash__(self) -> int:
        return 0


@lru_cache(maxsize=1 << 14)
def _checked(_key: tuple[int, ...], held: _Held) -> None:
    """Each member is read for its CRC once in a process; what fails is looked at again."""
    file = held.file
    held.file = None
    if file is not None and file.member is not None and file.crc() != file.member.crc:
        raise FrameError(
            f"the member of the archive is damaged (CRC-32 {file.crc():08x}, its archive says "
            f"{file.member.crc:08x}); copy the archive again"
        )


def open_at(where: Where) -> Opened:
    """The file, open to be read.

    Raises OSError, and FrameError if the archive is not as it was listed.
    """
    if isinstance(where, Place) and where.member and where.member.kind in (DEFLATED, GZIP):
        return Inflated(where)
    return Opened(where)


class Raw(io.RawIOBase):
    """An open file as a stream of bytes."""

    def __init__(self, file: Opened) -> None:
        self._file, self._at = file, 0
        self.name = file.place.path

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """As of any file."""
        view = memoryview(buffer)
        found = self._file.read(self._at, len(view))
        view[: len(found)] = found
        self._at += len(found)
        return len(found)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As of any file."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size}[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """As of any file."""
        return self._at


_SMALL = 1 << 16
"""bytes that are asked for without a look at the file's size"""


class BoundedFile(io.BufferedReader):
    """A file to read from; a read beyond its end allocates what is left, not what was asked for.

    A parser takes lengths at their word: 4 GiB in a file of 700 bytes would end in a MemoryError.
    """

    def __init__(self, where: Where) -> None:
        """As `open_at`."""
        self.opened = open_at(where)
        super().__init__(Raw(self.opened))
        self.item: Callable[[], object] | None = None
        """what is told of each item that a parser meets"""

    def close(self) -> None:
        """Close the file too."""
        super().close()
        self.opened.close()

    def read(self, size: int | None = -1, /) -> bytes:
        """As of any file: fewer bytes than `size` where the file ends."""
        if size is not None and size > _SMALL:
            size = min(size, max(_SMALL, self.opened.size - self.tell()))
        found = super().read(size)
        if self.item is not None and size == HEAD and found[:4] in ITEMS:
            self.item()
        return found


def file_of(path: str) -> str:
    """The file that a path, of a member perhaps, leads to: the archive, or itself."""
    found = within(path)
    return path if found is None else found[0]
