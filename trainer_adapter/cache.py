"""The cache as a sequence of frames: views, columns, selections, batches and volumes."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import dataset as arrow_dataset

from trainer_adapter.errors import MixedShapesError, VolumeError, counting
from trainer_adapter.format.members import Array
from trainer_adapter.order.batches import shape_groups
from trainer_adapter.reading.errata import warn_of
from trainer_adapter.reading.masks.whole import HAS_MASK, Masked
from trainer_adapter.reading.opened import Core, open_core
from trainer_adapter.reading.shown import page_of, shapes_of
from trainer_adapter.reading.split.whole import Divisible
from trainer_adapter.reading.spots import Corners, Reading
from trainer_adapter.reading.where import holding
from trainer_adapter.volumes.methods import Conversions
from trainer_adapter.volumes.series import Series4D, parts_of, told_of
from trainer_adapter.volumes.stacks import Stacks, stacks_of
from trainer_adapter.volumes.table import table_of

Shape = tuple[int, ...]


class Source(NamedTuple):
    """Where a frame is from."""

    path: Path
    """the file, where it was when the cache was built"""
    frame: int
    """its number in that, from 0"""


_LARGE = 1 << 28
"""bytes of a batch, from which on its shards are seen to be there before memory is asked for"""


def open_cache(
    path: str | os.PathLike[str], *, check: str = "never", generation: int | None = None
) -> Cache:
    """The cache at `path`, all frames; only array, row and size of each are read.

    What is read of its tables is held to the SHA-256 in its root; of each shard, when it is first
    touched, its size, its index, and the CRC-32C of the first frame that is asked for. `check` says
    which other frames are held to theirs: "never" any, "first-touch" each when a process first
    reads it, "always" each at every reading; where a frame is only read in part, all of it is read.

    `generation`: as it was before `dicom2cache update` added later ones, from 0; a training that is
    resumed has the frames that it began with. Counts and statistics of its `attributes` are of now.

    Warns once, by ErrataWarning, if an earlier version made it and some frames may be wrong. Raises
    NotACacheError, FormatError or DamagedError, ValueError for another `check` or `generation`.
    """
    core = open_core(Path(path).expanduser().absolute(), check, generation)
    warn_of(core.root)
    return Cache(core, None)


class Cache(Divisible, Masked, Conversions, Sequence[NDArray[Any]]):
    """Frames of a cache, or a selection of them, in order of sample index.

    `len(cache)`, `cache[i]`; pickles as its path and the selection, and maps shards when they are
    first touched, in each process for itself.
    """

    def __init__(self, core: Core, indices: NDArray[np.int64] | None) -> None:
        self.core, self._indices = core, indices
        self._stacks: Stacks | None = None
        self._frames: pa.Table | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Cache, (self.core, self._indices)

    def __repr__(self) -> str:
        return f"<Cache {self.path}: {counting(len(self), 'frame')}{shapes_of(self.groups())}>"

    def _repr_html_(self) -> str:
        return page_of(self)

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
        column = self.core.column(name)
        return column if self._indices is None else column.take(self._indices)

    @property
    def frames(self) -> pa.Table:
        """The table of frames/ for this selection: a row for each frame, read at first use."""
        table = self.core.columns.get("")
        if table is None:
            table = self.core.columns[""] = self.core.root.read("frames")
        if self._indices is None:
            return table
        if self._frames is None:
            self._frames = table.take(self._indices)
        return self._frames

    def select(self, rows: Any = None, /, **equals: Any) -> Cache:
        """A cache of fewer frames, sharing the maps.

        `rows` is a boolean mask (n,), indices into this selection, a pyarrow expression over the
        columns of frames/, or a text as `where` in a recipe: `select('thickness <= 2.5')`; `equals`
        names columns with a value, a list of values, or None for null: `select(kind="image",
        modality=["CT", "PT"])`; `has_mask`: True, False (nothing is drawn there), None (not
        known), or names of classes; texts know it too: `'not has_mask'`. Raises KeyError for
        an unknown column, IndexError for indices out of bounds, ValueError for a mask of another
        length, a class that no mask has, and a text that is not legal.
        """
        chosen = self.indices
        if isinstance(rows, str):
            chosen = chosen[holding(rows, self.said, [*self.core.names(), HAS_MASK])]
        elif isinstance(rows, pc.Expression):
            found = arrow_dataset.dataset(self.frames).to_table(columns={"holds": rows})["holds"]
            chosen = chosen[found.fill_null(False).to_numpy()]
        elif rows is not None:
            picked = np.asarray(rows)
            if picked.dtype == bool and picked.shape != (len(self),):
                raise ValueError(
                    f"a mask of shape {picked.shape} for {counting(len(self), 'frame')}"
                )
            chosen = chosen[picked if picked.size else picked.astype(np.int64)]
        holds = np.ones(len(chosen), bool)
        narrowed = Cache(self.core, chosen)
        if HAS_MASK in equals:
            holds &= narrowed.drawn_on(equals.pop(HAS_MASK))
        for name, value in equals.items():
            column = narrowed.column(name)
            if value is None:
                mask = column.is_null()
            else:
                values = value if isinstance(value, list | tuple | set) else [value]
                mask = pc.is_in(column, value_set=pa.array(list(values), column.type))
            holds &= mask.to_numpy()
        return Cache(self.core, chosen[holds])

    def source(self, i: int) -> Source:
        """Where frame `i` is from: (the path of its file, its number in that, from 0).

        In a de-identified cache the path is a hash, below that of its folder.
        """
        sample = self._sample(i)
        root, path, frame = (
            self.core.column(name)[sample].as_py() for name in ("root", "path", "frame")
        )
        return Source(Path(self.core.root.sources[root]) / path, frame)

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
                f"a batch has one shape, of these {counting(len(samples), 'frame')} there are "
                f"{len(found)}: {shown}; group them by cache.groups(), or use GroupedBatchSampler"
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
            raise ValueError(
                f"out is {out.shape}; {counting(len(wanted), 'frame is', 'frames are')} asked for"
            )
        (reading or self.core.mapped).crops(out, spots, corners)
        return out

    def _known(self) -> Stacks:
        if self._stacks is None:
            self._stacks = stacks_of(self.core, self._indices)
        return self._stacks

    def stacks(self) -> pa.Table:
        """A row for each stack of the selection: what it is, and whether it is a volume.

        `shape` (d, H, W[, C]), `spacing` mm in this order, `affine` 16 numbers as of
        `Cache.affine`, both null where it is no volume at even steps; `holes`: frames in between
        failed, or are not selected. The rest is that of frames/ (docs/stacks.md).
        """
        return table_of(self._known())

    def affine(self, stack: int) -> NDArray[np.float64]:
        """(4, 4): takes (column, row, slice, 1) of a volume to mm in the patient, LPS.

        Where slices shift in their plane, so does it. Raises VolumeError for what is no volume, and
        where the files do not say where it lies. PS3.3 C.7.6.2.1.1.
        """
        stacks = self._known()
        k = stacks.find(stack)
        stacks.hold(k, gaps=False, sheared=True)
        affine: NDArray[np.float64] = stacks.affine[k].copy()
        if np.isnan(affine).any():
            raise VolumeError(f"stack {stack}: its files do not say where in the patient it lies")
        return affine

    def volume(self, stack: int, *, gaps: bool = False, sheared: bool = False) -> NDArray[Any]:
        """The selected frames of a stack in order, (d, H, W[, C]).

        A read-only view where they lie one behind the other (docs/loader.md), else a copy.

        Raises VolumeError for a stack that is not selected; unless `gaps`, for one with a failed
        frame, or one left out between others, or
        whose frames are not one behind the other at even steps (its `stack_flags` say why); and
        unless `sheared`, for one whose slices shift in their plane, as with a tilted gantry:
        voxels of one row, column and slice index are then not at right angles.
        """
        stacks = self._known()
        k = stacks.find(stack)
        stacks.hold(k, gaps, sheared)
        view = stacks.view(k, int(stacks.count[k]))
        return self._copied(stacks.frames(k)) if view is None else view

    def series4d(self, group: int, *, sheared: bool = False) -> Series4D:
        """The volumes that one acquisition was split into (`stack_of`), as one array over them.

        Raises VolumeError as `volume`, and if they differ in shape, dtype or place.
        """
        stacks = self._known()
        parts = parts_of(stacks, group, sheared)
        rows = self.core.places.row[stacks.first[parts]]
        count = int(stacks.count[parts[0]])
        image = None
        if stacks.adjacent[parts].all() and (np.diff(rows) == count).all():
            image = stacks.view(int(parts[0]), count * len(parts))
        if image is None:
            image = self._copied(np.concatenate([stacks.frames(k) for k in parts.tolist()]))
        shaped = image.reshape(len(parts), count, *image.shape[1:])
        return Series4D(shaped, stacks.affine[parts[0]], told_of(stacks, parts))

    def _of_stack(self, stack: int, gaps: bool, sheared: bool) -> Cache:
        """The selected frames of a stack in order. Raises VolumeError as `volume`."""
        stacks = self._known()
        k = stacks.find(stack)
        stacks.hold(k, gaps, sheared)
        return Cache(self.core, stacks.frames(k))

    def _copied(self, samples: NDArray[np.int64]) -> NDArray[Any]:
        return Cache(self.core, samples).gather(np.arange(len(samples)))
