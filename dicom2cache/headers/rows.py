"""Rows of FILES, of which many may be alike, to a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, cast

import pyarrow as pa

from dicom2cache.headers.series import COLUMNS, Alike
from dicom2cache.records import Header
from dicom2cache.schema import FILES

_own_of = itemgetter(*COLUMNS)
_PLACES = [FILES.get_field_index(name) for name in COLUMNS]


def table_of(rows: Sequence[Header | Alike]) -> pa.Table:
    """FILES of the rows, in their order. Raises for a value that does not fit its type."""
    if not any(isinstance(row, Alike) for row in rows):
        return pa.Table.from_pylist(list(rows), FILES)
    models: dict[int, Header] = {}
    own: list[tuple[Any, ...]] = []
    which: list[int] = []
    numbers: dict[int, int] = {}
    for row in rows:
        model, values = row if isinstance(row, Alike) else (row, _own_of(row))
        which.append(numbers.setdefault(id(model), len(numbers)))
        models[id(model)] = model
        own.append(values)
    columns = list(_repeated(list(models.values()), which))
    for place, values in zip(_PLACES, zip(*own, strict=True), strict=True):
        columns[place] = pa.array(values, FILES.field(place).type)
    return pa.Table.from_arrays(columns, schema=FILES)


def _repeated(models: list[Header], which: list[int]) -> Iterator[pa.Array]:
    """The columns of the models' rows, in the order that `which` says; without those of COLUMNS."""
    order, count = pa.array(which, pa.int64()), len(which)
    for place, field in enumerate(FILES):
        values = [cast(Any, model).get(field.name) for model in models]
        if place in _PLACES or all(value is None for value in values):
            yield _nulls(place, count)
        elif len(models) == 1:
            yield pa.repeat(pa.scalar(values[0], field.type), count)
        else:
            yield pa.array(values, field.type).take(order)


@lru_cache(maxsize=1024)
def _nulls(place: int, count: int) -> pa.Array:
    """A column of FILES in which nothing is said, the same each time."""
    return pa.nulls(count, FILES.field(place).type)
