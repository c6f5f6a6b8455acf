"""Windows: values to [0, 1], pure. What display does, done once and on purpose (PS3.3 C.11.2)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom2cache.errors import FrameError, RecipeError, meant

# Center and width in HU, as radiology textbooks and viewers have them.
PRESETS = {
    "lung": (-600.0, 1500.0),
    "soft": (40.0, 400.0),
    "mediastinum": (50.0, 350.0),
    "abdomen": (60.0, 400.0),
    "liver": (30.0, 150.0),
    "bone": (300.0, 1500.0),
    "brain": (40.0, 80.0),
    "stroke": (32.0, 8.0),
    "subdural": (75.0, 215.0),
    "angio": (300.0, 600.0),
}
FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:e-?\d+)?"
_PAIR = re.compile(rf"\s*(-?{_NUMBER})\s*,\s*({_NUMBER})\s*")


@dataclass(frozen=True)
class Window:
    """A VOI window, in units of the values that it is applied to."""

    center: float
    width: float
    function: str = "LINEAR_EXACT"
    """one of FUNCTIONS"""


@dataclass(frozen=True)
class FromFile:
    """The file's own VOI LUT, else its first window."""


@dataclass(frozen=True)
class VoiLut:
    """A VOI LUT sequence's first item (PS3.3 C.11.2.1.1)."""

    first: int
    """value that the first entry is for"""
    entries: NDArray[Any]
    """(n,) values of `bits` bits"""
    bits: int


Spec = Window | FromFile


def parse_window(said: Any) -> Spec:
    """What a recipe says of one window: a preset, `C,W` or `dicom`.

    Raises RecipeError naming what is legal.
    """
    if isinstance(said, list | tuple) and len(said) == 2:
        said = f"{said[0]},{said[1]}"
    if isinstance(said, str):
        if said == "dicom":
            return FromFile()
        if said in PRESETS:
            return Window(*PRESETS[said])
        pair = _PAIR.fullmatch(said)
        center, width = map(float, pair.groups()) if pair else (math.nan, math.nan)
        if math.isfinite(center) and 0 < width < math.inf:
            return Window(center, width)
    raise RecipeError(
        f"recipe: window {said!r}; legal: CENTER,WIDTH with a width above 0, dicom, or one "
        f"of {', '.join(PRESETS)}{meant(said, (*PRESETS, 'dicom'))}"
    )


def window_text(said: Any) -> str:
    """What a recipe records of one window; a pair [center, width] becomes `CENTER,WIDTH`.

    Raises RecipeError as `parse_window`.
    """
    parse_window(said)
    return said if isinstance(said, str) else f"{said[0]},{said[1]}"


def apply_window(values: NDArray[Any], window: Window) -> NDArray[np.float64]:
    """Values to [0, 1] float64, same shape.

    Raises FrameError for a function or width that the standard does not have.
    """
    x, c, w = values.astype(np.float64), window.center, window.width
    if window.function == "SIGMOID" and w > 0:
        with np.errstate(over="ignore"):  # infinity has the right limit, here and below
            return np.asarray(1 / (1 + np.exp(-4 * (x - c) / w)))  # C.11.2.1.3.1
    if window.function == "LINEAR_EXACT" and w > 0:
        with np.errstate(over="ignore"):
            return np.clip((x - c) / w + 0.5, 0, 1)  # C.11.2.1.3.2
    if window.function == "LINEAR" and w >= 1:
        if w == 1:  # a step, the formula's limit
            return np.asarray(x > c - 0.5, np.float64)
        with np.errstate(over="ignore"):
            return np.clip((x - (c - 0.5)) / (w - 1) + 0.5, 0, 1)  # C.11.2.1.2.1
    raise FrameError(
        f"Window Width (0028,1051) {w} with VOI LUT Function (0028,1056) {window.function}; legal: "
        "from 1 with LINEAR, above 0 with LINEAR_EXACT and SIGMOID"
    )


def limits_of(window: Window) -> tuple[float, float] | None:
    """The values that become 0 and 1, where straight lines do it; None for SIGMOID."""
    c, w = window.center, window.width
    if window.function == "LINEAR":
        return c - 0.5 - (w - 1) / 2, c - 0.5 + (w - 1) / 2
    return (c - w / 2, c + w / 2) if window.function == "LINEAR_EXACT" else None


def apply_voi_lut(values: NDArray[Any], lut: VoiLut) -> NDArray[np.float64]:
    """Values through a VOI LUT to [0, 1] float64; those outside take its first or last entry."""
    place = np.clip(np.floor(values.astype(np.float64)) - lut.first, 0, len(lut.entries) - 1)
    unit: NDArray[np.float64] = lut.entries[place.astype(np.int64)] / float((1 << lut.bits) - 1)
    return unit


def to_range(unit: NDArray[np.float64], dtype: str) -> NDArray[Any]:
    """[0, 1] to the whole range of `dtype`: 0 to 255 in uint8, 0 to 1 in float32."""
    target = np.dtype(dtype)
    if target.kind == "f":
        return unit.astype(target)
    return np.floor(unit * np.iinfo(target).max + 0.5).astype(target)
