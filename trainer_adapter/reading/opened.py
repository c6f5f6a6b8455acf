"""What all selections of one cache share in a process."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from trainer_adapter.format.places import Places, read_places
from trainer_adapter.format.root import Root, known_root, read_root
from trainer_adapter.format.types import type_of
from trainer_adapter.reading.mapped import Mapped
from trainer_adapter.reading.shards import ShardStore
from trainer_adapter.reading.spots import Spots

_JOINED = 1 << 31
"""bytes that the offsets of texts reach"""


class Core:
    """Metadata, places, maps and columns; pickles as its path and what was built there."""

    def __init__(self, root: Root, places: Places, check: str) -> None:
        self.root, self.places = root, places
        self.store = ShardStore(root, places, check)
        self.mapped = Mapped(self.store)
        self.per_shard = np.array([a.frames_per_shard for a in root.arrays], np.int64)
        self.columns: dict[str, Any] = {}
        self.stacks: Any = None
        """those of all frames, once somebody asked (volumes/stacks.py)"""
        self.drawn: Any = None
        """which masks lie on which images, likewise (masks/joined.py)"""
        self.segments: Any = None
        """and what they show (masks/named.py)"""
        self.planes: Any = None
        """and how far apart they are (masks/reaches.py)"""

    def column(self, name: str) -> pa.ChunkedArray:
        """One column of frames/, read at first use. Raises KeyError, with the legal names."""
        if name not in self.columns:
            self._read([name])
        return self.columns[name]

    def ahead(self, names: Iterable[str]) -> None:
        """Read several columns at once, which is faster, where the cache has all of them."""
        wanted = [name for name in names if name not in self.columns]
        with suppress(KeyError):  # made before one of them came
            self._read(wanted)

    def _read(self, names: list[str]) -> None:
        table = self.root.read("frames", names)
        for name in names:
            column = table[name]
            if column.num_chunks > 1 and column.nbytes < _JOINED:  # else each take() joins them
                column = pa.chunked_array([column.combine_chunks()])
            self.columns[name] = column

    def names(self) -> list[str]:
        """The columns of frames/."""
        entries = self.root.attributes["tables"]["frames"]
        if all("columns" in entry for entry in entries):
            return list(dict.fromkeys(name for entry in entries for name in entry["columns"]))
        return list(self.root.read("frames").column_names)  # of older caches

    def said(self, name: str, samples: NDArray[np.int64]) -> pa.Array:
        """Values of a column for these frames; null where the cache has no such column."""
        try:
            column = self.column(name)
        except KeyError:  # made before the column came
            return pa.nulls(len(samples), type_of(name))
        return pa.chunked_array(column.take(pa.array(samples))).combine_chunks()

    def vectors(self, name: str, samples: NDArray[np.int64], width: int) -> NDArray[np.float64]:
        """(n, width) of a column of fixed lists for these frames; NaN where it is null."""
        return vectors(self.said(name, samples), width)

    def coded(
        self, ours: str, theirs: str, mine: NDArray[np.int64], others: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Numbers of the texts of two columns for two kinds of frames, equal for equal ones; -1 for
        null."""
        texts = [self.said(n, s).cast(pa.string()) for n, s in ((ours, mine), (theirs, others))]
        codes = pa.concat_arrays(texts).dictionary_encode().indices.fill_null(-1)
        found = codes.to_numpy(zero_copy_only=False).astype(np.int64)
        return found[: len(mine)], found[len(mine) :]

    def spots(self, samples: NDArray[np.int64]) -> Spots:
        """Where frames lie, by sample index in the whole cache."""
        places = self.places
        array, height, width = (
            c[samples].astype(np.int64) for c in (places.array, places.height, places.width)
        )
        shard, slot = np.divmod(places.row[samples], self.per_shard[array])
        return Spots(array, shard, slot, height, width)

    def hold_shards(self, samples: NDArray[np.int64]) -> None:
        """Check that the shards of frames are there, and of the size that they should have.

        So a cache that only says that its frames are large takes no memory. Raises DamagedError.
        """
        spots = self.spots(samples)
        for array, shard in np.unique(np.stack([spots.array, spots.shard]), axis=1).T.tolist():
            self.store.mapped(array, shard)

    def __reduce__(self) -> tuple[Any, ...]:
        root = self.root
        known = root.generations, root.digest, self.store.checks.how, root.numbering
        return _again, (root.path, *known)


def vectors(column: pa.Array, width: int) -> NDArray[np.float64]:
    """(n, width) of a column of fixed lists; NaN where it is null."""
    found = np.full((len(column), width), np.nan)
    known = column.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
    found[column.is_valid().to_numpy(zero_copy_only=False)] = known.reshape(-1, width)
    return found


def open_core(path: Path, check: str, generation: int | None = None) -> Core:
    """Read the metadata of the cache at `path`, as it was in a generation; None: the newest.

    Raises as read_root and, for `check`, Checks; ValueError for a generation that it has not.
    """
    root = read_root(path)
    if generation is not None:
        root = as_of(root, generation)
    return Core(root, read_places(root), check)


def as_of(root: Root, generation: int) -> Root:
    """The cache as it was when this was its newest generation. Raises ValueError if it was not."""
    newest = generation_of(root)
    oldest = newest + 1 - root.generations
    if type(generation) is not int or not oldest <= generation <= newest:
        since = f" (others are of numberings before {root.numbering})" if oldest else ""
        raise ValueError(
            f"generation {generation!r} of {root.path}; legal: {oldest} to {newest}{since}"
        )
    return root.first(generation + 1 - oldest)


def generation_of(root: Root) -> int:
    """The number of its newest generation."""
    said = root.attributes.get("generation")
    return said if type(said) is int else root.generations - 1


def _again(path: Path, generations: int, digest: str, check: str, numbering: int = 0) -> Core:
    """The same frames, whatever was added since, or removed. Raises as `known_root`."""
    root = known_root(path, generations, digest, numbering)
    return Core(root, read_places(root), check)
