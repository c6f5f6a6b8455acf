"""Masks that lie on no image, with the reason; pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dicom2cache.errors import counting
from dicom2cache.planning.masks.compared import Compared
from dicom2cache.planning.masks.join import ANGLE, Pairs, most_images
from dicom2cache.planning.masks.segments import Segments
from dicom2cache.schema import REJECTS, WHOSE

NOWHERE = "lies on no image"
"""what the reason says of a mask that images may still come to"""
_NAMES = 5
"""labels that a reason tells"""


@dataclass(frozen=True)
class _Known:
    """What reasons of many masks look up, made once."""

    there: NDArray[np.bool_]
    """(n,) masks whose image is stored"""
    slices: NDArray[np.int64]
    """those with a place, by their space"""
    space: NDArray[np.int64]
    """theirs"""
    pairs: NDArray[np.int64]
    """rows of pairs, by their mask"""
    mask: NDArray[np.int64]
    """theirs"""

    @classmethod
    def of(cls, found: Compared, pairs: Pairs) -> _Known:
        images = found.images
        rows = np.flatnonzero(found.slices & images.placed)
        rows = rows[np.argsort(images.space[rows], kind="stable")]
        order = np.argsort(pairs.mask, kind="stable")
        there = np.isin(found.masks.reference, images.sop)
        return cls(there, rows, images.space[rows], order, pairs.mask[order])

    def in_space(self, space: int) -> NDArray[np.int64]:
        """Slices of a frame of reference."""
        low, high = (np.searchsorted(self.space, space, side=s) for s in ("left", "right"))
        return self.slices[low:high]

    def pairs_of(self, k: int) -> NDArray[np.int64]:
        """Rows of pairs of a mask, in their order."""
        low, high = (np.searchsorted(self.mask, k, side=s) for s in ("left", "right"))
        return self.pairs[low:high]


def unplaced(
    files: pa.Table,
    frame: NDArray[np.int32],
    found: Compared,
    pairs: Pairs,
    on: NDArray[np.bool_],
    segments: Segments,
    kept: NDArray[np.bool_],
) -> pa.Table:
    """REJECTS: frames of masks on no image, or their whole file; and files of no class.

    `on`: (n,) masks that lie on one; `kept`: the files that have rows.
    """
    mine = found.masks.file
    maps = segments.drawn < 0
    unnumbered = ~maps & (segments.shown < 0)
    every = np.full(files.num_rows, not segments.chosen)
    of_maps = maps & (every | segments.taken(files.num_rows))[mine]
    lost = np.flatnonzero(unnumbered | ((segments.drawn > 0) | of_maps) & ~on)
    rows: list[dict[str, Any]] = []
    told: set[int] = set()
    known = _Known.of(found, pairs)
    of_file = np.bincount(mine[lost], minlength=files.num_rows)
    for k in lost.tolist():
        f = int(mine[k])
        number = int(frame[found.mask_rows[k]])
        if kept[f]:
            rows.append(_row(files, f, number, _why(known, found, pairs, segments, k)))
        elif f not in told:
            told.add(f)
            many = int(of_file[f])
            first = f"frame {number}: " if many > 1 else ""
            more = f"; and {many - 1} more of its frames" if many > 1 else ""
            rows.append(_row(files, f, None, first + _why(known, found, pairs, segments, k) + more))
    for f in sorted(set(mine.tolist()) - told):
        if not kept[f]:
            labels = segments.label.filter(pa.array(segments.owner == f)).to_pylist()
            said = ", ".join(repr(label) for label in labels[:_NAMES]) or "none"
            dots = ", ..." if len(labels) > _NAMES else ""
            why = f"recipe: rois finds none of the labels of its segments: {said}{dots}"
            rows.append({**_row(files, f, None, why), "outcome": "excluded"})
    crowded = pairs.crowded[np.isin(mine[pairs.crowded], np.flatnonzero(kept))]
    for f, k in zip(*np.unique(mine[crowded], return_index=True), strict=True):
        why = (
            f"frame {int(frame[found.mask_rows[crowded[k]]])}: more images lie at the place of a "
            f"mask than the {most_images(len(mine))} that each of {counting(len(mine), 'mask')} "
            "may be on, and it was drawn on these only; refer to the images that are meant, or "
            "convert fewer masks at once"
        )
        rows.append(_row(files, int(f), None, why))
    return pa.Table.from_pylist(rows, REJECTS)


def _row(files: pa.Table, f: int, frame: int | None, reason: str) -> dict[str, Any]:
    whose = {name: files[name][f].as_py() for name in ("root", "path", *WHOSE)}
    return {**whose, "frame": frame, "outcome": "failed", "stage": "plan", "reason": reason}


def _why(known: _Known, found: Compared, pairs: Pairs, segments: Segments, k: int) -> str:
    """Why mask `k` is on no image."""
    if segments.shown[k] < 0 and segments.drawn[k] == 0:
        return (
            "nothing says which segment this frame shows: no Referenced Segment Number "
            "(0062,000B), and the file has several; correct the header"
        )
    number = int(segments.shown[k])
    what = "the mask" if number < 0 else f"segment {number}"
    return f"{what} {NOWHERE}: {'; '.join(_said(known, found, pairs, k))}"


def _said(known: _Known, found: Compared, pairs: Pairs, k: int) -> Iterator[str]:
    mask, images = found.masks.planes.take(np.array([k])), found.images
    mine = known.pairs_of(k)
    if len(mine):
        image = images.take(pairs.image[mine[:1]])
        yield (
            f"its pixels are not those of the image in its place ({_grid(mask)}, the image "
            f"{_grid(image)})"
        )
        if np.isfinite(pairs.lead[mine[0]]).all():
            yield "give mask_grid image to resample it to the nearest"
        return
    if found.masks.reference[k] >= 0 and not known.there[k]:
        yield "the image that it refers to (0008,1155) is not stored"
    if np.isfinite(mask.tile).all():
        column, row = mask.tile[0]
        yield (
            f"no tile of {mask.size[0, 1]} x {mask.size[0, 0]} pixels and its spacing is at row "
            f"{row:.0f}, column {column:.0f} of the total pixel matrix of an image of its patient "
            "and frame of reference; tile both alike"
        )
        return
    if mask.space[0] < 0:
        yield "it has no Frame of Reference UID (0020,0052) to find one by its place"
        return
    if not mask.placed[0]:
        yield (
            "its plane is not known, Image Position (Patient) (0020,0032) and Image Orientation "
            "(Patient) (0020,0037)"
        )
        return
    near = known.in_space(int(mask.space[0]))
    if not len(near):
        yield "no image of its patient and frame of reference is stored; add them"
        return
    there = images.take(near)
    normal = there.normal
    sine = np.linalg.norm(np.cross(normal, mask.normal), axis=1)
    if sine.min() > np.sin(ANGLE) + 1e-9:
        yield (
            f"its normal is {np.degrees(np.arcsin(min(1.0, sine.min()))):.2f} degrees from that of "
            "the nearest image, legal: 0.1"
        )
        return
    parallel = sine <= np.sin(ANGLE) + 1e-9
    aside = np.abs(((mask.position - there.position) * normal).sum(axis=1))[parallel]
    yield (
        f"its plane is {aside.min():.3g} mm from that of the nearest image, legal: 0.5, and half "
        "the step to the next slice"
    )


def _grid(planes: Any) -> str:
    """Of one frame."""
    (across, down), (x, y) = planes.size[0], planes.spacing[0]
    place = ", ".join(f"{v:.6g}" for v in planes.position[0])
    axes = ", ".join(f"{v:.4g}" for v in planes.axes[0].reshape(-1))
    return f"{down} x {across} of {y:.6g} x {x:.6g} mm from ({place}) along ({axes})"
