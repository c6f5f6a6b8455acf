"""What may be wrong in a cache of an earlier version, row by row: trainer_adapter's errata.toml.

That package is not imported, its page is read where it is installed.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dicom2cache.arrow import floats, ints, mask_of, vectors
from dicom2cache.errors import Dicom2cacheError, remedy
from dicom2cache.store.committed import read_table

_WHERE = ["root", "path", "frame"]
_SHAPE = {"stack", "stack_index", "position", "orientation", "spacing_y", "spacing_x"}
_TILT = 0.5  # degrees off the normal, from which a stack counts as sheared


@dataclass(frozen=True)
class Concerned:
    """An erratum, and what of a cache it concerns."""

    name: str
    what: str
    rows: pa.Table
    """root, path and frame of the rows of frames/ or failures/; frame is null for a whole file"""


def concerned(cache: Path, attributes: dict[str, Any], page: Path | None = None) -> list[Concerned]:
    """The errata of the version that made the cache, in order; none without rows."""
    made = str(attributes.get("software", {}).get("dicom2cache", ""))
    found = []
    for erratum in tomllib.loads((page or _page()).read_text("utf-8"))["errata"]:
        if not _numbers(erratum["since"]) <= _numbers(made) < _numbers(erratum["before"]):
            continue
        for kind in ("frames", "failures"):
            rows = _rows(cache, attributes, kind, erratum.get(kind, []))
            if rows.num_rows:
                found.append(Concerned(erratum["name"], erratum["what"], rows))
    return found


def _page() -> Path:
    spec = find_spec("trainer_adapter")
    if spec is None or spec.origin is None:
        raise Dicom2cacheError(f"trainer_adapter is not here, which has errata.toml; {remedy()}")
    return Path(spec.origin).with_name("errata.toml")


def _numbers(version: str) -> list[int]:
    """The numbers of a version; one in development counts as the one that it leads to."""
    numbers: list[int] = []
    for part in version.split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return numbers


def _rows(
    cache: Path, attributes: dict[str, Any], kind: str, entries: list[dict[str, Any]]
) -> pa.Table:
    named = {c for e in entries for part in ("if", "unless") for c in e.get(part, {})}
    named |= {c for e in entries for c in e.get("several", {}).values()}
    named |= _SHAPE if any("sheared" in e for e in entries) else set()
    table = read_table(cache, attributes, kind, [*_WHERE, *sorted(named - {*_WHERE})])
    whole = np.zeros(table.num_rows, bool)
    for entry in entries:
        holds = np.ones(table.num_rows, bool)
        for name, value in entry["if"].items():
            holds &= _is(table, name, value)
        for name, value in entry.get("unless", {}).items():
            holds &= ~_is(table, name, value)
        if "sheared" in entry:
            holds &= _sheared(table) == entry["sheared"]
        if "several" in entry:
            holds &= _several(table, entry["several"]["of"], entry["several"]["in"])
        whole |= holds
    return table.select(_WHERE).filter(pa.array(whole))


def _is(table: pa.Table, name: str, value: Any) -> Any:
    """(n,) whether a column is `value`; one that is not there is null everywhere."""
    if isinstance(value, list):
        return np.any([_is(table, name, one) for one in value], axis=0)
    if name not in table.column_names:
        return np.full(table.num_rows, value == "")
    if value == "":
        return mask_of(table[name].is_null())
    if isinstance(value, str) and "*" in value:
        text = value.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
        return mask_of(pc.match_like(table[name], text.replace("*", "%")).fill_null(False))
    return mask_of(pc.equal(table[name], value).fill_null(False))


def _several(table: pa.Table, of: str, where: str) -> Any:
    """(n,) whether the rows that share a value of the column `where` have several of `of`."""
    pairs = table.select([where, of]).group_by([where, of]).aggregate([])
    counts = pc.value_counts(pairs[where])
    many = pc.filter(counts.field("values"), pc.greater(counts.field("counts"), 1))
    return mask_of(pc.is_in(table[where], many, skip_nulls=True))


def _sheared(table: pa.Table) -> Any:
    """(n,) whether the slices of a frame's stack shift in their plane, over half a pixel."""
    if not set(table.column_names) >= _SHAPE:
        return np.zeros(table.num_rows, bool)
    stack, place = ints(table["stack"], -1), ints(table["stack_index"], -1)
    order = np.lexsort([place, stack])
    first = order[np.r_[True, stack[order][1:] != stack[order][:-1]][: len(order)]]
    last = order[np.r_[stack[order][1:] != stack[order][:-1], True][: len(order)]]
    ends = [vectors(table["position"].take(k), 3) for k in (first, last)]
    cosines = vectors(table["orientation"].take(first), 6)
    step = ends[1] - ends[0]
    spacing = np.fmin(*(floats(table[c].take(first)) for c in ("spacing_y", "spacing_x")))
    normal = np.cross(cosines[:, :3], cosines[:, 3:])
    along = np.einsum("ij,ij->i", step, normal)
    aside = np.linalg.norm(step - along[:, None] * normal, axis=1)
    with np.errstate(invalid="ignore"):  # where there are no positions
        found = (aside > np.nan_to_num(spacing) / 2) & (
            aside > np.tan(np.radians(_TILT)) * np.abs(along)
        )
    return np.isin(stack, stack[first][found])
