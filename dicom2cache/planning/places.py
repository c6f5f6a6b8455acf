"""Where slices lie, pure and vectorised: along the normal and in their plane; which are at one
place; and whether a stack of them is even and upright.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom2cache.planning.clusters import Codes, clusters

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_SAME, _SAME_MOST = 0.01, 0.1  # mm: nearer is one place; at most, where 1% of a step is more
_OF_STEP = 0.01
_EVEN = 0.02  # of the median step
_STRAIGHT = 0.5  # pixels
_TILTED = 0.5  # degrees


@dataclass(frozen=True)
class Places:
    """Where n frames lie among those that they are compared with; one group has the same axes."""

    along: Floats
    """(n,) mm along the normal of the image plane; NaN where unknown"""
    plane: Floats
    """(n, 2) mm of the first pixel along the rows and down the columns"""
    pixel: Floats
    """(n, 2) mm between the centres of pixels, in that order; 1 where unknown"""
    place: Codes
    """(n,) number of the place, ascending with `along`, not dense; -1 where unknown"""
    slack: Floats
    """(n,) mm that steps may differ by, whatever they are"""

    def take(self, rows: NDArray[Any]) -> Places:
        """Some of the frames."""
        return Places(*(getattr(self, f.name)[rows] for f in fields(self)))


@dataclass(frozen=True)
class Verdicts:
    """What k stacks are."""

    frames: NDArray[np.int64]
    repeats: Mask
    """a place is taken more than once"""
    regular: NDArray[np.int8]
    """1: two places or more, each once, evenly on a straight line; 0: not; -1: places unknown"""
    gap: Mask
    """even but for steps that are multiples of the others: slices are missing"""
    uneven: Mask
    """other uneven steps, or first pixels not on a straight line"""
    one_place: Mask
    tilt: Floats
    """degrees from the normal to the line of first pixels; NaN where upright or no line"""


def unit_axes(orientation: Floats) -> tuple[Floats, Mask]:
    """((n, 2, 3) unit vectors of rows and columns, where they span a plane), PS3.3 C.7.6.2.1.1."""
    axes = orientation.reshape(-1, 2, 3)
    with np.errstate(invalid="ignore", divide="ignore"):
        length = np.linalg.norm(axes, axis=2)
        axes = axes / length[:, :, None]
        sine = np.linalg.norm(np.cross(axes[:, 0], axes[:, 1]), axis=1)
    spans = np.isfinite(axes).all(axis=(1, 2)) & (np.nan_to_num(sine) > 0.5)
    axes[~spans] = np.nan
    return axes, spans


def projected(position: Floats, axes: Floats, group: Codes) -> tuple[Floats, Floats]:
    """((n,) along the normal, (n, 2) in the plane), mm, on axes that a dense group shares.

    One normal for all: a thousandth of a radian moves what lies half a metre off by half a
    millimetre. It is the middle of the group's, which does not depend on their order.
    """
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    ordered = axes[order]
    middle = np.maximum.reduceat(ordered, starts) + np.minimum.reduceat(ordered, starts)
    middle /= np.linalg.norm(middle, axis=2)[:, :, None]
    row, column = middle[:, 0], middle[:, 1]
    normal = np.cross(row, column)
    normal /= np.linalg.norm(normal, axis=1)[:, None]
    along, right, down = ((position * axis[group]).sum(axis=1) for axis in (normal, row, column))
    return along, np.stack([right, down], axis=1)


def slack_of(pixel: Floats) -> Floats:
    """mm within which places are the same, of frames with (n, 2) mm of pixels: 0.01 mm, less where
    pixels are as small (microscopes have slices of 0.005 mm)."""
    least = np.fmin(pixel[:, 0], pixel[:, 1])
    return np.asarray(np.fmin(_SAME, 0.1 * np.where(np.isnan(least), 1.0, least)))


def places_of(along: Floats, group: Codes, slack: Floats) -> Codes:
    """Number of the place of each frame, ascending by group and place; -1 where unknown.

    Within `slack` places are the same; within 1% of the step too, where that is more.
    """
    tolerance = slack.copy()
    rows = np.flatnonzero(~np.isnan(along))
    rows = rows[np.lexsort((along[rows], group[rows]))]
    g, gap = group[rows], np.diff(along[rows], prepend=0.0)
    inner = np.r_[False, g[1:] == g[:-1]] if len(rows) else np.empty(0, bool)
    near = inner & (gap > slack[rows]) & (gap <= _SAME_MOST)
    if near.any():
        bounds = np.flatnonzero(np.r_[~inner, True])
        of = np.unique(np.searchsorted(bounds, np.flatnonzero(near), side="right") - 1)
        for start, stop in zip(bounds[of], bounds[of + 1], strict=True):
            own = rows[start:stop]
            tolerance[own] = _step_tolerance(along[own], gap[start + 1 : stop], slack[own[0]])
    return clusters(along, group, tolerance)


def _step_tolerance(along: Floats, gaps: Floats, slack: float) -> float:
    """1% of the step of sorted places, if small gaps and steps can be told apart; else `slack`."""
    gaps_sorted = np.sort(gaps)
    m = len(gaps_sorted)
    k = np.arange(1, m)
    step = gaps_sorted[(k + m) // 2]  # median of those that are not small
    told = np.flatnonzero(gaps_sorted[:-1] <= _OF_STEP * step)
    if not len(told):
        return slack
    tolerance = min(_OF_STEP * float(step[told[-1]]), _SAME_MOST)
    if tolerance <= slack:
        return slack
    cut = np.flatnonzero(np.r_[True, gaps > tolerance, True])
    spread = along[cut[1:] - 1] - along[cut[:-1]]
    return tolerance if spread.max() <= tolerance else slack


def judge(stack: Codes, at: Places) -> Verdicts:
    """What each stack is; `stack` is dense from 0, and within one group of places."""
    order = np.lexsort((at.place, stack))
    of, place, along = stack[order], at.place[order], at.along[order]
    plane, pixel, slack = at.plane[order], at.pixel[order], at.slack[order]
    first = np.diff(of, prepend=-1) != 0
    starts = np.flatnonzero(first)
    frames = np.diff(np.r_[starts, len(of)])
    ends = starts + frames - 1
    known = place[starts] >= 0
    known &= place[ends] >= 0

    def any_of(frame: Mask) -> Mask:
        return np.asarray(np.logical_or.reduceat(frame, starts))

    one_place = known & (place[starts] == place[ends])
    repeats = any_of(~first & (np.diff(place, prepend=-1) == 0)) & known & (frames > 1)

    step = np.diff(along, prepend=0.0)
    step[first] = np.nan  # sorts last
    median = step[np.lexsort((step, of))][starts + np.maximum(frames - 2, 0) // 2]
    with np.errstate(invalid="ignore", divide="ignore"):
        typical = median[of]
        ratio = step / typical
        times = np.rint(ratio)
        off = np.abs(step - typical) > np.maximum(_EVEN * typical, slack)
        missing = (times >= 2) & (
            np.abs(ratio - times) <= np.maximum(_EVEN * times, slack / typical)
        )
        uneven = any_of(off & ~missing)
        gap = any_of(off) & ~uneven

        shift = plane[ends] - plane[starts]
        rise = along[ends] - along[starts]
        share = (along - along[starts][of]) / rise[of]
        aside = np.abs(plane - plane[starts][of] - share[:, None] * shift[of]) / pixel
        bent = any_of((aside > _STRAIGHT).any(axis=1))
        angle = np.degrees(np.arctan2(np.linalg.norm(shift, axis=1), rise))
        moved = np.linalg.norm(shift / pixel[starts], axis=1) > _STRAIGHT
    # As CT scanners sign Gantry/Detector Tilt (0018,1120): positive where the first pixel moves
    # against the columns while the slices go along the normal.
    larger = np.where(np.abs(shift[:, 0]) > np.abs(shift[:, 1]), shift[:, 0], shift[:, 1])
    several = known & ~one_place & ~repeats
    tilted = several & ~bent & moved & (angle > _TILTED)
    even = several & ~gap & ~uneven & ~bent
    return Verdicts(
        frames=frames,
        repeats=repeats,
        regular=np.where(known, even, -1).astype(np.int8),
        gap=several & gap & ~bent,
        uneven=several & (uneven | bent),
        one_place=one_place,
        tilt=np.where(tilted, -np.sign(larger) * angle, np.nan),
    )
