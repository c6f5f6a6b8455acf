"""How values spread: histograms and counts of words, pure arithmetic on columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

BINS = 32
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Histogram:
    """How often values fall in bins of one width; several curves share the bins."""

    what: str
    of: str
    """what is counted, such as frames"""
    unit: str
    low: float
    high: float
    curves: tuple[tuple[str, tuple[int, ...]], ...]
    """(name, counts); one curve without a name, or several"""
    outside: int
    """values of all curves that are below or above the bins"""
    known: int
    """how many have a value"""
    unknown: int
    median: float


def histogram(
    what: str, of: str, unit: str, curves: dict[str, Numbers], bins: int = BINS
) -> Histogram | None:
    """A histogram of one or more columns (NaN: unknown); None if nothing is known.

    The bins go from the 0.5th to the 99.5th percentile where the rest lies far away.
    """
    values = np.concatenate(list(curves.values()))
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    low, high = _ends(values)
    counted = []
    for name, column in curves.items():
        inside = column[(column >= low) & (column <= high)]
        span = (low, high) if high > low else (low, low + 1)
        counted.append((name, tuple(np.histogram(inside, bins, span)[0].tolist())))
    total = sum(sum(c) for _, c in counted)
    first = next(iter(curves.values()))
    known = int(np.isfinite(first).sum())
    middle = float(np.median(values if len(curves) == 1 else _middle(curves)))
    return Histogram(
        what, of, unit, low, high, tuple(counted), len(values) - total, known, len(first) - known,
        middle,
    )  # fmt: skip


def _middle(curves: dict[str, Numbers]) -> Numbers:
    column = list(curves.values())[len(curves) // 2]
    found: Numbers = column[np.isfinite(column)]
    return found if len(found) else np.zeros(1)


def _ends(values: Numbers) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    inner = np.percentile(values, (0.5, 99.5))
    reach = float(inner[1] - inner[0])
    with np.errstate(over="ignore"):
        if reach > 0 and high - low > 3 * reach:
            return float(inner[0]), float(inner[1])
    return low, high


def counted(column: Any, most: int, other: str = "other") -> list[tuple[str | None, int]]:
    """(text, how often), most often first, by name where equal; at most so many, the rest as one.

    None is for rows without a text, and comes last.
    """
    found = column.value_counts()
    if isinstance(found, pa.ChunkedArray):
        found = found.combine_chunks()
    pairs = zip(found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True)
    every = dict(pairs)
    without = every.pop(None, 0)
    order = sorted(every.items(), key=lambda pair: (-pair[1], str(pair[0])))
    rows: list[tuple[str | None, int]] = [(str(name), count) for name, count in order[:most]]
    if left := sum(count for _, count in order[most:]):
        rows.append((f"{other} ({len(order) - most})", left))
    return rows + ([(None, without)] if without else [])


def distinct(group: NDArray[np.int64], code: NDArray[np.int64], groups: int) -> NDArray[np.int64]:
    """(groups,) how many different codes from 0 each group has; codes below 0 are none."""
    known = code >= 0
    if not known.any():
        return np.zeros(groups, np.int64)
    span = int(code.max()) + 1
    pairs = np.unique(group[known] * span + code[known])
    return np.bincount(pairs // span, minlength=groups)
