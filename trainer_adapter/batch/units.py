"""Units of the frames of a batch: what their values mean, and what nothing is in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

MASKS = frozenset({"binary", "fractional", "labelmap"})
"""units of segmentations, whose values are not to be mixed"""
_AIR = -1000
"""HU, as recipes pad with; 0 would be water"""


class Units:
    """The column `unit` of the frames of a selection."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        coded = column.combine_chunks().cast(pa.string()).dictionary_encode()
        self._names: list[str | None] = [*coded.dictionary.to_pylist(), None]
        none = len(self._names) - 1
        self._codes: NDArray[np.int32] = coded.indices.fill_null(none).to_numpy().astype(np.int32)
        self._nothing = np.array([_AIR if name == "HU" else 0 for name in self._names])
        first = self._codes[:1].tolist()
        same = bool(first) and bool((self._codes == first[0]).all())
        self._only = (self._names[first[0]],) if same else None

    def of(self, rows: Any) -> tuple[str | None, ...]:
        """The units of these frames, each once; None for colour."""
        if self._only is not None:
            return self._only
        return tuple(self._names[k] for k in sorted(set(self._codes[rows].tolist())))

    def each(self, rows: Any) -> list[tuple[str | None]]:
        """The unit of each of these frames."""
        if self._only is not None:
            return [self._only] * len(rows)
        return [(self._names[k],) for k in self._codes[rows].tolist()]

    def nothing(self, rows: NDArray[np.int64], dtype: np.dtype[Any]) -> NDArray[Any]:
        """(b,) what stands for nothing in each frame: air in HU, else 0; as far as dtype has it."""
        values = self._nothing[self._codes[rows]]
        if dtype.kind == "u":
            values = np.maximum(values, 0)
        found: NDArray[Any] = values.astype(dtype)
        return found
