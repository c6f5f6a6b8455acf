"""A torch Dataset over a cache, for a stock DataLoader."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, get_worker_info
from torch.utils.data._utils.collate import collate as default_collate_of
from torch.utils.data._utils.collate import default_collate_fn_map

from trainer_adapter.batch import shared
from trainer_adapter.batch.columns import Column
from trainer_adapter.batch.fields import Fields
from trainer_adapter.batch.pool import BufferPool
from trainer_adapter.batch.units import Units
from trainer_adapter.cache import Cache
from trainer_adapter.errors import MixedShapesError, WorkersWarning
from trainer_adapter.loading.labels import WithLabels, labelled
from trainer_adapter.loading.options import Labels, Target, hold_images, target_of
from trainer_adapter.reading.choose import in_memory


class Sample(Fields):
    """A frame, or after collation a batch of them: a Mapping, whose keys are attributes too."""

    image: Any
    """(H, W[, C]) in the stored dtype, or (b, H, W[, C]); or what the transform makes of it"""
    label: Any
    """the label, (k,) of several; None if none was asked for"""
    known: Any
    """(k,) of several labels: False where one is not known; None for one or none"""
    mask: Any
    """(H, W) class numbers, or (b, H, W), or what the transform makes of them; None unless a
    target"""
    dose: Any
    """likewise"""
    index: Any
    """sample index in the whole cache"""
    columns: dict[str, Any]
    """the columns that were asked for; null is NaN or None"""
    units: tuple[str | None, ...]
    """unit of the values, of a batch each once; None for colour"""


class FrameDataset(WithLabels, Dataset[Sample]):
    """Frames of a cache as samples with labels; images may be written to.

    Works in a stock DataLoader: a batch is gathered in one pass into one reused buffer, which
    returns to its pool when nothing refers to the batch any more.
    """

    def __init__(
        self,
        cache: Cache,
        label: str | Sequence[str] | None = None,
        *,
        labels: Any = None,
        on: str | Sequence[str] | Mapping[str, str] | None = None,
        classes: Any = None,
        target: Target | str | None = None,
        transform: Callable[..., Any] | None = None,
        layout: str = "CHW",
        dtype: torch.dtype | None = None,
        columns: Sequence[str] = (),
        kind: str | None = "image",
        missing: str = "error",
        key: str | os.PathLike[str] | None = None,
    ) -> None:
        """Frames of `kind` (None: all) with `label`; what it, `labels`, `on`, `missing`, `classes`
        and `key` may be is said of Labels. columns: of frames/, for each sample. target: "mask",
        "dose" or a Target: label maps or doses beside the images; `classes` and `missing` are its
        own where no label is asked for.

        transform: what is made of each image, a tensor (C, H, W); with layout "HWC" an array of
        NumPy (H, W, C), as albumentations wants it. What it returns is collated as torch does:
        tuples of views, dictionaries. Without one, images are (H, W[, C]) as stored. dtype: of
        images, one that holds all values of the stored one, such as torch.int32 for uint16, with
        which torch can do little; None: as stored. With a target the transform gets both, (image,
        mask), the mask (H, W), and returns both.

        Raises LabelError if frames have no label, unless `missing` is "drop" and some have one, or
        for a value that is none of `classes`; ValueError if no frame is of the kind, or for what is
        not legal.
        """
        if layout not in ("CHW", "HWC"):
            raise ValueError(f"layout {layout!r}; legal: CHW, HWC")
        labelling = Labels(label, labels, on, missing, kind, key, classes)
        target, labelling = target_of(target, labelling)
        found = labelled(cache, labelling).targeted(target)
        hold_images(found.cache, columns, dtype)
        self._found, self.classes = found, found.classes
        self.cache, self.transform, self.layout = found.cache, transform, layout
        self.dtype = dtype
        self._columns = {name: Column(self.cache.column(name)) for name in columns}
        self._units = Units(self.cache.column("unit"))
        self._pool = BufferPool()

    def __repr__(self) -> str:
        return self._found.said(type(self).__name__)

    def weights(self, how: str = "balanced") -> NDArray[np.float64]:
        """(n,) float64 for a sampler: "balanced", each class as often as any other.

        Raises ValueError for another word, and for what is not one label of classes.
        """
        return self._found.weights(how)

    def __len__(self) -> int:
        return len(self.cache)

    def shape_groups(self) -> list[NDArray[np.int64]]:
        """Indices of samples of one shape each (for GroupedBatchSampler)."""
        return list(self.cache.groups().values())

    def __getitem__(self, i: int) -> Sample:
        """Sample `i`; its image is a copy, so it may be written to."""
        if not -len(self) <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        i = int(i) % len(self)
        frame, row = np.array(self.cache[i]), np.array([i])
        mask = self._target(row)
        made = self._transformed(
            self._wide(torch.from_numpy(frame)), None if mask is None else mask[0]
        )
        return self._samples([made], row)[0]

    def _target(self, rows: NDArray[np.int64]) -> torch.Tensor | None:
        """(b, H, W) masks or doses of frames of one size."""
        beside = self._found.beside
        if beside is None:
            return None
        core, samples = self.cache.core, self.cache.samples(rows)
        size = (int(side[samples[0]]) for side in (core.places.height, core.places.width))
        found, out = self._buffer((len(rows), *size), beside.dtype)
        beside.fill(out, samples, core, None, core.mapped)
        return found

    def _samples(self, made: Iterable[tuple[Any, Any]], rows: NDArray[np.int64]) -> list[Sample]:
        batch = self._batch(None, None, rows)
        label, known = batch.label, batch.known
        if known is None:
            known = [None] * len(rows)
            label = known if label is None else label.tolist()
        return [
            Sample(
                image=image,
                label=label[k],
                known=known[k],
                **self._named(mask),
                index=index,
                columns={name: column[k] for name, column in batch.columns.items()},
                units=units,
            )
            for k, ((image, mask), index, units) in enumerate(
                zip(made, batch.index.tolist(), self._units.each(rows), strict=True)
            )
        ]

    def _batch(self, image: Any, mask: Any, rows: NDArray[np.int64]) -> Sample:
        labels, known = self._found.values, self._found.known
        return Sample(
            image=image,
            label=None if labels is None else torch.from_numpy(labels[rows]),
            known=None if known is None else torch.from_numpy(known[rows]),
            **self._named(mask),
            index=torch.from_numpy(self.cache.samples(rows)),
            columns={name: column.take(rows) for name, column in self._columns.items()},
            units=self._units.of(rows),
        )

    def _named(self, target: Any) -> dict[str, Any]:
        beside = self._found.beside
        return {"mask": None, "dose": None} | ({} if beside is None else {beside.name: target})

    def _transformed(self, image: torch.Tensor, mask: torch.Tensor | None) -> tuple[Any, Any]:
        """(image, mask) as the transform makes them."""
        if self.transform is None:
            return image, mask
        given: Any
        if self.layout == "HWC":
            pixels = image.numpy()
            given = pixels if pixels.ndim == 3 else pixels[:, :, None]
        else:
            given = image[None] if image.ndim == 2 else image.permute(2, 0, 1).contiguous()
        if mask is None:
            return self.transform(given), None
        made = self.transform(given, mask.numpy() if self.layout == "HWC" else mask)
        if not isinstance(made, tuple | list) or len(made) != 2:
            raise TypeError(
                f"the transform returns {type(made).__name__}; with a target it gets (image, mask) "
                "and returns both, as a tuple"
            )
        return made[0], made[1]

    def _wide(self, image: torch.Tensor) -> torch.Tensor:
        return image if self.dtype is None else image.to(self.dtype)

    def __getitems__(self, indices: Sequence[int]) -> list[Sample]:
        """Samples, gathered in one pass: what a DataLoader calls for a batch.

        Raises MixedShapesError if their sizes differ and no transform makes them one, saying how to
        group.
        """
        wanted = np.asarray(indices, np.int64)
        try:
            shape, dtype = self.cache.batch_shape(wanted)
        except MixedShapesError:
            if self.transform is None:
                raise
            return [self[i] for i in wanted.tolist()]
        in_vain = self._only_copied(wanted)
        batch, buffer = self._buffer(shape, dtype)
        self.cache.gather(wanted, out=buffer)
        del buffer
        batch, masks = self._wide(batch), self._target(wanted)
        each = [None] * len(wanted) if masks is None else masks
        if self.transform is not None:
            return self._samples(map(self._transformed, batch, each), wanted)
        pairs = zip(batch, each, strict=True)
        whole = self._batch(batch, masks, wanted)
        if in_vain:
            whole = _Copied(whole)
        return _Gathered(whole, self._samples(pairs, wanted))

    def _only_copied(self, rows: NDArray[np.int64]) -> bool:
        """Whether a worker has nothing to do for these but to copy what is in memory."""
        if get_worker_info() is None or self.transform is not None or not len(rows):
            return False
        core = self.cache.core
        spots = core.spots(self.cache.samples(rows[:1]))
        if self._found.beside is not None or core.root.arrays[int(spots.array[0])].codec != "none":
            return False
        return in_memory(core.store, spots)

    def _buffer(self, shape: tuple[int, ...], dtype: Any) -> tuple[torch.Tensor, NDArray[Any]]:
        if get_worker_info() is None:
            return self._pool.lease(shape, dtype)
        # In a worker straight into shared memory, as default_collate does: no copy in between.
        found = shared.ours().lease(shape, np.dtype(dtype))
        if found is not None:
            return found
        kind = torch.from_numpy(np.empty(0, dtype)).dtype
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        storage = torch.UntypedStorage._new_shared(size)  # type: ignore[no-untyped-call]
        batch = torch.empty(0, dtype=kind).set_(storage, 0, shape)  # type: ignore[call-overload]
        return batch, batch.numpy()


class _Copied(Sample):
    """A batch that a worker only copied: where it arrives it is a Sample, and that is said once."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (dict(self), True)


def _sent(sample: Sample) -> tuple[Any, ...]:
    """As a worker sends it to another process."""
    if get_worker_info() is None:
        return sample.__reduce__()
    return _arrived, (_each(shared.sent, dict(sample)), isinstance(sample, _Copied))


def _each(does: Callable[[Any], Any], values: dict[str, Any]) -> dict[str, Any]:
    """Of all values of a batch, those of its columns too."""
    return {
        name: _each(does, value) if isinstance(value, dict) else does(value)
        for name, value in values.items()
    }


_SLOWER = (
    "a DataLoader's workers only copy frames here that are in memory already, and each batch goes "
    "from process to process: slower than without them. Use num_workers=0, or "
    "CacheLoader, whose threads read ahead; workers pay where a transform takes its time"
)


def _arrived(values: dict[str, Any], only_copied: bool) -> Sample:
    if only_copied:
        warnings.warn(_SLOWER, WorkersWarning, stacklevel=1)  # from one place: shown once
    return Sample(_each(shared.received, values))


for _kind in (Sample, _Copied):
    ForkingPickler.register(_kind, _sent)


class _Gathered(list[Sample]):
    """Samples that are rows of one batch: the batch needs no second copy to be collated."""

    def __init__(self, batch: Sample, samples: Sequence[Sample]) -> None:
        super().__init__(samples)
        self.batch = batch
        self._given = tuple(map(id, self))

    def untouched(self) -> bool:
        """True while the list holds just the samples that it was made with."""
        return tuple(map(id, self)) == self._given


def collate(batch: Sequence[Sample], *, collate_fn_map: Any = None) -> Sample:
    """One Sample of (b, ...) tensors out of samples; what default_collate does with them."""
    if isinstance(batch, _Gathered) and batch.untouched():
        return batch.batch
    first = batch[0]
    labels: Any = None
    if first.label is not None:
        labels = [sample.label for sample in batch]
        labels = torch.tensor(labels) if first.known is None else torch.stack(labels)
    kinds = collate_fn_map or default_collate_fn_map
    targets = {
        name: None
        if first[name] is None
        else default_collate_of([sample[name] for sample in batch], collate_fn_map=kinds)
        for name in ("mask", "dose")
    }
    return Sample(
        image=default_collate_of([sample.image for sample in batch], collate_fn_map=kinds),
        label=labels,
        known=None if first.known is None else torch.stack([s.known for s in batch]),
        **targets,
        index=torch.tensor([sample.index for sample in batch]),
        columns={name: _column([s.columns[name] for s in batch]) for name in first.columns},
        units=tuple(dict.fromkeys(unit for sample in batch for unit in sample.units)),
    )


def _column(values: list[Any]) -> Any:
    return torch.stack(values) if isinstance(values[0], torch.Tensor) else values


# torch's documented way to teach default_collate a type.
default_collate_fn_map[Sample] = collate
