"""What was served, counted by all processes: a small file for each, without locks."""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Served(NamedTuple):
    """How many images LightlyTrain was given, by where they came from."""

    cached: int
    """from the cache"""
    passed: int
    """opened by LightlyTrain itself, because `missing` is "pass\""""
    converted: int
    """new files, converted when they were asked for"""


class ServedMasks(NamedTuple):
    """How many masks LightlyTrain was given."""

    cached: int
    """from the cache"""
    empty: int
    """those of `cached` where no mask lies on any image of the stack"""
    passed: int
    """opened by LightlyTrain itself: files"""


_MASKS = ("masks", "empty_masks", "passed_masks")
_SLOTS = (*Served._fields, *_MASKS, "unlisted")
"""unlisted: those of `cached` whose files LightlyTrain would not find in a folder"""


class Counts:
    """Counters in a folder; each process counts in a file of its own, so a killed worker loses
    nothing and blocks nobody. Pickles as the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process = 0
        self._lock = threading.Lock()
        self._mine: NDArray[np.uint64]

    def __reduce__(self) -> tuple[type[Counts], tuple[Path]]:
        return Counts, (self.folder,)

    def add(self, name: str) -> None:
        """Count one image or mask; `name` is one of the slots."""
        if self._process != os.getpid():  # the first one, here or after a fork
            self._lock = threading.Lock()
            handle, path = tempfile.mkstemp(dir=self.folder, suffix=".counts")
            os.truncate(handle, 8 * len(_SLOTS))
            os.close(handle)
            self._mine = np.memmap(path, np.uint64, "r+")
            self._process = os.getpid()
        with self._lock:
            self._mine[_SLOTS.index(name)] += np.uint64(1)

    def total(self) -> Served:
        """The sum over all processes so far."""
        return Served(*self._sums()[: len(Served._fields)])

    def masks(self) -> ServedMasks:
        """The same of masks."""
        sums = dict(zip(_SLOTS, self._sums(), strict=True))
        return ServedMasks(*(sums[name] for name in _MASKS))

    def unlisted(self) -> int:
        """How many images so far were of files that LightlyTrain would not find in a folder."""
        return self._sums()[-1]

    def first(self, what: str) -> bool:
        """True for the first process that asks, of all: what is said once is said by it."""
        try:
            (self.folder / what).touch(exist_ok=False)
        except OSError:  # another one was first, or the context was left
            return False
        return True

    def _sums(self) -> list[int]:
        found = [np.fromfile(f, np.uint64, len(_SLOTS)) for f in self.folder.glob("*.counts")]
        whole = [f for f in found if len(f) == len(_SLOTS)]  # else it is being made
        return [int(n) for n in np.sum(whole, axis=0)] if whole else [0] * len(_SLOTS)
