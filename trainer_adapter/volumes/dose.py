"""RT Dose on the pixels of images: linear between its voxels, 0 outside of them."""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from trainer_adapter.reading.opened import Core
from trainer_adapter.reading.spots import Corners, Reading
from trainer_adapter.volumes import placed, resample
from trainer_adapter.volumes.image import SpatialImage
from trainer_adapter.volumes.stacks import Ints, stacks_of

_KEPT = 4
"""volumes that a process keeps: frames of few patients come one after another"""


@dataclass(frozen=True, eq=False)
class Doses:
    """The doses that lie on n images of a cache; pickles as arrays."""

    images: Ints
    """(n,) sample indices, rising"""
    stack: Ints
    """(n,) number of the stack of the dose; -1: none"""
    needed: Ints
    """sample indices of all frames of these doses"""

    def known(self, samples: Ints) -> NDArray[np.bool_]:
        """(b,) which of these images have a dose."""
        return np.asarray(self.stack[np.searchsorted(self.images, samples)] >= 0)

    def paint(
        self,
        out: NDArray[Any],
        samples: Ints,
        core: Core,
        corners: Corners | None = None,
        reading: Reading | None = None,
    ) -> None:
        """The doses on some of these images, or on crops of them, into `out`, (b, h, w) float."""
        stacks = self.stack[np.searchsorted(self.images, samples)]
        grids = grids_of(core, samples)
        heights, widths = (c[samples] for c in (core.places.height, core.places.width))
        for k, stack in enumerate(stacks.tolist()):
            out[k] = 0
            if stack < 0:
                continue
            top, left = (0, 0) if corners is None else (int(corners.top[k]), int(corners.left[k]))
            low_y, high_y = max(0, -top), min(out.shape[1], int(heights[k]) - top)
            low_x, high_x = max(0, -left), min(out.shape[2], int(widths[k]) - left)
            if low_y >= high_y or low_x >= high_x:
                continue  # a crop outside of its image
            grid = grids[k].copy()
            grid[:3, 3] += grid[:3, 1] * (top + low_y) + grid[:3, 0] * (left + low_x)
            dose = _VOLUMES.of(core, stack, reading)
            shape = 1, high_y - low_y, high_x - low_x
            found = resample.onto(dose.voxels, dose.affine, shape, grid, nearest=False, fill=0)
            out[k, low_y:high_y, low_x:high_x] = found[0]


def doses_of(core: Core, samples: Ints, rows: Ints | None = None) -> Doses:
    """The dose on each image: that in its frame of reference, of several that of its study.

    `rows`: sample indices of the frames of doses that count; None: all. Raises ValueError for
    images with several, VolumeError for a dose that is no volume.
    """
    images = np.unique(samples)
    kind = core.column("kind")
    doses = np.flatnonzero(pc.equal(kind, "dose").to_numpy(zero_copy_only=False))
    if rows is not None:
        doses = np.intersect1d(doses, rows)
    stack = np.full(len(images), -1)
    if not len(doses):
        return Doses(images, stack, doses)
    stacks = stacks_of(core, None)
    numbers = np.unique(core.column("stack").take(doses).to_numpy())
    places = np.searchsorted(stacks.number, numbers)
    first = stacks.first[places]
    space, study = (
        core.coded(c, c, first, images) for c in ("frame_of_reference_uid", "study_uid")
    )
    lies = np.isfinite(grids_of(core, images)).all((1, 2))
    order = np.argsort(space[0], kind="stable")
    low, high = (np.searchsorted(space[0][order], space[1], side) for side in ("left", "right"))
    several = np.flatnonzero(lies & (space[1] >= 0) & (high - low > 1))
    one = np.flatnonzero(lies & (space[1] >= 0) & (high - low == 1))
    stack[one] = numbers[order[low[one]]]
    for k in several.tolist():
        there = order[low[k] : high[k]]
        mine = there[study[0][there] == study[1][k]]
        if len(mine) != 1:
            shown = ", ".join(map(str, numbers[mine if len(mine) else there][:5].tolist()))
            raise ValueError(
                f"sample {images[k]}: several doses lie in its frame of reference, stacks {shown}; "
                'say which: Target("dose", rows=cache.select(kind="dose", ...))'
            )
        stack[k] = numbers[mine[0]]
    used = np.unique(stack[stack >= 0])
    frames = [doses[:0]]
    for number in used.tolist():
        k = stacks.find(number)
        placed.hold(stacks, k, True, False)
        frames.append(stacks.frames(k))
    return Doses(images, stack, np.unique(np.concatenate(frames)))


def grids_of(core: Core, samples: Ints) -> NDArray[np.float64]:
    """(b, 4, 4): (column, row, along the normal, 1) of each frame to mm, LPS; NaN: not known."""
    ways = core.vectors("orientation", samples, 6)
    found = np.zeros((len(samples), 4, 4))
    found[:, 3, 3] = 1
    for axis, name, way in ((0, "spacing_x", ways[:, :3]), (1, "spacing_y", ways[:, 3:])):
        step = core.said(name, samples).to_numpy(zero_copy_only=False).astype(np.float64)
        found[:, :3, axis] = way * step[:, None]
    found[:, :3, 2] = np.cross(ways[:, :3], ways[:, 3:])
    found[:, :3, 3] = core.vectors("position", samples, 3)
    return found


class _Volumes:
    """The doses that were read last, in this process."""

    def __init__(self) -> None:
        self._fresh()

    def _fresh(self) -> None:
        self._lock, self._process = Lock(), os.getpid()
        self._kept: OrderedDict[tuple[str, str, int], SpatialImage] = OrderedDict()

    def of(self, core: Core, stack: int, reading: Reading | None) -> SpatialImage:
        if self._process != os.getpid():  # a fork may have copied a lock that a thread held
            self._fresh()
        key = str(core.root.path), core.root.digest, stack
        with self._lock:
            found = self._kept.get(key)
            if found is None:  # one thread reads it, the others want it too
                found = self._kept[key] = _volume(core, stack, reading)
                if len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return found


_VOLUMES = _Volumes()


def _volume(core: Core, stack: int, reading: Reading | None) -> SpatialImage:
    stacks = stacks_of(core, None)
    k = stacks.find(stack)
    frames = stacks.frames(k)
    spec = core.root.arrays[int(core.places.array[frames[0]])]
    height, width = (int(c[frames[0]]) for c in (core.places.height, core.places.width))
    voxels = np.empty((len(frames), height, width), spec.dtype)
    (reading or core.mapped).whole(voxels, core.spots(frames))
    return placed.placed(stacks, k, voxels, gaps=True, sheared=False)
