"""`cache.split`: by hashes or by balance, or as a table says."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from trainer_adapter.errors import SplitError, counting
from trainer_adapter.reading.hashed import DOMAINS, Hashes, hashes
from trainer_adapter.reading.split import sides, stored
from trainer_adapter.reading.split.classes import classes_of
from trainer_adapter.reading.split.columns import coded, found
from trainer_adapter.reading.split.groups import CHAIN, NAMES, Groups, groups
from trainer_adapter.reading.split.made import C, Selectable, Splits
from trainer_adapter.reading.split.sides import Cuts
from trainer_adapter.reading.split.stored import SIDE, Facts

_CHANCE = 1e-6
"""of a gap among hashes: where it is less, they were selected by such hashes before"""


class Divisible:
    """A cache that can be divided."""

    def split(
        self: C,
        stored: Any = None,
        /,
        *,
        by: str | Mapping[Any, Any] | None = None,
        fractions: Any = None,
        folds: int | None = None,
        stratify: Any = None,
        label: Any = None,
        seed: int = 0,
        missing: str = "error",
        key: str | os.PathLike[str] | None = None,
    ) -> Splits[C]:
        """Sides (train, val, test) as views of the cache, no patient on two of them.

        `by`: "patient" (the default), "study", "series", a column of frames/, or {patient: group}.
        `fractions`: two or three, or {name: fraction}; else 0.8, 0.1, 0.1; or `folds`. Sides follow
        from hashes and `seed`, so that a patient keeps its own when the cache grows, and fractions
        are met about; `stratify`, a column or (n,) or (n, k) classes, meets them and those of each
        class, and is not stable. `label`: classes that are counted only.

        `stored`: a file or table with the sides (`Splits.write`); frames on none are an error,
        unless `missing` is "drop"; `key`: the key file of a de-identified cache, if the table is
        not of hashes. Raises ValueError, KeyError for a column, SplitError.
        """
        if isinstance(stored, str) and (stored in NAMES or stored in CHAIN):
            raise ValueError(f"split({stored!r}) reads a file of that name; give by={stored!r}")
        if by is not None and not isinstance(by, str | Mapping):
            raise ValueError(
                f"by of type {type(by).__name__}; legal: patient, study, series, the name of a "
                "column, or a dictionary of patients and their groups"
            )
        made: Any = type(self)
        whole: C = made(self.core, None)  # so that a patient is on one side in all selections
        if stored is None:
            by = "patient" if by is None else by
            return split(whole, self.indices, by, fractions, folds, stratify, label, seed)
        if isinstance(by, Mapping) or any(k is not None for k in (fractions, folds, stratify)):
            raise ValueError("a stored split has its sides: leave fractions, folds, stratify out")
        return split_as_stored(whole, self.indices, stored, by, label, missing, key)


def split(
    whole: C,
    indices: NDArray[np.int64],
    by: str | Mapping[Any, Any],
    fractions: Any,
    folds: int | None,
    stratify: Any,
    label: Any,
    seed: int,
) -> Splits[C]:
    """Frames of a whole cache on sides, groups undivided. Raises ValueError, SplitError, KeyError.

    Groups are those of the whole cache.
    """
    cuts = sides.cuts(fractions, folds)
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise ValueError(f"seed {seed!r}; legal: a whole number")
    if not len(indices):
        raise SplitError(f"{whole.path}: no frames to split")
    balance = None if stratify is None else classes_of(whole, indices, stratify)
    classes = balance if label is None else classes_of(whole, indices, label)
    made = groups(whole, by)
    here, of = np.unique(made.of[indices], return_inverse=True)
    keys = [made.keys[k] for k in here.tolist()]
    if balance is None:
        places = sides.places(keys, cuts, int(seed))
        side = sides.cut(places, cuts)
        _warn_of_gap(places)
    else:
        counts = balance.counts(of, len(here))
        side = sides.balanced(counts, cuts, keys, int(seed), folds is not None)
    _warn_of_empty(side, cuts, len(keys))
    if stratify is not None and not isinstance(stratify, str):
        stratify = "values that were given"
    name = by if isinstance(by, str) else made.columns[0]
    facts = _facts(Facts(_short(name), cuts, int(seed), stratify, None, None), whole)
    result = Splits(whole, indices, made, side[of], cuts, facts, classes)
    _warn_of_leaks(result, made)
    return result


def split_as_stored(
    whole: C,
    indices: NDArray[np.int64],
    given: Any,
    by: str | None,
    label: Any,
    missing: str,
    key: str | os.PathLike[str] | None,
) -> Splits[C]:
    """Frames on the sides that a table says; groups that it does not have by its own cuts and seed.

    Raises SplitError for hashes under another key, a group on two sides, and, unless `missing` is
    "drop", for frames on no side.
    """
    if missing not in ("error", "drop"):
        raise ValueError(f"missing {missing!r}; legal: error, drop")
    table, facts = stored.read(given)
    _hold_key(whole, table, facts)
    by = by or facts.by or "patient"
    made = groups(whole, by)
    names = _names(table, facts)
    said = _said(whole, table, made.columns, names, hashes(whole.path, whole.attributes, key))
    here, of = np.unique(made.of[indices], return_inverse=True)
    side = _of_groups(said, made, indices, names)[here]
    new = np.flatnonzero(side < 0)
    if facts.cuts is not None and facts.seed is not None:
        keys = [made.keys[k] for k in here[new].tolist()]
        side[new] = sides.cut(sides.places(keys, facts.cuts, facts.seed), facts.cuts)
    left = np.flatnonzero(side[of] < 0)
    if len(left) and missing == "error":
        raise SplitError(
            f"{len(left)} of {counting(len(indices), 'frame is', 'frames are')} on no side, such "
            f"as those of {made.name(int(made.member[indices[left[0]]]))}; give "
            'missing="drop" to leave them out'
        )
    shares = dict(zip(facts.cuts.names, facts.cuts.shares, strict=True)) if facts.cuts else {}
    cuts = Cuts(names, tuple(shares.get(name, 0.0) for name in names))
    classes = None if label is None else classes_of(whole, indices, label)
    told = _facts(replace(facts, by=_short(by)), whole)
    return Splits(whole, indices, made, side[of], cuts, told, classes)


def _facts(said: Facts, whole: Selectable) -> Facts:
    about = whole.attributes
    return replace(said, key=stored.fingerprint(about), cache=about.get("identity"))


def _short(by: str) -> str:
    return next((short for short, column in NAMES.items() if column == by), by)


def _warn_of_gap(places: NDArray[np.float64]) -> None:
    """Warn if hashes lie so that they were selected by such hashes before."""
    ends = np.sort(np.r_[0.0, places, 1.0])
    gap = float(np.diff(ends).max())
    if (len(places) + 1) * (1 - gap) ** len(places) < _CHANCE:
        warnings.warn(
            "what is split is a side of a split of the same seed and names, which divide it no "
            "further; give another seed",
            stacklevel=5,
        )


def _warn_of_empty(side: NDArray[np.int64], cuts: Cuts, groups: int) -> None:
    empty = [name for k, name in enumerate(cuts.names) if not (side == k).any()]
    if empty:
        warnings.warn(
            f"nothing is in {', '.join(empty)}: {counting(groups, 'group')}, {cuts}; another seed, "
            "or stratify, may spread so few better",
            stacklevel=5,
        )


def _warn_of_leaks(result: Splits[Any], made: Groups) -> None:
    """Groups by a column of the user's choice are not joined by copies: say so."""
    pairs = 0 if made.columns[0] in CHAIN else result.leaks.num_rows
    if pairs:
        warnings.warn(
            f"{counting(pairs, 'pair')}, told apart by {made.columns[0]}, of equal frames, which "
            "may be on two sides; `leaks` has them",
            stacklevel=5,
        )


def _hold_key(whole: Selectable, table: pa.Table, facts: Facts) -> None:
    own = stored.fingerprint(whole.attributes)
    of_patients = "patient" in table.column_names and table["patient"].null_count < len(table)
    deidentified = "deidentify" in f"{facts.key} {own}"
    if facts.key is not None and facts.key != own and (of_patients or deidentified):
        raise SplitError(
            f"the split was made for caches of {facts.key}, and {whole.path} has {own}: a patient "
            "has another hash in each; split this cache by itself, or build it with that key"
        )


def _names(table: pa.Table, facts: Facts) -> tuple[str, ...]:
    there = list(dict.fromkeys(table[SIDE].drop_null().to_pylist()))
    usual = [name for name in ("train", "val", "test") if name in there]
    first = facts.cuts.names if facts.cuts else tuple(usual)
    return (*first, *(name for name in there if name not in first))


def _said(
    whole: Selectable,
    table: pa.Table,
    columns: tuple[str, ...],
    names: tuple[str, ...],
    hashed: Hashes | None,
) -> NDArray[np.int64]:
    """(n,) the side that the table says for each frame of the cache; -1: none."""
    number = {name: k for k, name in enumerate(names)}
    said = np.full(len(whole), -1)
    examples = []
    for name in columns:
        column = found(whole, name)
        if name not in table.column_names or column is None:
            continue
        rows = table.filter(table[name].is_valid()).filter(
            table[SIDE].is_valid().filter(table[name].is_valid())
        )
        values = rows[name].combine_chunks()
        if hashed and name in DOMAINS:
            values = hashed.column(DOMAINS[name], values)
        side_of: dict[str, int] = {}
        for value, text in zip(values.to_pylist(), rows[SIDE].to_pylist(), strict=True):
            if side_of.setdefault(value, number[text]) != number[text]:
                raise SplitError(
                    f"the table of sides has {name} {value} on {names[side_of[value]]} and on "
                    f"{text}; give it one"
                )
        codes, own = coded(column)
        of = np.array([*(side_of.get(str(value), -1) for value in own), -1], np.int64)
        said = np.where(said < 0, of[codes], said)
        examples.append(f"{name} {next(iter(side_of), None)} there, {own[0] if own else None} here")
    if (said < 0).all():
        raise SplitError(
            f"no row of the table of sides is of {whole.path}, by {', '.join(columns)}: "
            f"{'; '.join(examples) or ', '.join(table.column_names)}"
        )
    return said


def _of_groups(
    said: NDArray[np.int64], made: Groups, indices: NDArray[np.int64], names: tuple[str, ...]
) -> NDArray[np.int64]:
    """The side of each group, -1: none; raises SplitError for one of the selection on two sides."""
    count = len(made.keys)
    low, high, far = np.full(count, len(names)), np.full(count, -1), np.full(count, -1)
    np.maximum.at(far, made.of, said)
    known = indices[said[indices] >= 0]
    np.minimum.at(low, made.of[known], said[known])
    np.maximum.at(high, made.of[known], said[known])
    two = np.flatnonzero((high >= 0) & (low != high))
    if len(two):
        of = known[made.of[known] == two[0]]
        a, b = (int(of[said[of] == k[two[0]]][0]) for k in (low, high))
        one, other = (made.name(int(made.member[k])) for k in (a, b))
        what = f"{one} is" if one == other else f"{one} and {other} have equal frames, and are"
        raise SplitError(
            f"{what} on two sides: {names[low[two[0]]]} (sample {a}) and {names[high[two[0]]]} "
            f"(sample {b}); {len(two)} such in all. Give them one side in the table, or leave "
            "frames out by cache.select"
        )
    return np.where(high >= 0, high, far)
