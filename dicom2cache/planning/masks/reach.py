"""How far a mask's plane stands for, where slices lie between its planes; pure and columnar."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dicom2cache.arrow import Floats
from dicom2cache.planning.masks.join import SAME_THICKNESS, Masks, Pairs
from dicom2cache.planning.masks.planes import Planes, gaps, stacked

_COARSE = 1.25
"""steps of the images from which on planes of a mask are farther apart than these"""
_ALIKE = 0.01
"""relative, between equal steps"""
_OFTEN = 2
"""steps as small as the least, from which on that is no accident; pieces lie apart by more"""
_ONE = 0.02
"""mm that planes at one place lie apart at most"""


def reaches(masks: Masks, images: Planes, pairs: Pairs) -> Floats:
    """(p,) mm to each side that the plane of each pair stands for; NaN: its image alone.

    Half of what the file says that its planes are apart; of a plane that is thicker than its image,
    half of that, or of the least step in the file; else, where no thickness is said, half of the
    least step, if two and more are that. Where planes of the file lie on no image, slices that they
    reach are as far again from the next one that does. Planes of slices that are thick and overlap
    are those of their images: nothing is between them. Of contours as `half_apart` says.
    """
    mine, image = masks.planes.take(pairs.mask), images.take(pairs.image)
    flat = image.placed & ~np.isfinite(mine.tile).all(axis=1)
    if not flat.any():
        return np.full(len(flat), np.nan)
    drawn = (masks.step == 0)[pairs.mask]
    least, often = _steps(replace(masks.planes, series=masks.file))
    least, often = least[pairs.mask], often[pairs.mask]
    thick = np.where(mine.thickness > 0, mine.thickness, np.nan)
    with np.errstate(invalid="ignore"):
        thicker = (thick > 0) & ~(np.abs(thick - image.thickness) <= SAME_THICKNESS * thick)
    said = masks.step[pairs.mask]
    apart = np.select(
        [said > 0, thicker, often & np.isnan(thick)], [said, np.fmin(thick, least), least], np.nan
    )
    on = np.zeros(len(masks.file), bool)
    on[pairs.mask] = True
    lost = np.zeros(int(masks.file.max()) + 1, bool)
    lost[masks.file[~on]] = True
    with np.errstate(invalid="ignore"):
        coarse = flat & (apart > _COARSE * _step(images, pairs))
    found = np.where(coarse, np.where(lost[masks.file[pairs.mask]], apart, apart / 2), np.nan)
    return np.where(drawn, np.where(flat, masks.span[pairs.mask] / 2, np.nan), found)


def half_apart(levels: Floats, step: float) -> float:
    """mm to each side that planes of contours of a structure stand for; NaN: their images alone.

    Half of the least step between planes, if two and more are that, or up to half an image more,
    since contours lie aside of their images. `levels`: mm along the normal, rising; `step`: mm from
    image to image: contours nearer than that leave no image out.
    """
    apart = np.diff(levels)
    apart = apart[apart > _ONE]
    least = float(apart.min(initial=np.inf))
    alike = apart[apart - least <= step / 2]
    if len(alike) < _OFTEN or least <= (1 + _ALIKE) * step:
        return np.nan
    return float(alike.max()) / 2


def _step(images: Planes, pairs: Pairs) -> Floats:
    """(p,) mm to the next slice of the series of each image, or its thickness where it is alone."""
    used = np.isin(images.series, images.series[pairs.image])
    rows = np.flatnonzero(used & images.placed)
    found = np.full(len(images), np.nan)
    some = images.take(rows)
    step = gaps(*stacked(some))
    found[rows] = np.where(np.isfinite(step), step, some.thickness)
    return found[pairs.image]


def _steps(planes: Planes) -> tuple[Floats, NDArray[np.bool_]]:
    """((n,) the least mm between planes of one series, whether that is so several times)."""
    least, often = np.full(len(planes), np.inf), np.zeros(len(planes), bool)
    rows = np.flatnonzero(planes.placed)
    if not len(rows):
        return least, often
    group, along = stacked(planes.take(rows))
    order = np.lexsort((along, group))
    g, step = group[order], np.diff(along[order])
    between = (g[1:] == g[:-1]) & (step > _ONE)
    of, step = g[1:][between], step[between]
    count = int(group.max(initial=-1)) + 1
    low = np.full(count, np.inf)
    np.minimum.at(low, of, step)
    alike = step - low[of] <= np.maximum(_ONE, _ALIKE * step)
    least[rows] = low[group]
    often[rows] = (np.bincount(of[alike], minlength=count) >= _OFTEN)[group]
    return least, often
