"""A torch Dataset over a cache, for a stock DataLoader."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, get_worker_info
from torch.utils.data._utils.collate import default_collate_fn_map

from trainer_adapter.batch.pool import BufferPool
from trainer_adapter.cache import Cache
from trainer_adapter.loading.labels import labelled
from trainer_adapter.loading.options import Labels


class Sample(NamedTuple):
    """A frame, or after collation a batch of them."""

    image: torch.Tensor
    """(H, W[, C]) in the stored dtype, or (b, H, W[, C])"""
    label: Any
    """the label; None if none was asked for"""
    index: Any
    """sample index in the whole cache"""


class FrameDataset(Dataset[Sample]):
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
        transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
        kind: str | None = "image",
        missing: str = "error",
        key: str | os.PathLike[str] | None = None,
    ) -> None:
        """Frames of `kind` (None: all) with `label`; what it, `labels`, `on`, `missing`, `classes`
        and `key` may be is said of Labels. `transform` is applied to each image.

        Raises LabelError if frames have no label, unless `missing` is "drop" and some have one, or
        for a value that is none of `classes`; ValueError if no frame is of the kind.
        """
        found = labelled(cache, Labels(label, labels, on, missing, classes, kind, key))
        self._found, self._labels, self.classes = found, found.values, found.classes
        self.cache, self.transform = found.cache, transform
        self._pool = BufferPool()

    @property
    def labels(self) -> NDArray[Any] | None:
        """(n,) labels in the order of the samples, (n, k) of several; None without a label."""
        return self._labels

    @property
    def known(self) -> NDArray[np.bool_] | None:
        """(n, k) of several labels: False where one is not known; None for one label or none."""
        return self._found.known

    @property
    def class_counts(self) -> dict[Any, Any]:
        """{class: samples}; of several labels {label: {class: samples}}. Raises ValueError."""
        return dict(self._found.counts)

    @property
    def class_numbers(self) -> dict[Any, Any]:
        """{value: number} of all that is a class; of several labels {label: these}."""
        return dict(self._found.numbers)

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
        image = torch.from_numpy(np.array(self.cache[i]))
        if self.transform is not None:
            image = self.transform(image)
        return Sample(image, self._label(i), int(self.cache.samples(np.array([i]))[0]))

    def _label(self, i: int) -> Any:
        return None if self._labels is None else self._labels[i].item()

    def __getitems__(self, indices: Sequence[int]) -> list[Sample]:
        """Samples of one shape, gathered in one pass: what a DataLoader calls for a batch.

        Raises MixedShapesError if they differ, saying how to group.
        """
        wanted = np.asarray(indices, np.int64)
        shape, dtype = self.cache.batch_shape(wanted)
        batch, buffer = self._buffer(shape, dtype)
        self.cache.gather(wanted, out=buffer)
        del buffer
        samples = self.cache.samples(wanted)
        if self.transform is not None:
            images = [self.transform(image) for image in batch]
            return [
                Sample(image, self._label(i), s)
                for image, i, s in zip(images, wanted.tolist(), samples.tolist(), strict=True)
            ]
        labels = None if self._labels is None else torch.from_numpy(self._labels[wanted])
        return _Gathered(Sample(batch, labels, torch.from_numpy(samples)))

    def _buffer(self, shape: tuple[int, ...], dtype: Any) -> tuple[torch.Tensor, NDArray[Any]]:
        if get_worker_info() is None:
            return self._pool.lease(shape, dtype)
        # In a worker straight into shared memory, as default_collate does: no copy in between.
        kind = torch.from_numpy(np.empty(0, dtype)).dtype
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        storage = torch.UntypedStorage._new_shared(size)  # type: ignore[no-untyped-call]
        batch = torch.empty(0, dtype=kind).set_(storage, 0, shape)  # type: ignore[call-overload]
        return batch, batch.numpy()


class _Gathered(list[Sample]):
    """Samples that are rows of one batch: the batch needs no second copy to be collated."""

    def __init__(self, batch: Sample) -> None:
        self.batch = batch
        images, labels, index = batch
        given = [None] * len(index) if labels is None else labels.tolist()
        super().__init__(
            Sample(image, label, i)
            for image, label, i in zip(images, given, index.tolist(), strict=True)
        )
        self._given = tuple(map(id, self))

    def untouched(self) -> bool:
        """True while the list holds just the samples that it was made with."""
        return tuple(map(id, self)) == self._given


def collate(batch: Sequence[Sample], *, collate_fn_map: Any = None) -> Sample:
    """One Sample of (b, ...) tensors out of samples; what default_collate does with them."""
    if isinstance(batch, _Gathered) and batch.untouched():
        return batch.batch
    images, labels, index = zip(*batch, strict=True)
    known = None if labels[0] is None else torch.tensor(labels)
    return Sample(torch.stack(images), known, torch.tensor(index))


# torch's documented way to teach default_collate a type.
default_collate_fn_map[Sample] = collate
