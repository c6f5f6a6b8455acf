"""3-D patches of the volumes of a selection: their slices, and where they lie."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from trainer_adapter.errors import VolumeError, counting
from trainer_adapter.reading.opened import Core
from trainer_adapter.reading.spots import Corners
from trainer_adapter.volumes.stacks import Ints, Stacks, stacks_of

_NOWHERE = 1 << 40
"""top of the crop of a slice that is not there: below each frame"""


class Patches:
    """One for each slice: `each` slices one behind the other, of which crops are taken."""

    def __init__(self, core: Core, samples: Ints, depth: int) -> None:
        """Of the frames with these sample indices. Raises VolumeError for what is no volume."""
        stacks = stacks_of(core, samples)
        no_volume = stacks.holes | stacks.tiles | stacks.odd | ~np.isnan(stacks.tilt)
        for k in np.flatnonzero(no_volume)[:1].tolist():
            if found := stacks.refusal(k, gaps=False, sheared=False):
                raise VolumeError(
                    f"stack {int(stacks.number[k])}: {found.why}; patches are of volumes: leave "
                    "this stack out, as select(stack_regular=True, tilt=None) does with such"
                )
        _tell_thin(core, stacks, depth)
        self.each, self.stacks = depth, stacks
        self._order = np.argsort(stacks.samples)

    def of(self, samples: Ints) -> Ints:
        """Sample indices of all slices of their volumes."""
        of = np.unique(self.volumes(samples))
        frames: Ints = np.concatenate(
            [np.empty(0, np.int64), *map(self.stacks.frames, of.tolist())]
        )
        return frames

    def volumes(self, samples: Ints) -> Ints:
        """(b,) which of the stacks each slice is of."""
        return self._at(samples)[0]

    def first(self, samples: Ints, center: Ints | None = None) -> Ints:
        """(b,) the first slice of each patch: around `center`, else spread over the volume.

        Spread evenly, from the first that there can be to the last. Of a volume that is thinner all
        is there, in the middle: the first slice is below 0 then.
        """
        k, at = self._at(samples)
        count = self.stacks.count[k]
        if center is not None:
            return starts(center, self.each, count)
        room = count - self.each
        first: Ints = np.where(
            room < 0, room // 2, (at - self.stacks.ends[k]) * (room + 1) // count
        )
        return first

    def slices(self, samples: Ints, first: Ints, corners: Corners) -> tuple[Ints, Corners]:
        """(b * d,) sample indices of the slices of patches, one after the other, and their corners.

        Where there is no slice, the nearest stands for it, and its corner is outside.
        """
        k = self.volumes(samples)
        places, count = first[:, None] + np.arange(self.each), self.stacks.count[k, None]
        within = np.clip(places, 0, count - 1)
        found: Ints = self.stacks.samples[self.stacks.ends[k, None] + within]
        all_of = corners.repeated(self.each)
        top = np.where((places == within).ravel(), all_of.top, _NOWHERE)
        return found.ravel(), Corners(top, all_of.left, all_of.fill)

    def told(self, samples: Ints, first: Ints, corners: Corners) -> dict[str, Any]:
        """`stack`: (b,) numbers; `corner`: (b, 3) slice, row, column of the first voxel."""
        corner = np.stack([first, corners.top, corners.left], axis=1)
        return {"stack": self.stacks.number[self.volumes(samples)], "corner": corner}

    def _at(self, samples: Ints) -> tuple[Ints, Ints]:
        """(b,) which of the stacks each slice is of, and its place among all of their slices."""
        at = self._order[np.searchsorted(self.stacks.samples, samples, sorter=self._order)]
        return np.searchsorted(self.stacks.ends, at, side="right") - 1, at


def _tell_thin(core: Core, stacks: Stacks, depth: int) -> None:
    """Warn of volumes of which so few slices are selected that patches are mostly air."""
    few = np.flatnonzero(stacks.count < depth)
    if not len(few):
        return
    number = np.asarray(core.column("stack").to_numpy(), np.int64)
    known, counts = np.unique(number[np.isin(number, stacks.number[few])], return_counts=True)
    cut = few[counts[np.searchsorted(known, stacks.number[few])] > stacks.count[few]]
    for k in cut[:1].tolist():
        warnings.warn(
            f"patches have {counting(depth, 'slice')}, and of {counting(len(cut), 'volume')} fewer "
            f"are selected, such as {stacks.count[k]} of stack {int(stacks.number[k])}: around "
            "these is nothing. Select whole stacks; foreground= says what patches are around",
            stacklevel=5,
        )


def starts(center: Ints, side: int, sizes: Ints) -> Ints:
    """Where patches begin along an axis: around a voxel, moved so that they are within the volume.

    Of a volume that is smaller all is there, in the middle.
    """
    room = sizes - side
    found: Ints = np.where(room < 0, room // 2, np.clip(center - side // 2, 0, np.maximum(room, 0)))
    return found
