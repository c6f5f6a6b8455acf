"""The cache as a sequence of frames: views, columns, selections, batches and volumes."""

from __future__ import annotations

import math
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
from trainer_adapter.format.root import Array
from trainer_adapter.order.batches import shape_groups
from trainer_adapter.reading.errata import tilt_of, warn_of
from trainer_adapter.reading.opened import Core, open_core
from trainer_adapter.reading.spots import Corners, Reading

Shape = tuple[int, ...]
_LARGE = 1 << 28
"""bytes of a batch, from which on its shards are seen to be there before memory is asked for"""
_PLACE = ("position", "orientation", "spacing_y", "spacing_x")
_UNEVEN = "its positions are uneven or repeated"
_NO_VOLUME = {
    "uneven": "its steps are uneven, or its slices do not lie on one line (flag uneven)",
    "gap": "slices are missing between others (flag gap)",
    "one-place": "all its frames lie at one place, so they are no volume (flag one-place)",
    "order-unknown": "nothing in the files says their order, or which of repeated places belong "
    "together (flag order-unknown)",
}
"""why the frames of a stack with a flag are no volume"""


def open_cache(path: str | os.PathLike[str], *, check: str = "never") -> Cache:
    """The cache at `path`, all frames; only array, row and size of each are read.

    What is read of its tables is held to the SHA-256 in its root; of each shard, when it is first
    touched, its size, its index, and the CRC-32C of the first frame that is asked for. `check` says
    which other frames are held to theirs: "never" any, "first-touch" each when a process first
    reads it, "always" each at every reading; where a frame is only read in part, all of it is read.

    Warns once, by ErrataWarning, if an earlier version made it and some frames may be wrong. Raises
    NotACacheError, FormatError or DamagedError, ValueError for another `check`.
    """
    core = open_core(Path(path).absolute(), check)
    warn_of(core.root)
    return Cache(core, None)


class Cache(Sequence[NDArray[Any]]):
    """Frames of a cache, or a selection of them, in order of sample index.

    `len(cache)`, `cache[i]`; pickles as its path and the selection, and maps shards when they are
    first touched, in each process for itself.
    """

    def __init__(self, core: Core, indices: NDArray[np.int64] | None) -> None:
        self.core, self._indices = core, indices

    def __repr__(self) -> str:
        return f"<Cache {self.path}: {len(self)} frames>"

    @property
    def path(self) -> Path:
        """The cache's folder, absolute."""
        return self.core.root.path

    @property
    def attributes(self) -> dict[str, Any]:
        """The root metadata: recipe, counts, sources, statistics, versions (FORMAT.md)."""
        return self.core.root.attributes

    def newer(self) -> int:
        """How many frames were added since the cache was opened: `open_cache` has them, this not.

        A cache that is open stays as it was, in all processes that it is handed to; so it does
        where frames were removed, until `dicom2cache purge`.
        """
        return self.core.root.since()[0]

    @property
    def numbering(self) -> int:
        """Which numbering its sample indices are of: `remove` and `update --restack` begin one."""
        return self.core.root.numbering

    @property
    def arrays(self) -> tuple[Array, ...]:
        """The Zarr arrays."""
        return self.core.root.arrays

    @property
    def indices(self) -> NDArray[np.int64]:
        """(n,) int64: the sample index in the whole cache of each frame of this selection."""
        if self._indices is None:
            return np.arange(len(self))
        return self._indices

    def samples(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sample indices in the whole cache of frames of this selection. Raises IndexError."""
        if self._indices is not None:
            return self._indices[positions]
        if len(positions) and not -len(self) <= positions.min() <= positions.max() < len(self):
            raise IndexError(f"frames {positions.min()} to {positions.max()} of {len(self)}")
        return np.where(positions < 0, positions + len(self), positions)

    def __len__(self) -> int:
        return len(self.core.places.row if self._indices is None else self._indices)

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
        """Frame `i`, (H, W) or (H, W, C), read-only: a view of the map, nothing is copied.

        Of a compressed array it is decompressed at each call. A slice gives a Cache. Raises
        IndexError, or DamagedError at first touch of a bad shard.
        """
        if isinstance(i, slice):
            return Cache(self.core, self.indices[i])
        return self._view(self._sample(i))

    def _view(self, sample: int) -> NDArray[Any]:
        places = self.core.places
        array = int(places.array[sample])
        shard, slot = divmod(int(places.row[sample]), self.arrays[array].frames_per_shard)
        frame = self.core.mapped.frame(array, shard, slot)
        view: NDArray[Any] = frame[: places.height[sample], : places.width[sample]]
        return view

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self[i] for i in range(len(self)))

    def column(self, name: str) -> pa.ChunkedArray:
        """One column of frames/ for this selection (FORMAT.md lists them).

        Raises KeyError, with the legal names.
        """
        columns = self.core.columns
        if name not in columns:
            columns[name] = self.core.root.read("frames", [name])[name]
        return columns[name] if self._indices is None else columns[name].take(self._indices)

    def _said(self, name: str, frame: int = 0) -> Any:
        """A column's value for a frame; None too where the cache has no such column."""
        try:
            return self.column(name)[frame].as_py()
        except KeyError:  # made before the column came
            return None

    def _tilt(self) -> float | None:
        """Degrees between the direction of a stack and the normal of its slices; None: none."""
        try:
            tilt: float | None = self.column("tilt")[0].as_py()
        except KeyError:  # of caches of before: by what else they say
            tilt = tilt_of(*([self._said(c, k) for c in _PLACE] for k in (0, len(self) - 1)))
        return tilt

    @property
    def frames(self) -> pa.Table:
        """The table of frames/ for this selection: a row for each frame, read at first use."""
        table = self.core.columns.get("")
        if table is None:
            table = self.core.columns[""] = self.core.root.read("frames")
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
        narrowed = Cache(self.core, chosen)
        for name, value in equals.items():
            column = narrowed.column(name)
            if value is None:
                mask = column.is_null()
            else:
                values = value if isinstance(value, list | tuple | set) else [value]
                mask = pc.is_in(column, value_set=pa.array(list(values), column.type))
            holds &= mask.to_numpy()
        return Cache(self.core, chosen[holds])

    def shape_of(self, i: int) -> Shape:
        """Shape of frame `i`, without touching its shard."""
        sample, places = self._sample(i), self.core.places
        channels = self.arrays[places.array[sample]].slot[2:]
        return int(places.height[sample]), int(places.width[sample]), *channels

    def groups(self) -> dict[tuple[str, Shape], NDArray[np.int64]]:
        """{(array name, frame shape): indices into this selection}: what one batch can hold."""
        places = self.core.places
        array, height, width = (
            c if self._indices is None else c[self._indices]
            for c in (places.array, places.height, places.width)
        )
        result = {}
        for part in shape_groups(array, height, width):
            k, spec = part[0], self.arrays[array[part[0]]]
            result[spec.name, (int(height[k]), int(width[k]), *spec.slot[2:])] = part
        return result

    def batch_shape(self, indices: NDArray[np.int64]) -> tuple[Shape, np.dtype[Any]]:
        """((b, H, W[, C]), dtype) of a batch of these frames of the selection.

        Raises MixedShapesError, with the shapes and how to group, IndexError out of bounds.
        """
        samples, places = self.samples(indices), self.core.places
        array, height, width = (
            c[samples] for c in (places.array, places.height, places.width)
        )  # fmt: skip
        if not len(samples):
            return (0,), np.dtype(np.uint8)
        if (array != array[0]).any() or (height != height[0]).any() or (width != width[0]).any():
            found = Cache(self.core, samples).groups()
            shown = ", ".join(f"{len(v)} of {k[1]} in {k[0]}" for k, v in list(found.items())[:5])
            raise MixedShapesError(
                f"a batch has one shape, these {len(samples)} frames have {len(found)}: {shown}; "
                "group them by cache.groups(), or use GroupedBatchSampler"
            )
        spec = self.arrays[array[0]]
        shape = (len(samples), int(height[0]), int(width[0]), *spec.slot[2:])
        if math.prod(shape) * spec.dtype.itemsize > _LARGE:
            self.core.hold_shards(samples)
        return shape, spec.dtype

    def gather(
        self, indices: Any, out: NDArray[Any] | None = None, reading: Reading | None = None
    ) -> NDArray[Any]:
        """Copy frames into one batch, (b, H, W[, C]), into `out` if given.

        `reading` is a way to read (reading/), by default from the map. Raises MixedShapesError
        if they differ in array or size, ValueError if `out` does not fit.
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
        (reading or self.core.mapped).whole(out, self.core.spots(self.samples(wanted)))
        return out

    def gather_crops(
        self,
        indices: Any,
        corners: Corners,
        out: NDArray[Any],
        reading: Reading | None = None,
    ) -> NDArray[Any]:
        """Copy a crop of each frame into `out`, (b, h, w[, C]); only its rows are touched.

        The frames may differ in array and size, not in dtype or channels: ValueError.
        """
        wanted = np.asarray(indices, np.int64)
        spots = self.core.spots(self.samples(wanted))
        for number in np.unique(spots.array).tolist():
            spec = self.arrays[number]
            if spec.dtype != out.dtype or spec.slot[2:] != out.shape[3:]:
                raise ValueError(
                    f"out is {out.shape} {out.dtype}; {spec.name} has {spec.dtype} and channels "
                    f"{spec.slot[2:]}"
                )
        if len(out) != len(wanted):
            raise ValueError(f"out is {out.shape}; {len(wanted)} frames are asked for")
        (reading or self.core.mapped).crops(out, spots, corners)
        return out

    def volume(self, stack: int, *, gaps: bool = False, sheared: bool = False) -> NDArray[Any]:
        """The frames of a stack in order, (d, H, W[, C]).

        A view where they lie, uncompressed, in one shard; else a copy.

        Raises VolumeError for an unknown stack; unless `gaps`, for one with a failed frame, or
        whose frames are not one behind the other at even steps (its `stack_flags` say why); and
        unless `sheared`, for one whose slices shift in their plane, as with a tilted gantry:
        voxels of one row, column and slice index are then not at right angles.
        """
        stacks = self.core.columns.get("stack")
        if stacks is None:
            self.column("stack")
            stacks = self.core.columns["stack"]
        samples = np.flatnonzero(pc.equal(stacks, int(stack)).to_numpy())
        if not len(samples):
            raise VolumeError(f"{self.path}: no stack {stack}; the column `stack` has the numbers")
        whole = Cache(self.core, samples)
        if not gaps:
            place = whole.column("stack_index").to_numpy()
            if (place != np.arange(len(place))).any():
                early = np.arange(min(len(place) + 5, place[-1]))  # the last may be any number
                missing = early[~np.isin(early, place)][:5].tolist()
                raise VolumeError(
                    f"stack {stack}: frames {missing} of it are not stored (failures/ says why); "
                    "give gaps=True for the rest"
                )
            if whole._said("matrix_row") is not None:
                raise VolumeError(
                    f"stack {stack}: its frames are tiles of a whole slide (columns matrix_row and "
                    "matrix_column), so they are no volume; give gaps=True to have the frames in "
                    "order all the same"
                )
            flags = whole._said("stack_flags") or []
            if whole._said("stack_regular") is False or "order-unknown" in flags:
                why = [_NO_VOLUME[flag] for flag in flags if flag in _NO_VOLUME]
                raise VolumeError(
                    f"stack {stack}: {'; '.join(why) or _UNEVEN}; give gaps=True to have the "
                    "frames in order all the same"
                )
        tilt = None if sheared else whole._tilt()
        if tilt is not None:
            raise VolumeError(
                f"stack {stack}: its slices shift in their plane, {abs(tilt):.1f} degrees off "
                "their normal, so that the array is sheared; give sheared=True to have it so"
            )
        number, rows = int(self.core.places.array[samples[0]]), self.core.places.row[samples]
        spec = self.arrays[number]
        first, last = int(rows[0]), int(rows[-1])
        shard = first // spec.frames_per_shard
        dense = bool((np.diff(rows) == 1).all()) and last // spec.frames_per_shard == shard
        if dense and spec.codec == "none":
            start = first - shard * spec.frames_per_shard
            (_, height, width, *_), _ = whole.batch_shape(np.arange(len(samples)))
            slots = self.core.store.stretch(number, shard, start, start + len(rows))
            view: NDArray[Any] = slots[:, :height, :width]
            return view
        return whole.gather(np.arange(len(samples)))
