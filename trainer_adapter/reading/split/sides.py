"""Groups to sides: by the hash of what stands for a group, or balanced by classes."""

from __future__ import annotations

import hmac
import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import mul
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NAMES = {2: ("train", "val"), 3: ("train", "val", "test")}


@dataclass(frozen=True)
class Cuts:
    """The sides and the share of each."""

    names: tuple[str, ...]
    shares: tuple[float, ...]

    def __str__(self) -> str:
        return ", ".join(f"{n} {s:.4g}" for n, s in zip(self.names, self.shares, strict=True))


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
    counts: NDArray[np.float64], wanted: Cuts, keys: list[str], seed: int
) -> NDArray[np.int64]:
    """(g,) the side of each group, so that sides have equal shares of each class.

    `counts` is (g, c), frames of each class in each group. The groups with the most of one class
    come first, each to the side where the shares of the classes differ least: for folds just as
    scikit-learn's StratifiedGroupKFold does. Sides of several sizes take all frames for one class
    more, and leave out what a single group has, which nothing can balance.
    """
    all_frames = counts.sum(axis=1)
    if len(set(wanted.shares)) > 1:
        counts = np.column_stack([counts[:, (counts > 0).sum(axis=0) > 1], all_frames])
    total = counts.sum(axis=0)
    counts, total = counts[:, total > 0], total[total > 0]
    if seed:  # seed 0: in the order of keys
        secret = str(seed).encode()
        ties = np.argsort([_unit(secret, key) for key in keys], kind="stable")
    else:
        ties = np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)
    spread = counts.std(axis=1) if len(total) > 1 else counts.sum(axis=1)
    order = ties[np.argsort(-spread[ties], kind="stable")]
    sums, shares = all_frames.tolist(), (counts / total).tolist()
    weights = [share * len(wanted.shares) for share in wanted.shares]
    # Of each class, what each side has of it, over the share that it is to have; 1 is all of it.
    filled = [[0.0] * len(weights) for _ in total]
    spreads, frames = [0.0] * len(total), [0.0] * len(weights)
    side = np.zeros(len(counts), np.int64)
    for g in order.tolist():
        added = [(c, share) for c, share in enumerate(shares[g]) if share]
        others = sum(spreads) - sum(spreads[c] for c, _ in added)
        differ = [_spreads(filled[c], share, weights) for c, share in added]
        means = [(sum(d) + others) / len(total) for d in zip(*differ, strict=True)]
        near = min(means) * (1 + 1e-5) + 1e-8
        best = min((frames[k], k) for k in range(len(weights)) if means[k] <= near)[1]
        for (c, share), spread in zip(added, differ, strict=True):
            filled[c][best] += share / weights[best]
            spreads[c] = spread[best]
        frames[best] += sums[g] / weights[best]
        side[g] = best
    return side


def _spreads(of: list[float], share: float, weights: list[float]) -> list[float]:
    """The standard deviation of a class over the sides, if its share is added to each of them."""
    many = len(weights)
    mean = (sum(map(mul, weights, of)) + share) / many
    squares = sum(w * s * s for w, s in zip(weights, of, strict=True))
    return [
        math.sqrt(max((squares + share * (2 * s + share / w)) / many - mean * mean, 0.0))
        for w, s in zip(weights, of, strict=True)
    ]
