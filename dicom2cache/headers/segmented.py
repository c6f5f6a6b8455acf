"""Segmented palettes to their entries (PS3.3 C.7.9.2), pure.

A segment of six bytes may stand for 65535 entries, and may have others done again: so no more is
made than the descriptor asks for, in a bounded number of steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dicom2cache.errors import counting

_DISCRETE, _LINEAR, _INDIRECT = range(3)
_MOST_STEPS = 1 << 17
"""segments: a palette has 65536 entries at most, and each should add one"""


def expanded(words: Sequence[int], count: int, width: int) -> list[int]:
    """Up to `count` entries, fewer if the segments make fewer; `words` have `width` bytes, 1 or 2.

    Raises ValueError if what the segments say cannot be.
    """
    made: list[int] = []
    place, returns, steps = 0, list[tuple[int, int]](), 0
    """`returns`: of indirect segments, (how many are left to do again, where it then goes on)"""
    while len(made) < count:
        if returns and not returns[-1][0]:
            place = returns.pop()[1]
            continue
        if place + 1 >= len(words):  # a byte that is left is padding
            if returns:
                raise ValueError("segments beyond the last one are to be done again")
            break
        steps += 1
        if steps > _MOST_STEPS:
            raise ValueError(
                f"more than {_MOST_STEPS} segments for {counting(count, 'entry', 'entries')}"
            )
        if returns:
            returns[-1] = returns[-1][0] - 1, returns[-1][1]
        opcode, length = words[place], words[place + 1]
        place += 2
        if opcode == _DISCRETE:
            made += words[place : place + length]
            place += length
        elif opcode == _LINEAR:
            if not made or place >= len(words):
                raise ValueError("a line has no beginning, or no end")
            made += _line(made[-1], words[place], length)
            place += 1
        elif opcode == _INDIRECT:
            size = 4 // width
            parts = words[place : place + size]
            if len(parts) < size:
                raise ValueError("an indirect segment is cut")
            offset = sum(part << 8 * width * k for k, part in enumerate(parts))
            if offset % width or offset // width >= len(words):
                raise ValueError(f"an indirect segment goes to byte {offset}, where none begins")
            returns.append((length, place + size))
            place = offset // width
        else:
            raise ValueError(f"a segment of type {opcode}; legal: 0, 1 and 2")
    return made[:count]


def _line(first: int, last: int, length: int) -> list[int]:
    """`length` entries from behind `first` to `last`."""
    if not length:
        return []
    step = (last - first) / length
    return [int(v) for v in np.around(np.linspace(first + step, last, length))]
