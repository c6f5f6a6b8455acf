"""Classes of frames, to be counted on each side and to be balanced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from trainer_adapter.errors import SplitError
from trainer_adapter.reading.split.columns import Frames, coded

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
                f"{many} classes in {groups} groups are more than can be balanced; give fewer, "
                "such as ages in bins"
            )
        total = np.zeros(groups * many)
        for number in self.numbers:
            flat = np.where(of < 0, 0, of * many + number)
            total += np.bincount(flat, of >= 0, minlength=groups * many)
        return total.reshape(groups, many)


def classes_of(frames: Frames, indices: NDArray[np.int64], said: Any) -> Classes:
    """Classes of frames of a whole cache: `said` is a column of frames/, or (n,) or (n, k) values.

    Of (n, k) values each of the k labels has its classes. Raises ValueError for numbers that are no
    classes, or values of another length; KeyError for an unknown column.
    """
    if isinstance(said, str):
        columns = [frames.column(said).take(pa.array(indices))]
    else:
        values = said if isinstance(said, pa.Array | pa.ChunkedArray) else np.asarray(said)
        shape = (len(values),) if isinstance(values, pa.Array | pa.ChunkedArray) else values.shape
        if len(shape) not in (1, 2) or shape[0] != len(indices):
            raise ValueError(
                f"classes of shape {shape} for {len(indices)} frames; legal: the name of a column "
                "of frames/, (n,) or (n, k) values"
            )
        columns = [values] if len(shape) == 1 else list(values.T)
        columns = [c if hasattr(c, "combine_chunks") or isinstance(c, pa.Array)
                   else pa.array(c.tolist()) for c in columns]  # fmt: skip
    names: list[str] = []
    numbers = []
    for k, column in enumerate(columns):
        _hold_kind(column, said)
        number, values = coded(column)
        if any(isinstance(v, float) and not v.is_integer() for v in values):
            raise ValueError(
                f"{len(values)} numbers such as {values[0]} are no classes; give bins of them"
            )
        place = np.append(len(names) + np.arange(len(values)), len(names) + len(values))
        numbers.append(place[number])
        before = f"{k}: " if len(columns) > 1 else ""
        unknown = ["unknown"] if (number < 0).any() else []
        names += [f"{before}{v}" for v in (*values, *unknown)]
    return Classes(tuple(names), tuple(numbers))


def _hold_kind(column: Any, said: Any) -> None:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_nested(kind):
        name = repr(said) if isinstance(said, str) else "what is given"
        raise ValueError(f"{name} is {kind}; classes are text, whole numbers, true and false")
