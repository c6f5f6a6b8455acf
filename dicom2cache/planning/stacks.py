"""Frames to stacks and their order, pure and vectorised. docs/stacks.md tells it in two pages.

A stack is what can be a volume at one moment: frames of one series that agree in `base` (patient,
size, unit, ...), in spacing and in orientation, and have each place once. What repeats places or
is uneven is split (splitting.py); what differs only in frame of reference, study, image type or
lossy compression is joined where that makes a regular stack.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dicom2cache.arrow import combine
from dicom2cache.planning.clusters import Codes, clusters, dense, vector_clusters
from dicom2cache.planning.places import (
    Floats,
    Mask,
    Places,
    Verdicts,
    judge,
    places_of,
    projected,
    slack_of,
    unit_axes,
)
from dicom2cache.planning.splitting import Parts, Splitter, split, split_by_one

ORIENTATION = np.radians(0.06)  # as the length of a chord between unit vectors
_SPACING = 1e-4  # relative
_ORIGIN = 0.5  # pixels that the first one of a slice may lie aside
_LEAST = 3  # slices of a part that is a stack of its own
_CONTEXTS = 2  # soft codes, the first ones, of which a regular part is always its own stack

FLAGS = (
    "tilted", "uneven", "gap", "repeated", "one-place", "order-by-location", "order-by-instance",
    "order-unknown", "joined",
)  # fmt: skip
"""what a stack can be flagged with (FORMAT.md); bits of `Stacks.flags` from the lowest"""


@dataclass(frozen=True)
class Geometry:
    """What decides a frame's stack and its place there; n frames each."""

    base: Sequence[Codes]
    """codes that must agree within a stack, in order of rank: the series first"""
    study: Codes
    """orders stacks too"""
    spacing: Floats
    """(n, 2) mm between columns and between rows; NaN where absent"""
    position: Floats
    """(n, 3) mm; NaN where absent"""
    orientation: Floats
    """(n, 6) direction cosines; NaN where absent"""
    location: Floats
    """(n,) mm, Slice Location; NaN where absent"""
    in_stack: Floats
    """(n,) number of the slice; NaN where absent"""
    reference: Codes
    """frame of reference"""
    image_type: Codes
    lossy: Codes
    clip: Codes
    """the file of several frames, or the concatenation, that a frame is of; -1 elsewhere"""
    instance: Codes
    """instance number; -1 where absent"""
    moments: Sequence[Codes]
    """clocks, which tell the order of frames at one place too; -1 where absent"""
    splitters: Sequence[Splitter]
    """what may tell repeated places apart, best first"""
    ties: Sequence[Codes]
    """the order of frames where places do not decide; no two frames are the same in all"""


@dataclass(frozen=True)
class Stacks:
    """The answer, n frames each; `order` sorts frames by stack and place."""

    order: NDArray[np.int64]
    stack: NDArray[np.int64]
    """number of the stack in that order, from 0"""
    index: NDArray[np.int32]
    """place in the stack, from 0"""
    regular: NDArray[np.int8]
    """1: two places or more, each once, evenly on a line; 0: not; -1: places unknown"""
    acquisition: NDArray[np.int64]
    """code that the parts of one acquisition share"""
    part: NDArray[np.int32]
    """place of the stack among them, from 0"""
    flags: NDArray[np.int16]
    """bits of FLAGS"""
    tilt: Floats
    """degrees; NaN where upright"""


def assign(g: Geometry) -> Stacks:
    """The stacks of all frames and their order; independent of the order of the input."""
    n = len(g.position)
    if not n:
        e = np.empty(0, np.int64)
        return Stacks(
            e, e, e.astype(np.int32), e.astype(np.int8), e, e.astype(np.int32), e.astype(np.int16),
            e.astype(np.float64),
        )  # fmt: skip
    tie = np.empty(n, np.int64)
    tie[np.lexsort(g.ties[::-1])] = np.arange(n)
    group, at, located = _groups(g)
    group, whole, part, joined, repeated, mixed = _wholes(g, group, at, tie)

    acquisition = combine([group, whole])
    key = combine([acquisition, part])
    found = judge(key, at)
    order, rank = _order(key, g.study, at.place, tie)
    starts = np.flatnonzero(np.diff(rank[order], prepend=-1))
    index = np.empty(n, np.int32)
    index[order] = np.arange(n) - np.repeat(starts, np.diff(np.r_[starts, n]))
    flags = _flags(g, key, found, located, joined, repeated, mixed)
    return Stacks(
        order=order, stack=rank, index=index, regular=found.regular[key], acquisition=acquisition,
        part=part.astype(np.int32), flags=flags[key], tilt=found.tilt[key],
    )  # fmt: skip


def _groups(g: Geometry) -> tuple[Codes, Places, Mask]:
    """(group of frames that may be one stack, where they lie, True where only Slice Location says).

    Where all frames of a group lie at one place, or nobody knows where, frame of reference, study,
    image type and clip part them too.
    """
    axes, spans = unit_axes(g.orientation)
    placed = spans & np.isfinite(g.position).all(axis=1)
    group = combine([*g.base, placed.astype(np.int64)])
    with np.errstate(divide="ignore", invalid="ignore"):
        spacing = np.where(g.spacing > 0, np.log(g.spacing), np.nan)
    for axis in (0, 1):
        group = combine([group, clusters(spacing[:, axis], group, _SPACING)])
    group = vector_clusters(axes, group, float(ORIENTATION))

    along, plane = projected(g.position, axes, group)
    along[~placed], plane[~placed] = np.nan, 0.0
    slack = slack_of(g.spacing)
    located = ~placed & (g.clip < 0) & _all(~np.isnan(g.location), group)
    along[located] = g.location[located]
    numbered = ~placed & ~located & _all(~np.isnan(g.in_stack), group)
    along[numbered] = g.in_stack[numbered]
    place = places_of(along, group, slack)
    alone = ~_differ(place, group)  # one place, or unknown
    context = [
        np.where((g.clip >= 0) | _each_its_own(codes, group), 0, codes)
        for codes in (g.reference, g.study)
    ]
    apart = np.where(alone, combine([*context, g.image_type, g.clip]), 0)
    group = combine([group, apart])
    # What is ordered by a number has no positions to be even.
    pixel = np.where(np.isnan(g.spacing), 1.0, g.spacing)
    return group, Places(along, plane, pixel, place, slack), located


def _all(holds: Mask, group: Codes) -> Mask:
    """True for the frames of groups in which it holds for all."""
    short = np.zeros(int(group.max()) + 1, bool)
    short[group[~holds]] = True
    return np.asarray(~short[group])


def _differ(codes: Codes, group: Codes) -> Mask:
    """True for the frames of groups in which the codes are not all the same."""
    low = np.full(int(group.max()) + 1, np.iinfo(np.int64).max)
    high = np.full(len(low), -1)
    np.minimum.at(low, group, codes)
    np.maximum.at(high, group, codes)
    return np.asarray((low != high)[group])


def _each_its_own(codes: Codes, group: Codes) -> Mask:
    """True for the frames of groups in which no two have the same code: it says nothing there."""
    both = combine([group, codes])
    return _all(np.bincount(both)[both] == 1, group)


def _wholes(
    g: Geometry, group: Codes, at: Places, tie: Codes
) -> tuple[Codes, Codes, Codes, Mask, Mask, Mask]:
    """(group, number of the acquisition in it, part of that, joined, repeated, perhaps of several
    volumes) of each frame."""
    n = len(group)
    whole, part = np.zeros(n, np.int64), np.zeros(n, np.int64)
    joined, repeated = np.zeros(n, bool), np.zeros(n, bool)
    soft = [g.reference, g.study, g.image_type, g.lossy]
    union = judge(group, at)
    several = (at.place >= 0) & ~union.one_place[group]
    differ = np.logical_or.reduce([_differ(codes, group) for codes in soft])
    look = several & (differ | (union.regular[group] != 1))
    rows = np.flatnonzero(look)
    if not len(rows):
        return group, whole, part, joined, repeated, repeated
    # Instance numbers, clocks, then the frames of a file; of files that say the same none is first.
    said = [g.instance, *g.moments, np.where(g.clip < 0, 0, tie + 1)]
    sequence = np.zeros(n, np.int64)
    sequence[rows] = combine([codes[rows] for codes in said])
    plain = rows[~differ[rows]]
    if len(plain):
        own = at.take(plain)
        origin = np.full((len(group), 3), np.nan)
        origin[plain] = _pixels(own)
        elements = [Splitter("origin", origin, _ORIGIN), *g.splitters]
        part[plain], known = split_by_one(own, group[plain], sequence[plain], plain, elements)
        look[plain[known]] = False
        rows = np.flatnonzero(look)
    rows = rows[np.argsort(group[rows], kind="stable")]
    bounds = np.r_[np.flatnonzero(np.diff(group[rows], prepend=-1)), len(rows)]
    for start, stop in pairwise(bounds):
        found = _assembled(g, at, tie, sequence, soft, rows[start:stop])
        for number, (members, parts, mixed) in enumerate(found):
            whole[members] = number
            part[members], repeated[members] = parts.part, parts.repeated
            joined[members] = mixed
    return group, whole, part, joined, repeated, repeated & _unsaid(group, at.place, sequence)


def _unsaid(group: Codes, place: Codes, sequence: Codes) -> Mask:
    """True for the frames of groups in which several places have frames that say the same of their
    order: which of them belong together is not known. A single such place is a slice sent twice."""
    both = combine([group, place])
    alike = combine([both, sequence])
    twice = np.bincount(alike)[alike] > 1
    once = np.unique(both[twice], return_index=True)[1]
    places = np.bincount(group[twice][once], minlength=int(group.max()) + 1)
    return np.asarray(places[group] > 1)


def _assembled(
    g: Geometry,
    at: Places,
    tie: Codes,
    sequence: Codes,
    soft: Sequence[Codes],
    rows: NDArray[np.int64],
) -> Iterator[tuple[NDArray[np.int64], Parts, Mask]]:
    """(frames of one acquisition, its parts, which frames are of parts that were joined).

    What differs in a soft code is joined if the union's parts are regular and no one of it is a
    stack of its own; else each is for itself.
    """
    varying = [k for k, codes in enumerate(soft) if (codes[rows] != codes[rows[0]]).any()]
    binding = [
        k for k in varying if _is_own(dense(soft[k][rows]), at.take(rows), fills=k >= _CONTEXTS)
    ]
    parts, apart = None, binding[:1]
    mixed = np.zeros(len(rows), bool)
    if not binding:
        parts = _parts(g, at, tie, sequence, rows)
        for k in varying:
            codes = soft[k][rows]
            mixed |= _differ(codes, parts.part)
        if mixed.any():
            found = judge(parts.part, at.take(rows))
            if (found.regular[parts.part[mixed]] != 1).any():
                # A frame of reference, or a study, for each slice says nothing: then slices are
                # missing.
                said = [
                    k for k in varying
                    if k >= _CONTEXTS or len(np.unique(soft[k][rows])) < len(rows)
                ]  # fmt: skip
                apart = said[:1]
    if parts is not None and not apart:
        yield rows, parts, mixed
        return
    codes = soft[apart[0]][rows]
    order = np.argsort(codes, kind="stable")
    bounds = np.flatnonzero(np.diff(codes[order], prepend=-2, append=-2))
    for start, stop in pairwise(bounds):
        own = rows[order[start:stop]]
        if len(own) == 1:
            yield own, Parts(np.zeros(1, np.int64), np.zeros(1, bool)), np.zeros(1, bool)
        else:
            yield from _assembled(g, at, tie, sequence, soft, own)


def _is_own(code: Codes, at: Places, fills: bool) -> bool:
    """True if the places of one code are a regular stack of 3 or more.

    Not, where `fills`, if others lie between them, as where every second slice was derived; or if
    they only close a hole that another code has there.
    """
    place = dense(at.place)
    _, once = np.unique(code * (int(place.max()) + 1) + place, return_index=True)
    found = judge(code[once], at.take(once))
    own = np.flatnonzero((found.regular == 1) & (found.frames >= _LEAST))
    if not fills or len(once) < len(code) or int(place.max()) + 1 < len(place):
        return bool(len(own))
    for k in own:
        mine = place[code == k]
        low, high = mine.min(), mine.max()
        others = code[(place < low) | (place > high)]
        around = set(code[place < low].tolist()) & set(code[place > high].tolist())
        if len(mine) + len(others) == len(code) and not around:
            return True
    return False


def _parts(g: Geometry, at: Places, tie: Codes, sequence: Codes, rows: NDArray[np.int64]) -> Parts:
    """The parts of one acquisition; one, where it is regular as it is."""
    own = at.take(rows)
    one = np.zeros(len(rows), np.int64)
    if judge(one, own).regular[0] == 1:
        return Parts(one, one.astype(bool))
    origin = Splitter("origin", _pixels(own), _ORIGIN)
    splitters = [(origin, origin.codes(np.arange(len(rows)), one))]
    splitters += [(s, s.codes(rows, one)) for s in g.splitters if s.varies(rows)]
    return split(own, sequence[rows], dense(tie[rows]), splitters)


def _pixels(at: Places) -> Floats:
    """(n, 3) where slices begin in their plane, in pixels."""
    return np.hstack([at.plane / at.pixel, np.zeros((len(at.plane), 1))])


def _order(
    key: Codes, study: Codes, place: Codes, tie: Codes
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(frames sorted by study, stack, place; number of its stack in that order for each)."""
    first = np.full(int(key.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, key, study)
    number = np.empty(len(first), np.int64)
    number[np.argsort(first, kind="stable")] = np.arange(len(first))
    rank = number[key]
    return np.lexsort((tie, place, rank)), rank


def _distinct(key: Codes, codes: Codes, count: int) -> NDArray[np.int64]:
    """How many codes each stack has, -1 being none."""
    key, codes = key[codes >= 0], codes[codes >= 0]
    once = np.unique(combine([key, codes]), return_index=True)[1] if len(key) else key
    return np.bincount(key[once], minlength=count)


def _flags(
    g: Geometry,
    key: Codes,
    found: Verdicts,
    located: Mask,
    joined: Mask,
    repeated: Mask,
    mixed: Mask,
) -> NDArray[np.int16]:
    """Bits of FLAGS for each stack."""
    count = len(found.frames)

    def any_of(frames: Mask) -> Mask:
        return np.asarray(np.bincount(key[frames], minlength=count) > 0)

    located_stacks = any_of(located)
    unknown = ((found.regular < 0) | found.one_place) & (found.frames > 1) & ~located_stacks
    loose = any_of(g.clip < 0)
    told = _distinct(key, g.instance, count) == found.frames
    clocked = np.zeros(count, bool)
    asked = np.flatnonzero((unknown & loose & ~told)[key])
    for moment in g.moments if len(asked) else ():
        clocked |= _distinct(key[asked], moment[asked], count) == found.frames
    holds = {
        "tilted": ~np.isnan(found.tilt),
        "uneven": found.uneven,
        "gap": found.gap,
        "repeated": any_of(repeated),
        "one-place": found.one_place,
        "order-by-location": located_stacks,
        "order-by-instance": unknown & loose & told,
        "order-unknown": (unknown & loose & ~told & ~clocked) | any_of(mixed),
        "joined": any_of(joined),
    }
    bits = np.zeros(count, np.int16)
    for k, name in enumerate(FLAGS):
        bits |= np.where(holds[name], 1 << k, 0).astype(np.int16)
    return bits
