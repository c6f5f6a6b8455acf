"""Structure sets as files of masks: a frame for each image and structure that contours touch; pure.

Each frame says of its place what its image says, and refers to it. So structures come to images,
classes and label maps by the way of segments, and only their pixels are drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dicom2cache import syntaxes
from dicom2cache.arrow import (
    Floats,
    by_file,
    codes,
    combine,
    expand,
    floats,
    ints,
    mask_of,
    vectors,
)
from dicom2cache.errors import counting
from dicom2cache.pixels.outlines import Outlines, Slices, place, structures_in
from dicom2cache.planning import parts
from dicom2cache.planning.masks.reach import half_apart
from dicom2cache.recipes.limits import Limits
from dicom2cache.recipes.recipe import Recipe
from dicom2cache.recipes.rois import class_of
from dicom2cache.schema import FILES, MEMBER, REJECTS, WHOSE

Rows = NDArray[np.int64]

CONTOUR_DATA = "ContourData"
"""`pixel_keyword` of a file of contours"""
SEEN = pa.schema([("root", pa.int16()), ("path", pa.string()), ("size", pa.int64()),
                  ("mtime_ns", pa.int64()), ("member", MEMBER)])  # fmt: skip
"""what structure sets were like when they were read"""
_MOST_NUMBER = 65535
_NAMES = 5
"""structures that a reason tells"""
_ALIKE = 4
"""decimals of direction cosines that images of one group share"""


def numbers_of(contours: pa.Table) -> dict[int, int]:
    """{ROI Number: number as a segment} of a file: the same, or 1, 2, ... where one is beyond 1 to
    65535, which label maps hold."""
    found = sorted(contours["structure"].unique().to_pylist())
    if found and found[0] >= 1 and found[-1] <= _MOST_NUMBER:
        return {number: number for number in found}
    return {number: k for k, number in enumerate(found, 1)}


def as_files(contours: pa.Table, seen: pa.Table) -> pa.Table:
    """FILES of structure sets, without frames yet; `contours` CONTOURS_TABLE, `seen` SEEN."""
    known = {(about["root"], about["path"]): about for about in seen.to_pylist()}
    rows = [_file(mine, known[key]) for key, mine in by_file(contours) if key in known]
    return pa.Table.from_pylist(rows, FILES)


def _file(contours: pa.Table, seen: dict[str, Any]) -> dict[str, Any]:
    first = contours.drop_columns(["points"]).slice(0, 1).to_pylist()[0]
    numbers = numbers_of(contours)
    said = contours.select(["structure", "name", "type"]).group_by(
        ["structure", "name", "type"], use_threads=False
    ).aggregate([]).to_pylist()  # fmt: skip
    segments = [
        {"number": numbers[s["structure"]], "label": s["name"], "category": None, "type": None,
         "type_meaning": s["type"]}
        for s in sorted(said, key=lambda s: numbers[s["structure"]])
    ]  # fmt: skip
    series = first["referenced_series_uid"]
    return {
        **{name: first[name] for name in ("root", "path", *WHOSE, "sop_uid")},
        "frame_of_reference_uid": first["frame_of_reference_uid"],
        "referenced_series": [series] if series else None,
        "size": seen["size"], "mtime_ns": seen["mtime_ns"], "member": seen["member"],
        "kind": "mask", "modality": "RTSTRUCT",
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.481.3", "unit": "binary", "segments": segments,
        "transfer_syntax": syntaxes.EXPLICIT_LE, "pixel_keyword": CONTOUR_DATA, "pixel_vr": "DS",
        "pixel_offset": 0, "pixel_length": 0, "frames": 0, "height": 1, "width": 1, "samples": 1,
        "planar": 0, "photometric": "MONOCHROME2", "bits_allocated": 8, "bits_stored": 8,
        "high_bit": 7, "overlay_bits": 0, "signed": False, "contrast": False, "lossy": False,
        "voi_lut": False, "voi": False, "rule": 0,
    }  # fmt: skip


@dataclass(frozen=True)
class _Images:
    """n images, new ones and those of a cache."""

    sop: Any
    """(n,) texts, as is `series`"""
    series: Any
    frame: Rows
    position: Floats
    orientation: Floats
    spacing: Floats
    """(n, 2) between rows, between columns"""
    size: Rows
    """(n, 2) rows, columns"""
    thickness: Floats
    of: dict[tuple[str | None, str | None], Rows]
    """rows by patient and frame of reference"""


def _images(files: pa.Table, stored: pa.Table) -> _Images:
    """Of FILES, and of a cache (masks.stored): slices whose places are known."""
    file, frame, part = parts.numbered(files)
    said = parts.with_places(files, file, frame, part, expand(files, file))
    height, width = parts.sides(files)

    def both(name: str) -> Floats:
        return np.concatenate([floats(said[name]), floats(stored[name])])

    def texts(name: str) -> Any:
        own, old = (t[name].combine_chunks().cast(pa.string()) for t in (files, stored))
        return pa.concat_arrays([own.take(pa.array(file)), old])

    position, orientation = (
        np.concatenate([vectors(t[name], size) for t in (said, stored)])
        for name, size in (("position", 3), ("orientation", 6))
    )
    spacing = np.stack([both("spacing_y"), both("spacing_x")], axis=1)
    kinds = [mask_of(pc.equal(t["kind"], "image")) for t in (files, stored)]
    known = np.r_[kinds[0][file], kinds[1]] & (spacing > 0).all(axis=1)
    known &= np.isfinite(position).all(axis=1) & np.isfinite(orientation).all(axis=1)
    rows = np.flatnonzero(known)
    of: dict[tuple[str | None, str | None], Rows] = {}
    if len(rows):
        whose = [texts(name).take(pa.array(rows)) for name in ("patient", "frame_of_reference_uid")]
        key = combine([codes(column) for column in whose])
        order = np.argsort(key, kind="stable")
        for mine in np.split(order, np.flatnonzero(np.diff(key[order])) + 1):
            patient, space = (column[int(mine[0])].as_py() for column in whose)
            of[patient, space] = rows[mine]
    sides = [np.r_[side[file], ints(stored[f"source_{name}"], 0)]
             for side, name in ((height, "height"), (width, "width"))]  # fmt: skip
    return _Images(
        texts("sop_uid"), texts("series_uid"),
        np.r_[frame, ints(stored["frame"], 0)].astype(np.int64),
        position, orientation, spacing, np.stack(sides, axis=1), both("thickness"), of,
    )  # fmt: skip


def with_structures(
    files: pa.Table, outlined: pa.Table, contours: pa.Table, recipe: Recipe, stored: pa.Table
) -> tuple[pa.Table, pa.Table]:
    """(the files with structure sets that touch images, REJECTS of contours that are on none).

    `outlined`: `as_files` of all; `stored`: images of a cache (masks.stored).
    """
    images = _images(files.filter(pc.not_equal(files["kind"], "mask")), stored)
    added, rejects = [files], []
    known = {(about["root"], about["path"]): about for about in outlined.to_pylist()}
    for key, mine in by_file(contours):
        about = known.get(key)
        if about is None:
            continue
        found = _Found(recipe.limits.frames // SHARE)
        for space in dict.fromkeys(mine["frame_of_reference_uid"].to_pylist()):
            some = mine.filter(pc.equal(mine["frame_of_reference_uid"], space)) if space else mine
            _touched(some, about, space, images, recipe, found)
            if found.is_too_much:
                found.pairs, found.why = [], [too_much(found.most, recipe.limits)]
                break
        frames = list(_frames(found, images, about, numbers_of(mine)))
        if frames:
            height, width = (int(v) for v in images.size[found.pairs[0][0]])
            row = {**about, "frames": len(frames), "per_frame": frames, "height": height,
                   "width": width}  # fmt: skip
            added.append(pa.Table.from_pylist([row], files.schema))
        if found.why:
            whose = {name: about[name] for name in ("root", "path", *WHOSE)}
            more = f"; and {len(found.why) - _NAMES} more" if len(found.why) > _NAMES else ""
            rejects.append({
                **whose, "outcome": "failed", "stage": "plan",
                "reason": f"{'; '.join(found.why[:_NAMES])}{more}",
            })  # fmt: skip
    return pa.concat_tables(added), pa.Table.from_pylist(rejects, REJECTS)


SHARE = 4
"""of the frames that a file may have, one in so many masks that are not in it"""


def too_much(most: int, limits: Limits) -> str:
    """Why a file is refused that stands for more masks than it may."""
    return (
        f"it would be drawn on images more than {counting(most, 'time')}; limits.frames is "
        f"{limits.frames}, and a quarter of it may be: if the file is right, "
        "give --limits frames=NUMBER"
    )


@dataclass
class _Found:
    """What of a structure set lies where."""

    most: int
    """pairs that it may have"""
    pairs: list[tuple[int, int, float, float]] = field(default_factory=list)
    """(image, ROI Number, mm from image to image, mm that its plane stands for or 0: as far as the
    image), of images of one size"""
    why: list[str] = field(default_factory=list)
    """of what lies nowhere"""

    @property
    def is_too_much(self) -> bool:
        return len(self.pairs) > self.most


def _touched(
    contours: pa.Table, about: dict[str, Any], space: str | None, images: _Images, recipe: Recipe,
    found: _Found,
) -> None:  # fmt: skip
    names = dict(zip(contours["structure"].to_pylist(), contours["name"].to_pylist(), strict=True))
    wanted = {
        number: outlines
        for number, outlines in structures_in(contours).items()
        if not recipe.rois or class_of(names[number], recipe.rois)
    }
    if not wanted:
        return
    rows = images.of.get((about["patient"], space), np.empty(0, np.int64))
    rows = _of_series(rows, contours, images)
    if not len(rows):
        found.why.append(
            f"{_names(wanted, names)}: no image of the patient and frame of reference of these "
            "contours is stored with its place; add the images"
        )
        return
    groups = [(mine, _slices(mine, images)) for mine in _groups(rows, images)]
    sizes = {tuple(images.size[found.pairs[0][0]].tolist())} if found.pairs else set()
    left = {number: set(range(len(outlines))) for number, outlines in wanted.items()}
    bent = dict.fromkeys(wanted, 0)
    pairs: list[tuple[int, int, float, float]] = []
    for mine, slices in groups:
        if sizes and slices.shape not in sizes:
            continue
        here = []
        for number, outlines in wanted.items():
            placed = place(outlines, slices)
            bent[number] = len(placed.bent)
            gone = set(placed.bent.tolist()) | set(placed.beyond.tolist())
            left[number] &= gone
            seen = _in_view(outlines, placed.contours, slices, placed.images)
            half = half_apart(placed.levels, slices.step)
            if len(outlines.slab) and (outlines.slab >= 2 * half).all():
                half = np.nan  # slabs that leave no gap say where the structure ends
            span = 2 * np.nan_to_num(half + placed.aside)
            here += [
                (int(mine[k]), number, slices.step, float(mm))
                for k, mm in zip(placed.images[seen], span[seen], strict=True)
            ]
            if len(found.pairs) + len(pairs) + len(here) > found.most:
                found.pairs += pairs + here
                return
        if here:
            sizes = {slices.shape}
            pairs += here
    found.pairs += pairs
    for number, lost in left.items():
        if lost:
            many = counting(len(lost), "contour lies", "contours lie")
            what = f"of the {len(wanted[number])} of {names[number]!r} {many} on no image"
            why = "farther than half a slice from each"
            if bent[number]:
                why = f"{bent[number]} of them across the slices, the others {why}"
            found.why.append(f"{what}: {why}")


def _names(wanted: dict[int, Outlines], names: dict[int, str | None]) -> str:
    shown = ", ".join(repr(names[number]) for number in list(wanted)[:_NAMES])
    return shown + (", ..." if len(wanted) > _NAMES else "")


def _of_series(rows: Rows, contours: pa.Table, images: _Images) -> Rows:
    """The images of the series that the contours refer to, if there are any; else all."""
    named = set(contours["referenced_series_uid"].drop_null().unique().to_pylist())
    some = pa.array(rows)
    series = images.series.take(some).to_pylist()
    mine = np.array([uid in named for uid in series], bool)
    referred = set(contours["referenced_sop_uid"].drop_null().unique().to_pylist())
    direct = np.array([uid in referred for uid in images.sop.take(some).to_pylist()], bool)
    if not mine.any() and direct.any():
        named = {uid for uid, has in zip(series, direct, strict=True) if has}
        mine = np.array([uid in named for uid in series], bool)
    if not mine.any():
        return rows
    rows, direct = rows[mine], direct[mine]
    if not direct.any():
        return rows
    # Of several images at one place, as phases of a series, those that are referred to.
    spots = np.round(np.c_[images.position[rows], images.orientation[rows]], 3)
    _, spot = np.unique(spots, axis=0, return_inverse=True)
    spot = spot.reshape(-1)
    has = np.zeros(int(spot.max()) + 1, bool)
    has[spot[direct]] = True
    kept: Rows = rows[direct | ~has[spot]]
    return kept


def _groups(rows: Rows, images: _Images) -> Iterator[Rows]:
    """Images of one series, orientation, spacing and size, the largest group first."""
    series = images.series.take(pa.array(rows)).dictionary_encode().indices
    key = np.c_[
        ints(series, -1), images.size[rows],
        np.round(images.orientation[rows], _ALIKE), np.round(images.spacing[rows], _ALIKE),
    ]  # fmt: skip
    _, group = np.unique(key, axis=0, return_inverse=True)
    found = [rows[group.reshape(-1) == k] for k in range(int(group.max()) + 1)]
    yield from sorted(found, key=lambda mine: (-len(mine), mine[0]))


def _slices(rows: Rows, images: _Images) -> Slices:
    first = rows[0]
    thickness = images.thickness[first]
    spacing = images.spacing[first]
    return Slices(
        images.position[rows], images.orientation[first], (float(spacing[0]), float(spacing[1])),
        (int(images.size[first, 0]), int(images.size[first, 1])),
        float(thickness) if thickness > 0 else None,
    )  # fmt: skip


def _in_view(
    outlines: Outlines, contours: tuple[Rows, ...], slices: Slices, numbers: Rows
) -> NDArray[np.bool_]:
    """Whether boxes of the contours of each image reach its pixels."""
    axes = slices.orientation.reshape(2, 3)
    flat = outlines.points @ axes.T
    seen = np.zeros(len(numbers), bool)
    for k, (image, members) in enumerate(zip(numbers, contours, strict=True)):
        some = np.concatenate([flat[outlines.starts[j] : outlines.starts[j + 1]] for j in members])
        pixels = (some - slices.positions[image] @ axes.T) / np.array(slices.spacing[::-1])
        far = np.array(slices.shape[::-1]) - 0.5
        seen[k] = bool((pixels.max(axis=0) >= -0.5).all() and (pixels.min(axis=0) < far).all())
    return seen


def _frames(
    found: _Found, images: _Images, about: dict[str, Any], numbers: dict[int, int]
) -> Iterator[dict[str, Any]]:
    """PER_FRAME of each pair, in the order of images, then of structures."""
    labels = {s["number"]: s["label"] for s in about["segments"]}
    for image, structure, step, span in sorted(found.pairs):
        number = numbers[structure]
        spacing = images.spacing[image]
        yield {
            "segment": number, "segment_label": labels.get(number),
            "referenced_sop_uid": images.sop[image].as_py(),
            "referenced_frame": int(images.frame[image]),
            "position": images.position[image].tolist(),
            "orientation": images.orientation[image].tolist(),
            "spacing_y": float(spacing[0]), "spacing_x": float(spacing[1]), "thickness": step,
            "plane_step": span or None,
        }  # fmt: skip
