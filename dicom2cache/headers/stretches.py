"""Stretches of elements that file after file has byte for byte, taken in one comparison."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from dicom2cache.headers.elements import Raw

_LEAST = 4
"""elements that are worth a stretch"""
_SLACK = 24
"""elements read one by one, beside those that always are, before stretches are learned anew"""
_PATIENCE = 32
"""files at least between two attempts: where none is like the other nothing can be learned"""


class Stretch(NamedTuple):
    """Whole elements, one after the other."""

    data: bytes
    last: int
    """tag of the last element"""
    found: dict[int, Raw]
    """the wanted ones"""


class Learned:
    """Stretches of the files that were read last.

    What a stretch says is what reading its elements said, since that depends on their bytes alone:
    so files can only differ in how long they take.
    """

    def __init__(self) -> None:
        self.stretches: dict[int, Stretch] = {}
        """by the tag of the first element; replaced as a whole, never changed"""
        self._model: dict[int, bytes] | None = None
        self._usual = self._patience = 0

    def tell(
        self,
        data: bytes,
        loose: list[tuple[int, int]],
        end: int,
        found: dict[int, Raw],
        whole: bool,
    ) -> None:
        """A header was read: `loose` (tag, place in `data`) one by one, up to `end`.

        `whole` if no stretch was used: then there is no gap between them.
        """
        model = self._model  # other threads may be here too
        if self._patience > 0:
            self._patience -= 1
        elif model is not None and whole:
            self._model = None
            self._learn(model, _parts(data, loose, end), found)
        elif len(loose) > self._usual + _SLACK:
            # From nothing, since elements of old stretches are among what may change.
            self.stretches, self._usual = {}, 0
            self._model = dict(_parts(data, loose, end)) if whole else None

    def _learn(self, model: dict[int, bytes], parts: Parts, found: dict[int, Raw]) -> None:
        runs: list[Parts] = [[]]
        for tag, part in parts:
            if model.get(tag) == part:
                runs[-1].append((tag, part))
            elif runs[-1]:
                runs.append([])
        runs = [run for run in runs if len(run) >= _LEAST]
        self._usual = len(parts) - sum(map(len, runs))
        self._patience = _PATIENCE
        self.stretches = {run[0][0]: _stretch(run, found) for run in runs}


Parts = list[tuple[int, bytes]]
"""(tag, bytes) of elements, one after the other"""


def _parts(data: bytes, loose: list[tuple[int, int]], end: int) -> Parts:
    places = [*(place for _, place in loose), end]
    return [
        (tag, data[start:stop])
        for (tag, _), (start, stop) in zip(loose, pairwise(places), strict=True)
    ]


def _stretch(run: Parts, found: dict[int, Raw]) -> Stretch:
    tags = [tag for tag, _ in run]
    wanted = {tag: found[tag] for tag in tags if tag in found}
    return Stretch(b"".join(part for _, part in run), tags[-1], wanted)


@lru_cache(maxsize=8)
def learned(implicit: bool, wanted: frozenset[int]) -> Learned:
    """What this process has learned of headers read like this."""
    return Learned()
