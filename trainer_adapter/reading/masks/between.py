"""Images between the planes of masks that are farther apart than they: nobody knows what is there.

By `mask_reach` of the rows of masks (FORMAT.md); a mask without it is of its image alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trainer_adapter.reading.masks.joined import Ints, spread
from trainer_adapter.reading.opened import Core

_ROUNDING = 1e-3
"""mm"""
_FAR = 1e6
"""mm from which on a place is no place"""


def between(core: Core, images: Ints, image: Ints, mask: Ints) -> NDArray[np.bool_]:
    """(n,) which `images`, rising sample indices, a plane of a mask reaches that has no row there.

    `image`, `mask`: (p,) the pairs that count, whatever images they are of.
    """
    found = np.zeros(len(images), bool)
    reach = core.said("mask_reach", mask).to_numpy(zero_copy_only=False).astype(np.float64)
    coarse = np.flatnonzero(np.isfinite(reach) & (reach > 0) & (reach < _FAR))
    if not len(coarse):
        return found
    file = files_of(core, mask)
    own, reach = image[coarse], reach[coarse]
    stack, where = stacks_of(core, own), stacks_of(core, images)
    groups, group = np.unique(np.stack([file[coarse], stack]), axis=1, return_inverse=True)
    group = group.reshape(-1)
    order = np.argsort(where, kind="stable")
    low, high = (np.searchsorted(where[order], groups[1], side) for side in ("left", "right"))
    of, at = spread(low, high)
    near = order[at]  # images of each group of a file and a stack
    place, known = (_along(core, samples) for samples in (own, images[near]))
    used, asked = np.isfinite(place), np.flatnonzero(np.isfinite(known))
    group, place, reach = group[used], place[used], reach[used]
    if not len(place):
        return found
    of, near, known = of[asked], near[asked], known[asked]
    # The groups behind one another on one line, too far apart to reach each other.
    every = np.concatenate([place, known])
    apart = np.ptp(every) + 2 * reach.max() + 1.0
    place, known = (p - every.min() + g * apart for p, g in ((place, group), (known, of)))
    order = np.argsort(place, kind="stable")
    place, reach, group = place[order], reach[order], group[order]
    right = np.searchsorted(place, known)
    reached = np.zeros(len(known), bool)
    for row in (np.maximum(right - 1, 0), np.minimum(right, len(place) - 1)):
        reached |= (group[row] == of) & (np.abs(place[row] - known) <= reach[row] + _ROUNDING)
    of, near = of[reached], near[reached]
    # A file that has a row on the image says itself what is drawn there.
    there = file.astype(np.int64) * len(core.places.row) + image
    said = np.isin(groups[0][of] * len(core.places.row) + images[near], there)
    found[near[~said]] = True
    return found


def files_of(core: Core, samples: Ints) -> Ints:
    """Numbers of the files of frames, equal for equal ones."""
    path = core.said("path", samples).dictionary_encode().indices.to_numpy().astype(np.int64)
    root = core.said("root", samples).to_numpy().astype(np.int64)
    _, file = np.unique(np.stack([root, path]), axis=1, return_inverse=True)
    return np.asarray(file.reshape(-1), np.int64)


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
    return np.asarray(np.where(np.abs(found) < _FAR, found, np.nan))
