"""Label maps of images, painted from the rows of masks that lie on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from trainer_adapter.errors import FormatError
from trainer_adapter.reading.masks.between import between, stacks_of
from trainer_adapter.reading.masks.joined import Ints, Joined, filled, joined, spread
from trainer_adapter.reading.masks.named import segments
from trainer_adapter.reading.masks.reaches import files_of, planes
from trainer_adapter.reading.opened import Core
from trainer_adapter.reading.spots import Corners, Reading, Spots

Bools = NDArray[np.bool_]
COMBINE = ("union", "first")
_FEW = 3
"""classes of a label map that are sought one by one; of more, each pixel is looked up"""
_OURS = "mask_"
"""how the arrays are called that the converter drew (FORMAT.md)"""


@dataclass(frozen=True, eq=False)
class Painter:
    """What is painted on n images of a cache; arrays only, so that workers get it as it is."""

    images: Ints
    """(n,) sample indices, rising"""
    annotated: Bools
    """(n,) whether a mask of a wanted class lies on the image, or on another one of its stack"""
    between: Bools
    """(n,) whether nobody knows all the same, since it lies between planes that are far apart"""
    ends: Ints
    """(n + 1,) where the pairs of each image begin in the next, and the end"""
    mask: Ints
    """(p,) sample index of the row of a mask"""
    spots: Spots
    """(p,) where it lies"""
    value: Ints
    """(p,) class number of all that is drawn; 0: a label map"""
    least: NDArray[np.float64]
    """(p,) the value from which on a pixel is drawn on, of a fraction; NaN: any but 0"""
    entries: Ints
    """(p + 1,) where the entries of each label map begin in the next two, and the end"""
    stored: Ints
    """(e,) values of label maps"""
    meant: Ints
    """(e,) and their class numbers"""
    straight: Bools
    """(p,) whether the stored values of a label map are its class numbers"""
    most: int
    """the greatest class number"""
    around: Painter | None = None
    """what is drawn on the planes that `between` images lie between"""

    @property
    def needed(self) -> Ints:
        """Sample indices of all rows of masks that may be read, each once."""
        return np.unique(self.mask if self.around is None else np.r_[self.mask, self.around.mask])

    def known(self, samples: Ints) -> Bools:
        """(b,) which of these images are annotated."""
        rows = np.searchsorted(self.images, samples)
        found: Bools = self.annotated[rows] & ~self.between[rows]
        return found

    def is_between(self, samples: Ints) -> Bools:
        """(b,) which of these images lie between planes that are far apart."""
        found: Bools = self.between[np.searchsorted(self.images, samples)]
        return found

    def paint(
        self,
        out: NDArray[Any],
        samples: Ints,
        core: Core,
        corners: Corners | None = None,
        reading: Reading | None = None,
    ) -> None:
        """The label maps of some of these images into `out`, (b, h, w) whole numbers.

        `samples`: (b,) their sample indices; `corners`: of crops, those of the images. Nothing, and
        what lies outside, is 0. Where several are drawn on a pixel, it has the greatest number.
        """
        rows = np.searchsorted(self.images, samples)
        which, pairs = spread(self.ends[rows], self.ends[rows + 1])
        spots = self.spots.taken(pairs)
        frame = (reading or core.mapped).frames(spots)
        blank = np.ones(len(out), bool)
        blank[which] = False
        if blank.any():
            out[blank] = 0
        of, arrays = spots.array.tolist(), core.root.arrays
        alike = {k: arrays[k].dtype == out.dtype and out[:1].flags.c_contiguous for k in set(of)}
        straight, last = self.straight[pairs].tolist(), -1
        parts = None if corners is None else _parts(out.shape, spots, corners, which)
        for j, (k, pair) in enumerate(zip(which.tolist(), pairs.tolist(), strict=True)):
            target, over, last = out[k], k == last, k
            if parts is not None:
                y, to_y, height, x, to_x, width = parts[j]
                if (height, width) != target.shape:
                    if not over:
                        target[...] = 0
                    target = target[to_y : to_y + height, to_x : to_x + width]
                stored = frame(j)[y : y + height, x : x + width]
            elif alike[of[j]] and not over:
                stored = frame(j, target)
            else:
                stored = frame(j)
            drawn = stored if straight[j] else self._drawn(stored, pair, out.dtype)
            if over:
                np.maximum(target, drawn, out=target, casting="unsafe")
            elif drawn is not target:
                target[...] = drawn

    def leave(
        self,
        out: NDArray[Any],
        ignore: int,
        samples: Ints,
        core: Core,
        corners: Corners | None = None,
        reading: Reading | None = None,
    ) -> None:
        """`ignore` for what is not known of images that are painted, all else as of `paint`.

        What is drawn stays, but where a greater number is drawn on the planes that the image lies
        between: a tumour with contours on every third slice goes on in an organ with them on all.
        """
        lost = np.flatnonzero(~self.known(samples))
        if not len(lost):
            return
        some = out[lost]
        unknown = some == 0
        if self.around is not None:
            beside = np.empty_like(some)
            part = None if corners is None else corners.taken(lost)
            self.around.paint(beside, samples[lost], core, part, reading)
            unknown |= beside > some
        some[unknown] = ignore
        out[lost] = some

    def _drawn(self, stored: NDArray[Any], pair: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Class numbers of the pixels of one row."""
        value, least = int(self.value[pair]), float(self.least[pair])
        if value:
            inside: Bools = stored != 0 if np.isnan(least) else stored >= least
            return inside.astype(dtype) if value == 1 else inside * dtype.type(value)
        mine = slice(int(self.entries[pair]), int(self.entries[pair + 1]))
        values, meant = self.stored[mine], self.meant[mine]
        if len(values) <= _FEW:
            found = np.zeros(stored.shape, dtype)
            for one, number in zip(values.tolist(), meant.tolist(), strict=True):
                found += np.multiply((stored == one).view(np.uint8), number, dtype=dtype)
            return found
        table = np.zeros(int(values.max()) + 2, dtype)  # the last one: greater ones are of no class
        table[values] = meant
        return np.take(table, stored, mode="clip")


def _parts(
    shape: tuple[int, ...], spots: Spots, corners: Corners, which: Ints
) -> list[tuple[int, int, int, int, int, int]]:
    """(first row in the frame, in the crop, how many; the same of columns) of each pair's crop."""
    columns = []
    sides = zip((spots.height, spots.width), (corners.top, corners.left), shape[1:3], strict=True)
    for size, starts, length in sides:
        start = starts[which]
        first = np.maximum(0, start)
        held = np.maximum(0, np.minimum(size, start + length) - first)
        columns += [first, first - start, held]
    return list(zip(*(c.tolist() for c in columns), strict=True))


def painter_of(
    core: Core,
    samples: Ints,
    numbers: Mapping[str, int],
    combine: str = "union",
    rows: Ints | None = None,
) -> Painter:
    """What is painted on images, by sample index: what `numbers` names, as its numbers.

    `combine`: of several mask files on a stack all ("union") or the "first" that it has, by sample
    index, so that readers are not mixed. `rows`: sample indices of the masks that count; None: all.
    Raises ValueError for another word, FormatError for label maps that are no whole numbers.
    """
    if combine not in COMBINE:
        raise ValueError(f"combine {combine!r}; legal: {', '.join(COMBINE)}")
    images, pairs, named = np.unique(samples), joined(core), segments(core)
    meant = np.array([numbers.get(name, 0) for name in named.names], np.int64)
    wanted = np.zeros(len(pairs.masks), bool)
    shows = meant[named.name] > 0
    wanted[named.row[shows]] = True
    place = np.searchsorted(pairs.masks, pairs.mask)
    kept = wanted[place] if rows is None else wanted[place] & np.isin(pairs.mask, rows)
    if combine == "first":
        kept[kept] = _of_first_file(core, pairs.image[kept], pairs.mask[kept])
    image, mask, place = pairs.image[kept], pairs.mask[kept], place[kept]
    annotated = np.isin(stacks_of(core, images), stacks_of(core, np.unique(image)))
    near, plane = between(core, images, np.unique(place), meant > 0)
    unknown = np.zeros(len(images), bool)
    unknown[near] = True
    which, at = Joined(image, mask, pairs.masks).of(images)
    made = _painter(core, images, which, place[at], meant)
    around = None
    if len(near):
        found = planes(core)
        row, name = found.row[plane], found.name[plane]
        drawn = wanted[row]
        around = _painter(core, images, near[drawn], row[drawn], meant, name[drawn])
    return replace(
        made, annotated=annotated, between=unknown, around=around,
        most=max(numbers.values(), default=0),
    )  # fmt: skip


def _painter(
    core: Core, images: Ints, which: Ints, place: Ints, meant: Ints, only: Ints | None = None
) -> Painter:
    """Of pairs: places in `images`, rising, and of rows of masks in Joined.masks.

    `meant`: class numbers of Segments.names; `only`: the name that counts of a row, -1: all.
    """
    named, mask = segments(core), joined(core).masks[place]
    unit = core.said("unit", mask)
    is_map, is_fraction = (filled(pc.equal(unit, word)) for word in ("labelmap", "fractional"))
    _hold_numbers(core, mask[is_map])
    low, high = named.ends[place], named.ends[place + 1]
    value = np.zeros(len(mask), np.int64)
    value[~is_map] = meant[named.name[low[~is_map]]]
    least = np.full(len(mask), np.nan)
    full = core.said("full_scale", mask).to_numpy(zero_copy_only=False).astype(np.float64)
    least[is_fraction] = full[is_fraction] / 2
    high = np.where(is_map, high, low)
    of, entry = spread(low, high)
    stored, classes = named.number[entry], meant[named.name[entry]]
    if only is not None:
        classes = np.where((only[of] < 0) | (only[of] == named.name[entry]), classes, 0)
    straight = is_map & (np.bincount(of, stored != classes, minlength=len(mask)) == 0)
    # As files have them, label maps may hold values that they do not list.
    ours = np.array([a.name.startswith(_OURS) for a in core.root.arrays])
    straight &= ours[core.places.array[mask]]
    straight[straight] = ~_as_they_are(core, mask[straight])
    none = np.zeros(len(images), bool)
    return Painter(
        images, none, none, np.searchsorted(which, np.arange(len(images) + 1)), mask,
        core.spots(mask), value, least,
        np.append(np.cumsum(high - low) - (high - low), len(entry)), stored, classes, straight, 0,
    )  # fmt: skip


def _hold_numbers(core: Core, maps: Ints) -> None:
    """Raises FormatError for label maps in an array of other values."""
    for k in np.unique(core.places.array[maps]).tolist():
        about = core.root.arrays[k]
        if about.dtype.kind not in "ui":
            raise FormatError(
                f"{core.root.path}: array {about.name} has label maps, and is of {about.dtype}; "
                "legal: whole numbers. Build the cache anew"
            )


def _as_they_are(core: Core, masks: Ints) -> Bools:
    """Whether rows of masks have the values that their files have."""
    said = core.said("drawn", masks)
    found: Bools = said.is_null().to_numpy(zero_copy_only=False).copy()
    raw = pc.struct_field(said.flatten(), "value").is_null()
    found[pc.list_parent_indices(said).filter(raw).to_numpy(zero_copy_only=False)] = True
    return found


def _of_first_file(core: Core, image: Ints, mask: Ints) -> Bools:
    """Whether the mask of each pair is of the first file on the image's stack."""
    file = files_of(core, mask)
    begins = np.full(len(mask), np.iinfo(np.int64).max)
    np.minimum.at(begins, file, mask)
    _, stack = np.unique(stacks_of(core, image), return_inverse=True)
    first = np.full(len(mask), np.iinfo(np.int64).max)
    np.minimum.at(first, stack, begins[file])
    same: Bools = begins[file] == first[stack]
    return same
