"""The stacks of a selection, columnar: which frames each has, and whether they are a volume."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trainer_adapter.errors import VolumeError
from trainer_adapter.reading.opened import Core
from trainer_adapter.volumes.geometry import Floats, affines, tilts

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
_COLUMNS = ("kind", "stack", "stack_index", "stack_regular", "stack_flags", "matrix_row", "tilt")
_UNEVEN = "its positions are uneven or repeated"
_NO_VOLUME = {
    "uneven": "its steps are uneven, or its slices do not lie on one line (flag uneven)",
    "gap": "slices are missing between others (flag gap)",
    "one-place": "all its frames lie at one place, so they are no volume (flag one-place)",
    "order-unknown": "nothing in the files says their order, or which of repeated places belong "
    "together (flag order-unknown)",
}
"""why the frames of a stack with a flag are no volume"""

_IN_ORDER = "give gaps=True to have the frames in order all the same"


@dataclass(frozen=True)
class Refusal:
    """Why a stack is no volume."""

    what: str
    """`uneven`: slices are missing, or do not lie evenly; `tilted`; `nowhere`: they do not lie one
    behind the other"""
    why: str
    remedy: str
    """of Cache.volume"""


@dataclass(frozen=True)
class Stacks:
    """s stacks, with n frames that are selected of them."""

    core: Core
    number: Ints
    """(s,) numbers of the stacks, rising"""
    ends: Ints
    """(s + 1,) where the frames of each begin in the next two, and the end of the last"""
    samples: Ints
    """(n,) sample indices, stack by stack, each in its order"""
    place: Ints
    """(n,) places in their stacks"""
    low: Ints
    """(s,) place at which the frames should begin: 0, or where the selection cuts in"""

    @cached_property
    def first(self) -> Ints:
        """(s,) sample index of the first frame of each."""
        return self.samples[self.ends[:-1]]

    @cached_property
    def last(self) -> Ints:
        """(s,) sample index of the last frame of each."""
        return self.samples[self.ends[1:] - 1]

    @cached_property
    def count(self) -> Ints:
        """(s,) frames of each."""
        return np.diff(self.ends)

    @cached_property
    def holes(self) -> Bools:
        """(s,) whether one of the frames between is failed, or not selected."""
        holes: Bools = self.place[self.ends[1:] - 1] - self.low + 1 != self.count
        return holes

    @cached_property
    def adjacent(self) -> Bools:
        """(s,) whether its frames are of one size and lie row after row of one array."""
        places, of = self.core.places, self.samples
        on = np.diff(places.row[of]) == 1
        for column in (places.array, places.height, places.width):
            on &= np.diff(column[of]) == 0
        breaks = np.concatenate([[0], np.cumsum(~on)])  # before each frame
        adjacent: Bools = breaks[self.ends[1:] - 1] == breaks[self.ends[:-1]]
        return adjacent

    @cached_property
    def regular(self) -> pa.Array:
        """(s,) bool: `stack_regular`."""
        return self.core.said("stack_regular", self.first)

    @cached_property
    def flags(self) -> pa.Array:
        """(s,) lists of text: `stack_flags`."""
        return self.core.said("stack_flags", self.first)

    @cached_property
    def tiles(self) -> Bools:
        """(s,) whether its frames are tiles of a slide."""
        tiles: Bools = _numpy(self.core.said("matrix_row", self.first).is_valid())
        return tiles

    @cached_property
    def unordered(self) -> Bools:
        """(s,) whether nothing says in which order its frames are."""
        unordered = np.zeros(len(self.first), bool)
        unknown = _numpy(pc.equal(pc.list_flatten(self.flags), "order-unknown"))
        unordered[pc.list_parent_indices(self.flags).to_numpy()[unknown]] = True
        return unordered

    @cached_property
    def odd(self) -> Bools:
        """(s,) whether its frames are not one behind the other at even steps."""
        irregular: Bools = _numpy(pc.equal(self.regular, False).fill_null(False))
        return irregular | self.unordered

    @cached_property
    def tilt(self) -> Floats:
        """(s,) degrees off the normal at which its slices follow each other; NaN: upright."""
        try:
            self.core.column("tilt")
        except KeyError:  # of caches of before: by what else they say
            return tilts(*self._ways[:2], *self.plane)
        return _floats(self.core.said("tilt", self.first))

    @cached_property
    def affine(self) -> Floats:
        """(s, 4, 4) as geometry.affines; NaN for what is no volume at even steps."""
        found = affines(*self._ways, *self.plane)
        found[:, :3, 3] = self.core.vectors("position", self.first, 3)
        found[~_numpy(self.regular.fill_null(False)) | self.holes | self.tiles] = np.nan
        return found

    @cached_property
    def _ways(self) -> tuple[Floats, Floats, Ints]:
        """(s, 3) positions of the first and the last frame that is stored, and (s,) the steps."""
        stored = stacks_of(self.core, None)
        of = np.searchsorted(stored.number, self.number)
        first, last = (
            self.core.vectors("position", ends[of], 3) for ends in (stored.first, stored.last)
        )
        steps = stored.place[stored.ends[of + 1] - 1] - stored.place[stored.ends[of]]
        return first, last, steps

    @cached_property
    def plane(self) -> tuple[Floats, Floats]:
        """(s, 6) directions of a row and of a column, (s, 2) mm between rows, between columns."""
        spacing = [_floats(self.core.said(c, self.first)) for c in ("spacing_y", "spacing_x")]
        return self.core.vectors("orientation", self.first, 6), np.stack(spacing, axis=1)

    def find(self, stack: int) -> int:
        """Which of these a stack is. Raises VolumeError if it is none."""
        k = int(np.searchsorted(self.number, stack))
        if k == len(self.number) or self.number[k] != stack:
            whole = len(self.samples) == len(self.core.places.row)
            raise VolumeError(
                f"{self.core.root.path}: no stack {stack}{'' if whole else ' in this selection'}; "
                "cache.stacks() has the numbers (waveforms are no stacks)"
            )
        return k

    def frames(self, k: int) -> Ints:
        """Sample indices of the frames of a stack, in its order."""
        return self.samples[self.ends[k] : self.ends[k + 1]]

    def view(self, k: int, count: int) -> NDArray[Any] | None:
        """`count` frames from the first of a stack on, (count, H, W[, C]), where they lie.

        None where the map has them not one behind the other. Raises DamagedError.
        """
        places, first = self.core.places, int(self.first[k])
        array, row = int(places.array[first]), int(places.row[first])
        if not self.adjacent[k] or self.core.root.arrays[array].codec != "none":
            return None
        frames = self.core.store.stretch(array, row, count)
        return None if frames is None else frames[:, : places.height[first], : places.width[first]]

    def hold(self, k: int, gaps: bool, sheared: bool) -> None:
        """Raises VolumeError for what is no volume; `gaps` and `sheared` as Cache.volume."""
        if found := self.refusal(k, gaps, sheared):
            raise VolumeError(f"stack {int(self.number[k])}: {found.why}; {found.remedy}")

    def refusal(self, k: int, gaps: bool, sheared: bool) -> Refusal | None:
        """Why a stack is no volume; None if it is one."""
        if not gaps and self.holes[k]:
            return Refusal("uneven", self._missing(k), "give gaps=True for the rest")
        if not gaps and self.tiles[k]:
            return Refusal(
                "nowhere",
                "its frames are tiles of a whole slide (columns matrix_row and matrix_column), so "
                "they are no volume",
                _IN_ORDER,
            )
        if not gaps and self.odd[k]:
            flags = self.flags[k].as_py() or []
            nowhere = "one-place" in flags or "order-unknown" in flags
            why = [_NO_VOLUME[flag] for flag in flags if flag in _NO_VOLUME]
            return Refusal("nowhere" if nowhere else "uneven", "; ".join(why) or _UNEVEN, _IN_ORDER)
        tilt = float(self.tilt[k])
        if not sheared and not np.isnan(tilt):
            return Refusal(
                "tilted",
                f"its slices shift in their plane, {abs(tilt):.1f} degrees off their normal, so "
                "that the array is sheared",
                "give sheared=True to have it so",
            )
        return None

    def _missing(self, k: int) -> str:
        low, place = int(self.low[k]), self.place[self.ends[k] : self.ends[k + 1]]
        early = np.arange(low, min(low + len(place) + 5, place[-1]))  # the last may be any number
        missing = early[~np.isin(early, place)][:5]
        stored = stacks_of(self.core, None)
        of = stored.find(int(self.number[k]))
        left = np.isin(missing, stored.place[stored.ends[of] : stored.ends[of + 1]]).any()
        why = "not in this selection" if left else "not stored (failures/ says why)"
        return f"frames {missing.tolist()} of it are {why}"


def stacks_of(core: Core, chosen: Ints | None) -> Stacks:
    """The stacks of the frames with these sample indices; None: of all, which are kept.

    Waveforms are no slices of anything, and left out.
    """
    if chosen is None and core.stacks is not None:
        known: Stacks = core.stacks
        return known
    core.ahead(_COLUMNS)
    stack, place = (core.column(c).to_numpy().astype(np.int64) for c in ("stack", "stack_index"))
    samples = np.arange(len(stack)) if chosen is None else np.unique(chosen)
    waves = _numpy(pc.equal(core.column("kind"), "waveform").combine_chunks())
    if waves.any():
        samples = samples[~waves[samples]]
    stack, place = stack[samples], place[samples]
    later = (stack[1:] == stack[:-1]) & (place[1:] > place[:-1])
    if not (later | (stack[1:] > stack[:-1])).all():
        order = np.lexsort((place, stack))
        samples, stack, place = samples[order], stack[order], place[order]
    new = np.flatnonzero(np.diff(stack, prepend=stack[:1] - 1))
    number, low = stack[new], np.zeros(len(new), np.int64)
    if chosen is not None:  # a selection may cut in, but does not make up for frames that failed
        stored = stacks_of(core, None)
        begins = stored.place[stored.ends[np.searchsorted(stored.number, number)]]
        low = np.where(place[new] == begins, 0, place[new])
    found = Stacks(core, number, np.append(new, len(stack)), samples, place, low)
    if chosen is None:
        core.stacks = found
    return found


def _floats(column: pa.Array) -> Floats:
    found: Floats = column.to_numpy(zero_copy_only=False).astype(np.float64)
    return found


def _numpy(column: pa.Array) -> Any:
    return column.to_numpy(zero_copy_only=False)
