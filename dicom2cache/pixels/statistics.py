"""Least, greatest, mean, deviation and percentiles of one frame."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom2cache.pixels import kernel, lanes


@dataclass(frozen=True)
class Statistics:
    """Of one frame's values without padding; all None if nothing is left.

    Mean and deviation are None too where float64 cannot hold them or the sums that they need.
    """

    min: float | None
    max: float | None
    mean: float | None
    std: float | None
    percentiles: tuple[float | None, ...]
    """at PERCENTILES, of a regular sub-grid"""
    padding_fraction: float | None


PERCENTILES = (0.5, 1.0, 50.0, 99.0, 99.5)
_GRID = 16384
_NO_POINTS: tuple[float | None, ...] = (None,) * len(PERCENTILES)


def statistics(
    values: NDArray[Any], padding: NDArray[np.bool_] | None, ends: tuple[int, int] | None = None
) -> Statistics:
    """Statistics of one frame, (H, W[, C]) of any dtype, without `padding` (H, W).

    `ends` are the least and the greatest of all values, padding too, where they are known.
    """
    if kernel.takes(values, "BhH"):
        mask = None if padding is None else np.ascontiguousarray(padding)
        found = kernel.compiled.whole(values, mask, grid_step(values.shape), nearest)
        return of_whole(found, None if padding is None else padding.size)
    step = grid_step(values.shape)
    grid = values[::step, ::step]
    fraction, every = None, values
    if padding is not None:
        fraction = float(np.count_nonzero(padding)) / padding.size
        if fraction:
            grid = grid[~padding[::step, ::step]]
            values, ends = values[~padding], None
    if grid.dtype.kind == "f":
        grid = grid[np.isfinite(grid)]
    if kernel.takes(every, "ifd"):
        mask = None if padding is None else np.ascontiguousarray(padding)
        n, _, low, high, total, squares = kernel.compiled.real(every, mask)
        if not n:
            return _nothing(fraction)
        mean, std = _finite(total / n, squares / n)
        return Statistics(low, high, mean, std, _percentiles(grid, low, high), fraction)
    if values.dtype.kind == "f":
        finite = np.isfinite(values)
        if not finite.all():
            values = values[finite]
    if not values.size:
        return _nothing(fraction)
    mean, std = _moments(values)
    low, high = ends or (values.min().item(), values.max().item())
    # No -0: which of two equal zeros is found would hang on the processor.
    return Statistics(low + 0.0, high + 0.0, mean, std, _percentiles(grid, low, high), fraction)


_AT_ONCE = 1 << 20


def of_waveform(values: NDArray[np.float32]) -> Statistics:
    """Statistics of (channels, samples), of which NaN is padding; percentiles of all channels."""
    found = statistics(values, None)
    step = max(1, _AT_ONCE // len(values))
    padding = sum(
        np.count_nonzero(np.isnan(values[:, k : k + step])) for k in range(0, values.shape[1], step)
    )
    fraction = padding / values.size if padding else None
    if found.min is None or found.max is None:
        return replace(found, padding_fraction=fraction)
    grid = values[:, :: max(1, values.size // _GRID)]
    points = _percentiles(grid[np.isfinite(grid)], found.min, found.max)
    return replace(found, percentiles=points, padding_fraction=fraction)


def of_whole(found: tuple[Any, ...], pixels: int | None) -> Statistics:
    """What the compiled loops found of a frame of whole numbers.

    `pixels` are those of the frame where padding is declared.
    """
    n, padded, low, high, total, upper, lower, percentiles, _ = found
    fraction = None if pixels is None else padded / pixels
    if not n:
        return _nothing(fraction)
    mean, std = _of_sums(n, total, (upper << 16) + lower)
    return Statistics(float(low), float(high), mean, std, percentiles or _NO_POINTS, fraction)


def grid_step(shape: tuple[int, ...]) -> int:
    """Every how many rows and columns percentiles are taken of a frame (H, W, ...)."""
    return max(1, int(math.sqrt(shape[0] * shape[1] / _GRID)))


def _nothing(fraction: float | None) -> Statistics:
    return Statistics(None, None, None, None, _NO_POINTS, fraction)


def _percentiles(grid: NDArray[Any], low: float, high: float) -> tuple[float | None, ...]:
    """Values at PERCENTILES of `grid`, which lies in `low` to `high`; a tenth of np.percentile."""
    if not grid.size:
        return _NO_POINTS
    places = nearest(grid.size)
    if grid.itemsize > 2:
        return tuple(float(v) + 0.0 for v in np.sort(grid, axis=None)[list(places)])
    if high - low > grid.size:
        ordered = np.sort(grid, axis=None, kind="stable")  # of 16 bits a radix sort
        return tuple(float(ordered[k]) for k in places)
    # Counting takes half the time of sorting. The difference may wrap: unsigned it is right.
    above = (grid - low).reshape(-1).view(f"u{grid.itemsize}")
    reached = np.cumsum(np.bincount(above))
    return tuple(float(low + k) for k in np.searchsorted(reached, places, "right").tolist())


@lru_cache(maxsize=64)
def nearest(count: int) -> tuple[int, ...]:
    """Places of PERCENTILES among `count` sorted values, by NumPy's rule `nearest`."""
    return tuple(int(k) for k in np.percentile(np.arange(count), PERCENTILES, method="nearest"))


def _moments(values: NDArray[Any]) -> tuple[float | None, float | None]:
    """Mean and standard deviation; sums of whole numbers are exact, whatever the CPU."""
    n, flat = values.size, values.reshape(-1)
    if values.dtype.kind in "iu" and values.dtype.itemsize <= 2:
        return _of_sums(n, *_sums(flat))
    mean = lanes.total(flat) / n
    return _finite(mean, lanes.total(flat, mean) / n)


def _of_sums(n: int, total: int, squares: int) -> tuple[float, float]:
    return total / n, max(0.0, (squares * n - total * total) / n / n) ** 0.5


def _finite(mean: float, variance: float) -> tuple[float | None, float | None]:
    std = math.sqrt(variance) if math.isfinite(variance) else None
    return mean if math.isfinite(mean) else None, std


_ROW, _BLOCK = 4096, 1 << 16  # BLAS takes no threads for so short a row; a block fits the cache
_ONES = np.ones(_ROW)


def _sums(flat: NDArray[Any]) -> tuple[int, int]:
    """Exact (sum, sum of squares) of 8- or 16-bit whole numbers.

    In float64, which is faster than integers are: the squares of a row sum to less than 2^53, so
    that every step is exact in whatever order.
    """
    total = squares = 0
    # One buffer for all blocks: fresh ones can cost more in page faults than the sums do.
    buffer = np.empty(min(flat.size, _BLOCK))
    for start in range(0, flat.size, _BLOCK):
        wide = buffer[: flat.size - start]
        np.copyto(wide, flat[start : start + _BLOCK])
        whole = wide.size // _ROW * _ROW
        for part in (wide[:whole].reshape(-1, _ROW), wide[None, whole:]):
            if part.size:
                total += int(np.vecdot(part, _ONES[: part.shape[1]]).sum())
                squares += int(np.vecdot(part, part).astype(np.uint64).sum())
    return total, squares
