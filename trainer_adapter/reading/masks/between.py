"""Images between planes of masks that are farther apart than they: nobody knows what is there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trainer_adapter.reading.masks.joined import Ints, joined, spread
from trainer_adapter.reading.masks.reaches import FAR, planes
from trainer_adapter.reading.opened import Core

_ROUNDING = 1e-3
"""mm"""


def between(core: Core, images: Ints, rows: Ints, names: NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """(position in `images`, number of a plane in `planes`) for each image that a plane reaches of
    what has none on the image itself: of the planes to both sides, each by itself.

    `images`: sample indices, rising; `rows`: places in Joined.masks of the masks that count;
    `names`: (Segments.names) whether structures of that name do.
    """
    nothing = np.zeros(0, np.int64)
    found = planes(core)
    counts = found.name < 0
    counts[~counts] = names[found.name[~counts]]
    counts &= np.isin(found.row, rows)
    used = np.flatnonzero(np.isin(found.owner, found.owner[counts]))
    if not len(used):
        return nothing, nothing
    pairs = joined(core)
    order = np.argsort(pairs.mask, kind="stable")
    mask = pairs.masks[found.row[used]]
    low, high = (np.searchsorted(pairs.mask[order], mask, side) for side in ("left", "right"))
    of, at = spread(low, high)
    plane, own = used[of], pairs.image[order[at]]
    drawn = found.owner[plane] * len(core.places.row) + own
    coarse = np.isfinite(found.reach[plane])
    plane, own = plane[coarse], own[coarse]
    owner, reach = found.owner[plane], found.reach[plane]
    stack, where = stacks_of(core, own), stacks_of(core, images)
    most = int(max(stack.max(initial=0), where.max(initial=0))) + 1
    groups, group = np.unique(owner * most + stack, return_inverse=True)
    order = np.argsort(where, kind="stable")
    ends = [np.searchsorted(where[order], groups % most, side) for side in ("left", "right")]
    of, at = spread(*ends)
    near = order[at]  # images of each group of an owner and a stack
    free = ~np.isin((groups // most)[of] * len(core.places.row) + images[near], drawn)
    of, near = of[free], near[free]
    place, known = (_along(core, samples) for samples in (own, images[near]))
    used, asked = np.flatnonzero(np.isfinite(place)), np.flatnonzero(np.isfinite(known))
    plane, group, place, reach = plane[used], group[used], place[used], reach[used]
    of, near, known = of[asked], near[asked], known[asked]
    if not len(place) or not len(known):
        return nothing, nothing
    # The groups behind one another on one line, too far apart to reach each other.
    every = np.concatenate([place, known])
    apart = np.ptp(every) + 2 * reach.max() + 1.0
    place, known = (p - every.min() + g * apart for p, g in ((place, group), (known, of)))
    order = np.argsort(place, kind="stable")
    plane, place, reach, group = plane[order], place[order], reach[order], group[order]
    right = np.searchsorted(place, known)
    sides = [np.maximum(right - 1, 0), np.minimum(right, len(place) - 1)]
    mine = [group[side] == of for side in sides]
    away = [np.abs(place[side] - known) / (reach[side] + _ROUNDING) for side in sides]
    reached = np.zeros(len(known), bool)
    for same, far in zip(mine, away, strict=True):
        reached |= same & (far <= 1)
    beside = [same & reached & (far <= 2) for same, far in zip(mine, away, strict=True)]
    image = np.concatenate([near[some] for some in beside])
    plane = np.concatenate([plane[s[some]] for s, some in zip(sides, beside, strict=True)])
    order = np.argsort(image, kind="stable")
    return image[order], plane[order]


def stacks_of(core: Core, samples: Ints) -> Ints:
    """Numbers of the stacks of frames."""
    found: Ints = core.column("stack").take(samples).to_numpy().astype(np.int64)
    return found


def _along(core: Core, samples: Ints) -> NDArray[np.float64]:
    """mm along the normals of frames; those of one stack are parallel."""
    axes = core.vectors("orientation", samples, 6)
    normal = np.cross(axes[:, :3], axes[:, 3:])
    position = core.vectors("position", samples, 3)
    found = (position * normal).sum(axis=1)
    return np.asarray(np.where(np.abs(found) < FAR, found, np.nan))
