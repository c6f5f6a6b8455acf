"""Where each frame lies: the columns of frames/ that are read when a cache is opened."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trainer_adapter.errors import DamagedError
from trainer_adapter.format.files import REMEDY
from trainer_adapter.format.root import Root


@dataclass(frozen=True)
class Places:
    """Where each frame lies, n frames, (n,) each: what a reader needs before the first access."""

    array: NDArray[np.int16]
    row: NDArray[np.int64]
    height: NDArray[np.int32]
    width: NDArray[np.int32]

    order: NDArray[np.int64] | None
    """(n,) sample indices by array and row; None where samples lie so, as of one generation that
    nothing was removed from"""
    ends: NDArray[np.int64]
    """(arrays + 1,) where each array begins in that order, and the end"""

    @cached_property
    def _rows(self) -> NDArray[np.int64]:
        return self.row if self.order is None else self.row[self.order]

    def of_array(self, array: int) -> slice | NDArray[np.int64]:
        """The samples of an array, by row."""
        mine = slice(int(self.ends[array]), int(self.ends[array + 1]))
        return mine if self.order is None else self.order[mine]

    def between(self, array: int, first: int, last: int) -> NDArray[np.int64]:
        """Sample indices of the frames in rows `first` to `last` - 1 of an array, by row."""
        start, stop = self.ends[array : array + 2]
        low, high = np.searchsorted(self._rows[start:stop], [first, last])
        mine = np.arange(start + low, start + high)
        return mine if self.order is None else self.order[mine]


def read_places(root: Root) -> Places:
    """Array, row and size of every frame, checked against the arrays.

    Raises DamagedError if a row is out of bounds, or within its array out of order or, of a later
    numbering, there twice, or a frame exceeds its slot.
    """
    names = ["array", "row", "height", "width"]
    table = root.read("frames", names)
    where = root.path / "frames"
    array, row, height, width = (table[name].to_numpy() for name in names)
    if len(array) and not 0 <= array.min() <= array.max() < len(root.arrays):
        raise DamagedError(f"{where}: names an array that is not in zarr.json; {REMEDY}")
    # A later generation begins with the first array again; what was moved lies behind the rest.
    order = None if (array[1:] >= array[:-1]).all() else np.argsort(array, kind="stable")
    if root.numbering:  # nearly in order, which a stable sort makes use of
        key = array.astype(np.int64) << 40 | row  # a row that does not fit is refused below
        order = None if (key[1:] > key[:-1]).all() else np.argsort(key, kind="stable")
    ends = np.cumsum([0, *np.bincount(array, minlength=len(root.arrays))])
    places = Places(array, row, height, width, order, ends)
    for number, spec in enumerate(root.arrays):
        mine = places.of_array(number)
        row, height, width = (c[mine] for c in (places.row, places.height, places.width))
        if not len(row):
            continue
        if (row[1:] <= row[:-1]).any():
            raise DamagedError(f"{where}: rows are not in order; {REMEDY}")
        if row[0] < 0 or row[-1] >= spec.slots:
            raise DamagedError(f"{where}: a row is outside of {spec.name}; {REMEDY}")
        too_large = height.max() > spec.slot[0] or width.max() > spec.slot[1]
        if too_large or min(height.min(), width.min()) < 1:
            raise DamagedError(f"{where}: a frame does not fit the slots of {spec.name}; {REMEDY}")
    return places
