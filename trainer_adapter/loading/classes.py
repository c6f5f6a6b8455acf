"""Values of a label to numbers, and what follows from how often each is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trainer_adapter.errors import LabelError
from trainer_adapter.format.keywords import nearest
from trainer_adapter.loading.tables import is_text, plain, says

_MOST = 1 << 16
"""whole numbers above are no numbers of classes"""
_IGNORED = -100
"""what torch's cross entropy leaves out by default"""


@dataclass(frozen=True)
class Encoded:
    """Labels of n frames, as numbers."""

    values: NDArray[Any]
    """(n,) int64 class numbers, or float32; where there is none -100, or NaN"""
    classes: list[Any] | None
    """what the numbers stand for, in their order; None for float32"""
    known: NDArray[np.bool_]
    """(n,) False where there is no label"""


def encode(column: Any, name: str, classes: Any = None) -> Encoded:
    """A column of labels as numbers.

    By itself, text is numbered in the order of its values, whole numbers from 0 are class numbers
    as they are, false and true are 0 and 1, and other numbers are float32. `classes` says it all: a
    sequence of values, a mapping of values to numbers, what has `classes` of its own, or False for
    numbers that are none of classes; so do classes that are empty, as theirs are. Raises LabelError
    for a value that is no class, or a column that cannot be a label.
    """
    column = plain(column)
    kind = column.type
    check_kind(kind, name)
    known = says(column).to_numpy(zero_copy_only=False)
    if pa.types.is_null(kind):
        column = column.cast(pa.string())
    if classes is None:
        classes = _by_type(column, known, name)
    numbers = {} if classes is False else numbers_of(classes)
    if not numbers:
        return _numbers(column, known, name)
    coded = column.dictionary_encode()
    there = set(np.unique(coded.indices.fill_null(0).to_numpy()[known]).tolist())
    values = coded.dictionary.to_pylist()
    unknown = [values[k] for k in sorted(there) if values[k] not in numbers]
    if unknown:
        raise LabelError(
            f"label {name!r} has values that are no class, {', '.join(map(repr, unknown[:5]))}; "
            f"{nearest(str(unknown[0]), map(str, numbers))}"
        )
    table = np.array([numbers.get(v, _IGNORED) for v in values] or [_IGNORED], np.int64)
    found = table[coded.indices.fill_null(0).to_numpy()] if len(column) else np.zeros(0, np.int64)
    return Encoded(np.where(known, found, _IGNORED), names_of(numbers), known)


def _by_type(column: Any, known: NDArray[np.bool_], name: str) -> Any:
    kind = column.type
    if is_text(kind):
        return sorted(pc.unique(column.filter(pa.array(known))).to_pylist())
    if pa.types.is_boolean(kind):
        return [False, True]
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return False
    held = column.filter(pa.array(known))
    low, high = pc.min_max(held).as_py().values()
    if low is None:
        return []
    if low < 0 or high >= _MOST:
        raise LabelError(
            f"label {name!r} has whole numbers from {low} to {high}; legal as class numbers: 0 to "
            f"{_MOST - 1}. Give classes=[...], its values in the order of their numbers, or "
            "classes=False for numbers that are no classes"
        )
    return range(high + 1)


def _numbers(column: Any, known: NDArray[np.bool_], name: str) -> Encoded:
    if is_text(column.type):
        if known.any():
            raise LabelError(f"label {name!r} is text, and classes=False is for numbers")
        column = pa.nulls(len(column))
    values = column.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
    return Encoded(np.where(known, values, np.nan).astype(np.float32), None, known)


def numbers_of(classes: Any) -> dict[Any, int]:
    """{value: number} of what `classes` may be. Raises ValueError for what it may not be."""
    if hasattr(classes, "class_numbers"):  # of another dataset, with all that it takes for a class
        classes = classes.class_numbers
    elif hasattr(classes, "classes"):
        classes = classes.classes
    if isinstance(classes, Mapping):
        numbers = dict(classes)
        if not all(isinstance(n, int | np.integer) and n >= 0 for n in numbers.values()):
            raise ValueError(f"classes {numbers}; legal: whole numbers from 0 for each value")
        return {value: int(n) for value, n in numbers.items()}
    if isinstance(classes, str) or not isinstance(classes, Sequence | np.ndarray):
        raise ValueError(
            f"classes {classes!r}; legal: a list of values, a dictionary of their numbers, a "
            "dataset or a loader, False for numbers that are no classes, or None"
        )
    values = [v.item() if isinstance(v, np.generic) else v for v in classes]
    if len(set(values)) < len(values):
        raise ValueError(f"classes {values}: one stands there twice")
    return {value: k for k, value in enumerate(values)}


def names_of(numbers: Mapping[Any, int]) -> list[Any]:
    """The first value of each number, None for a number without one."""
    names: list[Any] = [None] * (max(numbers.values(), default=-1) + 1)
    for value, number in reversed(list(numbers.items())):
        names[number] = value
    return names


def counts_of(values: NDArray[Any], classes: Sequence[Any]) -> dict[Any, int]:
    """{class: frames} of (n,) class numbers."""
    counts = np.bincount(values[values >= 0], minlength=len(classes)).tolist()
    return dict(zip(classes, counts, strict=True))


def balanced(values: NDArray[Any]) -> NDArray[np.float64]:
    """(n,) float64, the weight of each frame by its class number: n / (classes * frames of its
    class), classes being those that are there, as scikit-learn's "balanced"."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray(len(values) / (len(counts) * counts[place]), np.float64)


def check_kind(kind: pa.DataType, name: str) -> None:
    """Raises LabelError for a column that cannot be a label."""
    t = pa.types
    kinds = (t.is_boolean, t.is_integer, t.is_floating, t.is_decimal, is_text, t.is_null)
    if not any(is_kind(kind) for is_kind in kinds):
        raise LabelError(f"column {name!r} is {kind}; labels are text, numbers or true and false")
