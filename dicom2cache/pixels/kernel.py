"""The compiled loops over pixels and headers, where an environment could build them.

`compiled` is None else, and NumPy and Python do the same, more slowly: no bit of a cache depends on
it.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

REVISION = 6
"""of what _kernel.c and headers/_scan.c offer: one that was built from another is not used"""


def _loaded() -> Any:
    try:
        from dicom2cache.pixels import _kernel
    except ImportError:
        return None
    return _kernel if getattr(_kernel, "REVISION", None) == REVISION else None


compiled = _loaded()

_MOST_CHANNELS = 64


def takes(values: NDArray[Any], kinds: str) -> bool:
    """True if the compiled loops are there for such a frame, (H, W[, C]) of a dtype in `kinds`."""
    return (
        compiled is not None
        and values.dtype.char in kinds
        and values.dtype.isnative
        and values.flags.c_contiguous
        and (values.ndim == 2 or (values.ndim == 3 and 0 < values.shape[2] <= _MOST_CHANNELS))
    )
