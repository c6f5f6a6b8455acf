"""RLE by its segments, one packet after the other (PS3.5 annex G): what the quick decoder refuses.

More bytes than the pixels need are left out, pixels of one bit are unpacked, and what is missing is
named.
"""

from __future__ import annotations

import struct
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dicom2cache.errors import FrameError, counting

_HEADER = 64  # bytes: the number of segments and 15 offsets (G.5)


def unpacked(
    data: bytes, rows: int, columns: int, samples: int, bits: int
) -> tuple[NDArray[np.uint8], bool]:
    """(bytes, True if there are more): (samples, bytes of one, rows * columns), least byte first.

    Raises FrameError if segments or pixels are missing.
    """
    parts = _segments(data, samples * max(1, bits // 8), bits)
    plane, surplus = rows * columns, set[int]()
    made = np.zeros((len(parts), plane), np.uint8)
    for number, part in enumerate(parts):
        whole = _packets(part, plane)
        if len(whole) < plane and bits == 1 and len(whole) >= (plane + 7) // 8:
            # Eight pixels in a byte, as native ones are; by the standard each has its own.
            packed = np.frombuffer(whole, np.uint8)
            made[number] = np.unpackbits(packed, bitorder="little")[:plane]
            surplus.add(len(whole) - (plane + 7) // 8)
            continue
        if len(whole) < plane:
            raise FrameError(
                f"the RLE codestream is cut: segment {number + 1} of {len(parts)} holds "
                f"{len(whole)} of {plane} bytes; copy the file again"
            )
        made[number] = np.frombuffer(whole, np.uint8, plane)
        surplus.add(len(whole) - plane)
    most = max(surplus)
    if len(surplus) == 1 and most and (most % columns == 0 or most % rows == 0):
        raise FrameError(
            f"each RLE segment holds {plane + most} bytes, but Rows x Columns is {rows} x {columns}"
            f": {plane}; one of them is wrong, correct it"
        )
    width = max(1, bits // 8)
    return made.reshape(samples, width, plane)[:, ::-1], most > 0


def _segments(data: bytes, needed: int, bits: int) -> list[bytes]:
    if len(data) < _HEADER:
        raise FrameError(f"{len(data)} bytes are no RLE codestream: its header alone has {_HEADER}")
    number, *offsets = struct.unpack("<16I", data[:_HEADER])
    if number != needed:
        raise FrameError(
            f"the RLE header says {counting(number, 'segment')}, but samples of {bits} bits need "
            f"{needed}; Bits Allocated (0028,0100), Samples per Pixel (0028,0002) or the "
            "codestream is wrong"
        )
    bounds = [*offsets[:number], len(data)]
    if bounds[0] < _HEADER or any(a > b for a, b in pairwise(bounds)):
        raise FrameError(
            f"the RLE header says segments at bytes {bounds[:-1]} of {len(data)}: it is damaged; "
            "copy the file again"
        )
    return [data[a:b] for a, b in pairwise(bounds)]


def _packets(segment: bytes, enough: int) -> bytes:
    """What a segment's packets make; a byte that ends it alone is padding (G.3.1)."""
    made, place, last = bytearray(), 0, len(segment) - 1
    while place < last:
        code = segment[place]
        if code < 128:
            made += segment[place + 1 : place + 2 + code]
            place += 2 + code
        elif code > 128:
            made += segment[place + 1 : place + 2] * (257 - code)
            place += 2
        else:
            place += 1
        if len(made) > 2 * enough + 256:  # far more than padding: no need for the rest
            break
    return bytes(made)
