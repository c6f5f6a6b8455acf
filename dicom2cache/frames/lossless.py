"""Whether the pixels of a lossless JPEG account for each of its coded bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom2cache.frames.codestream import END, Jpeg
from dicom2cache.pixels import kernel

_CATEGORIES = 17
_BITS = np.frexp(np.abs(np.arange(1 << 16).astype(np.int16).astype(np.int32)))[1].astype(np.uint8)
"""of each difference modulo 2^16: its category (T.81 H.1.2.2)"""
_OWN = (*range(16), 0)  # bits beside the code; 2^15 has none


def bits_left(stream: bytes, jpeg: Jpeg, pixels: NDArray[Any]) -> int | None:
    """How many bits of the scan coding the (H, W) `pixels` leaves: 0 to 7 in a sound one.

    Below 0 it has fewer than they take: the decoder made some up. None: not known, as of several
    components, restart intervals, predictors other than the left neighbour, differences that have
    no code; and where it is not sound, differences that an encoder may have written modulo
    2^precision.
    """
    scan = stream.find(b"\xff\xda", len(jpeg.head))
    body = stream[scan + 4 : scan + 10]
    if pixels.ndim != 2 or not jpeg.single or body[3:] != b"\1\0\0":
        return None
    lengths = _lengths(jpeg.head, body[2] >> 4)
    if lengths is None:
        return None
    costs = bytes(map(int.__add__, lengths, _OWN))
    needed, seen = _steps(pixels.astype(np.uint16, copy=False), 1 << jpeg.precision - 1, costs)
    if any(seen >> k & 1 for k, length in enumerate(lengths) if not length):
        return None
    left = _bits(stream, scan + 10, stream.rfind(END)) - needed
    if 0 <= left < 8:
        return left
    if seen >> jpeg.precision and jpeg.precision < 16:
        return None
    return _bits(stream, scan + 10, stream.find(END, scan)) - needed  # more may follow the image


def _steps(pixels: NDArray[np.uint16], before: int, costs: bytes) -> tuple[int, int]:
    """(sum of costs, a bit for each category that is there) of differences of (H, W) pixels.

    Each is taken from the pixel to the left, of the first column from the one above, of the first
    from `before`, modulo 2^16 (T.81 H.1.2.1); `costs` are those of the categories.
    """
    if kernel.takes(pixels, "H"):
        found: tuple[int, int] = kernel.compiled.steps(pixels, before, costs)
        return found
    difference = np.empty(pixels.shape, np.uint16)
    np.subtract(pixels[:, 1:], pixels[:, :-1], out=difference[:, 1:])
    np.subtract(pixels[1:, 0], pixels[:-1, 0], out=difference[1:, 0])
    difference[0, 0] = (int(pixels[0, 0]) - before) & 0xFFFF
    counts = np.bincount(np.take(_BITS, difference).reshape(-1), minlength=_CATEGORIES)
    seen = sum(1 << k for k in np.flatnonzero(counts).tolist())
    return int(counts @ np.frombuffer(costs, np.uint8).astype(np.int64)), seen


def _bits(stream: bytes, start: int, stop: int) -> int:
    """Those of its bytes that code, without the 0 that follows each FF, and fill bytes before the
    marker (T.81 B.1.1.2, F.1.2.3).

    Where FF is followed by another byte, a marker, the stream is damaged.
    """
    while stop > start and stream[stop - 1] == 0xFF:
        stop -= 1
    there = memoryview(stream)[start : max(start, stop)]
    if kernel.compiled is not None:
        return 8 * (len(there) - int(kernel.compiled.equal(there, 0xFF)))
    return 8 * (len(there) - int(np.count_nonzero(np.frombuffer(there, np.uint8) == 0xFF)))


def _lengths(head: bytes, table: int) -> bytes | None:
    """(17,) bits of the code of each category in a table for DC; None: there is no such table."""
    found, place = None, 2
    while place + 4 <= len(head):
        end = place + 2 + int.from_bytes(head[place + 2 : place + 4], "big")
        tables = head[place + 4 : end] if head[place + 1] == 0xC4 else b""
        while len(tables) > 17:  # T.81 B.2.4.2
            at, lengths = 17, bytearray(256)
            for bits, count in enumerate(tables[1:17], 1):
                for value in tables[at : at + count]:
                    lengths[value] = bits
                at += count
            if tables[0] == table:
                found = bytes(lengths[:_CATEGORIES])
            tables = tables[at:]
        place = end
    return found
