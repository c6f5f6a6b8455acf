"""What becomes of the numbers of each part in the whole: arrays, shards, roots, stacks; pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dicom2cache.arrow import Codes
from dicom2cache.planning.arrays import family_of
from dicom2cache.records import ArraySpec

_AGAIN = re.compile(r"\.\d+$")


@dataclass(frozen=True)
class Numbers:
    """The arrays of the whole, and where those of each part are in there."""

    arrays: tuple[ArraySpec, ...]
    metadata: tuple[bytes, ...]
    """of each, as of an array without slots"""
    number: tuple[NDArray[np.int64], ...]
    """(arrays,) for each part: numbers in the whole; -1: nothing of it stays"""
    first: tuple[NDArray[np.int64], ...]
    """(arrays,) for each part: shards of the whole before its own"""


def joined(
    specs: Sequence[Sequence[ArraySpec]],
    metadata: Sequence[Sequence[bytes]],
    frames: Sequence[Codes],
) -> Numbers:
    """Numbers of the whole; `frames` says how many of each array of each part are stored in it.

    Arrays join where dtype, slot, frames_per_shard, codec and how that is set are equal. Else one
    is added as NAME.2, NAME.3, ... An array that nothing of is stored in is left out, but for those
    of the first part, which keep their numbers.
    """
    arrays: list[ArraySpec] = []
    said: list[bytes] = []
    numbers, firsts = [], []
    for k, (mine, about, stored) in enumerate(zip(specs, metadata, frames, strict=True)):
        number, first = np.full(len(mine), -1), np.zeros(len(mine), np.int64)
        for a, spec in enumerate(mine):
            if k and not stored[a]:
                continue
            for n, other in enumerate(arrays):
                if n not in number and _fits(other, spec) and said[n] == about[a]:
                    number[a], first[a] = n, -(-other.slots // other.frames_per_shard)
                    slots = int(first[a]) * spec.frames_per_shard + spec.slots
                    arrays[n] = replace(other, slots=slots)
                    break
            else:
                number[a] = len(arrays)
                arrays.append(replace(spec, name=_free(spec.name, {s.name for s in arrays})))
                said.append(about[a])
        numbers.append(number.astype(np.int64))
        firsts.append(first)
    return Numbers(tuple(arrays), tuple(said), tuple(numbers), tuple(firsts))


def _fits(one: ArraySpec, other: ArraySpec) -> bool:
    keys = ("dtype", "slot", "frames_per_shard", "codec")
    if family_of(one) != family_of(other):
        return False
    return all(getattr(one, key) == getattr(other, key) for key in keys)


def _free(name: str, taken: set[str]) -> str:
    base, n = _AGAIN.sub("", name), 1
    name = base
    while name in taken:
        n += 1
        name = f"{base}.{n}"
    return name
