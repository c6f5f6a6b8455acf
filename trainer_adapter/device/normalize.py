"""Stored values to what a network takes, as a module that runs on the device of its input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from trainer_adapter.batch.fields import Fields, units_of
from trainer_adapter.device.presets import PRESETS
from trainer_adapter.errors import counting

Window = tuple[float, float] | str


_TABLED = {torch.uint8, torch.int16, torch.uint16}
_LEAST, _GREATEST = -(1 << 15), (1 << 16) - 1
"""what 8 and 16 bits can hold"""


def _rounded(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """float64 to `dtype`, rounded once; torch goes over float32, and so rounds twice.

    Inexact float32 is made odd in its last bit, which the second rounding then breaks ties by
    (Boldo and Melquiond, Emulation of FMA and correctly rounded sums, 2008).
    """
    single = values.to(torch.float32)
    if dtype not in (torch.float16, torch.bfloat16):
        return values.to(dtype)
    even = single.view(torch.int32) % 2 == 0
    step = torch.nextafter(single, torch.where(values > single.double(), torch.inf, -torch.inf))
    return torch.where((single.double() != values) & even, step, single).to(dtype)


def _windows(said: Window | Sequence[Window] | None) -> list[list[float]]:
    """[(center, width), ...] of one window or several, each by numbers or by its name."""
    if said is None:
        return []
    named = [said] if isinstance(said, str) else said
    unknown = [w for w in named if isinstance(w, str) and w not in PRESETS]
    if unknown:
        raise ValueError(
            f"window {unknown[0]!r}; legal: (center, width), {', '.join(PRESETS)}, or several"
        )
    pairs = [PRESETS[w] if isinstance(w, str) else w for w in named]
    found: list[list[float]] = np.asarray(pairs, np.float64).reshape(-1, 2).tolist()
    return found


class Normalize(nn.Module):
    """(b, H, W) or (b, H, W, C) of any stored dtype to (b, C, H, W) floats.

    Grey frames with their neighbours, (b, n, H, W) where W is more than 4 and n, come out as
    (b, n, H, W), or with several windows as (b, n * windows, H, W), a frame after the other.

    y = (clip((x - low) / (high - low), 0, 1) - mean) / std, for each window (center, width) with
    low = center - width / 2, high = center + width / 2: several windows of grey become channels.
    Without a window, y = (x - mean) / std. For 8 and 16 bits the result is the float64 one, rounded
    once to `dtype`: it is looked up in a table of all values. Other input is computed in float32
    (int32 and float64 in float64). Colour comes out as a channels_last view.
    """

    def __init__(
        self,
        window: Window | Sequence[Window] | None = None,
        *,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        invert: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """`window`: (center, width), a name of PRESETS such as "lung", or several of these; `mean`
        and `std` are those after the window, one for all channels or one each; `invert` turns
        windowed values over (1 - y) before them.

        Raises ValueError for a width or std that is not above 0, `invert` without a window, or
        numbers of windows, means and stds that do not go together.
        """
        super().__init__()
        windows = _windows(window)
        if not all(np.isfinite(center) and 0 < width < np.inf for center, width in windows):
            raise ValueError(f"window {window}; legal: (center, width) with a width above 0")
        if invert and not windows:
            raise ValueError("invert turns windowed values over; give a window")
        means, stds = (np.asarray(v, np.float64).reshape(-1).tolist() for v in (mean, std))
        if not (np.isfinite(means).all() and all(0 < s < np.inf for s in stds)):
            raise ValueError(f"mean {mean}, std {std}; legal: finite numbers, std above 0")
        channels = {n for n in (len(windows), len(means), len(stds)) if n > 1}
        if len(channels) > 1 or 0 in (len(means), len(stds)):
            raise ValueError(
                f"windows: {len(windows)}, means: {len(means)}, stds: {len(stds)}; legal: one of "
                "each, or as many as there are channels"
            )
        self.invert, self.dtype = invert, dtype
        self._windows, self._means, self._stds = windows, means, stds
        values = torch.arange(_LEAST, _GREATEST + 1, dtype=torch.float64)
        table = _rounded(self._computed(values[None, None, :])[0].T.contiguous(), dtype)
        self.register_buffer("table", table, persistent=False)
        """(values, channels)"""

    def _apply(self, fn: Any, recurse: bool = True) -> Normalize:
        """Follow a module to its device, but keep the table as it is under `.half()`."""
        self._buffers["table"] = self._table.to(fn(self._table).device)
        return self

    def _computed(self, y: torch.Tensor) -> torch.Tensor:
        """The formula on (b, C, ...), in the dtype of `y`."""

        def constants(values: Sequence[float]) -> torch.Tensor:
            rest = [1] * (y.ndim - 2)
            return torch.tensor(values, dtype=y.dtype, device=y.device).reshape(1, -1, *rest)

        if self._windows:
            low = constants([center - width / 2 for center, width in self._windows])
            y = ((y - low) / constants([width for _, width in self._windows])).clamp(0, 1)
            if self.invert:
                y = 1 - y
        return (y - constants(self._means)) / constants(self._stds)

    def forward(self, x: Any) -> Any:
        """(b, H, W[, C]) to (b, C, H, W), of a tensor or of a batch, which comes back with these
        images; several windows need (b, H, W).

        Raises ValueError for a window on values that went through one already.
        """
        if isinstance(x, Fields):
            self._hold(x.get("units") or ())
            return x.replaced(image=self._images(x["image"]))
        if torch.compiler.is_compiling():
            return self._images(x)
        self._hold(units := units_of(x))
        found = self._images(x)
        if units:
            found.stored_units = units  # type: ignore[attr-defined]
        return found

    def _hold(self, units: Sequence[str | None]) -> None:
        if self._windows and "window" in units:
            raise ValueError(
                "these values went through the window of the cache's recipe already, and a second "
                "one would cut off what the first left; leave window out, as Normalize.of(cache) "
                "does, or build the cache without windows"
            )

    def _images(self, x: torch.Tensor) -> torch.Tensor:
        if x.ndim == 5 and x.shape[1] == 1:
            frames = self._images(x.flatten(0, 2))
            return frames.reshape(len(x), x.shape[2], *frames.shape[1:]).transpose(1, 2)
        if x.ndim not in (3, 4):
            raise ValueError(f"a batch has shape (b, H, W) or (b, H, W, C), not {tuple(x.shape)}")
        if x.ndim == 4 and x.shape[3] > max(4, x.shape[1]):  # more than an image has channels
            return self._images(x.flatten(0, 1)).reshape(len(x), -1, *x.shape[2:])
        if len(self._windows) > 1 and x.ndim == 4 and x.shape[3] > 1:
            raise ValueError("several windows are for grey images")
        if x.dtype in _TABLED:
            return self._looked_up(x)
        wide = torch.float64 if x.dtype in (torch.int32, torch.float64) else torch.float32
        x = x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2)
        return self._computed(x.to(wide)).to(self.dtype)

    def _looked_up(self, x: torch.Tensor) -> torch.Tensor:
        table = self._table
        rows, colour = table.shape[1], x.ndim == 4 and x.shape[3] > 1
        place = x.to(torch.int32) - _LEAST
        if not colour:  # a row of the table is a pixel's channels
            chosen = table if rows > 1 else table.reshape(-1)
            found = chosen.index_select(0, place.reshape(-1)).reshape(*x.shape[:3], rows)
        elif rows == 1:
            found = table.reshape(-1).index_select(0, place.reshape(-1)).reshape(x.shape)
        elif rows == x.shape[3]:
            place = place * rows + torch.arange(rows, dtype=torch.int32, device=x.device)
            found = table.reshape(-1).index_select(0, place.reshape(-1)).reshape(x.shape)
        else:
            raise ValueError(
                f"{rows} means or stds for images of {counting(x.shape[3], 'channel')}"
            )
        return found.permute(0, 3, 1, 2)

    @property
    def _table(self) -> torch.Tensor:
        return self.get_buffer("table")

    @classmethod
    def from_cache(cls, cache: Any, **options: Any) -> Normalize:
        """The same as `of`, by its older name."""
        return cls.of(cache, **options)

    @classmethod
    def of(cls, cache: Any, **options: Any) -> Normalize:
        """For the images of a cache: by mean and std of all their values, padding left out; with
        `window` by that alone. A selection without images is taken as it is.

        Raises ValueError for a cache without frames, or of several units; with a window, for frames
        that went through one already.
        """
        import pyarrow.compute as pc

        # As loaders do: what lies beside images may have their unit, and never is what they show.
        if "image" in pc.unique(cache.column("kind")).to_pylist():
            cache = cache.select(kind="image")
        units = pc.unique(cache.column("unit")).to_pylist()
        if options.get("window") is not None:
            made = cls(**options)
            made._hold(units)
            return made
        if len(units) != 1:
            raise ValueError(f"frames of several units {units}; select one, or give mean and std")
        pixels = pc.multiply(cache.column("height").cast("float64"), cache.column("width"))
        fraction = cache.column("padding_fraction").cast("float64").fill_null(0.0)
        n = pc.multiply(pixels, pc.subtract(1.0, fraction))
        mean, std = cache.column("mean"), cache.column("std")
        total = pc.sum(pc.if_else(pc.is_valid(mean), n, 0.0)).as_py()
        if not total:
            raise ValueError("no values to take mean and std of")
        pooled = pc.sum(pc.multiply(n, mean)).as_py() / total
        square = pc.sum(
            pc.multiply(n, pc.add(pc.multiply(std, std), pc.multiply(mean, mean)))
        ).as_py()
        variance = square / total - pooled**2
        return cls(mean=pooled, std=max(variance, 1e-12) ** 0.5, **options)
