"""Where frames lie, in what a join of masks to images compares; pure and columnar."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom2cache.arrow import Codes, Floats, combine
from dicom2cache.planning.clusters import dense, vector_clusters
from dicom2cache.planning.places import unit_axes

_NOISE = 1e-4
"""radians that normals of the slices of one stack differ by, from rounding"""
_ONE_PLACE = 0.02
"""mm that slices at one place lie apart at most"""


@dataclass(frozen=True)
class Planes:
    """n frames, images or masks; codes are the same for both, -1 where nothing is said."""

    sop: Codes
    """instance"""
    frame: Codes
    """in it, from 0"""
    space: Codes
    """patient and frame of reference"""
    study: Codes
    series: Codes
    position: Floats
    """(n, 3) mm, of the first pixel of the source"""
    axes: Floats
    """(n, 2, 3) unit vectors along rows and columns; NaN where unknown"""
    spacing: Floats
    """(n, 2) mm between columns and between rows"""
    size: NDArray[np.int64]
    """(n, 2) columns and rows of the source"""
    thickness: Floats
    """(n,) mm"""
    tile: Floats
    """(n, 2) column and row of the first pixel in the total pixel matrix; NaN: no tile"""
    z: Floats
    """(n,) um above the glass"""

    def __len__(self) -> int:
        return len(self.sop)

    def take(self, rows: NDArray[Any]) -> Planes:
        """Some of the frames."""
        return Planes(*(getattr(self, f.name)[rows] for f in fields(self)))

    @property
    def normal(self) -> Floats:
        """(n, 3) unit vectors, row x column."""
        return np.cross(self.axes[:, 0], self.axes[:, 1])

    @property
    def placed(self) -> NDArray[np.bool_]:
        """(n,) True where the plane is known, and the space that it is in."""
        known = np.isfinite(self.position).all(axis=1) & np.isfinite(self.axes).all(axis=(1, 2))
        return known & (self.space >= 0)

    @property
    def gridded(self) -> NDArray[np.bool_]:
        """(n,) True where the place of each pixel is known."""
        return self.placed & (self.spacing > 0).all(axis=1)


def axes_of(orientation: Floats) -> Floats:
    """(n, 2, 3) of direction cosines (n, 6); NaN where they span no plane."""
    return unit_axes(orientation.copy())[0]


def stacked(planes: Planes) -> tuple[Codes, Floats]:
    """(dense group of planes of one series that are parallel, mm along the first one's normal).

    All planes are `placed`.
    """
    normal = planes.normal
    group = vector_clusters(normal[:, None, :], combine([planes.space, planes.series]), _NOISE)
    group = dense(group)
    first = np.unique(group, return_index=True)[1]
    along = (planes.position * normal[first][group]).sum(axis=1)
    return group, along


def gaps(group: Codes, along: Floats) -> Floats:
    """(n,) mm to the next place of the group; inf where there is but one."""
    found = np.full(len(group), np.inf)
    if not len(group):
        return found
    order = np.lexsort((along, group))
    g, a = group[order], along[order]
    new = np.r_[True, (g[1:] != g[:-1]) | (np.diff(a) > _ONE_PLACE)]
    first = np.flatnonzero(new)
    step = np.where(g[first][1:] == g[first][:-1], np.diff(a[first]), np.inf)
    around = np.minimum(np.r_[np.inf, step], np.r_[step, np.inf])
    found[order] = around[np.cumsum(new) - 1]
    return found
