"""The volumes that one acquisition was split into, as one array over time, echo or direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from trainer_adapter.errors import VolumeError
from trainer_adapter.reading.opened import vectors
from trainer_adapter.volumes.geometry import Floats
from trainer_adapter.volumes.stacks import Ints, Stacks

_NUMBERS = (
    "time", "trigger_time", "phase", "echo_time", "b_value", "flip_angle", "inversion_time",
    "temporal_index", "acquisition",
)  # fmt: skip
_APART = 0.01
"""mm between the corners of two volumes that lie at one place"""


@dataclass(frozen=True)
class Series4D:
    """Volumes at one place, t of them, in the order of acquisition."""

    image: NDArray[Any]
    """(t, z, y, x[, c]) read-only view, or a copy"""
    affine: Floats
    """(4, 4) of each of them: from (column, row, slice, 1) to mm, LPS"""
    parts: pa.Table
    """a row for each volume: stack, part, and what tells volumes of a series apart: time,
    trigger_time, phase, echo_time, b_value, flip_angle, inversion_time, temporal_index,
    acquisition, asl_label, gradient, as in frames/; where slices differ, the least"""

    @property
    def time(self) -> Floats:
        """(t,) ms, NaN where the files do not say."""
        return self._numbers("time")

    @property
    def b_value(self) -> Floats:
        """(t,) s/mm², NaN where the files do not say."""
        return self._numbers("b_value")

    @property
    def gradient(self) -> Floats:
        """(t, 3) unit vectors, LPS; NaN where the files do not say."""
        return vectors(self.parts["gradient"].combine_chunks(), 3)

    def _numbers(self, name: str) -> Floats:
        return np.asarray(self.parts[name].to_numpy(), np.float64)


def parts_of(stacks: Stacks, group: int, sheared: bool) -> Ints:
    """Which of `stacks` are the parts of an acquisition, in order.

    Raises VolumeError if there are none, one is no volume, or they differ in shape, dtype or place.
    """
    owner = stacks.core.said("stack_of", stacks.first).fill_null(-1).to_numpy()
    parts = np.flatnonzero(owner == group)
    if not len(parts):
        raise VolumeError(
            f"{stacks.core.root.path}: no acquisition {group}; the column `stack_of` has the "
            "numbers"
        )
    order = stacks.core.said("part", stacks.first[parts]).fill_null(0).to_numpy()
    parts = parts[np.argsort(order, kind="stable")]
    for k in parts.tolist():
        stacks.hold(k, gaps=False, sheared=sheared)
    places, first = stacks.core.places, stacks.first[parts]
    sizes = [stacks.count[parts]] + [
        c[first].astype(np.int64) for c in (places.height, places.width, places.array)
    ]
    count, height, width, _ = (int(size[0]) for size in sizes)
    unlike = np.any([size != size[0] for size in sizes], axis=0)
    affine = stacks.affine[parts]
    corners = np.array([[0, 0, 0, 1], [width - 1, height - 1, count - 1, 1]]).T
    away = np.abs((affine - affine[:1]) @ corners).max(axis=(1, 2)) > _APART
    for wrong, what in ((unlike, "shape or dtype"), (away, "place")):
        if wrong.any():
            one, other = stacks.number[parts[[0, int(wrong.argmax())]]].tolist()
            raise VolumeError(
                f"acquisition {group}: stacks {one} and {other} differ in {what}; "
                "take each by cache.volume"
            )
    return parts


def told_of(stacks: Stacks, parts: Ints) -> pa.Table:
    """The table of a Series4D."""
    core, first = stacks.core, stacks.first[parts]
    frames = np.stack([stacks.frames(k) for k in parts.tolist()])
    found = {"stack": pa.array(stacks.number[parts]), "part": core.said("part", first)}
    for name in _NUMBERS:
        values = core.said(name, frames.ravel())
        numbers = values.to_numpy(zero_copy_only=False).astype(np.float64).reshape(frames.shape)
        least = np.fmin.reduce(numbers, axis=1)  # where a number is there
        found[name] = pa.array(least, from_pandas=True).cast(values.type)
    return pa.table(found | {name: core.said(name, first) for name in ("asl_label", "gradient")})
