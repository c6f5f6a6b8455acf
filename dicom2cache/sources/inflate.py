"""Deflated Explicit VR Little Endian (PS3.5 A.5): the dataset inflated, and no more than needed.

A stream can inflate to a thousand times its size, so nothing here inflates to its end: the header
up to a bound, pixels as far as the header says that they go, a step at a time.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Collection
from typing import IO, Any

from dicom2cache.errors import FrameError
from dicom2cache.sources.file import HEAD, ITEM

MOST_HEADER = 256 << 20
"""bytes that the elements before the pixel data may have, unless a recipe says otherwise"""
_STEP = 1 << 20
_INPUT = 1 << 14  # deflated bytes at a time; at most 1032 times as many come of them
_MARK = 4 << 20  # inflated bytes between marks, as long as there are few
_MARKS = 256  # of 40 KiB each; beyond, every second is dropped


class Inflater:
    """Ranges of the inflated dataset; ranges in order cost one pass, in reverse two.

    Marks are kept on the way, to go back to; what was inflated from one on serves the ranges before
    the one that was asked for. Memory is one range, the marks and what lies between two.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        self._place, self._at = _stream_start(file), 0
        self._waiting = b""
        self._marks: list[tuple[int, int, Any]] = []
        self._apart = _MARK
        self._kept, self._kept_at = b"", 0

    def read(self, start: int, count: int) -> bytes:
        """`count` bytes from `start` on; fewer where the dataset ends.

        Raises FrameError if the stream is damaged.
        """
        skip = start - self._kept_at
        if skip >= 0 and skip + count <= len(self._kept):
            return self._kept[skip : skip + count]
        first = start
        if start < self._at:
            mark = max(k for k, (at, _, _) in enumerate(self._marks) if at <= start)
            first, self._place, stream = self._marks[mark]
            self._at, self._stream, self._waiting = first, stream.copy(), b""
        kept = bytearray()
        while self._at < start + count:
            piece = self._next(min(_STEP, start + count - self._at))
            if not piece:
                break
            kept += piece[max(0, first - self._at) :]
            self._at += len(piece)
        if first == start:
            self._kept = b""
            return bytes(kept)
        self._kept, self._kept_at = bytes(kept), first
        return self._kept[start - first :]

    def _next(self, most: int) -> bytes:
        while not self._stream.eof:
            if not self._waiting:
                self._mark()
                self._file.seek(self._place)
                self._waiting = self._file.read(_INPUT)
                self._place += len(self._waiting)
            try:
                piece = self._stream.decompress(self._waiting, most)
            except zlib.error as e:
                if "memory" in str(e):  # Z_MEM_ERROR
                    raise MemoryError(str(e)) from e
                raise FrameError(
                    f"the deflated dataset is damaged before byte {self._place} of the file; copy "
                    "it again"
                ) from e
            ended = not self._waiting
            self._waiting = self._stream.unconsumed_tail
            if piece or ended:
                return piece
        return b""

    def _mark(self) -> None:
        """Remember the stream as it is here, between two inputs, if the last mark is far behind."""
        if self._marks and self._at < self._marks[-1][0] + self._apart:
            return
        if len(self._marks) == _MARKS:
            del self._marks[1::2]
            self._apart *= 2
        self._marks.append((self._at, self._place, self._stream.copy()))


class Forward(io.RawIOBase):
    """Where a stream of an inflated dataset stands; `read` is for those that are made of it."""

    def __init__(
        self, file: IO[bytes], at: int, most: int, item: Callable[[], object] | None
    ) -> None:
        """It stands at byte `at`, and ends with a FrameError at `most`; `item` counts items."""
        self._inflater, self._at, self._most, self._item = Inflater(file), at, most, item

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Offset in the inflated dataset."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to an offset from the start or from here; UnsupportedOperation from the end."""
        if whence == io.SEEK_END:
            raise io.UnsupportedOperation("the end of a deflated dataset is not known")
        self._at = offset + (self._at if whence == io.SEEK_CUR else 0)
        return self._at


class _Header(Forward):
    """The inflated dataset as a stream that can go back; kept as far as it was read."""

    def __init__(self, file: IO[bytes], most: int, item: Callable[[], object] | None) -> None:
        super().__init__(file, 0, most, item)
        self._data = bytearray()

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, all by default. Raises FrameError beyond the most."""
        stop = self._at + size if size >= 0 else self._most + 1
        if stop > self._most:
            raise FrameError(
                f"the elements before the pixel data inflate to more than {self._most >> 20} MiB; "
                "if the file is right, give --limits header_mib=NUMBER"
            )
        while len(self._data) < stop:
            more = self._inflater.read(len(self._data), max(_STEP, stop - len(self._data)))
            if not more:
                break
            self._data += more
        found = bytes(self._data[self._at : stop])
        self._at += len(found)
        if self._item is not None and size == HEAD and found[:4] == ITEM:
            self._item()
        return found


def _stream_start(file: IO[bytes]) -> int:
    """Offset of the deflated dataset: after the preamble and the group 0002 elements."""
    file.seek(_meta_start(file))
    head = file.read(12)  # (0002,0000) UL, 4 bytes
    if head[:8] != b"\x02\x00\x00\x00UL\x04\x00":
        raise FrameError(
            "File Meta Information Group Length (0002,0000) is absent; legal: the bytes before the "
            "deflated dataset"
        )
    return file.tell() + int.from_bytes(head[8:], "little")


def _meta_start(file: IO[bytes]) -> int:
    file.seek(128)
    return 132 if file.read(4) == b"DICM" else 0


def file_meta(file: IO[bytes]) -> Any:
    """Group 0002 of a file; without a preamble it begins at byte 0."""
    from pydicom.filereader import _read_file_meta_info  # the public one takes a path only

    file.seek(_meta_start(file))
    return _read_file_meta_info(file)


def parse(
    file: IO[bytes],
    tags: list[int] | None,
    most: int = MOST_HEADER,
    item: Callable[[], object] | None = None,
    ends: Collection[int] = (),
) -> tuple[Any, IO[bytes]]:
    """(dataset up to its pixel data with the `tags`, stream that stands there), or up to one of the
    elements `ends`.

    `item` is told of each item that is met. Raises FrameError if the stream is damaged, or
    its header inflates to more than `most` bytes.
    """
    from pydicom.dataset import FileDataset
    from pydicom.filereader import read_dataset

    meta = file_meta(file)  # dcmread and read_partial would inflate all of it
    stream: Any = _Header(file, most, item)
    found = read_dataset(
        stream, False, True, specific_tags=tags,
        stop_when=lambda tag, vr, length: int(tag) >= 0x7FE00008 or int(tag) in ends,
    )  # fmt: skip
    ds = FileDataset(stream, found, None, meta, is_implicit_VR=False, is_little_endian=True)
    ds.set_original_encoding(False, True)
    return ds, stream
