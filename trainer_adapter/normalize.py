"""Stored values to what a network takes, as a module that runs on the device of its input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

Window = tuple[float, float]


class Normalize(nn.Module):
    """(b, H, W) or (b, H, W, C) of any stored dtype to (b, C, H, W) floats.

    y = (clip((x - low) / (high - low), 0, 1) - mean) / std, for each window (center, width) with
    low = center - width / 2, high = center + width / 2: several windows of grey become channels.
    Without a window, y = (x - mean) / std. The arithmetic is float32 (float64 for int32 and float64
    input), the result is rounded once to `dtype`. Colour comes out as a channels_last view.
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
        """`mean` and `std` are those after the window, one for all channels or one each; `invert`
        turns windowed values over (1 - y) before them.

        Raises ValueError for a width or std that is not above 0, or `invert` without a window.
        """
        super().__init__()
        windows: list[Window] = []
        if window is not None:
            pair = len(window) == 2 and not isinstance(window[0], Sequence)
            windows = [tuple(window)] if pair else list(window)  # type: ignore[list-item, arg-type]
        if any(width <= 0 for _, width in windows):
            raise ValueError(f"window {window}; legal: (center, width) with a width above 0")
        if invert and not windows:
            raise ValueError("invert turns windowed values over; give a window")
        means, stds = (list(v) if isinstance(v, Sequence) else [v] for v in (mean, std))
        if min(stds) <= 0:
            raise ValueError(f"std {std}; legal: above 0")
        self.invert, self.dtype = invert, dtype
        constants = {
            "low": [c - w / 2 for c, w in windows],
            "width": [w for _, w in windows],
            "mean": means,
            "std": stds,
        }
        for name, values in constants.items():
            tensor = torch.tensor(values, dtype=torch.float64)
            self.register_buffer(name, tensor, persistent=False)

    def _apply(self, fn: Any, recurse: bool = True) -> Normalize:
        """Follow a module to its device, but keep the constants in float64 under `.half()`."""
        for name, buffer in list(self._buffers.items()):
            if buffer is not None:
                self._buffers[name] = buffer.to(fn(buffer.float()).device)
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, H, W[, C]) to (b, C, H, W); several windows need (b, H, W)."""
        if x.ndim not in (3, 4):
            raise ValueError(f"a batch has shape (b, H, W) or (b, H, W, C), not {tuple(x.shape)}")
        wide = torch.float64 if x.dtype in (torch.int32, torch.float64) else torch.float32
        x = x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2)
        low, width, mean, std = (
            getattr(self, n).to(wide)[None, :, None, None] for n in ("low", "width", "mean", "std")
        )
        if low.shape[1] > 1 and x.shape[1] > 1:
            raise ValueError("several windows are for grey images")
        y = x.to(wide)
        if low.shape[1]:
            y = ((y - low) / width).clamp(0, 1)
            if self.invert:
                y = 1 - y
        result: torch.Tensor = ((y - mean) / std).to(self.dtype)
        return result

    @classmethod
    def from_cache(cls, cache: Any, **options: Any) -> Normalize:
        """Without a window: mean and std of all values of the cache's frames, padding left out.

        Raises ValueError for a cache without frames, or of several units.
        """
        import pyarrow.compute as pc

        units = pc.unique(cache.column("unit")).to_pylist()
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
