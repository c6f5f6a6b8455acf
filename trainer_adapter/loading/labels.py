"""Labels: from a column of the cache, or from a table of the user's, joined on a column."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trainer_adapter.cache import Cache
from trainer_adapter.errors import LabelError
from trainer_adapter.format.root import read_twins
from trainer_adapter.loading.options import Labels
from trainer_adapter.reading.hashed import DOMAINS, hashes, is_deidentified


@dataclass(frozen=True)
class Encoded:
    """Labels of n frames, as numbers."""

    values: NDArray[Any]
    """(n,) int64 class numbers, or numbers as they were"""
    classes: list[str] | None
    """names of the classes, sorted; None for numbers"""
    known: NDArray[np.bool_]
    """(n,) False where there is no label"""


@dataclass(frozen=True)
class Labelled:
    """The frames of a cache that are trained on, with their labels."""

    cache: Cache
    kept: NDArray[np.int64]
    """(n,) positions of the frames in the cache that was given"""
    values: NDArray[Any] | None
    """(n,) int64 class numbers, or numbers; None without a label"""
    classes: list[str]


def labelled(cache: Cache, wanted: Labels) -> Labelled:
    """The frames that are wanted, with their labels.

    Raises LabelError if frames have no label, unless `missing` is "drop".
    """
    label, labels, on, missing = wanted.label, wanted.labels, wanted.on, wanted.missing
    if (labels is None) != (on is None) or (labels is not None and label is None):
        raise ValueError("`labels`, `on` and `label` go together: table, key, column")
    if missing not in ("error", "drop"):
        raise ValueError(f"missing {missing!r}; legal: error, drop")
    kept = np.arange(len(cache))
    if wanted.kind is not None:
        kept = np.flatnonzero(pc.equal(cache.column("kind"), wanted.kind).to_numpy())
        cache = cache if len(kept) == len(cache) else cache.select(kept)
    if label is None:
        return Labelled(cache, kept, None, [])
    found = (
        from_column(cache, label)
        if labels is None
        else from_table(cache, labels, str(on), label, wanted.key)
    )
    if not found.known.all():
        lost = np.flatnonzero(~found.known)
        if missing == "error":
            key = on or "path"
            example = cache.column(key)[int(lost[0])]
            raise LabelError(
                f"{len(lost)} of {len(cache)} frames have no label {label!r}, such as "
                f'{key} {example}; give missing="drop" to leave them out'
            )
        cache = cache.select(found.known)
    return Labelled(cache, kept[found.known], found.values[found.known], found.classes or [])


def from_column(cache: Cache, name: str) -> Encoded:
    """Labels out of a column of frames/."""
    return _encode(cache.column(name), name)


def from_table(
    cache: Cache, table: Any, on: str, name: str, key_file: str | os.PathLike[str] | None = None
) -> Encoded:
    """Column `name` of `table`, joined to the frames on `on`, a column of both.

    `table` is a pyarrow Table, a pandas DataFrame, a dictionary of lists, or a path to a .csv or
    .parquet file; `key_file` that of a de-identified cache, by which the keys are hashed. Raises
    LabelError if a column is missing, a key stands there twice, or hashes are joined to what is
    none; ValueError for another key file.
    """
    found, attributes = _table(table), cache.attributes
    hashed = hashes(cache.path, attributes, key_file)
    for column in (on, name):
        if column not in found.column_names:
            raise LabelError(f"the labels have no column {column!r}: {found.column_names}")
    keys = cache.column(on)
    key = found[on]
    if isinstance(key, pa.ChunkedArray):
        key = key.combine_chunks()
    try:
        key = key.cast(keys.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as e:
        raise LabelError(f"column {on!r} of the labels is {key.type}, of frames {keys.type}") from e
    if on in DOMAINS and hashed:
        key = hashed.column(DOMAINS[on], key)
    elif (
        on in DOMAINS
        and is_deidentified(attributes)
        and not pc.any(pc.is_in(keys, value_set=key), min_count=0).as_py()
    ):
        raise LabelError(
            f"{cache.path}: de-identified: its column {on!r} has hashes, and no key of the labels "
            "is one of them; give key=KEYFILE, and they are hashed"
        )
    counts = pc.value_counts(key.drop_null())
    twice = pc.filter(counts.field("values"), pc.greater(counts.field("counts"), 1))
    if len(twice):
        raise LabelError(f"{len(twice)} keys stand twice in the labels, such as {twice[0]}")
    values = found[name]
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if pa.types.is_null(values.type):  # of a table without rows, or without a label
        values = values.cast(pa.string())
    _check_kind(_plain_type(values.type), name)
    place = pc.index_in(keys, value_set=key, skip_nulls=True)
    if on == "path":
        labelled = pc.if_else(pc.is_valid(values.take(place)), place, None)
        place = pc.coalesce(labelled, _by_twin(cache, keys, key, values))
    return _encode(values.take(place), name)


def _by_twin(cache: Cache, keys: Any, key: Any, values: Any) -> Any:
    """The place in the labels of a path that is the same file as that of the frame, but is not
    stored; for each frame, null where there is none.

    Raises LabelError if two paths of one file have different labels.
    """
    twins = read_twins(cache.core.root).select(["path", "same_path"])
    own, stored = (twins[c].cast(key.type).combine_chunks() for c in ("path", "same_path"))
    place = pc.index_in(own, value_set=key, skip_nulls=True)
    # A path of that name that is stored itself has its own label, and one without has none to say.
    known = pc.and_not(pc.is_valid(values.take(place)), pc.is_in(own, value_set=_plain(keys)))
    own, stored, place = (column.filter(known) for column in (own, stored, place))
    direct = pc.index_in(stored, value_set=key, skip_nulls=True)
    first = pc.index_in(stored, value_set=stored)  # the first twin of the same file
    told = values.take(direct)
    other = pc.if_else(pc.is_valid(told), told, values.take(place.take(first)))
    differ = np.flatnonzero(pc.not_equal(values.take(place), other).fill_null(False))
    if len(differ):
        k = int(differ[0])
        raise LabelError(
            f"{own[k]} and {stored[k]} are the same file twice, but the labels say "
            f"{values[place[k].as_py()]} and {other[k]}; give them one"
        )
    return place.take(pc.index_in(keys, value_set=stored, skip_nulls=True))


def _plain(column: Any) -> Any:
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _table(table: Any) -> pa.Table:
    if isinstance(table, str | Path):
        return _of_file(Path(table))
    if isinstance(table, pa.Table):
        return table
    if isinstance(table, dict):
        return pa.table(table)
    if hasattr(table, "columns") and hasattr(table, "iloc"):
        return pa.Table.from_pandas(table)
    raise LabelError(f"labels of type {type(table).__name__}; legal: table, dictionary or path")


def _of_file(path: Path) -> pa.Table:
    if path.suffix not in (".csv", ".parquet"):
        raise LabelError(f"{path}: labels are read from .csv and .parquet files")
    try:
        if path.suffix == ".csv":
            from pyarrow import csv

            found = csv.read_csv(path)
        else:
            from pyarrow import parquet

            found = parquet.read_table(path)
        found.validate(full=True)  # text that is no UTF-8 too
        names = found.column_names
    except (pa.ArrowException, OSError, UnicodeDecodeError) as e:
        if isinstance(e, OSError) and e.errno is not None:  # it cannot be read, whatever is in it
            raise
        raise LabelError(
            f"{path}: no table that can be read: {e}; legal: CSV of UTF-8 with a line of names, or "
            "Parquet"
        ) from e
    if len(set(names)) < len(names):
        raise LabelError(f"{path}: two columns of one name: {', '.join(names)}; rename one")
    return found


def _encode(column: Any, name: str) -> Encoded:
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    known = column.is_valid().to_numpy(zero_copy_only=False)
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if pa.types.is_boolean(kind):
        column, kind = column.cast(pa.int64()), pa.int64()
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        values = column.fill_null(0).to_numpy(zero_copy_only=False)
        return Encoded(values, None, known)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        classes = sorted(pc.unique(column.drop_null()).to_pylist())
        number = pc.index_in(column, value_set=pa.array(classes, kind))
        values = number.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
        return Encoded(values, classes, known)
    raise _no_label(kind, name)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _check_kind(kind: pa.DataType, name: str) -> None:
    t = pa.types
    kinds = (t.is_boolean, t.is_integer, t.is_floating, t.is_string, t.is_large_string)
    if not any(is_kind(kind) for is_kind in kinds):
        raise _no_label(kind, name)


def _no_label(kind: pa.DataType, name: str) -> LabelError:
    return LabelError(f"column {name!r} is {kind}; labels are text, numbers or true and false")
