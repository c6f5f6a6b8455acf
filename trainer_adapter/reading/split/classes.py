"""Classes of frames, to be counted on each side and to be balanced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from trainer_adapter.errors import SplitError, counting
from trainer_adapter.reading.split.columns import Frames, coded, found

_MOST = 1 << 26
"""counts of classes in groups"""


@dataclass(frozen=True)
class Classes:
    """The classes of n frames, of one label or of several."""

    names: tuple[str, ...]
    """of the first label, then of the second, ...; `unknown`: frames without it"""
    numbers: tuple[NDArray[np.int64], ...]
    """(n,) of each label, the place of the frame's class in `names`"""

    def counts(self, of: NDArray[np.int64], groups: int) -> NDArray[np.float64]:
        """(groups, c) frames of each class in each group; -1 in `of`, (n,): in none.

        Raises SplitError for too many of both.
        """
        many = len(self.names)
        if many * groups > _MOST:
            raise SplitError(
                f"{counting(many, 'class', 'classes')} in {counting(groups, 'group')} are more "
                "than can be balanced; give fewer, such as ages in bins"
            )
        total = np.zeros(groups * many)
        for number in self.numbers:
            flat = np.where(of < 0, 0, of * many + number)
            total += np.bincount(flat, of >= 0, minlength=groups * many)
        return total.reshape(groups, many)


def classes_of(frames: Frames, indices: NDArray[np.int64], said: Any) -> Classes:
    """Classes of frames of a whole cache: `said` is a column of frames/, or (n,) or (n, k) values.

    Several columns, or (n, k) values, are several labels, each with its classes. Raises ValueError
    for numbers that are no classes, or values of another length; KeyError for an unknown column.
    """
    names: list[str] = []
    numbers = []
    columns = _columns(frames, indices, said)
    for name, column in columns.items():
        _hold_kind(column, name)
        number, values = coded(column)
        if any(isinstance(v, float) and not v.is_integer() for v in values):
            raise ValueError(
                f"numbers such as {values[0]} ({len(values)} in all) are no classes; give bins of "
                "them"
            )
        place = np.append(len(names) + np.arange(len(values)), len(names) + len(values))
        numbers.append(place[number])
        before = f"{name}: " if len(columns) > 1 else ""
        unknown = ["unknown"] if (number < 0).any() else []
        names += [f"{before}{v}" for v in (*values, *unknown)]
    return Classes(tuple(names), tuple(numbers))


def _columns(frames: Frames, indices: NDArray[np.int64], said: Any) -> dict[str, Any]:
    """{name, or number: the values of a label}."""
    if isinstance(said, str):
        return {said: frames.column(said).take(pa.array(indices))}
    if isinstance(said, list | tuple) and len(said) != len(indices):
        known = [found(frames, name) if isinstance(name, str) else None for name in said]
        if said and all(column is not None for column in known):
            return {n: c.take(pa.array(indices)) for n, c in zip(said, known, strict=True) if c}
    is_arrow = isinstance(said, pa.Array | pa.ChunkedArray)
    values = said if is_arrow else np.asarray(said)
    shape = (len(values),) if is_arrow else values.shape
    if len(shape) not in (1, 2) or shape[0] != len(indices):
        raise ValueError(
            f"classes of shape {shape} for {counting(len(indices), 'frame')}; legal: columns of "
            "frames/, by name, (n,) or (n, k) values"
        )
    if is_arrow:
        return {"0": values}
    each = [values] if len(shape) == 1 else list(values.T)
    try:  # NaN is null, as pandas has it
        return {str(k): pa.array(c.tolist(), from_pandas=True) for k, c in enumerate(each)}
    except pa.ArrowException as e:
        raise ValueError(f"values of several kinds are no classes: {e}") from e


def _hold_kind(column: Any, name: str) -> None:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_nested(kind):
        raise ValueError(
            f"label {name!r} is {kind}; classes are text, whole numbers, true and false"
        )
