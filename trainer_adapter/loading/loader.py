"""Batches at memory speed: gathered by threads into leased buffers, ahead of the training loop."""

from __future__ import annotations

import os
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from itertools import islice
from operator import index
from typing import Any, Unpack

import numpy as np
import torch

from trainer_adapter.batch.columns import Column
from trainer_adapter.batch.dtypes import held_by
from trainer_adapter.batch.fields import Fields
from trainer_adapter.batch.pool import BufferPool
from trainer_adapter.batch.transfer import Transfer
from trainer_adapter.batch.units import Units
from trainer_adapter.cache import Cache
from trainer_adapter.errors import NewerWarning, counting
from trainer_adapter.format import system
from trainer_adapter.loading.crew import Crew, Helpers
from trainer_adapter.loading.epoch import Share, batches_of
from trainer_adapter.loading.labels import WithLabels, labelled
from trainer_adapter.loading.options import (
    Keywords,
    Labels,
    Order,
    Ranks,
    Target,
    hold_images,
    records,
    target_of,
)
from trainer_adapter.loading.parts import Parts, Taken
from trainer_adapter.loading.states import Resumable, digest_of, said_of, stamp_of
from trainer_adapter.order.crop import Crop
from trainer_adapter.order.ranks import distributed_rank
from trainer_adapter.reading.choose import fits_in_memory, reading_of
from trainer_adapter.reading.opened import generation_of
from trainer_adapter.stage import staged
from trainer_adapter.volumes.foreground import foreground_of

_PREFETCH_BYTES = 1 << 30


class Batch(Fields):
    """Frames of one shape: a Mapping, whose keys are attributes too."""

    image: torch.Tensor
    """(b, H, W[, C]) in the stored dtype, or the one that was asked for; with `context`
    (b, 2 * context + 1, H, W), with `patch` (b, 1, d, h, w)"""
    label: torch.Tensor | None
    """(b,) labels, (b, k) of several; None if none was asked for"""
    known: torch.Tensor | None
    """(b, k) of several labels: False where one is not known; None for one or none"""
    mask: torch.Tensor | None
    """(b, H, W) uint8, or int32: class numbers; with `patch` (b, d, h, w); None unless a target"""
    dose: torch.Tensor | None
    """float32, likewise"""
    index: torch.Tensor
    """(b,) int64: sample indices in the whole cache"""
    columns: dict[str, Any]
    """the columns that were asked for: (b,) tensors, lists of strings; null is NaN or None"""
    units: tuple[str | None, ...]
    """units of the values, each once; None for colour"""
    epoch: int
    """what the order and the crops were drawn for"""


class CacheLoader(Resumable, WithLabels):
    """An iterable of batches over a cache, in this process: threads, and no workers.

    Each `iter()` begins the next epoch, or that of `set_epoch`, and warns once, by NewerWarning, if
    frames were added to the cache since it was opened: the loader goes on without them. A batch's
    memory is used again only when nothing refers to it any more: batches may be kept.
    """

    def __init__(
        self,
        cache: Cache,
        batch_size: int = 64,
        *,
        order: Order | None = None,
        labelling: Labels | None = None,
        ranking: Ranks | None = None,
        target: Target | str | None = None,
        crop: Crop | int | tuple[int, int] | None = None,
        context: int = 0,
        patch: tuple[int, int, int] | None = None,
        foreground: Any = None,
        columns: Sequence[str] = (),
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        threads: int | None = None,
        prefetch: int | None = None,
        read: str = "auto",
        stage: str | os.PathLike[str] | None = None,
        **keywords: Unpack[Keywords],
    ) -> None:
        """How to go through the frames of `cache`.

        order, labelling, ranking: an Order, Labels and Ranks; or their fields as keywords, such as
        shuffle=True, seed=1, label="body_part". target: "mask", "dose" or a Target: masks or doses
        beside images, in the same crop; `classes` and `missing` are the target's where no label is
        asked for. crop: (h, w) at random, or a Crop; boxes are for each frame of `cache`. context:
        so many slices before and behind each grey frame, as (b, 2 * context + 1, H, W), of its
        stack, selected or not; at an end the last one stands in.
        patch: (d, h, w), instead of crop: a 3-D patch for each slice of a volume, at random.
        foreground: what a third of the patches are around, all others around what is none: a number
        (values above it), "mask", names of classes of masks, or a Foreground.
        columns: of frames/, for each batch. device: where batches go. dtype:
        of images, one that holds all values of the stored one, such as torch.int32 for uint16, with
        which torch can do little; None: as stored.
        threads: 0 reads in the loop itself. prefetch: batches ahead, by default one less than
        threads, or twice as many if an epoch is larger than memory. read: auto, map, advise, pread.
        stage: a folder on local storage, to which shards are copied first.

        Raises ValueError for what is not legal, LabelError, MixedShapesError, StageError; TypeError
        for a keyword that is unknown.
        """
        order, labelling, ranking = records(keywords, (order, labelling, ranking))
        target, labelling = target_of(target, labelling)
        shuffle, weights = order.shuffle, order.weights
        batch_size, window, seed = index(batch_size), index(order.window), index(order.seed)
        shuffle = shuffle if isinstance(shuffle, str) else bool(shuffle)
        for name, given, least in (("threads", threads, 0), ("prefetch", prefetch, 1)):
            if given is not None and given < least:
                raise ValueError(f"{name} {given}; legal: from {least}, or None")
        context, depth, crop = _depth_of(context, patch, crop)
        wanted = foreground_of(foreground)
        if wanted is not None and not depth:
            raise ValueError("foreground is for patches; give patch=(d, h, w) too")
        found = labelled(cache, labelling).targeted(target)
        hold_images(found.cache, columns, dtype)
        self.cache, self.classes = found.cache, found.classes
        self._found, self._units, self._dtype = found, Units(found.cache.column("unit")), dtype
        self.batch_size, self.crop = batch_size, _crop_of(crop, seed)
        boxes = None
        if self.crop is not None and self.crop.boxes is not None:
            if len(self.crop.boxes) != len(cache):
                raise ValueError(
                    f"{counting(len(self.crop.boxes), 'box', 'boxes')} for "
                    f"{counting(len(cache), 'frame')}"
                )
            boxes = np.asarray(self.crop.boxes)[found.kept]
        if isinstance(weights, str):
            weights = found.weights(weights)
        elif weights is not None:
            if np.shape(weights) != (len(cache),):
                raise ValueError(
                    f"weights of shape {np.shape(weights)} for {counting(len(cache), 'frame')}"
                )
            weights = np.asarray(weights, np.float64)[found.kept]
        rank, ranks = distributed_rank(ranking.rank, ranking.ranks)
        order = replace(order, shuffle=shuffle, window=window, weights=weights, seed=seed)
        bucket = order.bucket if self.crop is None else self.crop
        shapes, groups, self._batches = batches_of(
            self.cache, bucket, Share(batch_size, rank, ranks, ranking.pad, order.drop_last), order
        )
        self._columns = {name: Column(self.cache.column(name)) for name in columns}
        self._parts = Parts(shapes, self._units, boxes, context, depth)
        if stage is not None:
            near = self._parts.near()
            if found.beside is not None:
                needed = np.union1d(near.indices, found.beside.painter.needed)
                near = Cache(near.core, needed)
            self.cache = Cache(staged(near, stage).core, self.cache.indices)
        each = self._parts.each
        frame_bytes = [(shapes.bytes_of(members) * each, len(members)) for members in groups]
        total = sum(size * n for size, n in frame_bytes)
        self._reading = reading_of(self.cache.core.store, read, total)
        self._threads = min(4, _cores()) if threads is None else threads
        self.foreground = ""
        """how much foreground there is, and what finding it took"""
        if wanted is not None and len(found.cache):
            self.foreground = self._parts.draw_around(
                wanted, groups, weights, self._reading, seed, self._threads
            )
            if not rank:
                print(self.foreground, file=sys.stderr)
        largest = max((size for size, _ in frame_bytes), default=0) * batch_size
        largest *= 1 if found.beside is None else 3
        # Few buffers stay in the CPU's cache; what comes from a disk is asked for early.
        usual = self._threads - 1 if fits_in_memory(total) else 2 * self._threads
        fitting = max(1, min(usual, _PREFETCH_BYTES // max(1, largest)))
        self._ahead = fitting if prefetch is None else prefetch
        self._transfer = Transfer(device)
        self._pool = BufferPool((self._ahead + 2) * largest, pinned=self._transfer.pinned)
        order_of = {
            "numbering": found.cache.numbering, "generation": generation_of(found.cache.core.root),
            "cache": found.cache.core.root.digest, "frames": digest_of(found.cache.indices),
            "shuffle": shuffle, "window": window, "weights": digest_of(weights), "seed": seed,
            "batch_size": batch_size, "batches": len(self._batches),
            "drop_last": order.drop_last, "bucket": order.bucket if self.crop is None else "crop",
            "crop": said_of(self.crop), "samples": order.samples, "rank": rank, "ranks": ranks,
            "pad": ranking.pad,
            "context": context or None, "patch": depth or None,  # None, as in states of before
            "foreground": str(wanted) if wanted else None,
        }  # fmt: skip
        super().__init__(order_of, cache)
        self._told = False
        self._stamp: tuple[int, ...] | None = None
        self._crew: Crew | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_crew": None}  # each process has its own threads

    def __len__(self) -> int:
        """Batches of an epoch, for this rank."""
        return len(self._batches)

    def __repr__(self) -> str:
        said = self._found.said(
            f"CacheLoader: {counting(len(self), 'batch', 'batches')} of {self.batch_size}"
        )
        return f"{said[:-1]}; {self.foreground}>" if self.foreground else said

    def patients_per_batch(self, batches: int = 64) -> float:
        """Mean number of different patients in a batch of the coming epoch, of up to `batches`.

        One shard is often one patient; a batch should hold many.
        """
        patients = self.cache.column("patient")
        if not len(self):
            return 0.0
        numbers = np.unique(np.linspace(0, len(self) - 1, min(batches, len(self))).astype(int))
        epoch = self._next[0]
        counts = [
            len(patients.take(self._batches.batch(epoch, int(k))).unique().drop_null())
            for k in numbers
        ]
        return float(np.mean(counts))

    def __iter__(self) -> Iterator[Batch]:
        epoch, start = self._begin()
        self._tell_newer()
        return self._epoch(epoch, start)

    def _tell_newer(self) -> None:
        if self._told:
            return
        stamp = stamp_of(self._opened.path / "zarr.json")
        if stamp is not None and stamp == self._stamp:
            return
        self._stamp, was = stamp, self._opened.numbering
        added, now = self._opened.core.root.since()
        if now != was:
            what = (
                f"has numbering {now} by now, and this loader numbering {was}: frames were removed "
                "from it or restacked; the loader goes on as it was, until `dicom2cache purge`. "
                f"Open the cache again; indices and states of numbering {was} do not hold there"
            )
        elif added:
            what = (
                f"{counting(added, 'frame was', 'frames were')} added since it was opened "
                f"(numbering {was}); this loader goes on without, `open_cache` has all"
            )
        else:
            return
        self._told = True
        warnings.warn(f"{self._opened.path}: {what}", NewerWarning, stacklevel=3)

    def _epoch(self, epoch: int, start: int) -> Iterator[Batch]:
        numbers = range(start, len(self))
        before = self._batches.before(epoch)
        coming_up = ((int(before[k]), self._batches.batch(epoch, k)) for k in numbers)
        parts = self._parts.in_turn(epoch, coming_up)
        if not self._threads:
            for number, taken in zip(numbers, parts, strict=True):
                batch = [self._batch(epoch, taken, None)]
                self._now = epoch, number + 1
                yield self._transfer.received(batch.pop())
            return
        process, crew = os.getpid(), self._crew
        if crew is None or crew.process != process:
            crew = Crew(self._threads)
        self._crew = None  # two iterators at once have threads of their own
        coming: deque[Future[Batch]] = deque()
        try:
            for number in numbers:
                for taken in islice(parts, self._ahead + 1 - len(coming)):
                    coming.append(crew.threads.submit(self._batch, epoch, taken, crew.helpers))
                if process != os.getpid():
                    raise RuntimeError("an iterator does not outlive a fork; begin a new one")
                # No name for the batch itself: it would keep the lease while the loop works.
                batch = [coming.popleft().result()]
                self._now = epoch, number + 1  # not before it is there: it may fail
                yield self._transfer.received(batch.pop())
            self._crew = crew
        finally:
            if self._crew is not crew:  # left early
                crew.shutdown(wait=process == os.getpid())

    def _batch(self, epoch: int, takes: Callable[[], Taken], helpers: Helpers | None) -> Batch:
        taken = takes()
        indices = taken.indices
        image, out = self._pool.lease(taken.shape, taken.dtype)
        self._parts.read(out, taken, self._reading, helpers)
        del out
        if self._dtype is not None and image.dtype != self._dtype:
            wide, _ = self._pool.lease(tuple(image.shape), held_by(self._dtype, taken.dtype))
            image = wide.copy_(image)
            del wide, _
        known = self._found.known
        batch = Batch(
            image=image,
            label=None if self.labels is None else torch.from_numpy(self.labels[indices]),
            known=None if known is None else torch.from_numpy(known[indices]),
            **self._target(taken),
            index=torch.from_numpy(taken.chosen),
            columns={name: c.take(indices) for name, c in self._columns.items()}
            | {name: torch.from_numpy(values) for name, values in taken.told.items()},
            units=self._units.of(indices),
            epoch=epoch,
        )
        del image
        return self._transfer.sent(batch)

    def _target(self, taken: Taken) -> dict[str, torch.Tensor | None]:
        """Masks or doses of what was taken, in the same places."""
        found: dict[str, torch.Tensor | None] = {"mask": None, "dose": None}
        beside = self._found.beside
        if beside is None:
            return found
        samples, corners, part = taken.samples, taken.corners, taken.slice[:2]
        if self._parts.context:  # neighbours are there to see by, not to be learned
            samples, corners = taken.chosen, self._parts.middle(corners)
        target, out = self._pool.lease((len(samples), *part), beside.dtype)
        beside.fill(out, samples, self.cache.core, corners, self._reading)
        del out
        if len(taken.shape) > 4:  # patches
            target = target.reshape(taken.shape[0], *taken.shape[2:])
        return found | {beside.name: target}


def _cores() -> int:
    """Cores that this process may use; a scheduler may have given it few of many."""
    return system.processors()


def _depth_of(context: int, patch: Any, crop: Any) -> tuple[int, int, Any]:
    """(context, depth of patches or 0, crop). Raises ValueError."""
    context = index(context)
    if context < 0:
        raise ValueError(f"context {context}; legal: from 0")
    if patch is None:
        return context, 0, crop
    try:
        sides = tuple(map(index, patch))
    except TypeError:
        sides = ()
    if len(sides) != 3 or min(sides) < 1 or crop is not None or context:
        raise ValueError(f"patch {patch}; legal: (d, h, w) from 1, without crop and context")
    return 0, sides[0], sides[1:]


def _crop_of(crop: Crop | int | tuple[int, int] | None, seed: int) -> Crop | None:
    if crop is None or isinstance(crop, Crop):
        return crop
    height, width = crop if isinstance(crop, Sequence | np.ndarray) else (crop, crop)
    return Crop(index(height), index(width), seed=seed)
