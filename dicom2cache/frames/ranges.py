"""What a dtype can hold of a frame: lossy values are clamped, contradictions named. Pure."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from dicom2cache.errors import FrameError
from dicom2cache.frames.decode import Stored
from dicom2cache.frames.samples import CLAMPED
from dicom2cache.records import FrameRow, Header


def clamped(
    stored: Stored, row: FrameRow, header: Header, dtype: str, auto: bool
) -> tuple[Stored, tuple[str, ...]]:
    """The lossy frame without what `dtype` cannot hold, and a flag if there was any.

    Where the recipe says the dtype, values within BitsStored stay what they are: what does not fit
    of these is a failure. Where the plan says it (`auto`), none of them was meant to be beyond.
    """
    (slope, intercept), target = line_of(row), np.dtype(dtype)
    if target.kind == "f" or not slope or header["lut_low"] is not None:
        return stored, ()
    limits = np.iinfo(target)
    ends = sorted((end - intercept) / slope for end in (limits.min, limits.max))
    low, high = math.ceil(ends[0]), math.floor(ends[1])
    if not auto:
        least, most = stored_range(header)
        low, high = min(low, least), max(high, most)
    found = stored.ends or (int(stored.pixels.min()), int(stored.pixels.max()))
    if found[0] >= low and found[1] <= high:
        return stored, ()
    kind = np.iinfo(stored.pixels.dtype)
    pixels = np.clip(stored.pixels, max(low, kind.min), min(high, kind.max))
    ends_now = max(found[0], low), min(found[1], high)
    return replace(stored, pixels=pixels, ends=ends_now), (CLAMPED,)


def check_sign(stored: Stored, row: FrameRow, header: Header, dtype: str) -> None:
    """The plan believed the header: raises FrameError if negative values have no place."""
    if np.dtype(dtype).kind == "f" or header["lut_low"] is not None:
        return
    ends = stored.ends or (int(stored.pixels.min()), int(stored.pixels.max()))
    slope, intercept = line_of(row)
    values = sorted(slope * end + intercept for end in ends)
    limits = np.iinfo(dtype)
    if values[0] < limits.min or values[1] > limits.max:
        raise FrameError(
            f"the codestream is signed, with stored values from {ends[0]} to {ends[1]}, but "
            "Pixel Representation (0028,0103) is 0, unsigned, from which "
            f"{dtype} follows; legal: 1 for a signed codestream (PS3.5 8.2.4); correct it, or give "
            "dtype int32"
        )


def line_of(row: FrameRow) -> tuple[float, float]:
    """(slope, intercept) of a grey frame: only colour and masks have none."""
    slope, intercept = row["slope"], row["intercept"]
    assert slope is not None
    assert intercept is not None
    return slope, intercept


def stored_range(header: Header) -> tuple[int, int]:
    """Least and greatest value that BitsStored hold."""
    span = 1 << header["bits_stored"]
    return (-span // 2, span // 2 - 1) if header["signed"] else (0, span - 1)
