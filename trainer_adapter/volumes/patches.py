"""3-D patches of the volumes of a selection: their slices, and where they lie."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainer_adapter.reading.opened import Core
from trainer_adapter.reading.spots import Corners
from trainer_adapter.volumes.stacks import Ints, stacks_of

_NOWHERE = 1 << 40
"""top of the crop of a slice that is not there: below each frame"""


class Patches:
    """One for each slice: `each` slices one behind the other, of which crops are taken."""

    def __init__(self, core: Core, samples: Ints, depth: int) -> None:
        """Of the frames with these sample indices. Raises VolumeError for what is no volume."""
        stacks = stacks_of(core, samples)
        no_volume = stacks.holes | stacks.tiles | stacks.odd | ~np.isnan(stacks.tilt)
        for k in np.flatnonzero(no_volume)[:1].tolist():
            stacks.hold(k, gaps=False, sheared=False)
        self.each, self._stacks = depth, stacks
        self._order = np.argsort(stacks.samples)

    def of(self, samples: Ints) -> Ints:
        """(b, each) sample indices of slices; where there is none, of the nearest."""
        k, first = self._places(samples)
        places = np.clip(first[:, None] + np.arange(self.each), 0, self._stacks.count[k, None] - 1)
        slices: Ints = self._stacks.samples[self._stacks.ends[k, None] + places]
        return slices

    def shape(self, count: int, frame: tuple[int, ...]) -> tuple[int, ...]:
        """Of so many of them, with a channel as networks want it: (b, 1, d, h, w)."""
        return count, 1, self.each, *frame

    def corners(self, corners: Corners, samples: Ints) -> Corners:
        """Of their slices, one after the other: all alike, and outside where there is no slice."""
        k, first = self._places(samples)
        places = first[:, None] + np.arange(self.each)
        outside = (places < 0) | (places >= self._stacks.count[k, None])
        found = corners.repeated(self.each)
        return Corners(np.where(outside.ravel(), _NOWHERE, found.top), found.left, found.fill)

    def told(self, samples: Ints, corners: Corners | None) -> dict[str, Any]:
        """`stack`: (b,) numbers; `corner`: (b, 3) slice, row, column of the first voxel."""
        assert corners is not None
        k, first = self._places(samples)
        corner = np.stack([first, corners.top, corners.left], axis=1)
        return {"stack": self._stacks.number[k], "corner": corner}

    def _places(self, samples: Ints) -> tuple[Ints, Ints]:
        """(b,) which stacks, and which of their slices is the first.

        First slices are spread evenly from the first that there can be to the last. Of a volume
        that is thinner all is there, in the middle: the first slice is below 0 then.
        """
        stacks = self._stacks
        at = self._order[np.searchsorted(stacks.samples, samples, sorter=self._order)]
        k = np.searchsorted(stacks.ends, at, side="right") - 1
        count, room = stacks.count[k], stacks.count[k] - self.each
        spread = (at - stacks.ends[k]) * (room + 1) // count
        first: Ints = np.where(room < 0, room // 2, spread)
        return k, first
