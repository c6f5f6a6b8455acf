"""Polygons to pixels: which pixel centres lie inside, by the parity of the edges before them.

Coordinates are in pixels: x counts columns and y rows, and the centre of the pixel in row r and
column c is at y = r, x = c. They are rounded to 2^-14 pixel first, so that what is meant to lie on
a pixel centre does, and all that follows is exact in float64 for images of up to 4096 pixels.

An edge crosses a row where low <= y < high of its ends, and turns over all pixels to the right
whose centre has x >= the crossing. So a centre on the lower or left edge of a shape is inside, on
its upper or right edge it is not, and of two shapes that share an edge exactly one has it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STEP = 2.0**-14
"""pixels that coordinates are rounded to: far below what decimals of contours say"""
_AT_ONCE = 1 << 20
"""crossings that are held in memory at a time"""


def snapped(points: Floats) -> Floats:
    """Coordinates in pixels, rounded to `STEP`."""
    return np.rint(np.asarray(points, np.float64) / STEP) * STEP


class Window(NamedTuple):
    """Rows and columns of an image that shapes can reach; stops are exclusive."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.bottom - self.top, self.right - self.left


def window_of(points: Floats, shape: tuple[int, int]) -> Window:
    """Where pixel centres of an image of this (height, width) may lie inside of polygons."""
    if not len(points):
        return Window(0, 0, 0, 0)
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    height, width = shape
    y0, y1 = (int(min(max(np.ceil(v), 0), height)) for v in (top, bottom))
    x0, x1 = (int(min(max(np.ceil(v), 0), width)) for v in (left, right))
    return Window(y0, x0, y1, x1)


def following(starts: Ints) -> Ints:
    """For each point of closed polygons the next one: behind the last comes the first."""
    nexts = np.arange(1, starts[-1] + 1)
    some = starts[1:] > starts[:-1]
    nexts[starts[1:][some] - 1] = starts[:-1][some]
    return nexts


def parity(
    points: Floats, starts: Ints, layer: Ints, layers: int, window: Window
) -> NDArray[np.bool_]:
    """Pixels of each layer that an odd number of its polygons holds: bool (layers, rows, columns).

    `points`, (n, 2), are x and y, snapped; polygon k has those from `starts[k]` to
    `starts[k + 1]`, and lies in layer `layer[k]`.
    """
    height, width = window.shape
    turns = np.zeros((layers, height, width), np.uint8)
    if not turns.size:
        return turns.view(np.bool_)
    ends = points[following(starts)]
    x0, y0, x1, y1 = points[:, 0], points[:, 1], ends[:, 0], ends[:, 1]
    first = np.clip(np.ceil(np.minimum(y0, y1)), window.top, window.bottom).astype(np.int64)
    last = np.clip(np.ceil(np.maximum(y0, y1)), window.top, window.bottom).astype(np.int64)
    count = last - first
    edges = np.flatnonzero(count)
    base = np.repeat(layer, np.diff(starts)) * height - window.top
    before = np.concatenate([[0], np.cumsum(count[edges])])
    start, flat = 0, turns.reshape(-1)
    while start < len(edges):
        stop = max(int(np.searchsorted(before, before[start] + _AT_ONCE, "right")) - 1, start + 1)
        some = edges[start:stop]
        edge = np.repeat(some, count[some])
        row = np.arange(len(edge)) + np.repeat(first[some] - before[start:stop] + before[start],
                                               count[some])  # fmt: skip
        dy = y1[edge] - y0[edge]
        # One division: where the quotient is whole, it is exact.
        across = (x0[edge] * dy + (row - y0[edge]) * (x1[edge] - x0[edge])) / dy
        column = np.ceil(across)
        seen = column < window.right
        column = np.maximum(column[seen], window.left).astype(np.int64) - window.left
        cell = (base[edge[seen]] + row[seen]) * width + column
        np.add.at(flat, cell, np.uint8(1))  # modulo 256: parity stays
        start = stop
    np.add.accumulate(turns, axis=2, out=turns)
    turns &= 1
    return turns.view(np.bool_)


def area_and_centre(points: Floats) -> tuple[float, Floats]:
    """Area of one polygon, and (x, y) of its centre of area; 0 and NaN where it has none."""
    if len(points) < 3:
        return 0.0, np.full(2, np.nan)
    origin = points[0]
    here = points - origin
    there = np.roll(here, -1, axis=0)
    cross = here[:, 0] * there[:, 1] - there[:, 0] * here[:, 1]
    twice = float(cross.sum())
    if not twice:
        return 0.0, np.full(2, np.nan)
    centre: Any = origin + ((here + there) * cross[:, None]).sum(axis=0) / (3 * twice)
    return abs(twice) / 2, centre
