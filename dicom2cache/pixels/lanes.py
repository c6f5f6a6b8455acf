"""Sums of real numbers that are the same on every processor, and lose next to nothing.

Value i goes to lane i mod 64. A lane adds its values in order in float64, and beside that what the
rounding of each addition lost (Neumaier's sum; the loss is exact, by Knuth's TwoSum). At the end
the 64 sums and then the 64 losses are added in order in the same manner. _kernel.c does the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LANES = 64
_ROWS = 1024  # values of a lane at a time


def total(values: NDArray[Any], about: float | None = None) -> float:
    """The sum of flat values, or of their squares about `about`. Not finite where float64 is not
    enough."""
    sums, lost = np.zeros((1, LANES)), np.zeros((1, LANES))
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, values.size, _ROWS * LANES):
            part = values[start : start + _ROWS * LANES].astype(np.float64)
            if about is not None:
                part = np.square(part - about)
            rows = np.zeros((-(-part.size // LANES), LANES))  # what is left of the last adds 0
            rows.reshape(-1)[: part.size] = part
            # A cumulated sum rounds after each addition, in order.
            after = np.cumsum(np.concatenate((sums, rows)), axis=0)
            errors = _lost(after[:-1], rows, after[1:])
            sums = after[-1:]
            lost = np.cumsum(np.concatenate((lost, errors)), axis=0)[-1:]
    found = left = 0.0
    for value in (*sums[0].tolist(), *lost[0].tolist()):
        after_it = found + value
        left += _lost(found, value, after_it)
        found = after_it
    return float(found + left)


def _lost(one: Any, other: Any, rounded: Any) -> Any:
    """one + other - rounded, exactly."""
    part = rounded - one
    return (one - (rounded - part)) + (other - part)
