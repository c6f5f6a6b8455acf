"""How images are to look: windows for values in HU, and what they become."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trainer_adapter.device.presets import PRESETS


@dataclass(frozen=True)
class Curve:
    """Values to [0, 1]: a window (PS3.3 C.11.2.1), or a straight line from `a` to `b`."""

    function: Literal["LINEAR", "LINEAR_EXACT", "SIGMOID", "RANGE"]
    a: float
    """center, or the value that becomes 0"""
    b: float
    """width, or the value that becomes 1"""

    def __call__(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Values to [0, 1] float64, same shape; NaN stays."""
        x, a, b = values.astype(np.float64), self.a, self.b
        if self.function == "SIGMOID":
            with np.errstate(over="ignore"):
                return np.asarray(1 / (1 + np.exp(-4 * (x - a) / b)))  # C.11.2.1.3.1
        if self.function == "LINEAR_EXACT":
            return np.clip((x - a) / b + 0.5, 0, 1)  # C.11.2.1.3.2
        if self.function == "LINEAR" and b > 1:
            return np.clip((x - (a - 0.5)) / (b - 1) + 0.5, 0, 1)  # C.11.2.1.2.1
        if self.function == "RANGE" and b > a:
            return np.clip((x - a) / (b - a), 0, 1)
        return np.asarray(x > (a - 0.5 if self.function == "LINEAR" else a), np.float64)  # a step

    def limits(self) -> tuple[float, float]:
        """The values up to which all is 0, and from which all is 1."""
        if self.function == "SIGMOID":
            return -math.inf, math.inf
        if self.function == "RANGE":
            return self.a, self.b
        center, width = (
            (self.a - 0.5, self.b - 1) if self.function == "LINEAR" else (self.a, self.b)
        )
        return center - width / 2, center + width / 2


@dataclass(frozen=True)
class Look:
    """How images are to look."""

    windows: tuple[Curve, ...] = tuple(
        Curve("LINEAR_EXACT", *PRESETS[n]) for n in ("lung", "soft", "bone")
    )
    """for values in HU, each a channel"""
    dtype: str = "uint8"
    """`uint8`, or `float32` from 0 to 1"""


def look(window: Any = None, dtype: str = "uint8") -> Look:
    """The look with `window`: a name of PRESETS, (center, width) in HU, or a list of these.

    None: lung, soft and bone as three channels. Raises ValueError naming what is legal.
    """
    if dtype not in ("uint8", "float32"):
        raise ValueError(f"dtype {dtype!r}; legal: uint8, float32 (what LightlyTrain takes)")
    if window is None:
        return Look(dtype=dtype)
    several = isinstance(window, list | tuple) and len(window) > 0
    one = not several or (len(window) == 2 and all(isinstance(w, Real) for w in window))
    return Look(tuple(_window(w) for w in ([window] if one else window)), dtype)


def _window(said: Any) -> Curve:
    pair: Any = PRESETS.get(said) if isinstance(said, str) else said
    numbers = isinstance(pair, list | tuple) and all(isinstance(w, Real) for w in pair)
    if not numbers or len(pair) != 2 or not all(map(math.isfinite, pair)) or not pair[1] > 0:
        raise ValueError(
            f"window {said!r}; legal: (center, width), two finite numbers in HU with a width above "
            f"0; one of {', '.join(PRESETS)}; or a list of these"
        )
    return Curve("LINEAR_EXACT", float(pair[0]), float(pair[1]))
