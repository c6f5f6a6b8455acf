"""Which image each frame of a mask lies on, pure and columnar.

By what it refers to, where that is there and lies in its plane; else by geometry: tiles by their
place in the total pixel matrix, slices by the plane that they share with an image of their patient
and frame of reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom2cache.arrow import Codes, Floats, combine
from dicom2cache.planning.clusters import dense, vector_clusters
from dicom2cache.planning.masks.grids import maps, same_grid
from dicom2cache.planning.masks.planes import Planes, gaps, stacked

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]
Found = tuple[Rows, Rows, Floats]
"""masks, images, mm between them"""

ANGLE = np.radians(0.1)
"""between normals of a mask and its image"""
APART = 0.5
"""mm between their planes, and half the spacing of the slices at most"""
_ROUNDING = 1e-6
"""mm"""
_NOISE = 1e-4
_WIDEST = 50.0
"""mm that a plane of a mask, or an image, stands for to each side, at most"""
_MOST = 1024
"""images at one place that one mask may lie on, however many masks there are"""
_PAIRS = 1 << 24
"""of masks and images, that masks may share beyond: files that lie cost no more memory"""
_ALIKE = 1e-3
"""of the spacing of tiles, relative"""
SAME_THICKNESS = 0.01
"""relative"""
REFERENCE, GEOMETRY = 0, 1


@dataclass(frozen=True)
class Masks:
    """n frames of masks, and what they say that they lie on."""

    planes: Planes
    file: Codes
    """whose frames share what it says of series"""
    reference: Codes
    """instance that a frame refers to, coded as `planes.sop`; -1: none, or several"""
    referenced_frame: Codes
    """and its frame; -1: not said"""
    segment: Codes
    """number of the segment that a frame shows; -1: not said"""
    step: Floats
    """mm between planes of its file, as that says; NaN: not said; 0: they are contours"""
    span: Floats
    """mm that a plane of contours stands for; NaN: no more than its image"""
    named: Rows
    """(k, 2) file, and series that it refers to, coded as `planes.series`"""

    def take(self, rows: Rows) -> Masks:
        """Some of them."""
        return Masks(
            self.planes.take(rows), self.file[rows], self.reference[rows],
            self.referenced_frame[rows], self.segment[rows], self.step[rows], self.span[rows],
            self.named,
        )  # fmt: skip


@dataclass(frozen=True)
class Pairs:
    """p masks with an image each, in the order of masks, for each the best ones first."""

    mask: Rows
    image: Rows
    by: NDArray[np.int8]
    """REFERENCE or GEOMETRY"""
    same: Mask
    """True where their grids are one"""
    lead: Floats
    """(p, 2, 3) from the image's pixels to the mask's (grids.maps)"""
    crowded: Rows
    """masks with more images at their place than they were held to"""

    def take(self, rows: Any) -> Pairs:
        """Some of them."""
        return Pairs(
            self.mask[rows], self.image[rows], self.by[rows], self.same[rows], self.lead[rows],
            self.crowded,
        )  # fmt: skip

    @property
    def first(self) -> Mask:
        """(p,) True for the first pair of each mask."""
        return np.asarray(np.r_[True, np.diff(self.mask) != 0][: len(self.mask)])


def join(masks: Masks, images: Planes, slices: Mask, nearest: bool = False) -> Pairs:
    """The images that masks lie on; several where nothing tells them apart.

    `slices`: (n,) False for what can only be referred to, such as a dose. Grids that differ are
    found, too, and said to. `nearest`: by geometry an image takes the nearest plane of a file that
    claims its place, however far it is; its grid differs then.
    """
    found = [_referred(masks, images)]
    rest = _without(len(masks.file), found[0][0])
    found.append(_tiles(masks, images, rest))
    rest = rest[~np.isin(rest, found[1][0])]
    around = np.unique(found[0][0]) if nearest else rest[:0]
    rows = np.sort(np.r_[rest, around])
    here = _planes(masks, images, rows, np.flatnonzero(slices), nearest)
    placed, crowded = here[:3], here[3]
    found += _apart(masks, images, placed, found[0]) if nearest else [placed]
    mask, image = (np.concatenate([f[k] for f in found]) for k in (0, 1))
    aside = np.concatenate([f[2] for f in found])
    one, other = masks.planes.take(mask), images.take(image)
    lead = maps(one, other)
    same = same_grid(one, other, lead)
    whose = np.repeat(np.arange(len(found)), [len(f[0]) for f in found])
    far = (whose == 2) & (aside > APART + _ROUNDING) | (whose == 3)
    if nearest:  # one mask may be the nearest to several images
        aside = np.where(whose == 1, aside, 0.0)
    referred = (masks.reference[mask] >= 0) & (masks.reference[mask] == other.sop)
    first = referred | (whose == 3)
    named = _is_named(masks, mask, other.series)
    rank = [
        mask,
        ~first,
        ~named,
        ~same,
        one.study != other.study,
        np.rint(aside / _ALIKE),
    ]
    order = np.lexsort((image, *rank[::-1]))
    best = _equal_to_first([key[order] for key in rank])
    order = order[best]
    by = np.where(referred, REFERENCE, GEOMETRY).astype(np.int8)
    same &= ~far
    return Pairs(mask[order], image[order], by[order], same[order], lead[order], crowded)


def most_images(masks: int) -> int:
    """Images at one place that each of so many masks is held to."""
    return max(_MOST, _PAIRS // max(1, masks))


def _without(count: int, rows: Rows) -> Rows:
    left = np.ones(count, bool)
    left[rows] = False
    return np.flatnonzero(left)


def _equal_to_first(keys: list[Any]) -> Mask:
    """(p,) True for rows, sorted by keys, that are equal in all to the first with their mask."""
    mask = keys[0]
    if not len(mask):
        return np.zeros(0, bool)
    starts = np.flatnonzero(np.r_[True, mask[1:] != mask[:-1]])
    first = starts[np.searchsorted(starts, np.arange(len(mask)), side="right") - 1]
    return np.asarray(np.logical_and.reduce([key == key[first] for key in keys]))


def _is_named(masks: Masks, mask: Rows, series: Codes) -> Mask:
    """(p,) whether the file of a mask refers to a series."""
    if not len(masks.named) or not len(mask):
        return np.zeros(len(mask), bool)
    count = len(mask)
    both = combine([np.r_[masks.file[mask], masks.named[:, 0]], np.r_[series, masks.named[:, 1]]])
    return np.isin(both[:count], both[count:])


def _matches(wanted: Codes, there: Codes) -> tuple[Rows, Rows]:
    """(rows of `wanted`, rows of `there`) with equal codes, at most `most_images` of a code."""
    order = np.argsort(there, kind="stable")
    ranked = there[order]
    low = np.searchsorted(ranked, wanted)
    high = np.minimum(np.searchsorted(ranked, wanted, side="right"), low + most_images(len(low)))
    return _spread(low, high, order)


def _spread(low: Rows, high: Rows, order: Rows) -> tuple[Rows, Rows]:
    """(k, order[j]) for each k and each low[k] <= j < high[k]."""
    count = high - low
    one = np.repeat(np.arange(len(low)), count)
    other = np.arange(len(one)) - np.repeat(np.cumsum(count) - count, count) + low[one]
    return one, order[other]


def _referred(masks: Masks, images: Planes) -> tuple[Rows, Rows, Floats]:
    """(masks, images, mm between them) by instance and frame, where the planes agree."""
    rows = np.flatnonzero(masks.reference >= 0)
    known = np.flatnonzero(np.isin(images.sop, masks.reference[rows]))
    if not len(known):
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    # Without a number of its frame an instance is meant whole: one frame is meant then.
    sop, last = images.sop[known], np.full(int(images.sop.max()) + 1, -1)
    np.maximum.at(last, sop, images.frame[known])
    reference, frame = masks.reference[rows], masks.referenced_frame[rows]
    alone = (frame < 0) & (reference < len(last))
    alone[alone] = last[reference[alone]] == 0
    frame = np.where(alone, 0, frame)
    rows, reference, frame = (a[frame >= 0] for a in (rows, reference, frame))
    count = len(rows)
    key = combine([np.r_[reference, sop], np.r_[frame, images.frame[known]]])
    one, other = _matches(key[:count], key[count:])
    mask, image = rows[one], known[other]
    a, b = masks.planes.take(mask), images.take(image)
    comparable = a.placed & b.placed & (a.space == b.space)
    aside, parallel = _between(a, b)
    most = np.fmax(APART, _reach(images, known)[other])
    kept = ~comparable | (parallel & (aside <= most))
    aside = np.where(comparable, aside, 0.0)
    # Of the slices of one frame, and of copies, the nearest.
    mask, image, aside = mask[kept], image[kept], aside[kept]
    order = np.lexsort((image, np.rint(aside / _ALIKE), mask))
    first = np.r_[True, np.diff(mask[order]) != 0][: len(order)]
    return mask[order][first], image[order][first], aside[order][first]


def _reach(images: Planes, rows: Rows) -> Floats:
    """(n,) mm to half way to the next slice of the series, of some of the images."""
    found = np.full(len(rows), np.nan)
    some = images.take(rows)
    placed = np.flatnonzero(some.placed)
    if len(placed):
        gap = gaps(*stacked(some.take(placed)))
        found[placed] = np.where(np.isfinite(gap), gap, some.thickness[placed]) / 2
    return found


def _between(masks: Planes, images: Planes) -> tuple[Floats, Mask]:
    """(mm from the image's plane to the first pixel of the mask, whether they are parallel)."""
    normal = images.normal
    with np.errstate(invalid="ignore"):
        aside = np.abs(((masks.position - images.position) * normal).sum(axis=1))
        sine = np.linalg.norm(np.cross(masks.normal, normal), axis=1)
        return aside, sine <= np.sin(ANGLE) + 1e-9


def _tiles(masks: Masks, images: Planes, rows: Rows) -> tuple[Rows, Rows, Floats]:
    """(masks, images, um between their focal planes): the same tile of one total pixel matrix."""
    rows = rows[np.isfinite(masks.planes.tile[rows]).all(axis=1)]
    known = np.flatnonzero(np.isfinite(images.tile).all(axis=1))
    one, other = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    if len(rows) and len(known):
        own, there = masks.planes.tile[rows], images.tile[known]
        for key, keys in ((masks.reference[rows], images.sop[known]),
                          (masks.planes.space[rows], images.space[known])):  # fmt: skip
            code = combine([
                np.r_[np.where(key < 0, -2, key), keys],
                *(np.r_[own[:, k], there[:, k]].astype(np.int64) for k in (0, 1)),
            ])  # fmt: skip
            here, found = _matches(code[: len(rows)], code[len(rows) :])
            one.append(rows[here])
            other.append(known[found])
    both = np.unique(np.stack([np.concatenate(one), np.concatenate(other)], axis=1), axis=0)
    mask, image = both[:, 0], both[:, 1]
    a, b = masks.planes.take(mask), images.take(image)
    with np.errstate(invalid="ignore"):
        unlike = (np.abs(a.spacing - b.spacing) > _ALIKE * b.spacing).any(axis=1)
    kept = ~unlike & (a.size == b.size).all(axis=1)
    aside = np.nan_to_num(np.abs(a.z - b.z))
    return mask[kept], image[kept], aside[kept]


def _planes(
    masks: Masks, images: Planes, rows: Rows, slices: Rows, nearest: bool
) -> tuple[Rows, Rows, Floats, Rows]:
    """(masks, images, mm between them) that share a plane, and masks that are crowded; as `join`
    for `nearest`."""
    reach = _claimed(masks)[rows] if nearest else np.zeros(len(rows))
    mask, image, aside, half, crowded = _candidates(masks.planes, images, rows, slices, reach)
    most = np.fmin(APART, half)
    if nearest:
        own = np.zeros(len(masks.file))
        own[rows] = reach
        thick = masks.planes.thickness[mask]
        with np.errstate(invalid="ignore"):
            alike = np.abs(thick - images.thickness[image]) <= SAME_THICKNESS * thick
        # As thick as the image it is one of its slices, which may overlap.
        most = np.fmax(most, np.where(alike & np.isnan(masks.step[mask]), 0.0, own[mask]))
    kept = aside <= most + _ROUNDING
    mask, image, aside = mask[kept], image[kept], aside[kept]
    if nearest and len(mask):
        key = combine([masks.file[mask], masks.segment[mask], image])
        order = np.lexsort((mask, np.rint(aside / _ALIKE), key))
        first = order[np.r_[True, np.diff(key[order]) != 0]]
        mask, image, aside = mask[first], image[first], aside[first]
    return mask, image, aside, crowded


def between(masks: Masks, images: Planes, slices: Mask, pairs: Pairs) -> Mask:
    """(n,) True for masks that lie nearest to an image which has taken another plane of their
    segment, as `nearest` of `join`: they are no loss."""
    rows, found = np.arange(len(masks.file)), np.zeros(len(masks.file), bool)
    wide = np.full(len(rows), _WIDEST)
    mask, image, aside, half, _ = _candidates(
        masks.planes, images, rows, np.flatnonzero(slices), wide
    )  # fmt: skip
    inside = aside <= half + _ROUNDING
    mask, image = mask[inside], image[inside]
    both, images_of = np.r_[mask, pairs.mask], np.r_[image, pairs.image]
    key = combine([masks.file[both], masks.segment[both], images_of])
    found[mask[np.isin(key[: len(mask)], key[len(mask) :])]] = True
    return found


def _apart(masks: Masks, images: Planes, pairs: Found, referred: Found) -> list[Found]:
    """(pairs of masks that refer to nothing, those around what masks refer to, in its series)."""
    mask, image, aside = pairs
    both, images_of = np.r_[mask, referred[0]], np.r_[image, referred[1]]
    key = combine([masks.file[both], masks.segment[both], images_of])
    free = ~np.isin(key[: len(mask)], key[len(mask) :])
    series = np.full(len(masks.file), -1)
    series[referred[0]] = images.series[referred[1]]
    refers = np.isin(mask, referred[0])
    near = refers & (images.series[image] == series[mask])
    return [(mask[k], image[k], aside[k]) for k in (free & ~refers, free & near)]


def _claimed(masks: Masks) -> Floats:
    """(n,) mm to each side that the plane of a mask stands for: half of the step that its file
    says, of its thickness, or of the least step in its file; 0 where none is known, and of
    contours."""
    planes, thick = masks.planes, masks.planes.thickness
    step = np.full(len(thick), np.inf)
    placed = np.flatnonzero(planes.placed)
    if len(placed):
        own = replace(planes.take(placed), series=masks.file[placed])
        least = np.full(int(masks.file.max()) + 1, np.inf)
        np.minimum.at(least, masks.file[placed], gaps(*stacked(own)))
        step = least[masks.file]
    step = np.where(thick > 0, np.fmin(thick, step), step)
    claimed = np.where(np.isfinite(masks.step), masks.step, step) / 2
    return np.asarray(np.where(np.isfinite(claimed), np.minimum(claimed, _WIDEST), 0.0))


def _candidates(
    masks: Planes, images: Planes, rows: Rows, slices: Rows, reach: Floats
) -> tuple[Rows, Rows, Floats, Floats, Rows]:
    """(masks, images, mm between them, mm from the image half way to the next slice), parallel ones
    within APART or `reach` of each of the `rows`; and masks with more of them than they may."""
    placed = masks.placed[rows]
    rows, reach = rows[placed], reach[placed]
    own = masks.take(rows)
    slices = slices[np.isin(images.space[slices], own.space)]
    slices = slices[images.take(slices).placed]
    there = images.take(slices)
    one, other = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    most, crowded = most_images(len(rows)), [np.empty(0, np.int64)]
    if len(rows) and len(slices):
        for mine, theirs, normal in _parallel(own, there, stacked(there)[0]):
            place, known = own.position[mine] @ normal, there.position[theirs] @ normal
            order = np.argsort(known, kind="stable")
            known, order = known[order], theirs[order]
            wide = np.maximum(APART, reach[mine]) + 0.15  # rounded normals move what lies far aside
            low, high = np.searchsorted(known, place - wide), np.searchsorted(known, place + wide)
            crowded.append(rows[mine[high - low > most]])
            here, found = _spread(low, np.minimum(high, low + most), order)
            one.append(mine[here])
            other.append(found)
    mask, image = np.concatenate(one), np.concatenate(other)
    aside, parallel = _between(own.take(mask), there.take(image))
    half = _reach(there, np.arange(len(there)))[image]
    told = np.unique(np.concatenate(crowded))
    mask, image = rows[mask[parallel]], slices[image[parallel]]
    return mask, image, aside[parallel], half[parallel], told


def _parallel(masks: Planes, images: Planes, group: Codes) -> Iterator[tuple[Rows, Rows, Floats]]:
    """(masks, images, the normal of these): parallel ones of one space, group by group."""
    normal = masks.normal
    own = dense(vector_clusters(normal[:, None, :], masks.space, _NOISE))
    mine, theirs = _members(own), _members(group)
    heads = np.array([rows[0] for rows in theirs])
    spaces = images.space[heads]
    ranked = np.argsort(spaces, kind="stable")
    normals = images.normal[heads]
    for rows in mine:
        space = masks.space[rows[0]]
        low, high = (np.searchsorted(spaces[ranked], space, side=s) for s in ("left", "right"))
        some = ranked[low:high]
        sine = np.linalg.norm(np.cross(normals[some], normal[rows[0]]), axis=1)
        for k in some[sine <= np.sin(ANGLE) + 2 * _NOISE]:
            yield rows, theirs[k], normals[k]


def _members(group: Codes) -> list[Rows]:
    """Rows of each group."""
    order = np.argsort(group, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
