"""Which frames are held to their CRC-32C in frames/: one of each shard, or more if asked for.

One is enough to tell a shard from another one of its size and index, as two that were exchanged, or
one of a cache by another recipe. What is damaged within a shard is seen by checking all.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer_adapter.errors import DamagedError
from trainer_adapter.format.checksum import crc32c
from trainer_adapter.format.files import REMEDY
from trainer_adapter.format.places import Places
from trainer_adapter.format.root import Root

CHECKS = ("never", "first-touch", "always")
Key = tuple[int, int]
"""array and shard"""
Stamp = tuple[int, ...]
"""what tells a file from one that took its place"""


class _Seen(NamedTuple):
    stamp: Stamp
    slots: bytearray
    """1 where the frame in a slot was checked, one slot for all if one frame is enough; empty
    before the first: by then the index of the shard has been seen to be as long as is said"""


class Checks:
    """Checks of the frames of one cache, in one process; safe in threads."""

    def __init__(self, root: Root, places: Callable[[], Places], how: str) -> None:
        """`how`: of CHECKS. Raises ValueError for another."""
        if how not in CHECKS:
            raise ValueError(f"check {how!r}; legal: {', '.join(CHECKS)}")
        self._root, self._places, self.how = root, places, how
        self._seen: dict[Key, _Seen] = {}
        self._crcs: NDArray[np.uint32] | None = None

    def open(self, key: Key, stamp: Stamp) -> None:
        """A shard was opened: if another file was known by its name, its frames are new."""
        if key not in self._seen or self.replaced(key, stamp):
            self._seen[key] = _Seen(stamp, bytearray())

    def replaced(self, key: Key, stamp: Stamp) -> bool:
        """Whether a shard that was opened is another file by now."""
        return self._seen[key].stamp != stamp

    def stamp(self, key: Key) -> Stamp:
        """That of a shard that is open."""
        return self._seen[key].stamp

    def due(self, key: Key, slot: int) -> bool:
        """Whether the frame in a slot of a shard, which is open, is to be held to its CRC-32C."""
        if self.how == "always":
            return True
        slots = self._seen[key].slots
        return not slots or not slots[slot if self.how == "first-touch" else 0]

    def hold(self, key: Key, slot: int, pixels: Any, path: Path) -> None:
        """Hold `pixels`, all bytes of a slot, to frames/. Raises DamagedError, naming `path`."""
        array, shard = key
        row = shard * self._root.arrays[array].frames_per_shard + slot
        samples = self._places().between(array, row, row + 1).tolist()
        found = [s for s in samples if int(self._known()[s]) == crc32c(pixels)]
        if not found:
            raise DamagedError(
                f"{path}: the frame in slot {slot} has another CRC-32C than frames/ says: it is "
                f"damaged, or the shard is not of this place or cache; {REMEDY}"
            )
        every, slots = self.how == "first-touch", self._seen[key].slots
        if not slots:
            slots.extend(bytes(self._root.arrays[array].frames_per_shard if every else 1))
        slots[slot if every else 0] = 1

    def _known(self) -> NDArray[np.uint32]:
        if self._crcs is None:
            self._crcs = self._root.read("frames", ["crc32c"])["crc32c"].to_numpy()
        return self._crcs
