"""Stacks of a plan that adds to a cache: their numbers, and which stacks they continue; pure.

A stack that is stored stays as it is. Slices that come later to its series are a stack of their own
that says, by `stack_of`, `part` and the flag `continues`, which one they belong to.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dicom2cache.arrow import codes, combine, first_of, floats, ints, vectors
from dicom2cache.recipes.recipe import WAVEFORM
from dicom2cache.records import Plan
from dicom2cache.schema import FRAMES

CONTINUES = "continues"
"""the flag (FORMAT.md)"""
_ALIKE = (
    "series_uid", "patient", "kind", "unit", "source_height", "source_width", "height", "width",
    "segment", "echo_time", "b_value", "temporal_index", "detector", "energy_window", "flip_angle",
    "inversion_time", "asl_label", "optical_path",
)  # fmt: skip
"""columns of frames/ in which the first frames of two stacks must agree for one to continue the
other; spacing and orientation must, too, but for rounding"""
_NEAR = 1e-3
"""of direction cosines, and of spacing, relative"""
COLUMNS = (
    *_ALIKE, "spacing_y", "spacing_x", "orientation", "stack", "stack_of", "part", "acquisition",
)  # fmt: skip
"""of frames/ that `continuing` looks at"""


def continuing(plan: Plan, stored: pa.Table, stacks: int) -> Plan:
    """The plan with stacks numbered from `stacks` on, those that continue a stored one flagged.

    `stored`: COLUMNS of the frames of its series that a cache has, in their order.
    """
    if not plan.frames.num_rows:
        return plan
    number = ints(plan.frames["stack"], 0)
    first = np.unique(number, return_index=True)[1]
    new = _said(plan, first)
    head = ints(new["stack_of"], 0)
    stack_of, part = head + stacks, ints(new["part"], 0).copy()
    flags: list[Any] = new["stack_flags"].to_pylist()
    old = stored.take(pa.array(np.unique(ints(stored["stack"], -1), return_index=True)[1]))
    follows = _followed(new, old)
    parts = _last_parts(stored)
    for own in np.unique(head[np.isin(head, np.flatnonzero(follows >= 0))]):
        whole = int(follows[own])
        mine = np.flatnonzero(head == own)  # parts of one acquisition go on together
        part[mine] += parts[whole] + 1
        parts[whole] = int(part[mine].max())
        stack_of[mine] = whole
        for k in mine:
            flags[k] = [*(flags[k] or []), CONTINUES]
    columns = {"stack": pa.array(number + stacks)}
    columns["stack_of"] = pa.array(stack_of[number])
    columns["part"] = pa.array(part[number])
    columns["stack_flags"] = pa.array(flags, pa.list_(pa.string())).take(pa.array(number))
    frames = plan.frames
    for name, column in columns.items():
        field = FRAMES.field(name)
        place = FRAMES.get_field_index(name)
        frames = frames.set_column(place, field, column.cast(field.type))
    return replace(plan, frames=frames)


def _said(plan: Plan, rows: NDArray[np.int64]) -> pa.Table:
    """What rows of the plan will say in frames/: COLUMNS and `stack_flags`."""
    frames = plan.frames.take(pa.array(rows))
    files = plan.files.take(frames["file"])
    known: dict[str, Any] = {}
    for name in (*COLUMNS, "stack_flags"):
        if name in ("source_height", "source_width"):
            side = name.removeprefix("source_")
            known[name] = first_of(files[f"part_{side}"], files[side])
        elif name in FRAMES.names:
            known[name] = frames[name]
        else:
            known[name] = files[name]
    return pa.table(known)


def _followed(new: pa.Table, old: pa.Table) -> NDArray[np.int64]:
    """For each row of `new` the `stack_of` of the stack that it continues; -1: none."""
    count = new.num_rows
    found = np.full(count, -1, np.int64)
    if not old.num_rows:
        return found
    alike = combine([_code(new[name], old[name]) for name in _ALIKE if name in old.column_names])
    series = pc.is_valid(new["series_uid"]).to_numpy(zero_copy_only=False).astype(bool)
    series &= pc.not_equal(new["kind"], WAVEFORM).to_numpy(zero_copy_only=False).astype(bool)
    places = {name: [_vectors(t, name) for t in (new, old)] for name in ("orientation", "spacing")}
    again = _code(new["acquisition"], old["acquisition"])
    heads, numbers = ints(old["stack_of"], -1), ints(old["stack"], -1)
    order = np.argsort(alike[count:], kind="stable")
    ranked = alike[count:][order]
    for k in np.flatnonzero(series):
        start, stop = np.searchsorted(ranked, [alike[k], alike[k] + 1])
        some = order[start:stop]
        for one, other in places.values():
            some = some[_near(one[k], other[some])]
        if len(some):  # of the same acquisition, if there are several; else the first one
            best = min(some.tolist(), key=lambda s: (again[count + s] != again[k], numbers[s]))
            found[k] = heads[best]
    return found


def _code(one: Any, other: Any) -> NDArray[np.int64]:
    """A code for each value of both columns, equal for equal ones, -1 for null."""
    plain = [c.cast(c.type.value_type) if pa.types.is_dictionary(c.type) else c
             for c in (one.combine_chunks(), other.combine_chunks())]  # fmt: skip
    both = pa.concat_arrays([plain[0], plain[1].cast(plain[0].type)])
    if pa.types.is_string(both.type):
        return codes(both)
    return ints(both.dictionary_encode().indices, -1)


def _vectors(table: pa.Table, name: str) -> NDArray[np.float64]:
    if name == "orientation":
        return vectors(table[name], 6)
    return np.stack([floats(table[c]) for c in ("spacing_y", "spacing_x")], axis=1)


def _near(one: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(n,) which of the rows are as `one` but for rounding; unknown is as unknown only."""
    scale = np.maximum(1.0, np.abs(np.nan_to_num(one)))
    same = np.abs(others - one) <= _NEAR * scale
    return np.asarray((same | (np.isnan(others) & np.isnan(one))).all(axis=1))


def _last_parts(stored: pa.Table) -> dict[int, int]:
    """{stack_of: greatest `part`}."""
    heads, parts = ints(stored["stack_of"], -1), ints(stored["part"], 0)
    found: dict[int, int] = {}
    for head, part in zip(*np.unique(np.stack([heads, parts]), axis=1), strict=True):
        found[int(head)] = max(found.get(int(head), 0), int(part))
    return found
