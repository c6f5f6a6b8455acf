"""A stack of a cache with its place in the patient's space."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer_adapter.errors import VolumeError
from trainer_adapter.reading.opened import Core
from trainer_adapter.volumes import resample
from trainer_adapter.volumes.image import SpatialImage
from trainer_adapter.volumes.stacks import Stacks

AIR = -1024.0
"""HU around a CT where its headers name no padding"""


def said(core: Core, name: str, samples: NDArray[np.int64]) -> list[Any]:
    """Values of a column for these frames; None where the cache has no such column."""
    try:
        found: list[Any] = core.column(name).take(samples).to_pylist()
    except KeyError:  # made before the column came
        return [None] * len(samples)
    return found


def is_mask(stacks: Stacks, k: int) -> bool:
    """Whether a stack is a segmentation."""
    return bool(said(stacks.core, "kind", stacks.frames(k)[:1]) == ["mask"])


def hold(stacks: Stacks, k: int, gaps: bool, sheared: bool) -> None:
    """Raises VolumeError for what `placed` refuses, with the remedy."""
    hollow = is_mask(stacks, k) and not stacks.tiles[k]
    stack = int(stacks.number[k])
    refused = stacks.refusal(k, gaps or (hollow and fills(stacks, k)), sheared)
    remedy = f"cache.volume({stack}, gaps=True) has its frames"
    if refused is not None:
        if refused.what != "nowhere":
            more = "" if refused.what == "tilted" else ", gaps=True"
            remedy = f"resample({stack}{more}) makes an upright, even volume of it"
        raise VolumeError(f"stack {stack}: {refused.why}; {remedy}")
    if np.isnan(stacks.affine[k]).any() and not has_place(stacks, k):
        why = "its files do not say where in the patient it lies"
        raise VolumeError(f"stack {stack}: {why}; {remedy}")


def has_place(stacks: Stacks, k: int) -> bool:
    """Whether the first slice has a position, directions and a spacing."""
    columns = ("position", "orientation", "spacing_y", "spacing_x")
    return all(said(stacks.core, c, stacks.first[k : k + 1]) != [None] for c in columns)


def fills(stacks: Stacks, k: int) -> bool:
    """Whether what a mask lacks is empty: files leave out the frames that nothing is in."""
    flags = set(stacks.flags[k].as_py() or ())
    return not flags & {"uneven", "order-unknown", "repeated"} and (
        "one-place" not in flags or int(stacks.count[k]) == 1
    )


def placed(
    stacks: Stacks, k: int, voxels: NDArray[Any], *, gaps: bool = False, sheared: bool = False
) -> SpatialImage:
    """A stack as it lies; where it is not even, made so: a mask by empty slices, else linearly.

    Raises VolumeError for what is no volume, unless `gaps`, and for what is tilted, unless
    `sheared`.
    """
    hold(stacks, k, gaps, sheared)
    if even(stacks, k):
        return image_of(stacks, k, voxels, stacks.affine[k])
    return evenly(stacks, k, voxels, None, None, None)


def even(stacks: Stacks, k: int) -> bool:
    """Whether a stack's slices are those of a volume at even steps, none left out."""
    return not (np.isnan(stacks.affine[k]).any() or _sparse(stacks, k))


def _sparse(stacks: Stacks, k: int) -> bool:
    """Whether a mask's slices are twice as far apart as they are thick, or three times, ...

    Of a segmentation that has every other slice of its image nothing else says so.
    """
    if not is_mask(stacks, k):
        return False
    affine = stacks.affine[k]
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    step = float(affine[:3, 2] @ normal / np.linalg.norm(normal))
    return _thinner(stacks, k, step) < step


def _thinner(stacks: Stacks, k: int, step: float) -> float:
    """The step, or the thickness of a mask's slices where the step is that times 2, 3, ..."""
    (thickness,) = said(stacks.core, "thickness", stacks.frames(k)[:1])
    times = step / thickness if thickness and thickness > 0 else 1.0
    whole = times >= 1.5 and abs(times - round(times)) <= 0.02 * times
    return float(thickness) if whole else step


def evenly(
    stacks: Stacks,
    k: int,
    voxels: NDArray[Any],
    spacing: Any,
    interpolation: str | None,
    fill: float | None,
) -> SpatialImage:
    """A stack upright, whatever its steps, as SpatialImage.resample."""
    plain = image_of(stacks, k, voxels, np.eye(4))
    value = plain.fill if fill is None else fill
    if even(stacks, k):
        slices = resample.slices_of(voxels, stacks.affine[k])
    else:
        slices = _slices(stacks, k, voxels, plain.labels, plain.name)
    try:
        made, affine = resample.upright(
            slices, spacing, nearest=plain.nearest(interpolation), fill=value, hollow=plain.labels
        )
    except VolumeError as e:
        raise VolumeError(f"{plain.name}: {e}") from None
    return image_of(stacks, k, made, affine)


def _slices(stacks: Stacks, k: int, voxels: NDArray[Any], mask: bool, name: str) -> resample.Slices:
    """The slices of a stack that is not even, by the positions of each."""
    core, frames = stacks.core, stacks.frames(k)
    places = core.vectors("position", frames, 3)
    plane = core.vectors("orientation", frames[:1], 6)[0]
    pitch = [said(core, c, frames[:1])[0] for c in ("spacing_y", "spacing_x")]
    if np.isnan(places).any() or np.isnan(plane).any() or None in pitch:
        raise VolumeError(
            f"{name}: nothing says where each of its slices lies (columns position, orientation, "
            "spacing_y, spacing_x), so it cannot be made even"
        )
    row, column = (v / np.linalg.norm(v) for v in (plane[:3], plane[3:]))
    steps = np.diff(places @ np.cross(row, column))
    if len(steps):
        step = _thinner(stacks, k, float(steps.min())) if mask else float(np.median(steps))
    else:
        (thickness,) = said(core, "thickness", frames[:1])
        if not thickness or thickness <= 0:
            raise VolumeError(f"{name}: a single slice, and nothing says how thick it is")
        step = float(thickness)
    return resample.Slices(voxels, places, row, column, (pitch[0], pitch[1]), step)


def image_of(
    stacks: Stacks, k: int, voxels: NDArray[Any], affine: NDArray[np.float64]
) -> SpatialImage:
    """Voxels that lie so, with what frames/ says of the stack."""
    core, frames = stacks.core, stacks.frames(k)
    kind, unit, padding = (
        said(core, c, frames[:1])[0] for c in ("kind", "unit", "padding_value")
    )  # fmt: skip
    spaces = core.said("frame_of_reference_uid", frames).unique().drop_null().to_pylist()
    fill = AIR if unit == "HU" else 0.0
    if padding is not None and np.isfinite(padding) and kind == "image":
        fill = float(padding)
    if voxels.dtype.kind in "iu":
        limits = np.iinfo(voxels.dtype)
        fill = min(max(fill, float(limits.min)), float(limits.max))
    return SpatialImage(
        voxels, affine, unit, kind or "image", frozenset(spaces), fill,
        f"stack {int(stacks.number[k])} of {core.root.path}",
    )  # fmt: skip
