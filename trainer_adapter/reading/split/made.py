"""A split of a cache: its sides as views, counted and written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from trainer_adapter.errors import counting
from trainer_adapter.reading.shown import page
from trainer_adapter.reading.split import stored
from trainer_adapter.reading.split.classes import Classes
from trainer_adapter.reading.split.columns import Frames, coded, found
from trainer_adapter.reading.split.groups import CHAIN, Groups
from trainer_adapter.reading.split.sides import Cuts
from trainer_adapter.reading.split.stored import SIDE, Facts

C = TypeVar("C", bound="Selectable")


class Selectable(Frames, Protocol):
    """A cache of which views can be made."""

    @property
    def path(self) -> Path:
        """Its folder."""

    @property
    def attributes(self) -> dict[str, Any]:
        """Its root metadata."""

    @property
    def indices(self) -> NDArray[np.int64]:
        """(n,) sample indices."""

    core: Any
    """what all its selections share"""

    def select(self: C, rows: Any = None, /) -> C:
        """Fewer of its frames."""


class Splits(Mapping[str, C], Generic[C]):
    """Views of a cache by the name of their side: `splits["train"]`, or `splits.train`.

    Printed, it is a table of the patients, studies, frames and classes of each.
    """

    def __init__(
        self,
        whole: C,
        indices: NDArray[np.int64],
        made: Groups,
        side: NDArray[np.int64],
        cuts: Cuts,
        facts: Facts,
        classes: Classes | None = None,
    ) -> None:
        self._whole, self._indices, self._groups = whole, indices, made
        self._side, self._cuts, self._facts, self._classes = side, cuts, facts, classes
        self._codes: dict[str, NDArray[np.int64]] = {}

    def __getitem__(self, name: str) -> C:
        if name not in self._cuts.names:
            raise KeyError(f"no side {name!r}; there are {', '.join(self._cuts.names)}")
        return self._whole.select(self._indices[self._side == self._cuts.names.index(name)])

    def __getattr__(self, name: str) -> C:
        if not name.startswith("_") and name in self._cuts.names:
            return self[name]
        raise AttributeError(f"{type(self).__name__} has no {name!r}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._cuts.names)

    def __len__(self) -> int:
        return len(self._cuts.names)

    def fold(self, k: int) -> Splits[C]:
        """Side number `k` as `val`, all others as `train`. Raises IndexError."""
        if not 0 <= k < len(self):
            raise IndexError(f"fold {k} of {len(self)}")
        side = np.where(self._side < 0, -1, (self._side == k).astype(np.int64))
        cuts = Cuts(("train", "val"), (1 - self._cuts.shares[k], self._cuts.shares[k]))
        facts = replace(self._facts, cuts=None, seed=None)  # new patients: by all folds, not by two
        return Splits(self._whole, self._indices, self._groups, side, cuts, facts, self._classes)

    @property
    def sides(self) -> NDArray[np.int64]:
        """(n,) the number of the side of each frame that was split; -1: on none."""
        return self._side

    @property
    def leaks(self) -> pa.Table:
        """Pairs of patients (studies, ...) with equal frames: `column`, `value`, `other_column`,
        `other_value`, how many `frames`, and the sample indices of one, `sample`, `other_sample`.
        """
        made, alike = self._groups, self._groups.copies
        here = np.zeros(len(made.keys), bool)
        here[made.of[self._indices]] = True
        group = np.zeros(len(made.values), np.int64)
        group[made.member] = made.of
        kept = np.flatnonzero(here[group[alike.first]] | here[group[alike.second]])
        columns: dict[str, Any] = {}
        for before, of in (("", alike.first[kept]), ("other_", alike.second[kept])):
            columns[f"{before}column"] = _texts([made.columns[k] for k in made.level[of].tolist()])
            columns[f"{before}value"] = _texts([made.values[k] for k in of.tolist()])
        columns |= {"frames": alike.frames[kept], "sample": alike.samples[kept, 0],
                    "other_sample": alike.samples[kept, 1]}  # fmt: skip
        return pa.table(columns)

    @property
    def table(self) -> pa.Table:
        """A row for each side: `side`, `patients`, `studies`, `frames`, `share` of the frames, and
        the frames of each class, if there are classes.
        """
        used, count = self._side >= 0, len(self)
        side, frames = self._side[used], self._indices[used]
        total = np.bincount(side, minlength=count)
        columns: dict[str, Any] = {
            SIDE: _texts(list(self._cuts.names)),
            "patients": _different(self._coded("patient")[frames], side, count),
            "studies": _different(self._coded("study_uid")[frames], side, count),
            "frames": total,
            "share": total / max(int(total.sum()), 1),
        }
        if self._classes is not None:
            of = self._classes.counts(self._side, count).astype(np.int64)
            for name, counts in zip(self._classes.names, of.T, strict=True):
                columns[name if name not in columns else f"class {name}"] = counts
        return pa.table(columns)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the side of each patient (study, ...) to a .csv or .parquet file.

        `cache.split(path)` reads it, of the cache as it is by then. Raises SplitError, OSError.
        """
        made, used = self._groups, self._side >= 0
        of = made.member[self._indices[used]]
        member, first = np.unique(of, return_index=True)
        level, text = made.level[member], [made.values[m] for m in member.tolist()]
        columns: dict[str, Any] = {
            made.columns[k]: _texts(
                [t if at == k else None for t, at in zip(text, level.tolist(), strict=True)]
            )
            for k in np.unique(level).tolist()
        }
        columns[SIDE] = _texts([self._cuts.names[k] for k in self._side[used][first].tolist()])
        columns["frames"] = np.bincount(of)[member]
        stored.write(stored.with_facts(pa.table(columns), self._facts), path)

    def __repr__(self) -> str:
        table = self.table
        return "\n".join([self._head(), *_lines(table), *self._remarks(table)])

    def _repr_html_(self) -> str:
        table = self.table
        rows = [{name: _text(value) for name, value in row.items()} for row in table.to_pylist()]
        return page(self._head(), rows, []) + "".join(
            page(remark, [], []) for remark in self._remarks(table)
        )

    def _head(self) -> str:
        facts = self._facts
        how = f"balanced by {facts.stratify}, " if facts.stratify else ""
        seed = "" if facts.seed is None else f", seed {facts.seed}"
        return f"<Splits of {self._whole.path}: by {facts.by}; {how}{self._cuts}{seed}>"

    def _coded(self, name: str) -> NDArray[np.int64]:
        """(n,) of the whole cache, numbers of a column's values; -1: none."""
        if name not in self._codes:
            column = found(self._whole, name)
            none = np.full(len(self._whole), -1)
            self._codes[name] = none if column is None else coded(column)[0]
        return self._codes[name]

    def _remarks(self, table: pa.Table) -> list[str]:
        said = []
        alike, left = self._groups.copies, int((self._side < 0).sum())
        pairs = self.leaks.num_rows
        if pairs:
            kept = ", and are kept together" if self._groups.columns[0] in CHAIN else ""
            said.append(
                f"{counting(pairs, 'pair of them has', 'pairs of them have')} equal frames{kept}: "
                "see `leaks`"
            )
        if alike.common:
            said.append(
                f"{counting(alike.common, 'image is', 'images are')} in many of them, taken for "
                "pictures of the machine: not kept together"
            )
        patients = self._coded("patient")[self._indices[self._side >= 0]]
        several = sum(table["patients"].to_pylist()) - len(np.unique(patients[patients >= 0]))
        if several:
            said.append(f"patients on several sides: {several} (by {self._facts.by})")
        if left:
            said.append(f"{counting(left, 'frame is', 'frames are')} on no side")
        return said


def _texts(values: list[Any]) -> pa.Array:
    return pa.array(values, pa.string())


def _different(codes: NDArray[np.int64], side: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """(count,) how many values each side has."""
    known = codes >= 0
    pairs = np.unique(side[known] * (codes.max(initial=0) + 1) + codes[known])
    return np.bincount(pairs // (codes.max(initial=0) + 1), minlength=count)


def _text(value: Any) -> str:
    return f"{value:.1%}" if isinstance(value, float) else str(value)


def _lines(table: pa.Table) -> list[str]:
    """A table as text, its columns side by side."""
    columns = []
    for name in table.column_names:
        values = table[name].to_pylist()
        texts = [_text(v) for v in values]
        width = max(map(len, (name, *texts)))
        left = isinstance(values[0], str)
        columns.append([t.ljust(width) if left else t.rjust(width) for t in (name, *texts)])
    return ["  ".join(row).rstrip() for row in zip(*columns, strict=True)]
