"""Contours of a structure, in mm, onto parallel images: which image has which, and its pixels.

The rules, which FORMAT.md states: a contour lies where the mean of its points along the normal of
the images does. An image has the contours of the nearest plane of the structure that is within half
a slice of it, low <= z < high, or whose slab reaches it. Nothing is drawn between contours, nor of
what is not flat. On a plane CLOSEDPLANAR_XOR contours are combined by XOR, CLOSED_PLANAR ones as
pixels/nesting.py says; a pixel is inside if its centre is (pixels/scanline.py). Where no centre is,
but there is an area, the pixel that has the centre of the largest contour stands for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dicom2cache.pixels import nesting
from dicom2cache.pixels.scanline import area_and_centre, parity, snapped, window_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

XOR, CLOSED = "CLOSEDPLANAR_XOR", "CLOSED_PLANAR"
FILLED = (CLOSED, XOR)
"""Contour Geometric Types (3006,0042) that have an inside (PS3.3 C.8.8.6.3)"""
OVERLAP = "contours-overlap"
"""flag: contours of a plane overlap in part, or twice: their union was taken"""
SUB_PIXEL = "sub-pixel"
"""flag: the structure is smaller than a pixel here: the one that it lies in stands for it"""
_PLACE = 4
"""decimals of mm that places along the normal are rounded to: nearest and half-open then hold"""
_SAME_PLANE = 0.1
"""mm, and a tenth of a slice at most, between contours of one plane: coordinates are rounded"""
_CELLS = 1 << 24
"""pixels of all layers that are drawn at a time"""


@dataclass(frozen=True)
class Outlines:
    """The contours of one structure that have an inside."""

    points: Floats
    """(n, 3), mm, in patient coordinates"""
    starts: Ints
    """(k + 1): contour j has points[starts[j]:starts[j + 1]]"""
    xor: Bools
    """(k): CLOSEDPLANAR_XOR, else CLOSED_PLANAR"""
    slab: Floats = field(default_factory=lambda: np.empty(0))
    """(k): Contour Slab Thickness, mm, NaN where none is said; or empty"""
    offset: Floats = field(default_factory=lambda: np.empty((0, 3)))
    """(k, 3): from a contour to the middle of its slab, mm; or empty: all 0"""

    @classmethod
    def of(cls, contours: Sequence[Any], xor: bool = False) -> Outlines:
        """Those of closed contours, each (n, 3) in mm, all of one type."""
        parts = [np.asarray(contour, np.float64).reshape(-1, 3) for contour in contours]
        starts = np.cumsum([0, *map(len, parts)])
        points = np.concatenate([np.empty((0, 3)), *parts])
        return cls(points, starts, np.full(len(parts), xor))

    def __len__(self) -> int:
        return len(self.starts) - 1


@dataclass(frozen=True)
class Slices:
    """Parallel images of one size."""

    positions: Floats
    """(m, 3): the centre of the first pixel, mm, in patient coordinates"""
    orientation: Floats
    """(6): directions of a row and of a column, unit vectors"""
    spacing: tuple[float, float]
    """mm between rows, and between columns"""
    shape: tuple[int, int]
    """(height, width)"""
    thickness: float | None = None
    """mm, of a single image: that of several follows from their positions"""

    @property
    def normal(self) -> Floats:
        """Unit vector across the images."""
        found = np.cross(self.orientation[:3], self.orientation[3:])
        return np.asarray(found / np.linalg.norm(found))

    @property
    def step(self) -> float:
        """mm from image to image: the median; of a single one its thickness, or 1."""
        places = np.unique(np.round(self.positions @ self.normal, _PLACE))
        if len(places) > 1:
            return float(np.median(np.diff(places)))
        return self.thickness or 1.0


class Placed(NamedTuple):
    """Which contours each image has."""

    images: Ints
    """numbers of the images that have any, ascending"""
    contours: tuple[Ints, ...]
    """and the contours of each"""
    bent: Ints
    """contours that do not lie along the images: their points differ by more than half a slice"""
    beyond: Ints
    """contours that are farther than half a slice from each image"""
    levels: Floats = np.empty(0)
    """planes of contours, mm along the normal of the images, ascending"""
    aside: Floats = np.empty(0)
    """mm from each image that has contours to their plane; of a slab, half a slice at most"""


def place(outlines: Outlines, slices: Slices) -> Placed:
    """Which images have which contours of a structure."""
    none = np.empty(0, np.int64)
    filled = np.flatnonzero(np.diff(outlines.starts) > 0)
    if not len(filled) or not len(slices.positions):
        return Placed(none, (), none, filled if len(filled) else none)
    step = slices.step
    along = outlines.points @ slices.normal
    first = outlines.starts[:-1][filled]  # runs of empty contours would confuse reduceat
    mean = np.add.reduceat(along, first) / np.diff(outlines.starts)[filled]
    extent = np.maximum.reduceat(along, first) - np.minimum.reduceat(along, first)
    flat = extent <= max(step / 2, nesting.NEAR)
    bent, some, mean = filled[~flat], filled[flat], np.round(mean[flat], _PLACE)
    if not len(some):
        return Placed(none, (), bent, none)
    order = np.argsort(mean, kind="stable")
    some, mean = some[order], mean[order]
    gaps = np.diff(mean) > min(_SAME_PLANE, step / 10)
    level = np.concatenate([[0], np.cumsum(gaps)])
    begin = np.concatenate([[0], np.flatnonzero(gaps) + 1, [len(some)]])
    heights = np.add.reduceat(mean, begin[:-1]) / np.diff(begin)
    places = np.round(slices.positions @ slices.normal, _PLACE)
    chosen = _nearest(heights, places, step / 2)
    slabs = _slabs(outlines, some, mean, begin, slices.normal)
    if slabs is not None:
        low, high = slabs
        for image in np.flatnonzero(chosen < 0):
            covers = np.flatnonzero((low <= places[image]) & (places[image] < high))
            if len(covers):
                chosen[image] = covers[np.argmin(np.abs(heights[covers] - places[image]))]
    images = np.flatnonzero(chosen >= 0)
    contours = tuple(np.sort(some[begin[k] : begin[k + 1]]) for k in chosen[images])
    reached = np.zeros(len(heights), bool)
    reached[chosen[images]] = True
    reached |= _within(np.sort(places), heights, step / 2)
    aside = np.minimum(np.abs(heights[chosen[images]] - places[images]), step / 2)
    return Placed(images, contours, bent, np.sort(some[~reached[level]]), heights, aside)


def _nearest(heights: Floats, places: Floats, half: float) -> Ints:
    """For each place the nearest of the ascending heights within half a slice; -1 for none."""
    after = np.searchsorted(heights, places)
    lower, upper = np.maximum(after - 1, 0), np.minimum(after, len(heights) - 1)
    further = np.abs(heights[upper] - places) < np.abs(heights[lower] - places)
    found = np.where(further, upper, lower)
    apart = np.round(heights[found] - places, _PLACE)
    half = round(half, _PLACE)
    return np.where((-half <= apart) & (apart < half), found, -1)


def _within(places: Floats, heights: Floats, half: float) -> Bools:
    """Whether one of the ascending places is within half a slice of each height, as above."""
    after = np.searchsorted(places, heights)
    above = places[np.minimum(after, len(places) - 1)] - heights
    below = heights - places[np.maximum(after - 1, 0)]
    half = round(half, _PLACE)
    return np.asarray(
        ((above >= 0) & (np.round(above, _PLACE) <= half))
        | ((below >= 0) & (np.round(below, _PLACE) < half))
    )


def _slabs(
    outlines: Outlines, some: Ints, mean: Floats, begin: Ints, normal: Floats
) -> tuple[Floats, Floats] | None:
    """Ends of the slabs of each plane of contours along the normal; None if no contour has one."""
    if not len(outlines.slab) or np.isnan(outlines.slab[some]).all():
        return None
    half = np.nan_to_num(outlines.slab[some]) / 2
    middle = mean + (outlines.offset[some] @ normal if len(outlines.offset) else 0.0)
    low: Floats = np.minimum.reduceat(middle - half, begin[:-1])
    high: Floats = np.maximum.reduceat(middle + half, begin[:-1])
    return low.round(_PLACE), high.round(_PLACE)


class Drawn(NamedTuple):
    """Pixels of a structure."""

    images: Ints
    """numbers of the images, ascending"""
    pixels: Bools
    """(m, height, width)"""
    flags: tuple[tuple[str, ...], ...]
    """of each image: OVERLAP, SUB_PIXEL"""


def draw(
    outlines: Outlines, slices: Slices, placed: Placed | None = None, out: Bools | None = None
) -> Drawn:
    """The pixels of a structure on all images that have contours of it.

    `out`: (all images, height, width) of False, which they are drawn into; it is `pixels` then.
    """
    placed = place(outlines, slices) if placed is None else placed
    row, column = slices.orientation[:3], slices.orientation[3:]
    flat = np.stack([outlines.points @ row, outlines.points @ column], axis=1)
    origins = np.stack([slices.positions @ row, slices.positions @ column], axis=1)
    step = np.array([slices.spacing[1], slices.spacing[0]])
    low, high = _boxes(flat, outlines.starts)
    count = len(placed.images)
    pixels = np.zeros((count, *slices.shape), bool) if out is None else out
    number = np.arange(count) if out is None else placed.images
    filled = np.zeros(count, bool)
    at_once = max(1, _CELLS // max(1, slices.shape[0] * slices.shape[1]))
    for start in range(0, len(placed.images), at_once):
        some = slice(start, start + at_once)
        planes = _Plane(flat, origins[placed.images[some]], step)
        filled[some] = _fill(pixels, number[some], outlines.starts, placed.contours[some], planes)
    flags = []
    for k, members in enumerate(placed.contours):
        plane, own = _Plane(flat, origins[placed.images[k]], step), pixels[number[k]]
        said: tuple[str, ...] = ()
        alone = len(members) == 1 or outlines.xor[members].any()
        if not alone and _meet(low[members], high[members]):
            said = _nested(own, plane.of(outlines.starts, members), step)
        is_empty = not (own.any() if said else filled[k])
        if is_empty and _stand_in(own, plane.of(outlines.starts, members)):
            said += (SUB_PIXEL,)
        flags.append(said)
    return Drawn(placed.images, pixels, tuple(flags))


class _Plane(NamedTuple):
    """The plane of an image."""

    flat: Floats
    """(n, 2): all points, mm along its rows and columns"""
    origin: Floats
    """(2), or (m, 2) of several images: where the centre of the first pixel is"""
    step: Floats
    """(2): mm from pixel to pixel"""

    def of(self, starts: Ints, contours: Ints) -> list[Floats]:
        """The points of contours, in pixels."""
        points = [self.flat[starts[k] : starts[k + 1]] for k in contours]
        return [snapped((some - self.origin) / self.step) for some in points]


def _boxes(flat: Floats, starts: Ints) -> tuple[Floats, Floats]:
    """Least and greatest coordinates of each contour; of an empty one such that it meets none."""
    count = len(starts) - 1
    low, high = np.full((count, 2), np.inf), np.full((count, 2), -np.inf)
    some = np.flatnonzero(np.diff(starts))
    if len(some):
        low[some] = np.minimum.reduceat(flat, starts[some])
        high[some] = np.maximum.reduceat(flat, starts[some])
    return low, high


def _meet(low: Floats, high: Floats) -> bool:
    """Whether two of the boxes meet."""
    order = np.argsort(low[:, 0], kind="stable")
    low, high = low[order], high[order]
    for k in range(len(order) - 1):
        rest = slice(k + 1, int(np.searchsorted(low[:, 0], high[k, 0], "right")))
        if ((low[rest, 1] <= high[k, 1]) & (high[rest, 1] >= low[k, 1])).any():
            return True
    return False


def _fill(
    pixels: Bools, number: Ints, starts: Ints, contours: Sequence[Ints], planes: _Plane
) -> Bools:
    """Draw the parity of all contours of each image, of these numbers; which have any."""
    members = np.concatenate(contours)
    layer = np.repeat(np.arange(len(contours)), [len(c) for c in contours])
    sizes = np.diff(starts)[members]
    ends = np.concatenate([[0], np.cumsum(sizes)])
    index = np.arange(ends[-1]) + np.repeat(starts[members] - ends[:-1], sizes)
    origin = planes.origin[np.repeat(layer, sizes)]
    points = snapped((planes.flat[index] - origin) / planes.step)
    window = window_of(points, (pixels.shape[1], pixels.shape[2]))
    filled = parity(points, ends, layer, len(contours), window)
    pixels[number, window.top : window.bottom, window.left : window.right] = filled
    return np.asarray(filled.any(axis=(1, 2)))


def _nested(pixels: Bools, polygons: Sequence[Floats], step: Floats) -> tuple[str, ...]:
    """Pixels of contours some of which overlap: the union of those, holes by depth; and the flag.

    Where none overlap the parity is right already.
    """
    some = [polygon for polygon in polygons if area_and_centre(polygon)[0]]
    shapes = nesting.shapes_of([polygon * step for polygon in some])
    if not shapes.overlap:
        return ()
    pixels[:] = False
    for group, depth in zip(shapes.members, shapes.depth, strict=True):
        for member in group:
            window = window_of(some[member], (pixels.shape[0], pixels.shape[1]))
            ends = np.array([0, len(some[member])])
            inside = parity(some[member], ends, np.zeros(1, np.int64), 1, window)[0]
            pixels[window.top : window.bottom, window.left : window.right][inside] = not depth % 2
    return (OVERLAP,)


def _stand_in(pixels: Bools, polygons: Sequence[Floats]) -> bool:
    """Sets the pixel that the centre of the largest contour lies in; False if there is none."""
    area, centre = max((area_and_centre(polygon) for polygon in polygons), key=lambda one: one[0])
    if not area:
        return False
    x, y = (int(v) for v in np.floor(snapped(centre) + 0.5))
    if not (0 <= y < pixels.shape[0] and 0 <= x < pixels.shape[1]):
        return False
    pixels[y, x] = True
    return True


def structures_in(table: pa.Table) -> dict[int, Outlines]:
    """Of rows of contours/ of one file, the contours that have an inside, by ROI Number."""
    filled = pc.is_in(table["geometry"], value_set=pa.array(FILLED))
    # Fewer than three points are no plane either: a real one farther off would not be drawn.
    area = pc.greater_equal(pc.list_value_length(table["points"]), 9)
    rows = table.filter(pc.and_(filled, area)).combine_chunks()
    if not rows.num_rows:
        return {}
    lists = rows["points"].combine_chunks()
    values = lists.values.to_numpy(zero_copy_only=False).reshape(-1)
    ends = lists.offsets.to_numpy()
    number = rows["structure"].to_numpy()
    slab = rows["slab_thickness"].to_numpy()
    vectors = rows["slab_offset"].fill_null([0.0, 0.0, 0.0]).combine_chunks()
    offset = vectors.flatten().to_numpy(zero_copy_only=False).reshape(-1, 3)
    xor = pc.equal(rows["geometry"], XOR).to_numpy(zero_copy_only=False)
    found = {}
    for structure in dict.fromkeys(number.tolist()):
        mine = np.flatnonzero(number == structure)
        sizes = (ends[mine + 1] - ends[mine]) // 3
        starts = np.concatenate([[0], np.cumsum(sizes)])
        index = np.arange(starts[-1]) + np.repeat(ends[mine] // 3 - starts[:-1], sizes)
        points = values[: len(values) // 3 * 3].reshape(-1, 3)[index]
        found[structure] = Outlines(points, starts, xor[mine], slab[mine], offset[mine])
    return found
