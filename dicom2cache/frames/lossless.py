"""Whether the pixels of a lossless JPEG account for each of its coded bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom2cache.frames.codestream import END, Jpeg

_BITS = np.frexp(np.abs(np.arange(1 << 16).astype(np.int16).astype(np.int32)))[1].astype(np.uint8)
"""of each difference modulo 2^16: its category (T.81 H.1.2.2)"""


def accounts_for_all(stream: bytes, jpeg: Jpeg, pixels: NDArray[Any]) -> bool:
    """True if coding the (H, W) `pixels` takes all bits of the scan, but those that fill a byte.

    False, too, where that is not known: of several components or bytes beyond the scan, restart
    intervals, predictors other than the left neighbour.
    """
    scan = stream.find(b"\xff\xda", len(jpeg.head))
    body = stream[scan + 4 : scan + 10]
    if pixels.ndim != 2 or not jpeg.single or body[3:] != b"\1\0\0":
        return False
    lengths = _lengths(jpeg.head, body[2] >> 4)
    if lengths is None:
        return False
    coded = stream[scan + 10 : stream.rfind(END)]
    there = 8 * (len(coded) - coded.count(b"\xff\0"))
    cost = lengths + np.append(np.arange(16), 0)  # 2^15 has no bits beside its code
    flat = pixels.astype(np.uint16, copy=False)
    difference = np.empty(flat.shape, np.uint16)
    np.subtract(flat[:, 1:], flat[:, :-1], out=difference[:, 1:])
    np.subtract(flat[1:, 0], flat[:-1, 0], out=difference[1:, 0])
    difference[0, 0] = (int(flat[0, 0]) - (1 << jpeg.precision - 1)) & 0xFFFF
    needed = int(np.take(cost.astype(np.uint8)[_BITS], difference).sum(dtype=np.int64))
    return 0 <= there - needed < 8


def _lengths(head: bytes, table: int) -> NDArray[np.int64] | None:
    """(17,) bits of the code of each category in a table for DC; None: there is no such table."""
    found, place = None, 2
    while place + 4 <= len(head):
        end = place + 2 + int.from_bytes(head[place + 2 : place + 4], "big")
        tables = head[place + 4 : end] if head[place + 1] == 0xC4 else b""
        while len(tables) > 17:  # T.81 B.2.4.2
            counts, count = tables[1:17], sum(tables[1:17])
            if tables[0] == table:
                found = np.zeros(256, np.int64)
                values = np.frombuffer(tables[17 : 17 + count], np.uint8)
                found[values] = np.repeat(np.arange(1, 17), list(counts))[: len(values)]
            tables = tables[17 + count :]
        place = end
    return None if found is None else found[:17]
