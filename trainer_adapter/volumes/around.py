"""The neighbours of a frame in its stack."""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from trainer_adapter.reading.opened import Core
from trainer_adapter.volumes.stacks import Ints, Stacks, stacks_of


class Around:
    """Frames with `context` neighbours on either side."""

    def __init__(self, core: Core, context: int) -> None:
        stacks = stacks_of(core, None)
        self.context, self.each = context, 2 * context + 1
        self._samples, self._place = stacks.samples, stacks.place
        # A number for all frames among which one may stand for another: those of a stack, or one.
        self._run = np.cumsum(_begins(stacks))
        alone = np.repeat(stacks.unordered | stacks.tiles, stacks.count)
        self._run[alone] = -1 - np.flatnonzero(alone)
        self._at = np.empty(len(stacks.samples), np.int64)
        self._at[stacks.samples] = np.arange(len(stacks.samples))

    def of(self, samples: Ints) -> Ints:
        """(b, each) sample indices in the order of the stacks, the frames in the middle.

        Where a stack ends, or a frame of it failed or is missing, the last one before that stands
        for the rest.
        So does the frame itself where nothing says the order of its stack.
        """
        middle = self._at[samples]
        found = np.empty((len(samples), self.each), np.int64)
        found[:, self.context] = middle
        for way in (-1, 1):
            here = middle
            for k in range(1, self.context + 1):
                there = np.clip(here + way, 0, len(self._at) - 1)
                next_one = self._place[there] == self._place[here] + way
                here = np.where(next_one & (self._run[there] == self._run[here]), there, here)
                found[:, self.context + way * k] = here
        neighbours: Ints = self._samples[found]
        return neighbours


def _begins(stacks: Stacks) -> NDArray[np.bool_]:
    """(n,) True for frames that follow no other: the first of a stack, or behind missing slices."""
    begins = np.zeros(len(stacks.samples), bool)
    begins[stacks.ends[:-1]] = True
    flags = stacks.flags
    of = pc.list_parent_indices(flags).filter(pc.equal(pc.list_flatten(flags), "gap")).to_numpy()
    for k in of.tolist():
        low, high = int(stacks.ends[k]), int(stacks.ends[k + 1])
        at = stacks.core.vectors("position", stacks.samples[low:high], 3)
        steps = np.linalg.norm(np.diff(at, axis=0), axis=1)
        begins[low + 1 : high] |= steps > _WIDE * np.median(steps)
    return begins


_WIDE = 1.5
"""of the median step of a stack: slices that are farther apart have another between"""


def hold_grey(core: Core, samples: Ints, what: str) -> None:
    """Raises ValueError for frames that are not grey: their channels are where neighbours go."""
    for number in np.unique(core.places.array[samples]).tolist():
        spec = core.root.arrays[number]
        if len(spec.slot) > 2:
            raise ValueError(f"{what} is for grey frames, and some are of {spec.name}")
