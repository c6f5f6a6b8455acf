"""Which arrays a cache has, pure: the dtype of each stack, and slots for all sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom2cache.arrow import combine
from dicom2cache.errors import counting
from dicom2cache.records import ArraySpec, codec_of

FRAMES_PER_SHARD_MAX = 16384  # bounds the index of a shard (16 bytes for each): frames under 8 KiB

# Smallest that holds the values; int16 before uint16, for which torch has few operations.
_WHOLE = (("uint8", 0, 255), ("int16", -32768, 32767), ("uint16", 0, 65535),
          ("int32", -(2**31), 2**31 - 1))  # fmt: skip


@dataclass(frozen=True)
class Values:
    """What headers say of the values of n frames."""

    low: NDArray[np.float64]
    """least value that a frame can hold"""
    high: NDArray[np.float64]
    whole: NDArray[np.bool_]
    """True where all values are whole numbers"""
    hu: NDArray[np.bool_]
    """True where the unit is HU"""
    double: NDArray[np.bool_]
    """True for Double Float Pixel Data"""


def dtypes_of_stacks(values: Values, stack: NDArray[np.int64]) -> NDArray[np.str_]:
    """NumPy name of the dtype of each frame, the same within a stack; from headers alone."""
    count = int(stack.max(initial=-1)) + 1
    low = np.full(count, np.inf)
    high = np.full(count, -np.inf)
    np.minimum.at(low, stack, values.low)
    np.maximum.at(high, stack, values.high)
    whole, hu, double = np.ones(count, bool), np.ones(count, bool), np.zeros(count, bool)
    np.logical_and.at(whole, stack, values.whole)
    np.logical_and.at(hu, stack, values.hu)
    np.logical_or.at(double, stack, values.double)

    chosen = np.full(count, "float64")  # holds every whole number of 53 bits
    for name, least, most in reversed(_WHOLE):
        chosen[(low >= least) & (high <= most)] = name
    # The unit fixes HU to int16, so that one scanner's 16-bit header does not split an archive;
    # a value beyond fails its frame.
    chosen[hu] = "int16"
    chosen[~whole] = "float32"
    chosen[~whole & double] = "float64"
    return chosen[stack]


Size = tuple[str, tuple[int, ...]]
"""(stored type, frame shape)"""

WAVEFORMS = "waveform_"
"""what the stored type of waveforms begins with, and the names of their arrays"""
MASKS = "mask_"
"""of masks that are drawn on images"""
_IN_THE_MIDDLE = 8 << 20
"""bytes of a slot that a reader would decompress for each window of it"""


def family_of(spec: ArraySpec) -> str:
    """What stands before the dtype in an array's name: arrays of two families never mix."""
    before, found, _ = spec.name.partition(spec.dtype)
    return before if found else ""


def stored_type(spec: ArraySpec) -> str:
    """The family of an array and its dtype."""
    return family_of(spec) + spec.dtype


def _dtype(stored: str) -> str:
    """The dtype of a stored type."""
    return stored.rpartition("_")[2]


def fit_slots(
    sizes: list[tuple[str, tuple[int, ...], int]], max_arrays: int, shard_bytes: int
) -> dict[Size, tuple[int, ...]]:
    """Slot shape for each (stored type, frame shape): {(type, shape): slot}.

    `sizes` has (stored type, frame shape, number of frames). While there are too many, rare sizes
    (less than a shard of them) share a slot, then all do: grouped by height and width rounded up to
    multiples of 8, 16, 32, ..., a group's slot being just large enough for its members; or such
    groups are joined two by two, those first that waste least by it, so that sizes far apart (an
    archive's, and those of damaged headers) stay apart. Of the ways that fit, the one that wastes
    least is taken. Raises ValueError if even one slot for each
    dtype and number of channels is too many.
    """
    if len(sizes) <= max_arrays:
        return {(dtype, shape): shape for dtype, shape, _ in sizes}
    kinds = sorted({(dtype, shape[2:]) for dtype, shape, _ in sizes})
    kind = np.array([kinds.index((dtype, shape[2:])) for dtype, shape, _ in sizes])
    pixel_bytes = np.array([bytes_of(d, c) for d, c in kinds])[kind]
    height_width = np.array([shape[:2] for _, shape, _ in sizes], np.int64)
    count = np.array([n for _, _, n in sizes], np.int64)
    own_bytes = pixel_bytes * height_width.prod(axis=1)
    best: tuple[int, NDArray[np.int64]] | None = None
    for kept in (count * own_bytes >= shard_bytes, np.zeros(len(sizes), bool)):
        step = 8
        while step <= 1 << 24:
            slots = _shared(kind, height_width, kept, step)
            if combine([kind, slots[:, 0], slots[:, 1]]).max() < max_arrays:
                waste = int((count * (pixel_bytes * slots.prod(axis=1) - own_bytes)).sum())
                if best is None or waste < best[0]:
                    best = waste, slots
                break  # a larger step wastes more
            step *= 2
    joined = _joined(kind, height_width, count * pixel_bytes, max_arrays)
    if joined is not None:
        waste = int((count * (pixel_bytes * joined.prod(axis=1) - own_bytes)).sum())
        if best is None or waste < best[0]:
            best = waste, joined
    if best is None:
        raise ValueError(f"max_arrays {max_arrays} is too few: these files need {len(kinds)}")
    return {
        (dtype, shape): (int(h), int(w), *shape[2:])
        for (dtype, shape, _), (h, w) in zip(sizes, best[1], strict=True)
    }


def fit_slots_beside(
    known: Sequence[Size],
    sizes: list[tuple[str, tuple[int, ...], int]],
    max_arrays: int,
    shard_bytes: int,
) -> dict[Size, tuple[int, ...]]:
    """As `fit_slots`, beside arrays of a cache, by (dtype, slot), that these frames are added to.

    What has a slot of its size gets that. While all others would be too many, what fits into a slot
    that is there goes to the smallest one.
    """
    found = {size[:2]: size[1] for size in sizes if size[:2] in known}
    rest = [size for size in sizes if size[:2] not in found]
    free = max_arrays - len(known)
    if len(rest) > free:
        for dtype, shape, _ in rest:
            holding = [
                slot
                for d, slot in known
                if d == dtype
                and slot[2:] == shape[2:]
                and slot[0] >= shape[0]
                and slot[1] >= shape[1]
            ]
            if holding:
                found[dtype, shape] = min(holding, key=lambda slot: (math.prod(slot), slot))
        rest = [size for size in rest if size[:2] not in found]
    if known and len({(dtype, shape[2:]) for dtype, shape, _ in rest}) > free:
        raise ValueError(
            f"max_arrays {max_arrays} is too few: the cache has {counting(len(known), 'array')}, "
            "and these files fit into none of them"
        )
    return found | (fit_slots(rest, free, shard_bytes) if rest else {})


def _shared(
    kind: NDArray[Any], height_width: NDArray[np.int64], kept: NDArray[np.bool_], step: int
) -> NDArray[np.int64]:
    """(n, 2) slots: its own size where `kept`, else the largest of those that round up alike."""
    rounded = np.where(kept[:, None], height_width, -(-height_width // step) * step)
    group = combine([kind, kept.astype(np.int64), rounded[:, 0], rounded[:, 1]])
    largest = np.zeros((int(group.max()) + 1, 2), np.int64)
    np.maximum.at(largest, group, height_width)
    return largest[group]


_MOST_GROUPS = 512  # that are joined two by two: the square of it is looked at each time


def _joined(
    kind: NDArray[Any], height_width: NDArray[np.int64], weight: NDArray[np.int64], most: int
) -> NDArray[np.int64] | None:
    """(n, 2) slots, at most `most`: those of groups joined two by two, the least waste first.

    `weight`: bytes that a pixel more of a slot costs. None if there are too many groups or kinds.
    """
    for step in (2**k for k in range(3, 25)):  # a waveform may be as wide as a day
        rounded = -(-height_width // step)
        _, group = np.unique(combine([kind, rounded[:, 0], rounded[:, 1]]), return_inverse=True)
        if group.max() < _MOST_GROUPS:
            break
    count = int(group.max()) + 1
    sides = np.zeros((count, 2))
    np.maximum.at(sides, group, height_width)
    heavy = np.bincount(group, weight)
    kinds = np.zeros(count, np.int64)
    kinds[group] = kind

    def cost(one: int) -> NDArray[np.float64]:
        both = np.maximum(sides[one], sides).prod(axis=1) * (heavy[one] + heavy)
        apart = sides.prod(axis=1) * heavy
        found = np.where(kinds == kinds[one], both - apart - apart[one], np.inf)
        found[one] = np.inf
        return found

    costs = np.array([cost(one) for one in range(count)])
    owner = np.arange(count)
    for _ in range(count - most):
        one, other = sorted(divmod(int(costs.argmin()), count))
        if costs[one, other] == np.inf:
            return None
        sides[one] = np.maximum(sides[one], sides[other])
        heavy[one] += heavy[other]
        kinds[other] = -1 - other  # it is no more
        owner[owner == other] = one
        costs[other] = costs[:, other] = np.inf
        costs[one] = costs[:, one] = cost(one)
    return sides[owner[group]].astype(np.int64)


def bytes_of(dtype: str, shape: tuple[int, ...]) -> int:
    """Bytes of a frame, or a slot, of a stored type."""
    return np.dtype(_dtype(dtype)).itemsize * math.prod(shape)


def array_name(dtype: str, slot: tuple[int, ...]) -> str:
    """Name of the array's folder, such as uint8_240x320x3."""
    return f"{dtype}_{'x'.join(map(str, slot))}"


_PAGES = 1 << 16, 1 << 12  # of most machines, and some have the larger ones


def whole_pages(frames: int, slot_bytes: int) -> int:
    """So many frames in a shard, or up to a quarter fewer, so that its data are whole pages.

    Then a reader can map the shards of an array one behind the other.
    """
    for page in _PAGES:
        least = page // math.gcd(page, slot_bytes)
        kept = frames // least * least
        if 4 * kept >= 3 * frames:
            return kept
    return frames


def array_spec(
    dtype: str, slot: tuple[int, ...], slots: int, shard_bytes: int, codec: str = "none"
) -> ArraySpec:
    """The array of `slots` frames; a frame larger than a shard has a shard of its own."""
    size = bytes_of(dtype, slot)
    per_shard = whole_pages(min(FRAMES_PER_SHARD_MAX, max(1, shard_bytes // size)), size)
    name = array_name(dtype, slot)
    if dtype.startswith(WAVEFORMS) and size > _IN_THE_MIDDLE:
        codec = "none"
    if dtype.startswith(MASKS):  # most of it is nothing; zstd takes five times as long to read
        codec = "lz4"
    return ArraySpec(name, _dtype(dtype), slot, slots, per_shard, codec_of(codec, size))


def joined(
    before: Sequence[ArraySpec], wanted: Sequence[ArraySpec]
) -> tuple[list[ArraySpec], list[int]]:
    """(all arrays of a cache that grows, place among them of each that is wanted).

    Frames go on in an array of the same dtype, slot and codec, `auto` being that of the array, from
    the next whole shard on, with as many frames in a shard as it has (an earlier version may have
    chosen another number); else a second one gets the number 2 behind its name.
    """
    specs = [replace(s, first=s.first + s.shards, slots=0) for s in before]
    place: list[int] = []
    for spec in wanted:
        alike = [
            (own.frames_per_shard != spec.frames_per_shard, k)
            for k, own in enumerate(specs[: len(before)])
            if (stored_type(own), own.slot) == (stored_type(spec), spec.slot)
            and spec.codec in ("auto", own.codec)
        ]
        if alike:
            _, k = min(alike)
            specs[k] = replace(specs[k], slots=spec.slots)
        else:
            k, taken, again = len(specs), {s.name for s in specs}, 2
            name = spec.name
            while name in taken:
                name, again = f"{spec.name}.{again}", again + 1
            specs.append(replace(spec, name=name))
        place.append(k)
    return specs, place
