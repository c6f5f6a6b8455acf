"""Values that differ by rounding only are one: clusters, pure and vectorised.

A grid would tear neighbours apart at its lines, and a chain of small differences would join what
differs much: here the whole spread of a cluster stays within the tolerance, and the clusters depend
on the values alone, not on their order. Runs of values without a gap larger than the tolerance are
found first; a run that spreads further is cut from its least value on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64]
_SLACK = 1 + 1e-9  # of the tolerance: 0.3 - 0.2 is more than 0.1


def clusters(
    values: NDArray[np.float64], group: Codes, tolerance: float | NDArray[np.float64]
) -> Codes:
    """Number of the cluster of each value, ascending by group and value; -1 for NaN.

    Values of two groups are never in one cluster. `tolerance` is one, or (n,) and the same within
    a group.
    """
    found = np.full(len(values), -1, np.int64)
    rows = np.flatnonzero(~np.isnan(values))
    if not len(rows):
        return found
    rows = rows[np.lexsort((values[rows], group[rows]))]
    v, g = values[rows], group[rows]
    most = np.broadcast_to(np.asarray(tolerance, np.float64), values.shape)[rows] * _SLACK
    first = np.r_[True, (g[1:] != g[:-1]) | (np.diff(v) > most[1:])]
    starts = np.flatnonzero(first)
    stops = np.r_[starts[1:], len(v)]
    for run in np.flatnonzero(v[stops - 1] - v[starts] > most[starts]):
        start, stop = starts[run], stops[run]
        while start < stop:
            first[start] = True
            start += np.searchsorted(v[start:stop], v[start] + most[start], side="right")
    found[rows] = np.cumsum(first) - 1
    return found


def vector_clusters(vectors: NDArray[np.float64], group: Codes, tolerance: float) -> Codes:
    """Number of the cluster of each vector, dense, ascending by group; vectors are (n, k, 3).

    The box around each of the k vectors of a cluster has a diagonal within the tolerance. A vector
    with a NaN is in a cluster of such of its group.
    """
    code = dense(group)
    flat = vectors.reshape(len(vectors), -1)
    rows = np.flatnonzero(~np.isnan(flat).any(axis=1))
    if len(rows) < len(flat):
        known = np.zeros(len(flat), np.int64)
        known[rows] = 1
        code = dense(code * 2 + known)
    while len(rows):
        low, extent = _extents(flat[rows], code[rows])
        spread = np.linalg.norm(extent.reshape(len(extent), -1, 3), axis=2).max(axis=1)
        wide = spread > tolerance * _SLACK
        if not wide.any():
            break
        member = np.searchsorted(low, code[rows])
        rows, member = rows[wide[member]], member[wide[member]]
        axis, widest = extent.argmax(axis=1), extent.max(axis=1)
        # Each axis may be within the tolerance where the diagonal is not.
        width = np.where(widest > tolerance * _SLACK, tolerance, widest / 2)
        sub = np.zeros(len(flat), np.int64)
        sub[rows] = clusters(flat[rows, axis[member]], code[rows], width[member])
        code = dense(code * (len(flat) + 1) + sub)
    return code


def _extents(values: NDArray[Any], code: Codes) -> tuple[Codes, NDArray[np.float64]]:
    """(distinct codes, greatest minus least of each column in each)."""
    order = np.argsort(code, kind="stable")
    of, ordered = code[order], values[order]
    starts = np.flatnonzero(np.r_[True, of[1:] != of[:-1]])
    extent = np.maximum.reduceat(ordered, starts) - np.minimum.reduceat(ordered, starts)
    return of[starts], extent


def dense(code: Codes) -> Codes:
    """The same code from 0 without gaps, in the same order."""
    if not len(code):
        return code
    return np.unique(code, return_inverse=True)[1].astype(np.int64).reshape(code.shape)
