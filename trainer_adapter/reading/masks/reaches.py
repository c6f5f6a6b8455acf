"""Planes of masks that are farther apart than their images, and how far each stands for.

A file of segments has planes for all that it lists: one that does not show a segment says that it
is not there. Contours have planes for each structure by itself. (FORMAT.md, Masks)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trainer_adapter.reading.masks.joined import Ints, filled, joined, spread
from trainer_adapter.reading.masks.named import MOST, segments
from trainer_adapter.reading.opened import Core

_COARSE = 1.25
"""thicknesses of an image from which on a plane stands for others too"""
Parts = tuple[Ints, Ints, Ints, NDArray[np.float64]]
FAR = 1e6
"""mm from which on a place, or a reach, is none"""


@dataclass(frozen=True)
class Planes:
    """u planes of what has some that are farther apart than their images; others are left out."""

    row: Ints
    """(u,) place in Joined.masks of the row that it is drawn in, rising"""
    owner: Ints
    """(u,) number of what it is a plane of: a file of segments, or a structure of contours"""
    name: Ints
    """(u,) of a structure the place of its name in Segments.names; -1: all that its file lists"""
    reach: NDArray[np.float64]
    """(u,) mm to each side that it stands for; NaN: its image alone"""


def planes(core: Core) -> Planes:
    """Those of a cache, read once for each process."""
    if core.planes is None:
        core.planes = _planes(core)
    found: Planes = core.planes
    return found


def _planes(core: Core) -> Planes:
    masks = joined(core).masks
    reach = _held(core.said("mask_reach", masks).to_numpy(zero_copy_only=False))
    late = _late(core)
    reach = np.where(np.isnan(reach), late, reach)
    coarse = np.isfinite(reach)
    if not coarse.any():
        nothing = np.zeros(0, np.int64)
        return Planes(nothing, nothing, nothing, np.zeros(0))
    file = files_of(core, masks)
    some = np.flatnonzero(np.isin(file, file[coarse]))
    parts = [_structures(core, some)]
    rest = np.setdiff1d(some, parts[0][0])
    parts.append(_of_before(core, rest, reach))
    row, structure, name, own = (np.concatenate(c) for c in zip(*parts, strict=True))
    rest = np.setdiff1d(rest, row)
    row, name = np.concatenate([rest, row]), np.concatenate([np.full(len(rest), -1), name])
    reach = np.concatenate([reach[rest], own])
    # Of a file of segments there is one owner, and no structure has its number.
    _, code = np.unique(structure, return_inverse=True)
    code = np.concatenate([np.zeros(len(rest), np.int64), code + 1])
    _, owner = np.unique(file[row] * (code.max() + 1) + code, return_inverse=True)
    kept = np.isin(owner, owner[np.isfinite(reach)])
    order = np.flatnonzero(kept)[np.argsort(row[kept], kind="stable")]
    return Planes(row[order], owner[order], name[order], reach[order])


def _late(core: Core) -> NDArray[np.float64]:
    """(m,) reaches of rows whose images came later, which is when the converter could not say any:

    half of their thickness, where that is more than an image's. NaN: of all others, and in caches
    from before `mask_reach`.
    """
    pairs = joined(core)
    found = np.full(len(pairs.masks), np.nan)
    if "mask_reach" not in core.names():
        return found
    bare = core.said("image_sop_uid", pairs.masks).is_null().to_numpy(zero_copy_only=False)
    place = np.searchsorted(pairs.masks, pairs.mask)
    some = np.flatnonzero(bare[place])
    if len(some):
        own, theirs = (
            core.said("thickness", of[some]).to_numpy(zero_copy_only=False).astype(np.float64)
            for of in (pairs.mask, pairs.image)
        )
        with np.errstate(invalid="ignore"):
            thick = np.where(own > _COARSE * theirs, own / 2, np.nan)
        found[place[some]] = _held(thick)
    return found


def _structures(core: Core, rows: Ints) -> Parts:
    """(row, number of the structure, place of its name, reach) of what rows of contours draw.

    Rows of files of segments, and those from before `mask_reaches`, have none.
    """
    samples = joined(core).masks[rows]
    said, drawn = core.said("mask_reaches", samples), core.said("drawn", samples)
    lengths = [pc.list_value_length(c).fill_null(0).to_numpy() for c in (said, drawn)]
    kept = (lengths[0] > 0) & (lengths[0] == lengths[1])
    count, kept = lengths[0][kept], pa.array(kept)
    entry = drawn.filter(kept).flatten()
    if not len(entry) or entry.type.get_field_index("lead") < 0:
        nothing = np.zeros(0, np.int64)
        return nothing, nothing, nothing, np.zeros(0)
    reach = _held(said.filter(kept).flatten().to_numpy(zero_copy_only=False))
    row = np.repeat(rows[kept.to_numpy(zero_copy_only=False)], count)
    lead = pc.struct_field(entry, "lead")
    length = pc.list_value_length(lead).fill_null(0).to_numpy()
    first = lead.flatten().to_numpy(zero_copy_only=False)
    begin = np.cumsum(length) - length
    number = np.full(len(row), -1)
    has = length > 0
    number[has] = np.clip(np.nan_to_num(first[begin[has]]), -MOST, 2**31).astype(np.int64)
    value = pc.struct_field(entry, "value").fill_null(0).to_numpy(zero_copy_only=False)
    name = _names(core, row, value.astype(np.int64))
    known = name >= 0
    return row[known], number[known], name[known], reach[known]


def _of_before(core: Core, rows: Ints, reach: NDArray[np.float64]) -> Parts:
    """Likewise of rows of contours that say one reach for all: a structure is what has one name."""
    named = segments(core)
    drawn = core.said("modality", joined(core).masks[rows])
    rows = rows[filled(pc.equal(drawn.cast(pa.string()), "RTSTRUCT"))]
    of, entry = spread(named.ends[rows], named.ends[rows + 1])
    name = named.name[entry]
    return rows[of], name, name, reach[rows[of]]


def _names(core: Core, row: Ints, value: Ints) -> Ints:
    """The names of what rows draw as values, as places in Segments.names; -1: none."""
    named = segments(core)
    if not len(named.name):
        return np.full(len(row), -1)
    is_map = filled(pc.equal(core.said("unit", joined(core).masks[row]), "labelmap"))
    wanted = np.where(is_map, row * MOST + value, -1)
    there = named.row * MOST + np.clip(named.number, -1, MOST - 1)
    order = np.argsort(there, kind="stable")
    at = order[np.minimum(np.searchsorted(there[order], wanted), len(order) - 1)]
    alone = np.minimum(named.ends[row], len(order) - 1)
    place = np.where(is_map, at, alone)
    listed = np.where(is_map, there[at] == wanted, named.ends[row] < named.ends[row + 1])
    return np.where(listed, named.name[place], -1)


def _held(reach: Any) -> NDArray[np.float64]:
    """Reaches that are some; NaN for others."""
    found = reach.astype(np.float64)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where((found > 0) & (found < FAR), found, np.nan))


def files_of(core: Core, samples: Ints) -> Ints:
    """Numbers of the files of frames, equal for equal ones."""
    path = core.said("path", samples).dictionary_encode().indices.to_numpy().astype(np.int64)
    root = core.said("root", samples).to_numpy().astype(np.int64)
    _, file = np.unique(root * (path.max(initial=0) + 1) + path, return_inverse=True)
    return np.asarray(file, np.int64)
