"""Which frames belong together: of a patient, else of a study, and what is a copy of theirs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer_adapter.errors import SplitError, counting
from trainer_adapter.reading.split.columns import Frames, coded, found
from trainer_adapter.reading.split.copies import Copies, copies

CHAIN = ("patient", "study_uid", "series_uid", "path")
"""what a frame belongs to; where one is null, the next"""
NAMES = {"patient": "patient", "study": "study_uid", "series": "series_uid"}
"""what `by` may be besides a column's name"""


@dataclass(frozen=True)
class Groups:
    """The frames of a whole cache, in groups that are not divided."""

    of: NDArray[np.int64]
    """(n,) number of the group of each frame"""
    member: NDArray[np.int64]
    """(n,) number of the patient, study, ... of each frame; a group has one or several"""
    columns: tuple[str, ...]
    """the columns that members are told by"""
    level: NDArray[np.int64]
    """(m,) of each member, which of the columns has its value"""
    values: list[str]
    """(m,) and this"""
    keys: list[str]
    """of each group, what stands for it: the member of its first frame in the cache, so that it
    stays the same in a cache that grows"""
    copies: Copies
    """members with equal frames"""

    def name(self, member: int) -> str:
        """A member in words, such as `patient 3f2a...`."""
        return f"{self.columns[self.level[member]]} {self.values[member]}"


def chain_of(frames: Frames, by: str | Mapping[Any, Any]) -> tuple[str, ...]:
    """The columns that tell members of `by`, the first that is not null. Raises KeyError."""
    if isinstance(by, str):
        name = NAMES.get(by, by)
        if name in CHAIN:
            return CHAIN[CHAIN.index(name) :]
        frames.column(name)
        return (name, *CHAIN)
    for k, name in enumerate(CHAIN):
        column = found(frames, name)
        if column is not None and not set(coded(column)[1]).isdisjoint(by):
            return CHAIN[k:]
    example = ", ".join(f"{name} {_example(frames, name)}" for name in CHAIN)
    raise SplitError(
        f"by: none of {counting(len(by), 'key')}, such as {next(iter(by), None)!r}, is in one of "
        f"the columns {', '.join(CHAIN)}; there they are such as {example}"
    )


def groups(frames: Frames, by: str | Mapping[Any, Any]) -> Groups:
    """The groups of all frames of a whole cache.

    By patient, study or series: frames that name none go with what they are part of, a copy goes
    with its original, and members of one value of a mapping go together. By any other column
    frames of one value, and nothing else; those of none by patient.
    """
    columns = chain_of(frames, by)
    member, level, values, edges = _members(frames, columns)
    alike = copies(frames, member)
    if columns[0] in CHAIN:
        edges.append(np.stack([alike.first, alike.second]))
    if not isinstance(by, str):
        edges.append(_mapped(values, by))
    root = _joined(len(values), np.concatenate(edges, axis=1))
    _, first, of = np.unique(root[member], return_index=True, return_inverse=True)
    keys = [f"{columns[level[m]]}:{values[m]}" for m in member[first].tolist()]
    return Groups(of.ravel(), member, columns, level, values, keys, alike)


def _members(
    frames: Frames, columns: tuple[str, ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str], list[NDArray[np.int64]]]:
    """(n,) members, (m,) their columns and values, and pairs of them that belong together."""
    member = np.full(len(frames), -1)
    levels: list[int] = []
    values: list[str] = []
    edges = [np.empty((2, 0), np.int64)]
    for k, name in enumerate(columns):
        left = member < 0
        if k and not left.any():
            break
        column = found(frames, name)
        if column is None:
            continue
        codes, names = coded(column)
        here = left & (codes >= 0)
        used = np.unique(codes[here])
        number = np.full(len(names) + 1, -1)
        number[used] = len(values) + np.arange(len(used))
        member[here] = number[codes[here]]
        values += [str(names[c]) for c in used.tolist()]
        levels += [k] * len(used)
        # A mask without a patient, in the study of a CT that has one, is of that patient.
        if k and columns[0] in CHAIN and name != "path":
            other = ~left & (number[codes] >= 0)
            pairs = np.stack([member[other], number[codes[other]]])
            edges.append(np.unique(pairs, axis=1))
    return member, np.array(levels, np.int64), values, edges


def _mapped(values: list[str], by: Mapping[Any, Any]) -> NDArray[np.int64]:
    """Pairs of members, each with the one before it, that a mapping gives one group."""
    last: dict[Any, int] = {}
    pairs = []
    for member, value in enumerate(values):
        group = by.get(value)
        if group is not None:
            if group in last:
                pairs.append((last[group], member))
            last[group] = member
    return np.array(pairs, np.int64).reshape(-1, 2).T


def _joined(count: int, edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """(count,) the least number among those that edges, (2, e), join each number with."""
    root = np.arange(count)
    a, b = edges
    while True:
        least = np.minimum(root[a], root[b])
        if (root[a] == least).all() and (root[b] == least).all():
            return root
        np.minimum.at(root, root[a], least)
        np.minimum.at(root, root[b], least)
        while (root[root] != root).any():
            root = root[root]


def _example(frames: Frames, name: str) -> Any:
    column = found(frames, name)
    one = None if column is None else column.drop_null()
    return one[0].as_py() if one is not None and len(one) else None
