"""Two caches of the same sources: frames whose unit, stack or pixels differ, and contours."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dicom2cache.arrow import by_file, ints, mask_of
from dicom2cache.errors import CacheError, counting
from dicom2cache.privacy.veil import KEY, Veil, check_key, each
from dicom2cache.running.contours import said_of
from dicom2cache.store.committed import as_in_format, read_table, spec_of
from dicom2cache.store.layout import shard_path
from dicom2cache.store.names import open_below
from dicom2cache.store.root import CONTOURS
from dicom2cache.store.shards import read_index, read_slot

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
_NUMBERS = (
    "root", "frame", "part_of_frame", "array", "row", "height", "width", "stack", "stack_index",
    "crc32c",
)  # fmt: skip
_REGULAR = {None: "unknown", True: "regular", False: "irregular"}


@dataclass(frozen=True)
class Difference:
    """What differs of one frame."""

    path: str
    """of its source file"""
    frame: int
    part: int
    """which of the slices that were cut from the frame; 0 where none were"""
    words: dict[str, str]
    """what was and what is, by `unit`, `stack`, `pixels`, `only in OLD` or `only in NEW`; of a file
    of contours `contours`, which is of no frame"""


class _Side:
    """The frames of one cache."""

    def __init__(self, cache: Path, about: dict[str, Any], veil: Veil | None = None) -> None:
        """`veil`: its paths are to be taken as hashes, since the other cache has such."""
        self.cache, self.about, self._veil = cache, about, veil
        columns = [*_NUMBERS, "path", "unit", "stack_regular"]
        table = read_table(cache, about, "frames", columns)
        self.count = table.num_rows
        none = np.zeros(self.count, np.int64)
        self.numbers: dict[str, Ints] = {  # part_of_frame came when mosaics were cut
            name: ints(table[name], 0) if name in table.column_names else none for name in _NUMBERS
        }
        self.path, self.unit, self.regular = (
            table[c].combine_chunks() for c in ("path", "unit", "stack_regular")
        )
        self.path = self.named(self.path)
        _, of, counts = np.unique(self.numbers["stack"], return_inverse=True, return_counts=True)
        self.in_stack: Ints = counts[of]
        """how many frames the stack of each has"""
        folders = [str(s["path"]) for s in about["sources"]]
        shown = veil.sources(folders) if veil else folders
        self.sources = {s["root"]: path for s, path in zip(about["sources"], shown, strict=True)}
        self.specs = [spec_of(a) for a in about["arrays"]]
        self._file: BinaryIO | None = None
        self._index: Any = None
        self._at = (-1, -1)

    def named(self, paths: Any) -> Any:
        """The paths as both caches name them."""
        return each(paths, partial(self._veil.hashed, "path")) if self._veil else paths

    def contours(self, veiled: bool) -> dict[tuple[str, str], tuple[int, str]]:
        """{(folder, path): (rows, digest of what they say)} of the files of contours/."""
        table = read_table(self.cache, self.about, CONTOURS)
        keys, found = [], []
        for key, rows in by_file(table):
            keys.append(key)
            found.append((rows.num_rows, said_of(rows, veiled)))
        paths = self.named(pa.array([path for _, path in keys], pa.string())).to_pylist()
        folders = [self.sources[root] for root, _ in keys]
        return dict(zip(zip(folders, paths, strict=True), found, strict=True))

    def place(self, k: int) -> tuple[str, int, int]:
        """(path of the source file, frame, part) of frame `k`."""
        numbers = (int(self.numbers[c][k]) for c in ("root", "frame", "part_of_frame"))
        root, frame, part = numbers
        return os.path.join(self.sources[root], self.path[k].as_py()), frame, part

    def pixels(self, k: int) -> NDArray[Any]:
        """Frame `k`, (H, W[, C])."""
        array, row, height, width = (
            int(self.numbers[c][k]) for c in ("array", "row", "height", "width")
        )
        spec = self.specs[array]
        shard, slot = divmod(row, spec.frames_per_shard)
        if self._file is None or self._at != (array, shard):
            self.close()
            self._file = open_below(self.cache, shard_path(spec, shard), "frames/")
            self._index, self._at = read_index(self._file, spec)[0], (array, shard)
        return read_slot(self._file, spec, self._index[slot])[:height, :width]

    def close(self) -> None:
        """Close the shard that was read last."""
        if self._file is not None:
            self._file.close()
            self._file = None


def compare(
    old: tuple[Path, dict[str, Any]], new: tuple[Path, dict[str, Any]], veil: Veil | None = None
) -> Iterator[Difference]:
    """Frames that differ, by path, frame and part, then files whose contours do.

    Each cache is its folder and its root attributes.

    They are matched by source folder, path, frame and part; where both caches have one source
    folder, it may have moved. Of a stack it counts which frames it has, in what order, and whether
    it is regular; its number means nothing. Pixels are compared by checksum where slots are alike,
    else by value: another dtype with the same values is no difference. Contours are the same if
    their files say the same of them, whatever is hashed. `veil`: the key, where one cache
    is de-identified and the other is not. Raises CacheError for a cache that contradicts itself.
    """
    with as_in_format(f"{old[0]} or {new[0]}"):
        yield from _compare(old, new, veil)


def _compare(
    old: tuple[Path, dict[str, Any]], new: tuple[Path, dict[str, Any]], veil: Veil | None
) -> Iterator[Difference]:
    a, b = _sides(old, new, veil)
    keys = _keys(a, b)
    _, mine, theirs = np.intersect1d(*keys, return_indices=True)
    matched = _Matched(a, b, mine, theirs)
    differing = np.flatnonzero(matched.unit | matched.stack | matched.pixels)
    lost, added = (
        np.setdiff1d(np.arange(len(k)), m) for k, m in zip(keys, (mine, theirs), strict=True)
    )
    why = {"only in OLD": _reasons(b, a, lost), "only in NEW": _reasons(a, b, added)}
    found = [("", differing, keys[0][mine[differing]])]
    found += [("only in OLD", lost, keys[0][lost]), ("only in NEW", added, keys[1][added])]
    kinds = np.repeat(np.arange(3), [len(rows) for _, rows, _ in found])
    rows = np.concatenate([rows for _, rows, _ in found])
    try:
        for n in np.argsort(np.concatenate([k for *_, k in found]), kind="stable").tolist():
            kind, row = found[kinds[n]][0], int(rows[n])
            if not kind:
                yield Difference(*a.place(int(mine[row])), matched.words(row))
                continue
            place = (a if kind == "only in OLD" else b).place(row)
            told = why[kind].get(place[:2]) or why[kind].get((place[0], None)) or ""
            yield Difference(*place, {kind: told})
    finally:
        a.close()
        b.close()
    yield from _outlines(a, b)


def _outlines(a: _Side, b: _Side) -> Iterator[Difference]:
    """Files of contours that one of the caches has others of, or none."""
    said = [KEY in side.about for side in (a, b)]
    moved = len(a.sources) == len(b.sources) == 1
    one, other = (side.contours(any(said)) for side in (a, b))
    keys = ({(key[0] * (not moved), key[1]): key for key in of} for of in (one, other))
    mine, theirs = keys
    for key in sorted(mine.keys() | theirs.keys()):
        was, now = (one.get(mine.get(key, key)), other.get(theirs.get(key, key)))
        if was == now:
            continue
        many = (0 if found is None else found[0] for found in (was, now))
        yield Difference(
            os.path.join(*(mine.get(key) or theirs[key])), 0, 0,
            {"contours": " -> ".join(str(n) for n in many)},
        )  # fmt: skip


def _sides(
    old: tuple[Path, dict[str, Any]], new: tuple[Path, dict[str, Any]], veil: Veil | None
) -> tuple[_Side, _Side]:
    """Both, under one naming of files."""
    said = [about.get(KEY) for _, about in (old, new)]
    if said[0] == said[1]:
        if veil:
            check_key(veil, old[1], old[0], "")
        return _Side(*old), _Side(*new)
    if None not in said:
        raise CacheError(
            f"{old[0]} and {new[0]}: de-identified by different keys, so no hash of the one is in "
            "the other; compare caches that were made with one key"
        )
    remedy = "give its key file by --deidentify, so that the other's paths can be hashed too"
    for cache, about in (old, new):
        if KEY in about:
            check_key(veil, about, cache, remedy)
    one, other = (None if KEY in about else veil for _, about in (old, new))
    return _Side(*old, one), _Side(*new, other)


def _keys(a: _Side, b: _Side) -> tuple[Ints, Ints]:
    """A number for each frame of both, equal for the same frame, in order of path, frame, part."""
    moved = len(a.sources) == len(b.sources) == 1
    texts = []
    for side in (a, b):
        folders = ["" if moved else side.sources[k] for k in sorted(side.sources)]
        number = np.searchsorted(sorted(side.sources), side.numbers["root"])
        roots = pa.array(folders, pa.string()).take(pa.array(number))
        texts.append(pc.binary_join_element_wise(roots, side.path, "/"))
    coded = pa.concat_arrays(texts).dictionary_encode()
    rank = np.empty(len(coded.dictionary), np.int64)
    rank[pc.sort_indices(coded.dictionary).to_numpy()] = np.arange(len(rank))
    key = rank[coded.indices.to_numpy()]
    for name in ("frame", "part_of_frame"):
        numbers = np.concatenate([a.numbers[name], b.numbers[name]])
        key = key * (int(numbers.max(initial=0)) + 1) + numbers
    return key[: a.count], key[a.count :]


class _Matched:
    """Frames that are in both caches, m of them: where they differ, (m,) each, and in words."""

    def __init__(self, a: _Side, b: _Side, mine: Ints, theirs: Ints) -> None:
        self._a, self._b, self._mine, self._theirs = a, b, mine, theirs
        units = (
            side.unit.take(pa.array(rows)).fill_null("none")
            for side, rows in ((a, mine), (b, theirs))
        )
        self.unit: Mask = mask_of(pc.not_equal(*units))
        self._others: Mask = ~self._same_frames()
        """whose stack has other frames"""
        self._moved: Mask = self._pair("stack_index") & ~self._others
        regular = (
            side.regular.take(pa.array(rows)).cast(pa.int8()).fill_null(-1)
            for side, rows in ((a, mine), (b, theirs))
        )
        several = np.maximum(*(s.in_stack[r] for s, r in self._sides())) > 1
        self._regular: Mask = mask_of(pc.not_equal(*regular)) & several
        self.stack: Mask = self._others | self._moved | self._regular
        self._sizes: Mask = self._pair("height") | self._pair("width")
        self.pixels: Mask = self._sizes | self._values()

    def _pair(self, name: str) -> Mask:
        """(m,) where a column of numbers differs."""
        differ: Mask = self._a.numbers[name][self._mine] != self._b.numbers[name][self._theirs]
        return differ

    def _same_frames(self) -> Mask:
        """(m,) whether the stack of a frame has the same frames in both caches."""
        stacks = [s.numbers["stack"][r] for s, r in self._sides()]
        pairs = np.unique(np.stack(stacks, axis=1), axis=0)
        same: Mask = np.ones(len(self._mine), bool)
        for k in (0, 1):  # each stack of the one has its frames in one stack of the other
            numbers, counts = np.unique(pairs[:, k], return_counts=True)
            same &= counts[np.searchsorted(numbers, stacks[k])] == 1
        old, new = (s.in_stack[r] for s, r in self._sides())
        _, of, both = np.unique(stacks[0], return_inverse=True, return_counts=True)
        same &= (old == new) & (both[of] == old)  # none of them is in one cache only
        return same

    def _values(self) -> Mask:
        """(m,) whether pixels differ, of frames of the same size."""
        a, b = self._a, self._b
        alike = np.array(
            [[(s.dtype, s.slot) == (t.dtype, t.slot) for t in b.specs] for s in a.specs], bool
        ).reshape(len(a.specs), len(b.specs))
        arrays = (s.numbers["array"][r] for s, r in self._sides())
        by_crc = alike[tuple(arrays)]
        differ: Mask = self._pair("crc32c") & by_crc
        left = np.flatnonzero(~by_crc & ~self._sizes)
        order = np.lexsort([a.numbers[c][self._mine[left]] for c in ("row", "array")])
        for k in left[order].tolist():  # shard after shard of the old cache
            one, other = a.pixels(int(self._mine[k])), b.pixels(int(self._theirs[k]))
            differ[k] = not np.array_equal(one, other, equal_nan=True)
        return differ

    def _sides(self) -> tuple[tuple[_Side, Ints], tuple[_Side, Ints]]:
        return (self._a, self._mine), (self._b, self._theirs)

    def words(self, k: int) -> dict[str, str]:
        """What was and what is, of pair `k`."""
        old, new = ((s, int(r[k])) for s, r in self._sides())
        said = {}
        if self.unit[k]:
            said["unit"] = " -> ".join(s.unit[r].as_py() or "none" for s, r in (old, new))
        if self.stack[k]:
            told = []
            if self._others[k]:
                was, now = (int(s.in_stack[r]) for s, r in (old, new))
                told.append(
                    f"of {counting(was, 'frame')} -> of {now}{' others' if was == now else ''}"
                )
            if self._moved[k]:
                places = (str(s.numbers["stack_index"][r]) for s, r in (old, new))
                told.append(f"place {' -> '.join(places)}")
            if self._regular[k]:
                told.append(" -> ".join(_REGULAR[s.regular[r].as_py()] for s, r in (old, new)))
            said["stack"] = ", ".join(told)
        if self.pixels[k]:
            sizes = [f"{s.numbers['height'][r]}x{s.numbers['width'][r]}" for s, r in (old, new)]
            said["pixels"] = " -> ".join(sizes) if self._sizes[k] else ""
        return said


def _reasons(where: _Side, side: _Side, rows: Ints) -> dict[tuple[str, int | None], str]:
    """Why frames of `side` are not in `where`, by its failures/: {(path, frame or None): words}."""
    if not len(rows):
        return {}
    moved = len(where.sources) == len(side.sources) == 1
    folders = side.sources if moved else where.sources
    only = next(iter(side.sources), 0)
    table = read_table(where.cache, where.about, "failures")
    number = table.schema.get_field_index("path")
    table = table.set_column(number, "path", where.named(table["path"]))
    wanted = side.path.take(pa.array(rows)).unique()
    return {
        (os.path.join(folders[only if moved else r["root"]], r["path"]), r["frame"]): (
            f"{r['outcome']}: {r['reason']}"
        )
        for r in table.filter(pc.is_in(table["path"], wanted)).to_pylist()
    }
