"""Where the voxels of stacks lie, columnar: from positions, directions and spacing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_TILT = 0.5
"""degrees off the normal, up to which a stack is upright"""


def affines(
    first: Floats, last: Floats, steps: NDArray[Any], orientation: Floats, spacing: Floats
) -> Floats:
    """(s, 4, 4): from (column, row, slice, 1) to mm in the patient's directions, LPS.

    `first` and `last` are positions (s, 3) of slices that are `steps` (s,) apart, `orientation`
    (s, 6) directions of a row and of a column, `spacing` (s, 2) between rows and between columns,
    mm. Where slices shift in their plane, the affine is sheared as they are. NaN where a number is
    not known. PS3.3 C.7.6.2.1.1, with slices for its third column.
    """
    found = np.zeros((len(first), 4, 4))
    for k, part in enumerate((slice(0, 3), slice(3, 6))):
        along = orientation[:, part]
        length = np.linalg.norm(along, axis=1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            found[:, :3, k] = along / length * spacing[:, [1 - k]]
    with np.errstate(divide="ignore", invalid="ignore"):
        found[:, :3, 2] = (last - first) / np.asarray(steps)[:, None]
    found[:, :3, 3] = first
    found[:, 3, 3] = 1
    found[~np.isfinite(found).all(axis=(1, 2))] = np.nan
    return found


def spacings(affine: Floats) -> Floats:
    """(s, 3) mm from voxel to voxel: slices, rows, columns, as the axes of a volume are."""
    lengths: Floats = np.linalg.norm(affine[:, :3, 2::-1], axis=1)
    return lengths


def tilts(first: Floats, last: Floats, orientation: Floats, spacing: Floats) -> Floats:
    """(s,) degrees off the normal at which stacks go; as `affines`.

    NaN where slices do not shift in their plane, or by no more than 0.5 degrees or half a pixel,
    and where it is not known.
    """
    step = last - first
    normal = np.cross(orientation[:, :3], orientation[:, 3:])
    along = (step * normal).sum(axis=1)
    aside = np.linalg.norm(step - along[:, None] * normal, axis=1)
    angle = np.degrees(np.arctan2(aside, np.abs(along)))
    sheared = (aside > spacing.min(axis=1) / 2) & (angle > _TILT)  # false where one is NaN
    return np.where(sheared, angle, np.nan)
