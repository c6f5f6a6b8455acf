"""Ranges of an open file, however long: one call of the system reads at most 2 GiB."""

from __future__ import annotations

import os

_MOST = 1 << 30  # bytes in a call; macOS refuses more than 2 GiB, Linux cuts there


def read_into(descriptor: int, offset: int, buffer: memoryview) -> int:
    """The bytes from `offset` on into `buffer`; how many there are, fewer where the file ends."""
    done = 0
    while done < len(buffer):
        more = os.preadv(descriptor, [buffer[done : done + _MOST]], offset + done)
        if not more:
            break
        done += more
    return done


def read_range(descriptor: int, offset: int, count: int) -> bytes:
    """`count` bytes from `offset` on; fewer where the file ends."""
    data = os.pread(descriptor, min(count, _MOST), offset)
    while 0 < len(data) < count:
        more = os.pread(descriptor, min(count - len(data), _MOST), offset + len(data))
        if not more:
            break
        data += more
    return data
