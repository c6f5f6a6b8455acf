"""Frames to stacks and their order, pure and vectorised.

A stack is what can be a volume or a time series: frames of one series that agree in `base`
(frame of reference, orientation, size, spacing, image type, unit, ...) and have each position
once. Where positions repeat, the series is split by the first of the resolvers (stack ID,
acquisition, echo, b-value, temporal index, cardiac phase) that resolves the repeats; where none
does, by occurrence in instance order, and the stacks count as irregular.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom2cache.arrow import Codes, combine, float_codes

_MM = 1e-3  # positions nearer than this are the same: DICOM writes them as decimal text


@dataclass(frozen=True)
class Geometry:
    """What decides a frame's stack and its place there; n frames each."""

    base: Sequence[Codes]
    """codes that must agree within a stack, in order of rank: study and series first"""
    position: NDArray[np.float64]
    """(n, 3), mm; NaN where absent"""
    orientation: NDArray[np.float64]
    """(n, 6) direction cosines; NaN where absent"""
    resolvers: Sequence[Codes]
    """codes that may tell repeated positions apart, best first"""
    ties: Sequence[Codes]
    """instance number, frame number, SOP instance UID, path: order where positions do not decide"""


@dataclass(frozen=True)
class Stacks:
    """The answer, n frames each; `order` sorts frames by stack and place."""

    order: NDArray[np.int64]
    stack: NDArray[np.int64]
    """number of the stack in that order, from 0"""
    index: NDArray[np.int32]
    """place in the stack, from 0"""
    regular: NDArray[np.int8]
    """1: evenly spaced, 0: not, -1: a stack without positions, or all at one"""


def assign(g: Geometry) -> Stacks:
    """The stacks of all frames and their order; independent of the order of the input."""
    n = len(g.position)
    if not n:
        empty = np.empty(0, np.int64)
        return Stacks(empty, empty, empty.astype(np.int32), empty.astype(np.int8))
    placed = np.isfinite(np.hstack([g.position, g.orientation])).min(axis=1)
    cosines = [float_codes(g.orientation[:, k], 1e-3) for k in range(6)]
    group = combine([*g.base, *cosines, placed.astype(np.int64)])
    z = _along_normal(g.position, np.round(g.orientation, 3), placed)
    place = float_codes(z, _MM)
    frames = np.bincount(group)
    distinct = _distinct(group, place)
    single = (distinct == 1)[group]  # one slice over time, or frames without positions
    z = np.where(single, 0.0, z)
    place = np.where(single, 0, place)
    repeated = (distinct > 1) & (distinct < frames)
    sub, irregular = _split(g, group, place, np.flatnonzero(repeated))

    stack_key = combine([group, sub])
    order = np.lexsort((*reversed(g.ties), z, stack_key))
    sorted_key = stack_key[order]
    starts = np.flatnonzero(np.r_[True, sorted_key[1:] != sorted_key[:-1]])
    lengths = np.diff(np.r_[starts, n])
    index = np.arange(n) - np.repeat(starts, lengths)
    regular = _regular(z[order], starts, lengths)
    regular[(~placed | single)[order][starts]] = -1
    regular[irregular[order][starts]] = 0

    stack = np.empty(n, np.int64)
    stack[order] = np.repeat(np.arange(len(starts)), lengths)
    place_in_stack = np.empty(n, np.int32)
    place_in_stack[order] = index
    return Stacks(order, stack, place_in_stack, regular[stack])


def _along_normal(
    position: NDArray[np.float64], cosines: NDArray[np.float64], placed: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Position projected on the normal of the image plane, mm (PS3.3 C.7.6.2.1.1)."""
    z = np.zeros(len(position))
    normal = np.cross(cosines[placed, :3], cosines[placed, 3:])
    z[placed] = (position[placed] * normal).sum(axis=1)
    return z


def _distinct(group: Codes, place: Codes) -> NDArray[np.int64]:
    """Number of distinct places in each group."""
    span = int(place.max()) + 1
    return np.bincount(np.unique(group * span + place) // span)


def _split(
    g: Geometry, group: Codes, place: Codes, groups: NDArray[np.int64]
) -> tuple[Codes, NDArray[np.bool_]]:
    """(part of its group, True where only occurrence told the parts apart) for each frame."""
    sub = np.zeros(len(group), np.int64)
    irregular = np.zeros(len(group), bool)
    if not len(groups):
        return sub, irregular
    by_group = np.argsort(group, kind="stable")
    bounds = np.searchsorted(group[by_group], np.arange(group.max() + 2))
    for one in groups:
        rows = by_group[bounds[one] : bounds[one + 1]]
        sub[rows], irregular[rows] = _resolve(
            place[rows], [r[rows] for r in g.resolvers], [t[rows] for t in g.ties]
        )
    return sub, irregular


def _resolve(place: Codes, resolvers: Sequence[Codes], ties: Sequence[Codes]) -> tuple[Codes, bool]:
    """Parts in which no place repeats, and whether the header left it to occurrence."""
    most = int(np.bincount(np.unique(place, return_inverse=True)[1]).max())
    part = np.zeros(len(place), np.int64)

    def repeats(p: Codes) -> int:
        return len(place) - len(np.unique(combine([p, place])))

    left = repeats(part)
    for codes in resolvers:
        trial = combine([part, codes])
        # More parts than a place has frames would tear volumes apart (a number of its own for
        # each slice resolves every repeat).
        if int(trial.max()) < most and (now := repeats(trial)) < left:
            part, left = trial, now
        if not left:
            return part, False
    order = np.lexsort((*reversed(ties), place, part))
    key = combine([part, place])[order]
    starts = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
    occurrence = np.empty(len(place), np.int64)
    occurrence[order] = np.arange(len(place)) - np.repeat(
        starts, np.diff(np.r_[starts, len(place)])
    )
    return combine([part, occurrence]), True


def _regular(z: NDArray[Any], starts: NDArray[Any], lengths: NDArray[Any]) -> NDArray[np.int8]:
    """1 where the steps of a stack differ by less than 2% of their mean (or 2 µm), else 0."""
    ends = starts + lengths - 1
    step = (z[ends] - z[starts]) / np.maximum(lengths - 1, 1)
    off = np.zeros(len(z))
    off[1:] = np.abs(np.diff(z) - np.repeat(step, lengths)[1:])
    off[starts] = 0
    worst = np.maximum.reduceat(off, starts)
    even: NDArray[np.int8] = (worst <= 0.02 * np.abs(step) + 2 * _MM).astype(np.int8)
    return even
