"""Which rows of masks lie on which images, columnar.

By the image that a row names (`image_sop_uid`, `image_frame`, `image_part`). Where it names none,
as in caches of before, by the one that it was derived from, if both lie at one place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trainer_adapter.reading.opened import Core

Ints = NDArray[np.int64]
_NAMESAKES = 64
"""images of one name, from which on their places are part of it"""
_GRID = 100.0
"""places that are alike in a hundredth of a mm are one, among so many"""
_OFF = 0.1
"""of a pixel: a shift that is none"""
_COLUMNS = (
    "kind", "sop_uid", "frame", "part_of_frame", "image_sop_uid", "image_frame", "image_part",
    "referenced_sop_uid", "referenced_frame", "study_uid", "frame_of_reference_uid", "position",
    "orientation", "spacing_y", "spacing_x", "stack",
)  # fmt: skip


@dataclass(frozen=True)
class Joined:
    """p pairs of an image and a mask, by sample index in the whole cache."""

    image: Ints
    """(p,) rising"""
    mask: Ints
    """(p,) rising for each image"""
    masks: Ints
    """(m,) all rows of masks, joined or not"""
    misfits: int = 0
    """pairs that were left out, since the mask is stored in another size than its image"""

    def of(self, samples: Ints) -> tuple[Ints, Ints]:
        """(position in `samples`, place in these pairs) of each pair of one of them, in order."""
        low, high = (np.searchsorted(self.image, samples, side) for side in ("left", "right"))
        return spread(low, high)


def joined(core: Core) -> Joined:
    """The pairs of a cache, found once for each process."""
    if core.drawn is None:
        core.drawn = _joined(core)
    found: Joined = core.drawn
    return found


def _joined(core: Core) -> Joined:
    kind = core.column("kind")
    is_mask = pc.equal(kind, "mask").to_numpy(zero_copy_only=False)
    masks, images = np.flatnonzero(is_mask), np.flatnonzero(~is_mask)
    nothing = np.zeros(0, np.int64)
    if not len(masks) or not len(images):
        return Joined(nothing, nothing, masks)
    core.ahead(_COLUMNS)
    named = core.said("image_sop_uid", masks)
    by_name = np.flatnonzero(named.is_valid().to_numpy(zero_copy_only=False))
    pairs = [_by_name(core, images, masks[by_name])]
    rest = np.setdiff1d(masks, masks[by_name], assume_unique=True)
    if len(rest):
        pairs.append(_by_reference(core, images, rest))
    image, mask = (np.concatenate(columns) for columns in zip(*pairs, strict=True))
    places = core.places
    fits = places.height[image] == places.height[mask]
    fits &= places.width[image] == places.width[mask]
    misfits = int(np.count_nonzero(~fits))
    image, mask = image[fits], mask[fits]
    order = np.lexsort((mask, image))
    return Joined(image[order], mask[order], masks, misfits)


def _by_name(core: Core, images: Ints, masks: Ints) -> tuple[Ints, Ints]:
    uid = core.coded("sop_uid", "image_sop_uid", images, masks)
    frame = _numbers(core.said("frame", images), core.said("image_frame", masks))
    part = _numbers(core.said("part_of_frame", images), core.said("image_part", masks))
    have, want = _key(uid, frame, part)
    return _nearer(core, images, masks, have, want)


def _by_reference(core: Core, images: Ints, masks: Ints) -> tuple[Ints, Ints]:
    """By the image that a mask was derived from, and its frame, where it names one."""
    uid = core.coded("sop_uid", "referenced_sop_uid", images, masks)
    framed = core.said("referenced_frame", masks).is_valid().to_numpy(zero_copy_only=False)
    frame = _numbers(core.said("frame", images), core.said("referenced_frame", masks))
    have, want = _key(uid, frame)
    one = _nearer(core, images, masks[framed], have, want[framed])
    several = _nearer(core, images, masks[~framed], uid[0], uid[1][~framed])
    image, mask = (np.concatenate(columns) for columns in zip(one, several, strict=True))
    near, unknown = _alike(core, image, mask)
    # Of an instance of several frames, a mask that says neither which nor where is of none.
    _, of, count = np.unique(mask, return_inverse=True, return_counts=True)
    sure = near & ~(unknown & (count[of] > 1))
    return image[sure], mask[sure]


def _nearer(core: Core, images: Ints, masks: Ints, have: Ints, want: Ints) -> tuple[Ints, Ints]:
    """The pairs of equal keys; of several images for one mask those that are most like it."""
    order = np.argsort(have, kind="stable")
    low, high = (np.searchsorted(have[order], want, side) for side in ("left", "right"))
    low = np.where(want < 0, high, low)  # no name is no name of anything
    crowded = high - low > _NAMESAKES
    few, at = spread(low, np.where(crowded, low, high))
    image, mask = images[order[at]], masks[few]
    if crowded.any():
        placed = _by_place(core, images, masks[crowded], have, want[crowded])
        image, mask = np.concatenate([image, placed[0]]), np.concatenate([mask, placed[1]])
    for column in ("study_uid", "frame_of_reference_uid", "position"):
        image, mask = _same(core, image, mask, column)
    return image, mask


def _by_place(core: Core, images: Ints, masks: Ints, have: Ints, want: Ints) -> tuple[Ints, Ints]:
    """One name for many images, as careless exports have it: the name and the place are the key."""
    keys = [(have, want)]
    for axis in range(3):
        ours, theirs = (core.vectors("position", s, 3)[:, axis] for s in (images, masks))
        keys.append((_rounded(ours), _rounded(theirs)))
    have, want = _key(*keys)
    order = np.argsort(have, kind="stable")
    low, high = (np.searchsorted(have[order], want, side) for side in ("left", "right"))
    low = np.where((want < 0) | (high - low > _NAMESAKES), high, low)
    mask, at = spread(low, high)
    return images[order[at]], masks[mask]


def _rounded(values: NDArray[np.float64]) -> Ints:
    known = np.isfinite(values) & (np.abs(values) < 1e12)
    return np.where(known, np.rint(np.where(known, values, 0) * _GRID), -1).astype(np.int64)


def _same(core: Core, image: Ints, mask: Ints, column: str) -> tuple[Ints, Ints]:
    """Where a mask has several images, those that agree with it in a column, if there are some."""
    _, of, count = np.unique(mask, return_inverse=True, return_counts=True)
    torn = count[of] > 1
    if not torn.any():
        return image, mask
    if column == "position":
        agrees, unknown = _alike(core, image, mask)
        agrees &= ~unknown
    else:
        ours, theirs = (core.said(column, s) for s in (image, mask))
        agrees = filled(pc.equal(ours.cast(pa.string()), theirs.cast(pa.string())))
    some = np.bincount(of, agrees, minlength=len(count))[of] > 0
    kept = ~torn | ~some | agrees
    return image[kept], mask[kept]


def _alike(core: Core, image: Ints, mask: Ints) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(p,) whether both lie on one grid as far as is known, and whether nobody knows."""
    step = np.stack([_floats(core.said(c, image)) for c in ("spacing_y", "spacing_x")], axis=1)
    tolerance = np.fmin.reduce(step, axis=1)
    tolerance = _OFF * np.where(np.isfinite(tolerance), tolerance, 1.0)
    away = np.linalg.norm(
        core.vectors("position", image, 3) - core.vectors("position", mask, 3), axis=1
    )
    turned = np.abs(
        core.vectors("orientation", image, 6) - core.vectors("orientation", mask, 6)
    ).max(1, initial=0)
    wider = np.zeros(len(image))
    for k, name in enumerate(("spacing_y", "spacing_x")):
        wider = np.fmax(wider, np.abs(_floats(core.said(name, mask)) / step[:, k] - 1))
    with np.errstate(invalid="ignore"):
        differ = (away > tolerance) | (turned > 0.002) | (wider > 0.01)
    return ~differ, ~np.isfinite(away)


def spread(low: Ints, high: Ints) -> tuple[Ints, Ints]:
    """(which range, member) of each member of the ranges from `low` to before `high`."""
    count = high - low
    which = np.repeat(np.arange(len(low)), count)
    return which, np.arange(len(which)) + np.repeat(low - (np.cumsum(count) - count), count)


def _key(*columns: tuple[Ints, Ints]) -> tuple[Ints, Ints]:
    """One number for what is equal in all columns, of ours and of theirs; -1 of the first: -1."""
    first = columns[0][0], columns[0][1]
    have, want = first
    for ours, theirs in columns[1:]:
        both = np.concatenate([have, want])
        _, dense = np.unique(both, return_inverse=True)
        values, other = np.unique(np.concatenate([ours, theirs]), return_inverse=True)
        both = dense * len(values) + other
        have, want = both[: len(have)], both[len(have) :]
    return np.where(first[0] < 0, -1, have), np.where(first[1] < 0, -1, want)


def _numbers(ours: Any, theirs: Any) -> tuple[Ints, Ints]:
    """Whole numbers; null is 0."""
    one, other = (
        c.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64) for c in (ours, theirs)
    )
    return one, other


def filled(column: Any) -> NDArray[np.bool_]:
    """(n,) of a column of true and false; null is False."""
    found: NDArray[np.bool_] = column.fill_null(False).to_numpy(zero_copy_only=False)
    return found


def _floats(column: Any) -> NDArray[np.float64]:
    found: NDArray[np.float64] = column.to_numpy(zero_copy_only=False).astype(np.float64)
    return found
