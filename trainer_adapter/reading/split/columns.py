"""Columns of frames/ as numbers, and those that a cache does not have."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


class Frames(Protocol):
    """What is needed of a cache."""

    def __len__(self) -> int: ...

    def column(self, name: str) -> pa.ChunkedArray:
        """A column of frames/; raises KeyError where there is none."""


def found(frames: Frames, name: str) -> pa.ChunkedArray | None:
    """A column; None where the cache was made before it came."""
    try:
        return frames.column(name)
    except KeyError:
        return None


def coded(column: Any) -> tuple[NDArray[np.int64], list[Any]]:
    """((n,) int64 numbers of values, the values, sorted); -1: null, NaN, or an empty text."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_null(column.type):
        column = column.cast(pa.string())
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    codes = column.dictionary_encode()
    values = codes.dictionary
    number = codes.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    order = np.asarray(pc.array_sort_indices(values))
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        order = order[pc.not_equal(values, "").take(order).to_numpy(zero_copy_only=False)]
    place = np.full(len(values) + 1, -1)  # the last is that of null
    place[order] = np.arange(len(order))
    return place[number], codes.dictionary.take(pa.array(order)).to_pylist()


def numbers(frames: Frames, name: str) -> NDArray[np.float64]:
    """(n,) float64; NaN: null, or no such column."""
    column = found(frames, name)
    if column is None:
        return np.full(len(frames), np.nan)
    return np.asarray(column.to_numpy(), np.float64)
