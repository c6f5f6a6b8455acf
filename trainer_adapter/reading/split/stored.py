"""A split on disk: a table of patients, studies, ... and their sides."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet

from trainer_adapter.errors import SplitError
from trainer_adapter.reading.split.sides import Cuts

SIDE = "side"
_FACTS = ("by", "sides", "seed", "stratify", "key", "cache")
_READ = "a .csv, .tsv or .parquet file, a table of pyarrow, pandas or Polars, or a dict of lists"


@dataclass(frozen=True)
class Facts:
    """How a split was made; None: a table of somebody else does not say."""

    by: str | None
    """patient, study, series, or a column"""
    cuts: Cuts | None
    seed: int | None
    stratify: str | None
    """what was balanced"""
    key: str | None
    """fingerprint of the cache's key of hashes"""
    cache: str | None
    """identity of the cache"""


def fingerprint(attributes: Mapping[str, Any]) -> str | None:
    """What tells the hashes of one cache from those under another key."""
    for name in ("deidentify_key", "patient_key"):
        if attributes.get(name):
            return f"{name} {attributes[name]}"
    return None


def with_facts(rows: pa.Table, facts: Facts) -> pa.Table:
    """The table as it is stored: how it was made stands in each row, so that no row loses it."""
    sides = facts.cuts and json.dumps(
        dict(zip(facts.cuts.names, facts.cuts.shares, strict=True)), ensure_ascii=False
    )
    seed = None if facts.seed is None else str(facts.seed)
    said = (facts.by, sides, seed, facts.stratify, facts.key, facts.cache)
    for name, value in zip(_FACTS, said, strict=True):
        rows = rows.append_column(name, pa.array([value] * len(rows), pa.string()))
    return rows


def write(table: pa.Table, path: str | os.PathLike[str]) -> None:
    """Write a table as .csv or .parquet, whole or not at all. Raises SplitError for another."""
    target = Path(path).expanduser()
    if target.suffix not in (".csv", ".parquet"):
        raise SplitError(f"{target}: a split is written as .csv or .parquet")
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        if target.suffix == ".csv":
            csv.write_csv(table, part, csv.WriteOptions(quoting_style="needed"))
        else:
            parquet.write_table(table, part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def read(given: Any) -> tuple[pa.Table, Facts]:
    """A stored split, all columns text, and what it says of how it was made.

    Raises SplitError if it is no such table, or has no column `side`.
    """
    where = str(given) if isinstance(given, str | os.PathLike) else "the table of sides"
    table = _table(given, where)
    if len(set(table.column_names)) < len(table.column_names):
        raise SplitError(f"{where}: two columns of one name: {', '.join(table.column_names)}")
    if SIDE not in table.column_names:
        raise SplitError(f"{where}: no column {SIDE!r}, only {', '.join(table.column_names)}")
    table = pa.table({name: _text(table[name], name, where) for name in table.column_names})
    if not len(table.filter(table[SIDE].is_valid())):
        raise SplitError(f"{where}: no row has a side")
    said = {name: _one(table, name, where) for name in _FACTS}
    try:
        sides = said["sides"] and json.loads(said["sides"])
        cuts = Cuts(tuple(sides), tuple(map(float, sides.values()))) if sides else None
        seed = None if said["seed"] is None else int(said["seed"])
    except (ValueError, TypeError, AttributeError) as e:
        raise SplitError(
            f"{where}: sides {said['sides']}, seed {said['seed']}: not what `write` wrote ({e})"
        ) from e
    return table, Facts(said["by"], cuts, seed, said["stratify"], said["key"], said["cache"])


def _table(given: Any, where: str) -> pa.Table:
    if isinstance(given, pa.Table):
        return given
    if isinstance(given, Mapping):
        return pa.table(dict(given))
    if hasattr(given, "to_arrow"):
        return given.to_arrow()
    if hasattr(given, "columns") and hasattr(given, "iloc"):
        return pa.Table.from_pandas(given, preserve_index=False)
    if not isinstance(given, str | os.PathLike):
        raise SplitError(f"a split of type {type(given).__name__}; legal: {_READ}")
    path = Path(given).expanduser()
    try:
        if path.suffix == ".parquet":
            return parquet.read_table(path, partitioning=None)
        if path.suffix not in (".csv", ".tsv"):
            raise SplitError(f"{where}: legal: {_READ}")
        parse = csv.ParseOptions(delimiter="\t" if path.suffix == ".tsv" else ",")
        with csv.open_csv(path, parse_options=parse) as file:
            names = file.schema.names
        # As text: a hash of digits alone is no number.
        convert = csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            strings_can_be_null=True,
            null_values=[""],
        )
        return csv.read_csv(path, parse_options=parse, convert_options=convert)
    except pa.ArrowException as e:
        raise SplitError(f"{where}: no table that can be read: {e}; legal: {_READ}") from e


def _text(column: Any, name: str, where: str) -> Any:
    try:
        return column.cast(pa.string())
    except pa.ArrowException as e:
        raise SplitError(f"{where}: column {name!r} is {column.type}, text expected") from e


def _one(table: pa.Table, name: str, where: str) -> str | None:
    if name not in table.column_names:
        return None
    values = pc.unique(table[name].drop_null()).to_pylist()
    if len(values) > 1:
        raise SplitError(
            f"{where}: column {name!r} has {' and '.join(values[:2])}: two splits in one table"
        )
    return values[0] if values else None
