"""Least, greatest, mean, deviation and percentiles of one frame."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


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


def statistics(
    values: NDArray[Any], padding: NDArray[np.bool_] | None, ends: tuple[int, int] | None = None
) -> Statistics:
    """Statistics of one frame, (H, W[, C]) of any dtype, without `padding` (H, W).

    `ends` are the least and the greatest of all values, padding too, where they are known.
    """
    step = max(1, int(np.sqrt(values.shape[0] * values.shape[1] / _GRID)))
    grid = values[::step, ::step]
    fraction = None
    if padding is not None:
        fraction = float(np.count_nonzero(padding)) / padding.size
        if fraction:
            grid = grid[~padding[::step, ::step]]
            values, ends = values[~padding], None
    if values.dtype.kind == "f":
        finite = np.isfinite(values)
        if not finite.all():
            values = values[finite]
        grid = grid[np.isfinite(grid)]
    if not values.size:
        return Statistics(None, None, None, None, (None,) * len(PERCENTILES), fraction)
    with np.errstate(over="ignore", invalid="ignore"):
        mean, std = (m if math.isfinite(m) else None for m in _moments(values))
    low, high = ends or (values.min().item(), values.max().item())
    points: tuple[float | None, ...] = (None,) * len(PERCENTILES)
    if grid.size:
        points = _percentiles(grid, low, high)
    return Statistics(float(low), float(high), mean, std, points, fraction)


_AT_ONCE = 1 << 20


def of_waveform(values: NDArray[np.float32]) -> Statistics:
    """Statistics of (channels, samples); NaN is padding. A block of samples at a time."""
    step = max(1, _AT_ONCE // len(values))
    blocks = [values[:, k : k + step] for k in range(0, values.shape[1], step)]
    count, total, low, high = 0, 0.0, math.inf, -math.inf
    for block in blocks:
        own = block[np.isfinite(block)]
        if own.size:
            count += own.size
            total += float(own.sum(dtype=np.float64))
            low, high = min(low, float(own.min())), max(high, float(own.max()))
    padding = sum(np.count_nonzero(np.isnan(block)) for block in blocks)
    fraction = padding / values.size if padding else None
    if not count:
        return Statistics(None, None, None, None, (None,) * len(PERCENTILES), fraction)
    mean, squares = total / count, 0.0
    for block in blocks:
        wide = block[np.isfinite(block)].astype(np.float64) - mean
        squares += float(np.square(wide).sum())
    grid = values[:, :: max(1, values.size // _GRID)]
    grid = grid[np.isfinite(grid)]
    points = _percentiles(grid, low, high) if grid.size else (None,) * len(PERCENTILES)
    return Statistics(low, high, mean, math.sqrt(squares / count), points, fraction)


def _percentiles(grid: NDArray[Any], low: float, high: float) -> tuple[float, ...]:
    """Values at PERCENTILES of `grid`, which lies in `low` to `high`; a tenth of np.percentile."""
    places = _nearest(grid.size)
    if grid.itemsize > 2:
        return tuple(map(float, np.sort(grid, axis=None)[list(places)]))
    if high - low > grid.size:
        ordered = np.sort(grid, axis=None, kind="stable")  # of 16 bits a radix sort
        return tuple(float(ordered[k]) for k in places)
    # Counting takes half the time of sorting. The difference may wrap: unsigned it is right.
    above = (grid - low).reshape(-1).view(f"u{grid.itemsize}")
    reached = np.cumsum(np.bincount(above))
    return tuple(float(low + k) for k in np.searchsorted(reached, places, "right").tolist())


@lru_cache(maxsize=64)
def _nearest(count: int) -> tuple[int, ...]:
    """Places of PERCENTILES among `count` sorted values, by NumPy's rule `nearest`."""
    return tuple(int(k) for k in np.percentile(np.arange(count), PERCENTILES, method="nearest"))


def _moments(values: NDArray[Any]) -> tuple[float, float]:
    """Mean and standard deviation; sums of whole numbers are exact, whatever the CPU."""
    n = values.size
    if values.dtype.kind in "iu" and values.dtype.itemsize <= 2:
        total, squares = _sums(values.reshape(-1))
        mean = total / n
        return mean, max(0.0, (squares * n - total * total) / n / n) ** 0.5
    wide = values.astype(np.float64)
    mean = float(wide.mean())
    np.subtract(wide, mean, out=wide)
    return mean, float(np.sqrt(np.multiply(wide, wide, out=wide).mean()))


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
