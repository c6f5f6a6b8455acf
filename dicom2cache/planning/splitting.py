"""Frames of one group whose places repeat, or are uneven: to the parts that are volumes.

Of the ways to split by what headers say (one element, or two, or three together) that leave no
place twice in a part, the ranks are: all parts regular, equally long and of the union's step; the
number of parts; the place in the list. Where no element tells repeats apart, their order does:
passes over the places, or the first, second, ... time that each place is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom2cache.planning.clusters import Codes, clusters, dense, vector_clusters
from dicom2cache.planning.places import Places, Verdicts, judge

_MOST = 3  # elements that split together
_LEAST = 3  # slices of a part that says something by being regular
_MANY = 50_000  # frames of a group that pairs and triples are still tried for


@dataclass(frozen=True)
class Splitter:
    """One thing that headers say of n frames, which may tell volumes at the same places apart."""

    name: str
    values: NDArray[Any]
    """(n,) float64 with NaN, (n, 3) float64, or codes, -1 for null"""
    tolerance: float = 0.0
    """values that spread by no more are the same"""
    timed: bool = False
    """parts follow one another as its values do; else as their first frames do"""
    ranked: bool = False
    """a clock, which may differ from slice to slice: its rank at each place tells volumes too"""

    def varies(self, rows: NDArray[np.int64]) -> bool:
        """False if the frames all say the same."""
        values = self.values[rows]
        same = values == values[0]
        if values.dtype.kind == "f":
            same |= np.isnan(values) & np.isnan(values[0])
        return not same.all()

    def codes(self, rows: NDArray[np.int64], group: Codes) -> Codes:
        """Dense codes of some frames, ascending with their dense group and value, null first."""
        values = self.values[rows]
        if values.ndim == 2:
            return vector_clusters(values[:, None], group, self.tolerance)
        code = clusters(values, group, self.tolerance) if values.dtype.kind == "f" else values
        return joint([group, dense(code)])


@dataclass(frozen=True)
class Parts:
    """How a group is split, n frames each."""

    part: Codes
    """dense from 0, in the order of acquisition"""
    repeated: NDArray[np.bool_]
    """True where only their order told parts apart"""


def split(
    at: Places, instance: Codes, tie: Codes, splitters: Sequence[tuple[Splitter, Codes]]
) -> Parts:
    """The parts of one group; `tie` ranks its frames by `instance` and more, each once.

    `splitters` come with their codes of these frames, best first.
    """
    none = np.zeros(len(tie), bool)
    most = int(np.bincount(dense(at.place)).max())
    several = _distinct(splitters)
    if most == 1:
        way = _interleaved(at, several)
        way = way or _Way(np.zeros(len(tie), np.int64), ())
        return _named(way, instance, tie, none)
    way = _best(at, most, several)
    if way is not None and not _torn(way.part, at):
        return _named(way, instance, tie, none)
    clocked = _by_clock(at, most, several)
    if clocked is not None and (way is None or _whole(clocked.part, at)):
        return _named(clocked, instance, tie, none)
    parts = _by_order(at, instance, tie, most, several)
    if way is not None and not _whole(parts.part, at):
        return _named(way, instance, tie, none)
    return parts


def split_by_one(
    at: Places,
    group: Codes,
    instance: Codes,
    rows: NDArray[np.int64],
    splitters: Sequence[Splitter],
) -> tuple[Codes, NDArray[np.bool_]]:
    """(part, True where known) of frames of many groups, `rows` of what `splitters` are of.

    Known are the groups that one element alone splits into as many regular and equally long parts
    as a place is taken at most: `split` would find nothing better, and 10,000 groups are quick.
    """
    part, known = np.zeros(len(rows), np.int64), np.zeros(len(rows), bool)
    left = np.arange(len(rows))
    for splitter in splitters:
        if not len(left):
            break
        own, here = dense(group[left]), at.take(left)
        code = splitter.codes(rows[left], own)
        most = _most_taken(own, here.place)
        of_part = np.empty(int(code.max()) + 1, np.int64)
        of_part[code] = own
        parts = np.bincount(of_part)
        found = judge(code, here)
        length = np.zeros(len(parts), np.int64)
        np.maximum.at(length, of_part, found.frames)
        bad = (found.regular != 1) | (found.frames != length[of_part])
        good = (parts == most) & (most > 1)
        good &= np.bincount(of_part, bad, minlength=len(parts)) == 0
        if good.any():
            solved = good[own]
            first = np.full(len(of_part), np.iinfo(np.int64).max)
            np.minimum.at(first, code, instance[left])
            key = np.arange(len(of_part)) if splitter.timed else first
            by_time = np.lexsort((np.arange(len(of_part)), key, of_part))
            number = np.empty(len(of_part), np.int64)
            begin = np.searchsorted(of_part, np.arange(len(parts)))
            number[by_time] = np.arange(len(of_part)) - begin[of_part]
            part[left[solved]], known[left[solved]] = number[code[solved]], True
            left = left[~solved]
    return part, known


def _most_taken(group: Codes, place: Codes) -> NDArray[np.int64]:
    """How often the most taken place of each dense group is taken."""
    both = joint([group, dense(place)])
    most = np.zeros(int(group.max()) + 1, np.int64)
    np.maximum.at(most, group, np.bincount(both)[both])
    return most


@dataclass(frozen=True)
class _Way:
    part: Codes
    """dense"""
    by: tuple[tuple[Splitter, Codes], ...]


def _distinct(splitters: Sequence[tuple[Splitter, Codes]]) -> list[tuple[Splitter, Codes]]:
    """Without those that are the same for all, or say what one before says."""
    kept: list[tuple[Splitter, Codes]] = []
    seen: set[bytes] = set()
    for splitter, codes in splitters:
        firsts, inverse = np.unique(codes, return_index=True, return_inverse=True)[1:]
        if len(firsts) == 1:
            continue
        same = np.argsort(np.argsort(firsts))[inverse].tobytes()  # numbered as they first come
        if same not in seen:
            seen.add(same)
            kept.append((splitter, codes))
    return kept


def _ways(splitters: Sequence[tuple[Splitter, Codes]], frames: int) -> Iterator[_Way]:
    """Singles before pairs before triples."""
    for size in range(1, (_MOST if frames <= _MANY else 1) + 1):
        for by in combinations(splitters, size):
            yield _Way(joint([codes for _, codes in by]), by)


def joint(codes: Sequence[Codes]) -> Codes:
    """One dense code for several."""
    result = codes[0]
    for code in codes[1:]:
        result = dense(result * (int(code.max()) + 1) + code)
    return result


def repeats(part: Codes, place: Codes) -> bool:
    """True if a place is taken twice in a part."""
    span = int(place.max()) + 1
    both = np.sort(part * span + place)
    return bool((both[1:] == both[:-1]).any())


def complete(found: Verdicts) -> bool:
    """True if all parts are regular and equally long."""
    return bool((found.regular == 1).all() and (found.frames == found.frames[0]).all())


def _torn(part: Codes, at: Places) -> bool:
    """True if regular parts skip places of a union that is even: their steps are not the union's,
    as where numbers alternate from slice to slice."""
    _, once, place = np.unique(at.place, return_index=True, return_inverse=True)
    if judge(np.zeros(len(once), np.int64), at.take(once)).regular[0] != 1:
        return False
    low = np.full(int(part.max()) + 1, len(once))
    high = np.full(len(low), -1)
    np.minimum.at(low, part, place)
    np.maximum.at(high, part, place)
    skips = high - low + 1 > np.bincount(part)
    return bool((skips & (judge(part, at).regular == 1)).any())


def _whole(part: Codes, at: Places) -> bool:
    """True if all parts are regular, equally long, and have the step of the union."""
    return complete(judge(part, at)) and not _torn(part, at)


def _best(at: Places, most: int, splitters: Sequence[tuple[Splitter, Codes]]) -> _Way | None:
    """The best way that leaves no repeats; None if none does without tearing volumes."""
    best, best_rank = None, (0, 0)
    for way in _ways(splitters, len(at.place)):
        parts = int(way.part.max()) + 1
        if parts < most or repeats(way.part, at.place):
            continue
        found = judge(way.part, at)
        if complete(found) and not _torn(way.part, at):
            if parts == most:
                return way  # neither a later one nor one of fewer parts can be better
            rank = 0
        elif parts == most:
            rank = 1
        elif _convincing(found, at):
            rank = 2 if _torn(way.part, at) else 1
        else:
            continue
        if best is None or (rank, parts) < best_rank:
            best, best_rank = way, (rank, parts)
    return best


def _convincing(found: Verdicts, at: Places) -> bool:
    """False if parts look like the shreds of volumes: numbers that differ from slice to slice
    resolve every repeat too."""
    if (found.regular == 1).all() and found.frames.min() >= _LEAST:
        return True
    return bool(2 * found.frames.mean() >= len(np.unique(at.place)))


def _interleaved(at: Places, splitters: Sequence[tuple[Splitter, Codes]]) -> _Way | None:
    """The best way to split uneven frames without repeats into regular volumes that interleave."""
    best, best_rank = None, (0, 0)
    for way in _ways(splitters, len(at.place)):
        found = judge(way.part, at)
        if (found.regular != 1).any() or found.frames.min() < _LEAST:
            continue
        if not (_overlap(way.part, at.place) or way.by[0][0].name in ("origin", "stack_name")):
            continue  # blocks one behind the other, with a gap between them
        rank = (int(not complete(found)), len(found.frames))
        if best is None or rank < best_rank:
            best, best_rank = way, rank
    return best


def _overlap(part: Codes, place: Codes) -> bool:
    """True if each part shares its range with another one."""
    order = np.lexsort((place, part))
    starts = np.flatnonzero(np.diff(part[order], prepend=-1))
    low = place[order][starts]
    high = place[order][np.r_[starts[1:], len(part)] - 1]
    by_low = np.argsort(low)
    low, high = low[by_low], high[by_low]
    meets = low[1:] < np.maximum.accumulate(high)[:-1]
    return bool((np.r_[False, meets] | np.r_[meets, False]).all())


def _by_clock(at: Places, most: int, splitters: Sequence[tuple[Splitter, Codes]]) -> _Way | None:
    """By the rank of a clock at each place: heart beats differ from slice to slice."""
    for splitter, codes in splitters:
        if splitter.ranked and not repeats(codes, at.place):
            return _Way(occurrence(at.place, codes), ((splitter, codes),))
    return None


def occurrence(place: Codes, tie: Codes) -> Codes:
    """How many frames at the same place come before each."""
    order = np.lexsort((tie, place))
    ordered = place[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    found = np.empty(len(place), np.int64)
    found[order] = np.arange(len(place)) - np.repeat(starts, np.diff(np.r_[starts, len(place)]))
    return found


def _passes(part: Codes, place: Codes, tie: Codes) -> Codes:
    """Number of the pass in its part: a new one begins where a place comes again."""
    found = np.empty(len(place), np.int64)
    order = np.lexsort((tie, part))
    last: dict[int, int] = {}
    now, number, parts, places = -1, 0, part[order].tolist(), place[order].tolist()
    for row, own, here in zip(order.tolist(), parts, places, strict=True):
        if own != now:
            now, number = own, 0
            last.clear()
        elif last.get(here) == number:
            number += 1
        last[here] = number
        found[row] = number
    return found


def _by_order(
    at: Places,
    instance: Codes,
    tie: Codes,
    most: int,
    splitters: Sequence[tuple[Splitter, Codes]],
) -> Parts:
    """By what headers say as far as it goes without more parts, then by the order of the frames."""
    nothing = _Way(np.zeros(len(tie), np.int64), ())
    best: Parts | None = None
    best_rank: tuple[Any, ...] = ()
    for way in (nothing, *_ways(splitters, len(tie))):
        if int(way.part.max()) + 1 > most:
            continue
        both = joint([way.part, at.place])
        left = len(both) - int(both.max()) - 1
        for number in (_passes(way.part, at.place, tie), occurrence(both, tie)):
            part = joint([way.part, number])
            if int(part.max()) + 1 > most:
                continue
            found = judge(part, at)
            rank = (not complete(found), -int((found.frames**2).sum()), left)
            if best is None or rank < best_rank:
                several = np.bincount(way.part, number > 0) > 0
                best = _named(_Way(part, way.by), instance, tie, several[way.part])
                best_rank = rank
    assert best is not None  # `nothing` by occurrence has as many parts as the most taken place
    return best


def _named(way: _Way, instance: Codes, tie: Codes, repeated: NDArray[np.bool_]) -> Parts:
    """The parts numbered in the order of acquisition: by clocks among `by`, then by the instance
    number of the first frame, then by what else `by` says."""
    clocks = [codes for splitter, codes in way.by if splitter.timed]
    others = [codes for splitter, codes in way.by if not splitter.timed]
    count = int(way.part.max()) + 1
    least = np.full((len(way.by) + 2, count), np.iinfo(np.int64).max)
    for row, codes in zip(least, [*clocks, instance, *others, tie], strict=True):
        np.minimum.at(row, way.part, codes)
    number = np.empty(count, np.int64)
    number[np.lexsort(least[::-1])] = np.arange(count)
    return Parts(number[way.part], repeated)
