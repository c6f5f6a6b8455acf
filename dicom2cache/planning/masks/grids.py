"""From the pixels of one grid to those of another in the same plane, pure and columnar."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dicom2cache.arrow import Floats
from dicom2cache.planning.masks.planes import Planes

_SAME = 0.1
"""pixels that the corners of one grid may lie aside in another one that is the same"""
_ALIKE = 1e-3
"""of spacing, relative, where positions cannot be compared"""


def maps(masks: Planes, images: Planes) -> Floats:
    """(n, 2, 3) from (column, row, 1) of a pixel of the image to that of its mask, pairwise.

    Counted from the centre of the first pixel; NaN where a grid is not known in the other's space.
    """
    found = np.full((len(masks), 2, 3), np.nan)
    known = masks.gridded & images.gridded & (masks.space == images.space)
    rows = np.flatnonzero(known)
    m, i = masks.take(rows), images.take(rows)
    step = i.axes * i.spacing[:, :, None]  # mm for one column, for one row
    found[rows, :, :2] = np.einsum("nij,nkj->nik", m.axes, step) / m.spacing[:, :, None]
    away = i.position - m.position
    found[rows, :, 2] = np.einsum("nij,nj->ni", m.axes, away) / m.spacing
    return found


def same_grid(masks: Planes, images: Planes, lead: Floats) -> NDArray[np.bool_]:
    """(n,) True where a pixel of the mask is that of the image at the same row and column.

    `lead`: as of `maps`. Where it is not known, sizes and spacings must agree.
    """
    sizes = (masks.size == images.size).all(axis=1)
    known = np.isfinite(lead).all(axis=(1, 2))
    last = images.size - 1.0
    aside = np.zeros(len(masks))
    for x in (0.0, 1.0):
        for y in (0.0, 1.0):
            corner = np.stack([x * last[:, 0], y * last[:, 1]], axis=1)
            there = np.einsum("nij,nj->ni", lead[:, :, :2], corner) + lead[:, :, 2]
            aside = np.maximum(aside, np.abs(there - corner).max(axis=1))
    with np.errstate(invalid="ignore"):
        differ = np.abs(masks.spacing - images.spacing) > _ALIKE * images.spacing
        unlike = differ.any(axis=1)  # one that says nothing is not unlike
        return np.asarray(sizes & np.where(known, aside <= _SAME, ~unlike))
