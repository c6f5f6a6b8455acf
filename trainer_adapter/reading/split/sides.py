"""Groups to sides: by the hash of what stands for a group, or balanced by classes."""

from __future__ import annotations

import hmac
import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PASSES, _VISITS = 8, 1 << 17
"""most times that groups are looked at to be moved, each, and all together"""
_NAMES = {2: ("train", "val"), 3: ("train", "val", "test")}


@dataclass(frozen=True)
class Cuts:
    """The sides and the share of each."""

    names: tuple[str, ...]
    shares: tuple[float, ...]
    """0: a table does not say"""

    def __str__(self) -> str:
        each = zip(self.names, self.shares, strict=True)
        return ", ".join(f"{n} {s:.4g}" if s else n for n, s in each)


def cuts(fractions: Any, folds: int | None) -> Cuts:
    """The sides that are asked for; 0.8, 0.1, 0.1 where nothing is said. Raises ValueError."""
    if folds is not None:
        if fractions is not None:
            raise ValueError(
                "give fractions or folds; for both, split by fractions, and then "
                'sides["train"].split(folds=...)'
            )
        if isinstance(folds, bool) or not isinstance(folds, numbers.Integral) or folds < 2:
            raise ValueError(f"folds {folds!r}; legal: a whole number from 2")
        folds = int(folds)
        return Cuts(tuple(f"fold{k}" for k in range(folds)), (1 / folds,) * folds)
    given = (0.8, 0.1, 0.1) if fractions is None else fractions
    legal = "legal: two or three (train, val, test), or {name: fraction}; each above 0, 1 in all"
    shares: tuple[Any, ...] = ()
    if isinstance(given, Mapping) and all(isinstance(name, str) and name for name in given):
        names, shares = tuple(given), tuple(given.values())
    elif isinstance(given, Sequence | np.ndarray) and len(given) in _NAMES:
        names, shares = _NAMES[len(given)], tuple(given)
    fitting = all(isinstance(s, numbers.Real) and 0 < float(s) <= 1 for s in shares)
    if not fitting or not math.isclose(math.fsum(shares), 1, abs_tol=1e-6):
        raise ValueError(f"fractions {given!r}; {legal}")
    return Cuts(names, tuple(map(float, shares)))


def places(keys: list[str], wanted: Cuts, seed: int) -> NDArray[np.float64]:
    """(g,) where groups lie in [0, 1): a function of key, seed, and the sides' names alone.

    HMAC-SHA-256 by the seed (decimal) of the names joined by commas, a newline and the key; its
    first 8 bytes, the most significant first, over 2^64.
    """
    secret, domain = str(seed).encode(), ",".join(wanted.names)
    return np.array([_unit(secret, f"{domain}\n{key}") for key in keys], np.float64)


def cut(places: NDArray[np.float64], wanted: Cuts) -> NDArray[np.int64]:
    """(g,) the side of each group, by the cuts that its place lies between."""
    return np.searchsorted(np.cumsum(wanted.shares)[:-1], places, side="right")


def _unit(secret: bytes, message: str) -> float:
    digest = hmac.digest(secret, message.encode(), "sha256")
    return int.from_bytes(digest[:8], "big") / 2**64


def balanced(
    counts: NDArray[np.float64], wanted: Cuts, keys: list[str], seed: int, folds: bool = True
) -> NDArray[np.int64]:
    """(g,) the side of each group, so that sides have equal shares of each class.

    `counts` is (g, c), frames of each class in each group. The groups with the most of one class
    come first, each to the side where the shares of the classes differ least: for `folds` just as
    scikit-learn's StratifiedGroupKFold does. Else all frames are one class more, what a single
    group has is left out, which nothing can balance, and groups are moved while that helps.
    """
    frames = counts.sum(axis=1)
    if not folds:
        counts = np.column_stack([counts[:, (counts > 0).sum(axis=0) > 1], frames])
    total = counts.sum(axis=0)
    counts, total = counts[:, total > 0], total[total > 0]
    if seed:  # seed 0: in the order of keys
        secret = str(seed).encode()
        ties = np.argsort([_unit(secret, key) for key in keys], kind="stable")
    else:
        ties = np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)
    spread = counts.std(axis=1) if len(total) > 1 else counts.sum(axis=1)
    order = ties[np.argsort(-spread[ties], kind="stable")].tolist()
    group, of = np.nonzero(counts)
    pairs = list(zip(of.tolist(), (counts / total)[group, of].tolist(), strict=True))
    ends = np.searchsorted(group, np.arange(len(counts) + 1)).tolist()
    filled = _Filled(wanted, len(total))
    sizes = frames.tolist()
    side = [0] * len(counts)
    for g in order:
        held = pairs[ends[g] : ends[g + 1]]
        means = filled.means(held)
        near = min(means) * (1 + 1e-5) + 1e-8
        best = min([(filled.frames[k], k) for k, mean in enumerate(means) if mean <= near])[1]
        filled.add(held, sizes[g], best)
        side[g] = best
    for _ in range(0 if folds else min(_PASSES, _VISITS // len(counts))):
        moved = False
        for g in reversed(order):  # the least first
            held = pairs[ends[g] : ends[g + 1]]
            filled.add(held, sizes[g], side[g], -1)
            means = filled.means(held)
            best = means.index(min(means))
            if means[best] < means[side[g]] - 1e-9:
                side[g], moved = best, True
            filled.add(held, sizes[g], side[g])
        if not moved:
            break
    return np.array(side, np.int64)


class _Filled:
    """What the sides have of each class, over the share of it that they are to have.

    Plain numbers in lists: a step is a few dozen of them, for which arrays take longer.
    """

    def __init__(self, wanted: Cuts, classes: int) -> None:
        many = len(wanted.shares)
        self._weights = [share * many for share in wanted.shares]
        self._of, self._weighted, self._squares = (
            [[0.0] * many for _ in range(classes)] for _ in range(3)
        )
        self._sums = [(0.0, 0.0)] * classes
        """of the weighted, and of their squares"""
        self._spreads = [0.0] * classes
        self.frames = [0.0] * many

    def means(self, held: list[tuple[int, float]]) -> list[float]:
        """For each side, the mean over classes of their spread if a group is added to it."""
        others = sum(self._spreads) - sum([self._spreads[c] for c, _ in held])
        count = len(self._of)
        if len(held) == 1:
            return [(spread + others) / count for spread in self._spread(*held[0])]
        spreads = [self._spread(c, share) for c, share in held]
        return [(sum(of) + others) / count for of in zip(*spreads, strict=True)]

    def add(self, held: list[tuple[int, float]], frames: float, side: int, sign: int = 1) -> None:
        """Add a group to a side, or, by -1, take it away."""
        weight, many = self._weights[side], len(self._weights)
        self.frames[side] += sign * frames / weight
        for c, share in held:
            of = self._of[c][side] = self._of[c][side] + sign * share / weight
            weighted, squares = self._weighted[c], self._squares[c]
            weighted[side] = weight * of
            squares[side] = weight * of * of
            self._sums[c] = total, square = sum(weighted), sum(squares)
            spread = square / many - (total / many) * (total / many)
            self._spreads[c] = sqrt(spread) if spread > 0 else 0.0

    def _spread(self, c: int, share: float) -> list[float]:
        """The standard deviation of a class over the sides, if a share is added to each of them."""
        (total, square), many = self._sums[c], len(self._weights)
        mean = (total + share) / many
        mean *= mean
        found = []
        for weight, of in zip(self._weights, self._of[c], strict=True):
            spread = (square + share * (2 * of + share / weight)) / many - mean
            found.append(sqrt(spread) if spread > 0 else 0.0)
        return found
