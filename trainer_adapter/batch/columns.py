"""Columns of frames/ as parts of a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray


class Column:
    """Values of the rows of a batch: of one type in all batches."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        """Numbers with nulls become float64, null NaN; all but numbers and truth are lists."""
        kind = column.type
        plain = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        plain |= pa.types.is_boolean(kind) and not column.null_count
        self._numbers: NDArray[Any] | None = np.array(column.to_numpy()) if plain else None
        self._others: Any = None if plain else column.combine_chunks()

    def take(self, rows: NDArray[np.int64]) -> torch.Tensor | list[Any]:
        """(b,) tensor, or list of b values."""
        if self._numbers is not None:
            return torch.from_numpy(self._numbers[rows])
        values: list[Any] = self._others.take(pa.array(rows)).to_pylist()
        return values
