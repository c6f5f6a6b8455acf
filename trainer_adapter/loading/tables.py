"""The user's table of labels, whatever it is in: a file, Arrow, pandas, Polars, a dictionary."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from trainer_adapter.errors import LabelError

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_PARQUET = (".parquet", ".pq")
_LEGAL = "a path to .csv, .tsv or .parquet, a table of pyarrow, pandas or Polars, or a dictionary"
_NOTHING = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
    "<NA>", "N/A", "NA", "NULL", "NaN", "n/a", "nan", "null",
)  # fmt: skip
"""cells of a CSV that say nothing: those that pandas takes for missing, but for None, which is what
many call the class of those who have nothing"""


def read_table(table: Any, texts: Collection[str], key: str | None, label: str | None) -> pa.Table:
    """The table; the columns `texts` of a CSV are text, or 007 would become 7.

    A dictionary has a list for each column, or a label for each key: then its columns are called
    `key` and `label`. Raises LabelError for what is no table, OSError for a file that cannot be
    read.
    """
    try:
        found = _read(table, texts, key, label)
    except pa.ArrowException as e:
        raise LabelError(f"labels of type {type(table).__name__}: {e}; legal: {_LEGAL}") from e
    if len(set(found.column_names)) < len(found.column_names):
        named = f"{table}: " if isinstance(table, str | os.PathLike) else ""
        raise LabelError(
            f"{named}two columns of one name: {', '.join(found.column_names)}; rename one"
        )
    return found


def _read(table: Any, texts: Collection[str], key: str | None, label: str | None) -> pa.Table:
    if isinstance(table, str | os.PathLike):
        return _of_file(Path(table).expanduser(), texts)
    if isinstance(table, pa.Table):
        return table
    if isinstance(table, Mapping):
        return _of_dictionary(table, key, label)
    if hasattr(table, "iloc") and hasattr(table, "columns"):  # pandas: a named index is a column
        return pa.Table.from_pandas(table)
    if hasattr(table, "__arrow_c_stream__"):  # Polars, DuckDB, ...
        return pa.table(table)
    more = "; a LazyFrame is none before .collect()" if hasattr(table, "collect") else ""
    raise LabelError(f"labels of type {type(table).__name__}; legal: {_LEGAL}{more}")


def _of_dictionary(table: Mapping[Any, Any], key: str | None, label: str | None) -> pa.Table:
    plain = [v is None or isinstance(v, str | int | float) for v in table.values()]
    columns: Mapping[Any, Any] = table
    if table and all(plain):
        if key is None or label is None:
            raise LabelError(
                "a dictionary of single values is one label for each key of one kind; for several "
                "give a list for each column"
            )
        columns = {key: list(table), label: list(table.values())}
    if lengths := {len(v) for v in columns.values()} - {len(next(iter(columns.values())))}:
        raise LabelError(f"columns of the labels differ in length, such as {lengths.pop()}")
    return pa.table({str(n): pa.array(v, from_pandas=True) for n, v in columns.items()})


def _of_file(path: Path, texts: Collection[str]) -> pa.Table:
    suffix = path.with_suffix("").suffix if path.suffix.lower() == ".gz" else path.suffix
    separator = _SEPARATORS.get(suffix.lower())
    if separator is None and path.suffix.lower() not in _PARQUET:
        raise LabelError(f"{path}: labels are read from .csv, .tsv and .parquet files")
    try:
        if separator is not None:
            from pyarrow import csv

            found = csv.read_csv(
                path,
                # A type follows from all of a column, and not from what is in its first block.
                csv.ReadOptions(block_size=_block(path)),
                csv.ParseOptions(delimiter=_separator(path, separator), newlines_in_values=True),
                csv.ConvertOptions(
                    column_types=dict.fromkeys(texts, pa.string()),
                    null_values=list(_NOTHING),
                    strings_can_be_null=True,
                ),
            )
        else:
            from pyarrow import parquet

            found = parquet.read_table(path)
        found.validate(full=True)  # text that is no UTF-8 too
        _ = found.column_names
    except (pa.ArrowException, OSError, UnicodeDecodeError) as e:
        if isinstance(e, OSError) and e.errno is not None:  # it cannot be read, whatever is in it
            raise
        raise LabelError(
            f"{path}: no table that can be read: {e}; legal: CSV of UTF-8 with a line of names, "
            "the same with tabs (.tsv), or Parquet"
        ) from e
    return found


def _separator(path: Path, usual: str) -> str:
    """What stands between the names of the first line: a semicolon too, as some spreadsheets do."""
    with pa.input_stream(path) as file:
        line = file.read(1 << 16).split(b"\n")[0]
    found = [s for s in (usual, ";", "\t") if s.encode() in line]
    return found[0] if found else usual


def _block(path: Path) -> int:
    """Bytes of a CSV that are read as one: all, or of a compressed one as many as may be."""
    size = path.stat().st_size * (20 if path.suffix.lower() == ".gz" else 1)
    return min(max(size, 1 << 16) + 1, 1 << 30)


def plain(column: Any) -> Any:
    """The column as one array, without a dictionary, text in one type."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if is_text(column.type) and column.type != pa.string():
        column = column.cast(pa.string())
    return column


def is_text(kind: pa.DataType) -> bool:
    """Whether it is text, of whatever layout."""
    view = getattr(pa.types, "is_string_view", lambda _: False)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or view(kind))


def says(column: Any) -> Any:
    """(n,) True where a cell says something: not where it is null, NaN or blank text."""
    valid = column.is_valid()
    if is_text(column.type):
        filled = pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(column)), 0)
        return pc.and_(valid, filled.fill_null(False))
    if pa.types.is_floating(column.type):
        return pc.and_(valid, pc.invert(pc.is_nan(column)).fill_null(False))
    return valid
