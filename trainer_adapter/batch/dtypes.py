"""Wider types of pixels than the stored one."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def held_by(wide: torch.dtype, stored: np.dtype[Any]) -> np.dtype[Any]:
    """NumPy's name of a torch type that holds all values of a stored one.

    Raises ValueError for one that does not.
    """
    try:
        found = torch.empty(0, dtype=wide).numpy().dtype
    except TypeError:  # bfloat16
        found = None
    if found is None or not np.can_cast(stored, found, "safe"):
        raise ValueError(
            f"dtype {wide} does not hold all values of {stored}; legal: one that does, such as "
            "torch.int32 for 8 and 16 bits; Normalize makes floats of any"
        )
    return found
