"""Windows of waveforms as samples of a torch Dataset."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from operator import index
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset
from torch.utils.data._utils.collate import default_collate_fn_map

from trainer_adapter.batch.columns import Column
from trainer_adapter.batch.fields import Fields
from trainer_adapter.cache import Cache
from trainer_adapter.errors import counting
from trainer_adapter.loading.labels import Labelled, WithLabels, labelled
from trainer_adapter.loading.options import Labels
from trainer_adapter.loading.waveforms.channels import TWELVE_LEADS, Channels, shown
from trainer_adapter.loading.waveforms.rates import ratio_of, resampled
from trainer_adapter.order.permutations import Stream, key_of, uniform

KIND = "waveform"
Ints = NDArray[np.int64]


class Recording(Fields):
    """A window of a recording, or after collation a batch of them: a Mapping, whose keys are
    attributes too."""

    signal: Any
    """(channels, length) float32, or (b, channels, length); NaN where there is none; or what the
    transform makes of it"""
    label: Any
    """the label, (k,) of several; None if none was asked for"""
    known: Any
    """(k,) of several labels: False where one is not known; None for one or none"""
    index: Any
    """sample index in the whole cache of the recording"""
    start: Any
    """sample of the recording, at the rate of the window, that the window begins with"""
    columns: dict[str, Any]
    """the columns that were asked for; null is NaN or None"""


class WaveformDataset(WithLabels, Dataset[Recording]):
    """Windows of one length of a cache's waveforms, with labels; for a stock DataLoader."""

    def __init__(
        self,
        cache: Cache,
        length: int | None = None,
        *,
        seconds: float | None = None,
        channels: Sequence[str] | str | None = None,
        rate: float | None = None,
        unit: str | None = None,
        at: str = "grid",
        stride: int | None = None,
        seed: int = 0,
        fill: float | None = None,
        lacking: str = "error",
        transform: Callable[[torch.Tensor], Any] | None = None,
        columns: Sequence[str] = (),
        label: str | Sequence[str] | None = None,
        labels: Any = None,
        on: str | Sequence[str] | Mapping[str, str] | None = None,
        classes: Any = None,
        missing: str = "error",
        key: str | os.PathLike[str] | None = None,
    ) -> None:
        """Windows of `length` samples, or of so many `seconds`, of the recordings of `cache`.

        channels: names in the wanted order, labels or codes as SCHEME:CODE; "12-lead" for those of
        an electrocardiogram; None: all, which must be the same in each recording. lacking: "error"
        or "drop", for recordings that lack one. rate: Hz, to which recordings of others are
        resampled; None: all must have one. unit: V, mV, uV or nV, which voltages are made; None:
        a channel must have one unit. at: "grid", windows `stride` samples apart (by default side by
        side), the last one with NaN behind its end; "random", one window of each recording, at a
        place that is drawn by (seed, epoch, index); "start", the first one. fill: a number in the
        place of NaN. label, labels, on, missing, classes, key: as Labels says.

        Raises ValueError for what is not legal, where there are no waveforms, and where recordings
        do not agree; LabelError as FrameDataset does.
        """
        _check(length, seconds, at, stride, lacking, columns)
        there = pc.equal(cache.column("kind"), KIND).to_numpy()
        if not there.any():
            raise ValueError(
                f"none of {counting(len(cache), 'frame')} of {cache.path} is a waveform"
            )
        chosen = cache.select(there)
        wanted = TWELVE_LEADS if channels == "12-lead" else channels
        if isinstance(wanted, str):
            raise ValueError(f'channels {wanted!r}; legal: a list of names, or "12-lead"')
        said = Labels(label, labels, on, missing, None, key, classes)
        self._found: Labelled = labelled(chosen, said)
        picked = Channels(self._found.cache.column("channels")).picked(wanted, unit, lacking)
        if not picked.kept.all():
            self._found = labelled(self._found.cache.select(picked.kept), said)
        self.cache, self.classes = self._found.cache, self._found.classes
        self._place = picked.place[picked.kept].astype(np.int32)
        factor = picked.factor[picked.kept]
        self._factor = None if (factor == 1).all() else factor
        self.channels, self.units = picked.names, picked.units
        self.rate, self._ratios, self._ratio = _rates(self.cache, rate)
        self.length = int(length) if length is not None else self._samples(seconds)
        self.at, self.seed, self.fill, self.transform = at, index(seed), fill, transform
        self.epoch = 0
        places = self.cache.core.places
        self._total = self._resized(places.width[self.cache.indices].astype(np.int64))
        self._columns = {name: Column(self.cache.column(name)) for name in columns}
        self._row, self._start = _grid(self._total, self.length, stride or self.length, at)

    def _samples(self, seconds: float | None) -> int:
        if self.rate is None:
            raise ValueError("seconds: the recordings do not say their sampling rate; give length")
        count = round((seconds or 0) * self.rate)
        if count < 1:
            raise ValueError(f"seconds {seconds}; legal: from one sample, {1 / self.rate:g} s")
        return count

    def _resized(self, samples: Ints) -> Ints:
        """How many samples recordings have at the rate of the windows."""
        if not self._ratios:
            return samples
        up, down = (
            np.array([getattr(r, side) for r in self._ratios], np.int64)[self._ratio]
            for side in ("numerator", "denominator")
        )
        total: Ints = -(-samples * up // down)
        return total

    def __repr__(self) -> str:
        rate = "" if self.rate is None else f" at {self.rate:g} Hz"
        channels, samples = counting(len(self.channels), "channel"), counting(self.length, "sample")
        what = f"{channels} x {samples}{rate}"
        return self._found.said(f"{type(self).__name__}: {counting(len(self), 'window')} of {what}")

    def __len__(self) -> int:
        return len(self._row)

    def set_epoch(self, epoch: int) -> None:
        """Draw places of `at="random"` for this epoch; in the process that the dataset is in."""
        self.epoch = index(epoch)

    @property
    def recordings(self) -> Ints:
        """(n,) position in `cache` of the recording of each window; labels are by recording."""
        return self._row

    def starts(self, windows: Ints, epoch: int | None = None) -> Ints:
        """(b,) first samples of windows."""
        if self.at != "random":
            fixed: Ints = self._start[windows]
            return fixed
        now = self.epoch if epoch is None else epoch
        room = np.maximum(self._total[self._row[windows]] - self.length, 0) + 1
        key = key_of(self.seed, now, Stream.START)
        drawn = uniform(key, self.cache.samples(self._row[windows]))
        places: Ints = (drawn * room).astype(np.int64)
        return places

    def signals(self, windows: Ints, epoch: int | None = None) -> torch.Tensor:
        """(b, channels, length) float32 of windows, before any transform."""
        starts = self.starts(windows, epoch).tolist()
        out = np.empty((len(windows), len(self.channels), self.length), np.float32)
        for k, (row, start) in enumerate(zip(self._row[windows].tolist(), starts, strict=True)):
            self._read(row, start, out[k])
        if self.fill is not None:
            np.nan_to_num(out, copy=False, nan=self.fill, posinf=np.inf, neginf=-np.inf)
        return torch.from_numpy(out)

    def _read(self, row: int, start: int, out: NDArray[np.float32]) -> None:
        whole, place = self.cache[row], self._place[row]
        ratio = self._ratios[self._ratio[row]] if self._ratios else Fraction(1)
        if ratio == 1:
            count = max(0, min(self.length, whole.shape[1] - start))
            out[:, :count] = whole[place, start : start + count]
            out[:, count:] = np.nan
        else:
            out[:] = resampled(whole[place], start, self.length, ratio)
        if self._factor is not None:
            np.multiply(out, self._factor[row][:, None], out=out, casting="same_kind")

    def batch(self, windows: Ints, epoch: int | None = None) -> Recording:
        """A batch of windows, by their numbers."""
        windows = np.asarray(windows, np.int64)
        rows = self._row[windows]
        signal: Any = self.signals(windows, epoch)
        if self.transform is not None:
            signal = torch.stack([self.transform(one) for one in signal])
        values, known = self._found.values, self._found.known
        return Recording(
            signal=signal,
            label=None if values is None else torch.from_numpy(values[rows]),
            known=None if known is None else torch.from_numpy(known[rows]),
            index=torch.from_numpy(self.cache.samples(rows)),
            start=torch.from_numpy(self.starts(windows, epoch)),
            columns={name: column.take(rows) for name, column in self._columns.items()},
        )

    def __getitem__(self, i: int) -> Recording:
        """Window `i`."""
        if not -len(self) <= i < len(self):
            raise IndexError(f"window {i} of {len(self)}")
        one = np.array([int(i) % len(self)])
        rows, values, known = self._row[one], self._found.values, self._found.known
        signal: Any = self.signals(one)[0]
        label: Any = None if values is None else values[rows[0]]
        return Recording(
            signal=signal if self.transform is None else self.transform(signal),
            label=_plain(label, several=known is not None),
            known=None if known is None else torch.from_numpy(known[rows[0]]),
            index=int(self.cache.samples(rows)[0]),
            start=int(self.starts(one)[0]),
            columns={name: column.take(rows)[0] for name, column in self._columns.items()},
        )


def _plain(label: Any, several: bool) -> Any:
    if label is None:
        return None
    return torch.from_numpy(label) if several else label.item()


def _check(
    length: int | None,
    seconds: float | None,
    at: str,
    stride: int | None,
    lacking: str,
    columns: Any,
) -> None:
    if (length is None) == (seconds is None):
        raise ValueError("give length, in samples, or seconds")
    for name, value in (("length", length), ("stride", stride)):
        if value is not None and index(value) < 1:
            raise ValueError(f"{name} {value}; legal: from 1")
    if at not in ("grid", "random", "start"):
        raise ValueError(f"at {at!r}; legal: grid, random, start")
    if stride is not None and at != "grid":
        raise ValueError(f"stride {stride}: only windows of a grid have one")
    if lacking not in ("error", "drop"):
        raise ValueError(f"lacking {lacking!r}; legal: error, drop")
    if isinstance(columns, str):
        raise ValueError(f"columns {columns!r}; legal: a list of names")


def _grid(total: Ints, length: int, stride: int, at: str) -> tuple[Ints, Ints]:
    """(recording, first sample) of each window."""
    if at != "grid":
        return np.arange(len(total)), np.zeros(len(total), np.int64)
    counts = 1 + -(-np.maximum(total - length, 0) // stride)
    row = np.repeat(np.arange(len(total)), counts)
    number = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    return row, number * stride


def _rates(
    cache: Cache, wanted: float | None
) -> tuple[float | None, list[Fraction], NDArray[np.int64]]:
    """(rate of the windows, ratios to it, which of them is that of each recording)."""
    column = cache.column("sampling_rate")
    found = column.combine_chunks().dictionary_encode()
    rates: list[float] = found.dictionary.to_pylist()
    codes = found.indices.fill_null(-1).to_numpy().astype(np.int64)
    if wanted is None:
        if len(rates) + bool(column.null_count) > 1:
            unknown = f", {column.null_count} do not say it" if column.null_count else ""
            raise ValueError(
                f"the recordings have sampling rates of {shown(sorted(rates))} Hz{unknown}; give "
                "rate=, to which the others are resampled, or select(sampling_rate=...)"
            )
        return (rates[0] if rates else None), [], codes
    if not wanted > 0:
        raise ValueError(f"rate {wanted}; legal: above 0 Hz")
    if column.null_count:
        raise ValueError(
            f"rate {wanted:g}: {counting(column.null_count, 'recording does', 'recordings do')} "
            "not say their sampling rate; leave them out"
        )
    ratios = [ratio_of(rate, wanted) for rate in rates]
    return float(wanted), [] if all(r == 1 for r in ratios) else ratios, codes


def collate(batch: Sequence[Recording], *, collate_fn_map: Any = None) -> Recording:
    """One Recording of (b, ...) tensors out of windows."""
    from torch.utils.data._utils.collate import collate as default_collate_of

    first = batch[0]
    several = first.known is not None
    label: Any = None
    if first.label is not None:
        label = [one.label for one in batch]
        label = torch.stack(label) if several else torch.tensor(label)
    signals = [one.signal for one in batch]
    return Recording(
        signal=default_collate_of(signals, collate_fn_map=collate_fn_map or default_collate_fn_map),
        label=label,
        known=torch.stack([one.known for one in batch]) if several else None,
        index=torch.tensor([one.index for one in batch]),
        start=torch.tensor([one.start for one in batch]),
        columns={name: _stacked([one.columns[name] for one in batch]) for name in first.columns},
    )


def _stacked(values: list[Any]) -> Any:
    return torch.stack(values) if isinstance(values[0], torch.Tensor) else values


# torch's documented way to teach default_collate a type.
default_collate_fn_map[Recording] = collate
