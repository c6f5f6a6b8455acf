"""The cache as a sequence of frames: views, columns, selections, batches and volumes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import dataset as arrow_dataset

from trainer_adapter.errors import MixedShapesError, VolumeError
from trainer_adapter.format import Array, Places, Root, read_places, read_root
from trainer_adapter.shards import ShardStore

Shape = tuple[int, ...]


class _Core:
    """What all selections of one cache share in a process; pickles as its path."""

    def __init__(self, root: Root, places: Places) -> None:
        self.root, self.places = root, places
        self.store = ShardStore(root)
        self.columns: dict[str, Any] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_core, (self.root.path,)


def _open_core(path: Path) -> _Core:
    root = read_root(path)
    return _Core(root, read_places(root))


def open_cache(path: str | os.PathLike[str]) -> Cache:
    """The cache at `path`, all frames; only array, row and size of each are read.

    Raises NotACacheError, FormatError or DamagedError.
    """
    return Cache(_open_core(Path(path).absolute()), None)


class Cache(Sequence[NDArray[Any]]):
    """Frames of a cache, or a selection of them, in order of sample index.

    `len(cache)`, `cache[i]`; pickles as its path and the selection, and maps shards when they are
    first touched, in each process for itself.
    """

    def __init__(self, core: _Core, indices: NDArray[np.int64] | None) -> None:
        self._core, self._indices = core, indices

    def __repr__(self) -> str:
        return f"<Cache {self.path}: {len(self)} frames>"

    @property
    def path(self) -> Path:
        """The cache's folder, absolute."""
        return self._core.root.path

    @property
    def attributes(self) -> dict[str, Any]:
        """The root metadata: recipe, counts, sources, statistics, versions (FORMAT.md)."""
        return self._core.root.attributes

    @property
    def arrays(self) -> tuple[Array, ...]:
        """The Zarr arrays."""
        return self._core.root.arrays

    @property
    def indices(self) -> NDArray[np.int64]:
        """(n,) int64: the sample index in the whole cache of each frame of this selection."""
        if self._indices is None:
            return np.arange(len(self))
        return self._indices

    def __len__(self) -> int:
        return len(self._core.places.row if self._indices is None else self._indices)

    def _sample(self, i: int) -> int:
        n = len(self)
        if not -n <= i < n:
            raise IndexError(f"frame {i} of {n}")
        i = int(i) + (n if i < 0 else 0)
        return i if self._indices is None else int(self._indices[i])

    @overload
    def __getitem__(self, i: int) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, i: slice) -> Cache: ...
    def __getitem__(self, i: int | slice) -> NDArray[Any] | Cache:
        """Frame `i`, (H, W) or (H, W, C): a read-only view of the map, nothing is copied.

        A slice gives a Cache. Raises IndexError, or DamagedError at first touch of a bad shard.
        """
        if isinstance(i, slice):
            return Cache(self._core, self.indices[i])
        return self._view(self._sample(i))

    def _view(self, sample: int) -> NDArray[Any]:
        places = self._core.places
        array = int(places.array[sample])
        shard, slot = divmod(int(places.row[sample]), self.arrays[array].frames_per_shard)
        frame = self._core.store.slots(array, shard)[slot]
        view: NDArray[Any] = frame[: places.height[sample], : places.width[sample]]
        return view

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self[i] for i in range(len(self)))

    def column(self, name: str) -> pa.ChunkedArray:
        """One column of frames/ for this selection (FORMAT.md lists them).

        Raises KeyError, with the legal names.
        """
        columns = self._core.columns
        if name not in columns:
            columns[name] = self._core.root.read("frames", [name])[name]
        return columns[name] if self._indices is None else columns[name].take(self._indices)

    @property
    def frames(self) -> pa.Table:
        """The table of frames/ for this selection: a row for each frame, read at first use."""
        table = self._core.columns.get("")
        if table is None:
            table = self._core.columns[""] = self._core.root.read("frames")
        return table if self._indices is None else table.take(self._indices)

    def select(self, rows: Any = None, /, **equals: Any) -> Cache:
        """A cache of fewer frames, sharing the maps.

        `rows` is a boolean mask (n,), indices into this selection, or a pyarrow expression over the
        columns of frames/; `equals` names columns with a value, a list of values, or None for null:
        `select(kind="image", modality=["CT", "PT"])`. Raises KeyError for an unknown column,
        IndexError for indices out of bounds, ValueError for a mask of another length.
        """
        chosen = self.indices
        if isinstance(rows, pc.Expression):
            found = arrow_dataset.dataset(self.frames).to_table(columns={"holds": rows})["holds"]
            chosen = chosen[found.fill_null(False).to_numpy()]
        elif rows is not None:
            picked = np.asarray(rows)
            if picked.dtype == bool and picked.shape != (len(self),):
                raise ValueError(f"a mask of shape {picked.shape} for {len(self)} frames")
            chosen = chosen[picked if picked.size else picked.astype(np.int64)]
        holds = np.ones(len(chosen), bool)
        narrowed = Cache(self._core, chosen)
        for name, value in equals.items():
            column = narrowed.column(name)
            if value is None:
                mask = column.is_null()
            else:
                values = value if isinstance(value, list | tuple | set) else [value]
                mask = pc.is_in(column, value_set=pa.array(list(values), column.type))
            holds &= mask.to_numpy()
        return Cache(self._core, chosen[holds])

    def shape_of(self, i: int) -> Shape:
        """Shape of frame `i`, without touching its shard."""
        sample, places = self._sample(i), self._core.places
        channels = self.arrays[places.array[sample]].slot[2:]
        return int(places.height[sample]), int(places.width[sample]), *channels

    def groups(self) -> dict[tuple[str, Shape], NDArray[np.int64]]:
        """{(array name, frame shape): indices into this selection}: what one batch can hold."""
        places, samples = self._core.places, self.indices
        key = np.column_stack(
            [places.array[samples], places.height[samples], places.width[samples]]
        )
        if not len(key):
            return {}
        kinds, inverse = np.unique(key, axis=0, return_inverse=True)
        order = np.argsort(inverse.reshape(-1), kind="stable")
        parts = np.split(order, np.cumsum(np.bincount(inverse.reshape(-1)))[:-1])
        result = {}
        for (number, height, width), part in zip(kinds, parts, strict=True):
            spec = self.arrays[number]
            result[spec.name, (int(height), int(width), *spec.slot[2:])] = part
        return result

    def batch_shape(self, indices: NDArray[np.int64]) -> tuple[Shape, np.dtype[Any]]:
        """((b, H, W[, C]), dtype) of a batch of these frames of the selection.

        Raises MixedShapesError, with the shapes and how to group, IndexError out of bounds.
        """
        samples, places = self.indices[indices], self._core.places
        array, height, width = (
            c[samples] for c in (places.array, places.height, places.width)
        )  # fmt: skip
        if not len(samples):
            return (0,), np.dtype(np.uint8)
        if (array != array[0]).any() or (height != height[0]).any() or (width != width[0]).any():
            found = Cache(self._core, samples).groups()
            shown = ", ".join(f"{len(v)} of {k[1]} in {k[0]}" for k, v in list(found.items())[:5])
            raise MixedShapesError(
                f"a batch has one shape, these {len(samples)} frames have {len(found)}: {shown}; "
                "group them by cache.groups(), or use GroupedBatchSampler"
            )
        spec = self.arrays[array[0]]
        return (len(samples), int(height[0]), int(width[0]), *spec.slot[2:]), spec.dtype

    def gather(self, indices: Any, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Copy frames into one batch, (b, H, W[, C]), into `out` if given.

        Raises MixedShapesError if they differ in array or size, ValueError if `out` does not fit.
        """
        wanted = np.asarray(indices, np.int64)
        shape, dtype = self.batch_shape(wanted)
        if out is None:
            out = np.empty(shape, dtype)
        elif out.shape != shape or out.dtype != dtype or not out.flags.writeable:
            raise ValueError(
                f"out is {out.shape} {out.dtype}{'' if out.flags.writeable else ', read-only'}; "
                f"these frames need {shape} {dtype}, writable"
            )
        if not len(wanted):
            return out
        samples, places = self.indices[wanted], self._core.places
        array = int(places.array[samples[0]])
        spec, slots = self.arrays[array], self._core.store.slots
        shard, slot = np.divmod(places.row[samples], spec.frames_per_shard)
        whole = shape[1:] == spec.slot
        height, width = shape[1:3]
        for target, k, s in zip(out, shard.tolist(), slot.tolist(), strict=True):
            frame = slots(array, k)[s]
            np.copyto(target, frame if whole else frame[:height, :width])
        return out

    def volume(self, stack: int, *, gaps: bool = False) -> NDArray[Any]:
        """The frames of a stack in order, (d, H, W[, C]): a view where they lie in one shard.

        Raises VolumeError for an unknown stack, and, unless `gaps`, for one with a failed frame or
        with uneven or repeated positions.
        """
        stacks = self._core.columns.get("stack")
        if stacks is None:
            self.column("stack")
            stacks = self._core.columns["stack"]
        samples = np.flatnonzero(pc.equal(stacks, int(stack)).to_numpy())
        if not len(samples):
            raise VolumeError(f"{self.path}: no stack {stack}; the column `stack` has the numbers")
        whole = Cache(self._core, samples)
        if not gaps:
            place = whole.column("stack_index").to_numpy()
            if (place != np.arange(len(place))).any():
                missing = sorted(set(range(int(place[-1]) + 1)) - set(place.tolist()))
                raise VolumeError(
                    f"stack {stack}: frames {missing[:5]} of it are not stored (failures/ says "
                    "why); give gaps=True for the rest"
                )
            if whole.column("stack_regular")[0].as_py() is False:
                raise VolumeError(
                    f"stack {stack}: its positions are uneven or repeated; give gaps=True to have "
                    "the frames in order all the same"
                )
        number, rows = int(self._core.places.array[samples[0]]), self._core.places.row[samples]
        spec = self.arrays[number]
        first, last = int(rows[0]), int(rows[-1])
        shard = first // spec.frames_per_shard
        dense = last - first + 1 == len(rows) and last // spec.frames_per_shard == shard
        if dense:
            start = first - shard * spec.frames_per_shard
            (_, height, width, *_), _ = whole.batch_shape(np.arange(len(samples)))
            slots = self._core.store.slots(number, shard)
            view: NDArray[Any] = slots[start : start + len(rows), :height, :width]
            return view
        return whole.gather(np.arange(len(samples)))
