"""How closed contours on one plane lie to each other: apart, one in the other, or overlapping.

The standard does not say what several CLOSED_PLANAR contours of a structure on one plane mean
together (PS3.3 C.8.8.6.3). The convention here: those that overlap in part are one shape, their
union; a shape wholly inside of another is a hole in it, and one inside of that hole is an island
again, alternating with depth. Lines that run within `NEAR` of each other touch, and do not cross:
decimals of contours say no more.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NEAR = 0.01
"""mm; two coordinates rounded to two decimals differ by that"""
_AT_ONCE = 1 << 22
"""pairs of edges that are looked at at a time"""


class Shapes(NamedTuple):
    """The contours of a plane, grouped."""

    members: tuple[tuple[int, ...], ...]
    """contours that are one shape, their union; the outer shapes first"""
    depth: tuple[int, ...]
    """of each shape, how many others it lies in: even ones fill, odd ones are holes"""
    overlap: bool
    """whether contours overlap in part, or are the same one twice"""


def shapes_of(polygons: Sequence[Floats]) -> Shapes:
    """The shapes that closed polygons make; each (n, 2), in mm."""
    group = np.arange(len(polygons))
    """of each polygon, the first one of its shape"""
    inside = array("q")  # (inner, outer) one after the other: there may be millions
    for a, others in _near(polygons):
        # How those of one shape lie to each other does not matter: most of many that overlap.
        while len(others := others[group[others] != group[a]]):
            b, others = int(others[0]), others[1:]
            found = relation(polygons[a], polygons[b])
            if found == "overlap":
                one, other = sorted((group[a], group[b]))
                group[group == other] = one
            elif found == "inside":
                inside.extend((a, b))
            elif found == "around":
                inside.extend((b, a))
    inner, outer = group[np.array(inside, np.int64).reshape(-1, 2).T]
    within = np.unique(inner[inner != outer] * len(group) + outer[inner != outer])
    leaders, whose = np.unique(group, return_inverse=True)
    depths = np.bincount(np.searchsorted(leaders, within // len(group)), minlength=len(leaders))
    order = np.lexsort((leaders, depths))
    parts = np.split(np.argsort(whose, kind="stable"), np.cumsum(np.bincount(whose))[:-1])
    return Shapes(
        tuple(tuple(parts[k].tolist()) for k in order),
        tuple(depths[order].tolist()),
        len(order) < len(polygons),
    )


def _near(polygons: Sequence[Floats]) -> Iterator[tuple[int, Ints]]:
    """(polygon, those after it whose boxes meet its box)."""
    some = np.array([k for k, polygon in enumerate(polygons) if len(polygon)], np.int64)
    low = np.array([polygons[k].min(axis=0) for k in some]).reshape(-1, 2)
    high = np.array([polygons[k].max(axis=0) for k in some]).reshape(-1, 2)
    for place, k in enumerate(some.tolist()):
        rest = slice(place + 1, None)
        meets = ((low[rest] <= high[place]) & (low[place] <= high[rest])).all(axis=1)
        yield k, some[rest][meets]


def relation(a: Floats, b: Floats) -> str:
    """`apart`, `inside` (a in b), `around` (b in a) or `overlap`, of two closed polygons in mm.

    The same polygon twice overlaps.
    """
    mine, theirs = _edges_near(a, b), _edges_near(b, a)
    touching = _meeting(a, b, mine, theirs)
    if not touching:
        if _holds(b, a[:1])[0]:
            return "inside"
        return "around" if _holds(a, b[:1])[0] else "apart"
    if _cross(a, b, touching):
        return "overlap"
    one, other = _sides(a, b), _sides(b, a)
    if {True} < one or {True} < other or (True in one and True in other):
        return "overlap"  # a part of it inside, another outside
    if one == {True}:
        return "inside"
    if other == {True}:
        return "around"
    return "overlap" if not one and not other else "apart"


def _edges_near(a: Floats, b: Floats) -> NDArray[np.int64]:
    """Edges of a whose boxes meet the box of b."""
    low, high = b.min(axis=0) - NEAR, b.max(axis=0) + NEAR
    ends = np.roll(a, -1, axis=0)
    meets = (np.minimum(a, ends) <= high) & (np.maximum(a, ends) >= low)
    return np.flatnonzero(meets.all(axis=1))


def _meeting(
    a: Floats, b: Floats, mine: NDArray[np.int64], theirs: NDArray[np.int64]
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs of edges whose boxes, grown by NEAR, meet, some at a time; empty if there are none."""
    if not len(mine) or not len(theirs):
        return []
    a2, b2 = np.roll(a, -1, axis=0), np.roll(b, -1, axis=0)
    low, high = np.minimum(b, b2)[theirs] - NEAR, np.maximum(b, b2)[theirs] + NEAR
    found = []
    step = max(1, _AT_ONCE // len(theirs))
    for start in range(0, len(mine), step):
        some = mine[start : start + step]
        least, most = np.minimum(a[some], a2[some]), np.maximum(a[some], a2[some])
        meets = least[:, 0, None] <= high[None, :, 0]
        for k in (0, 1):
            meets &= least[:, k, None] <= high[None, :, k]
            meets &= most[:, k, None] >= low[None, :, k]
        one, other = np.nonzero(meets)
        if len(one):
            found.append((some[one], theirs[other]))
    return found


def _cross(
    a: Floats, b: Floats, pairs: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]
) -> bool:
    """Whether an edge of each goes through one of the other, its ends farther than NEAR from it."""
    a2, b2 = np.roll(a, -1, axis=0), np.roll(b, -1, axis=0)
    for one, other in pairs:
        p, q, r, s = a[one], a2[one], b[other], b2[other]
        sides = [_side(r, s, p), _side(r, s, q), _side(p, q, r), _side(p, q, s)]
        if np.any((sides[0] * sides[1] < 0) & (sides[2] * sides[3] < 0)):
            return True
    return False


def _side(p: Floats, q: Floats, r: Floats) -> NDArray[np.int8]:
    """On which side of the lines p-q points lie: -1 or 1, 0 within NEAR."""
    d, e = q - p, r - p
    length = np.hypot(d[:, 0], d[:, 1])
    cross = d[:, 0] * e[:, 1] - d[:, 1] * e[:, 0]
    return np.where(np.abs(cross) <= NEAR * length, 0, np.sign(cross)).astype(np.int8)


def _sides(a: Floats, b: Floats) -> set[bool]:
    """Whether corners and middles of edges of a lie in b; those on its edges say nothing."""
    points = np.concatenate([a, (a + np.roll(a, -1, axis=0)) / 2])
    return set(_holds(b, points[~_on(b, points)]).tolist())


def _on(polygon: Floats, points: Floats) -> NDArray[np.bool_]:
    """Points within NEAR of an edge."""
    ends = np.roll(polygon, -1, axis=0)
    d = ends - polygon
    squared = np.maximum((d * d).sum(axis=1), np.finfo(np.float64).tiny)
    found = np.zeros(len(points), bool)
    step = max(1, _AT_ONCE // len(polygon))
    for start in range(0, len(points), step):
        e = points[start : start + step, None] - polygon[None]
        along = np.clip((e * d).sum(axis=2) / squared, 0, 1)
        off = e - along[:, :, None] * d
        found[start : start + step] = ((off * off).sum(axis=2) <= NEAR * NEAR).any(axis=1)
    return found


def _holds(polygon: Floats, points: Floats) -> NDArray[np.bool_]:
    """Points inside of a polygon, by the parity of edges to their right."""
    ends = np.roll(polygon, -1, axis=0)
    x0, y0, x1, y1 = polygon[:, 0], polygon[:, 1], ends[:, 0], ends[:, 1]
    found = np.zeros(len(points), bool)
    step = max(1, _AT_ONCE // len(polygon))
    for start in range(0, len(points), step):
        x, y = points[start : start + step, 0, None], points[start : start + step, 1, None]
        crossed = (y0 <= y) != (y1 <= y)
        with np.errstate(divide="ignore", invalid="ignore"):
            right = x < x0 + (y - y0) / (y1 - y0) * (x1 - x0)
        found[start : start + step] = (crossed & right).sum(axis=1) % 2 == 1
    return found
