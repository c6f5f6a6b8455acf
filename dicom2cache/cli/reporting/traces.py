"""Waveforms as traces: least and greatest value of each step, channels below each other. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST = 12
"""channels that are drawn"""
_LOUD = 99.95
"""percentile of what is farthest from the median: a spike beyond it is cut off"""

Steps = NDArray[np.float64]


def steps(values: NDArray[Any], width: int) -> Steps:
    """(channels, steps, 2): least and greatest of each step, -1 to 1 about the channel's median.

    `values` (channels, samples), NaN where nothing was recorded; all channels have one scale, so
    that they can be compared. At most `width` steps and MOST channels.
    """
    shown = np.asarray(values[:MOST], np.float64)
    with np.errstate(all="ignore"):
        middle = np.array([np.median(c[np.isfinite(c)]) if np.isfinite(c).any() else 0
                           for c in shown])  # fmt: skip
        away = shown - middle[:, None]
        far = np.abs(away[np.isfinite(away)])
        scale = float(np.percentile(far, _LOUD)) if len(far) else 0.0
        if not scale > 0:
            scale = float(far.max(initial=0.0)) or 1.0
        away = np.clip(away / scale, -1, 1)
    count = away.shape[1]
    edges = np.linspace(0, count, min(width, count) + 1).astype(np.int64)[:-1]
    missing = np.isnan(away)
    least = np.minimum.reduceat(np.where(missing, np.inf, away), edges, axis=1)
    most = np.maximum.reduceat(np.where(missing, -np.inf, away), edges, axis=1)
    found = np.stack([least, most], axis=2)
    found[~np.isfinite(found)] = np.nan
    return found


def lines(found: Steps, width: float, height: float) -> Iterator[list[list[tuple[float, float]]]]:
    """Of each channel its lines, points (x, y) of a drawing of that size; a gap ends a line."""
    channels, count = found.shape[:2]
    band = height / channels
    x = (np.arange(count) + 0.5) * width / count
    for k in range(channels):
        y = (k + 0.5) * band - found[k] * band * 0.48
        runs: list[list[tuple[float, float]]] = [[]]
        for at, (low, high) in zip(x.tolist(), y.tolist(), strict=True):
            if low != low:  # nothing was recorded
                runs.append([])
                continue
            runs[-1] += [(at, low)] if low == high else [(at, low), (at, high)]
        yield [run for run in runs if run]


def paths(found: Steps, width: float, height: float) -> tuple[str, ...]:
    """Of each channel the `d` of an SVG path."""
    return tuple(
        "".join(
            "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in [*run, (run[-1][0] + 0.1, run[-1][1])])
            for run in of_channel
        )
        for of_channel in lines(found, width, height)
    )
