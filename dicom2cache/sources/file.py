"""Bytes of one open file: ranges however long, and reads that allocate no more than it has."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dicom2cache.sources.system import BYTES, CLOSED_IN_CHILDREN, NO_WAIT, pread, pread_into

_MOST = 1 << 30  # bytes in a call; macOS refuses more than 2 GiB, Linux cuts there


def opened(path: str | os.PathLike[str], flags: int = os.O_RDONLY) -> int:
    """Descriptor of a file to read; a FIFO that has taken its place is not waited for.

    Raises OSError.
    """
    return os.open(path, flags | CLOSED_IN_CHILDREN | NO_WAIT | BYTES)


def read_into(descriptor: int, offset: int, buffer: memoryview) -> int:
    """The bytes from `offset` on into `buffer`; how many there are, fewer where the file ends."""
    done = 0
    while done < len(buffer):
        more = pread_into(descriptor, buffer[done : done + _MOST], offset + done)
        if not more:
            break
        done += more
    return done


def read_range(descriptor: int, offset: int, count: int) -> bytes:
    """`count` bytes from `offset` on; fewer where the file ends."""
    data = pread(descriptor, min(count, _MOST), offset)
    while 0 < len(data) < count:
        more = pread(descriptor, min(count - len(data), _MOST), offset + len(data))
        if not more:
            break
        data += more
    return data


_KEPT = 16 << 20
"""bytes of the memory that a thread keeps"""
_mine = threading.local()


@contextmanager
def reused(count: int) -> Iterator[memoryview]:
    """`count` bytes of memory, the same ones each time in a thread; valid in the block.

    What malloc gives anew for a few hundred kilobytes often comes fresh from the system: zeroing
    those pages takes five times as long as reading them from the page cache.
    """
    buffer = _mine.__dict__.pop("buffer", b"")  # a block within the block gets another
    if len(buffer) < count:
        buffer = bytearray(count + count // 4)
    yield memoryview(buffer)[:count]
    if len(buffer) <= _KEPT:
        _mine.buffer = buffer


HEAD = 8
"""bytes of a tag and a length, which a parser reads at once"""
ITEM = b"\xfe\xff\x00\xe0"
"""the tag (FFFE,E000) of an item (PS3.5 7.5), little-endian"""
ITEMS = (ITEM, b"\xff\xfe\xe0\x00")
