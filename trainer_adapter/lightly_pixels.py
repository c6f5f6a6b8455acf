"""Pure: a stored frame to what LightlyTrain's transforms take, (H, W, C) in uint8 or float32.

The rules are those of the converter's recipe `lightlytrain` (docs/lightlytrain.md), so that a cache
of stored values and one made by that recipe are served alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Image = NDArray[Any]
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
"""center and width in HU; the names that recipes of the converter know"""
RADIOGRAPHS = {"CR", "DX", "MG", "IO", "PX", "RF", "XA"}
"""modalities whose files choose a window for their image"""


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


@dataclass(frozen=True)
class Facts:
    """What frames/ says of one frame (FORMAT.md)."""

    kind: str
    unit: str | None
    modality: str | None
    polarity: str | None
    padding: float | None
    low: float | None
    """percentile 0.5 of the frame, without padding"""
    high: float | None
    """percentile 99.5"""
    voi: tuple[float, float, str] | None
    """the file's first window: center, width, function; in the unit of the stored values"""


def look(window: Any = None, dtype: str = "uint8") -> Look:
    """The look with `window`: a name of PRESETS, (center, width) in HU, or a list of these.

    None: lung, soft and bone as three channels. Raises ValueError naming what is legal.
    """
    if dtype not in ("uint8", "float32"):
        raise ValueError(f"dtype {dtype!r}; legal: uint8, float32 (what LightlyTrain takes)")
    if window is None:
        return Look(dtype=dtype)
    one = isinstance(window, str) or (
        len(window) == 2 and not isinstance(window[0], str | Sequence)
    )
    return Look(tuple(_window(w) for w in ([window] if one else window)), dtype)


def _window(said: Any) -> Curve:
    pair = PRESETS.get(said) if isinstance(said, str) else said
    if not isinstance(pair, tuple | list) or len(pair) != 2 or not float(pair[1]) > 0:
        raise ValueError(
            f"window {said!r}; legal: (center, width) in HU with a width above 0, or one of "
            f"{', '.join(PRESETS)}"
        )
    return Curve("LINEAR_EXACT", float(pair[0]), float(pair[1]))


def curves_of(facts: Facts, dtype: np.dtype[Any], look: Look) -> tuple[Curve, ...] | None:
    """The curves that make channels of a frame; None if its numbers are shares of a range already.

    In this order: HU by the look's windows; radiographs by the file's window; 8-bit grey (pictures
    of a screen) and colour as they are; all else from percentile 0.5 to 99.5 of the frame.
    """
    if facts.unit == "HU":
        return look.windows
    if facts.unit in (None, "window"):
        return None
    if facts.kind == "image" and facts.modality in RADIOGRAPHS and facts.voi is not None:
        center, width, function = facts.voi
        return (Curve(function, center, width),)  # type: ignore[arg-type]
    if facts.kind == "image" and dtype == np.uint8:
        return None
    if facts.low is None or facts.high is None:  # nothing but padding
        return (Curve("RANGE", math.inf, math.inf),)
    return (Curve("RANGE", facts.low, facts.high),)


def image_of(frame: Image, facts: Facts, look: Look, rgb: bool) -> Image:
    """A stored frame, (H, W) or (H, W, C), as an image of its own, (H, W, C), that may be written.

    uint8, or float32 from 0 to 1. With `rgb`, grey is repeated to three channels; without, grey
    has one. Raises ValueError for a mask, and for channels that are no RGB where that is wanted.
    """
    if facts.kind == "mask":
        raise ValueError("a mask, not an image; select(kind='image') leaves masks out")
    curves = curves_of(facts, frame.dtype, look)
    channels = len(curves) if curves is not None else (*frame.shape, 1)[2]
    if rgb and channels not in (1, 3):
        raise ValueError(
            f"{channels} channels where LightlyTrain asks for RGB; give 1 or 3 windows, or set its "
            "num_channels"
        )
    inverted = facts.polarity == "inverted" and facts.unit != "window"
    if curves is None:
        image = _shares(frame, inverted, look.dtype)
    elif frame.dtype in (np.uint8, np.int16, np.uint16):
        image = _by_table(frame, curves, facts.padding, inverted, look.dtype)
    else:
        found = [_graded(c(frame), frame, facts.padding, inverted, look.dtype) for c in curves]
        image = found[0] if len(found) == 1 else np.stack(found, axis=-1)
    if image.ndim == 2 or image.shape[2] == 1:
        return _repeated(image) if rgb else image.reshape(*image.shape[:2], 1)
    return image


def _shares(frame: Image, inverted: bool, dtype: str) -> Image:
    """What is a share of its type's range already, in `dtype`; always a copy."""
    if frame.dtype == dtype and not inverted:
        return np.array(frame)
    unit = frame.astype(np.float64)
    if frame.dtype.kind != "f":
        unit /= np.iinfo(frame.dtype).max
    return _to_range(np.nan_to_num(1 - unit if inverted else unit), dtype)


def _graded(
    unit: NDArray[np.float64], values: Image, padding: float | None, inverted: bool, dtype: str
) -> Image:
    """[0, 1] to `dtype`, turned over if larger is darker (PS3.3 C.7.6.3.1.2); padding is 0."""
    if inverted:
        unit = 1 - unit
    if padding is not None:
        unit = np.where(values == padding, 0.0, unit)
    return _to_range(np.nan_to_num(unit), dtype)


def _to_range(unit: NDArray[np.float64], dtype: str) -> Image:
    if dtype == "float32":
        return unit.astype(np.float32)
    return np.floor(unit * 255 + 0.5).astype(np.uint8)


def _by_table(
    frame: Image, curves: tuple[Curve, ...], padding: float | None, inverted: bool, dtype: str
) -> Image:
    """Grey of 8 or 16 bits through one look-up: 10 times as fast as the arithmetic."""
    import cv2

    # A table of percentiles serves one frame; those of windows serve the archive.
    make = _table.__wrapped__ if curves[0].function == "RANGE" else _table
    values = np.ascontiguousarray(frame)
    code = values.view(np.uint16 if values.itemsize == 2 else np.uint8)
    if dtype == "uint8" and len(curves) == 3:
        # One look-up of three channels: 4 bytes are read at once, and the last one is dropped.
        packed = _look_up(make(curves, padding, inverted, frame.dtype.str, dtype), code)
        return np.asarray(
            cv2.cvtColor(packed.view(np.uint8).reshape(*frame.shape, 4), cv2.COLOR_BGRA2BGR)
        )
    planes = [
        _look_up(make((curve,), padding, inverted, frame.dtype.str, dtype), code)
        for curve in curves
    ]
    # Arrow's buffers are read-only: merging copies them.
    return np.array(planes[0]) if len(planes) == 1 else np.asarray(cv2.merge(planes))


def _look_up(table: Any, code: Image) -> Image:
    """table[code] by Arrow, which needs no wider copy of the codes, as NumPy does; read-only."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = pa.uint16() if code.itemsize == 2 else pa.uint8()
    indices = pa.Array.from_buffers(kind, code.size, [None, pa.py_buffer(code)])
    found: Image = pc.take(table, indices, boundscheck=False).to_numpy(zero_copy_only=True)
    return found.reshape(code.shape)


@lru_cache(maxsize=32)
def _table(
    curves: tuple[Curve, ...], padding: float | None, inverted: bool, source: str, dtype: str
) -> Any:
    """What each value of `source` becomes, by its bit pattern, as an Arrow array.

    One curve: its uint8 or float32; three: their bytes in one uint32.
    """
    import pyarrow as pa

    planes = [_plane(curve, padding, inverted, np.dtype(source), dtype) for curve in curves]
    if len(planes) == 1:
        return pa.array(planes[0])
    packed = np.zeros((len(planes[0]), 4), np.uint8)
    for channel, plane in enumerate(planes):
        packed[:, channel] = plane
    return pa.array(packed.view("<u4").ravel())


def _plane(
    curve: Curve, padding: float | None, inverted: bool, source: np.dtype[Any], dtype: str
) -> Image:
    """The curve at every value of `source`, by bit pattern; computed only where it is not flat."""
    info = np.iinfo(source)
    low, high = (float(np.clip(v, info.min, info.max)) for v in curve.limits())
    first, last = math.floor(low), math.ceil(high)
    ends = _to_range(np.array([1.0, 0.0] if inverted else [0.0, 1.0]), dtype)
    plane = np.empty(int(info.max) - int(info.min) + 1, ends.dtype)
    at = slice(first - int(info.min), last - int(info.min) + 1)
    plane[: at.start], plane[at.stop :] = ends
    values = np.arange(first, last + 1)
    plane[at] = _graded(curve(values), values, None, inverted, dtype)
    if padding is not None and padding.is_integer() and info.min <= padding <= info.max:
        plane[int(padding) - int(info.min)] = 0
    return np.roll(plane, int(info.min))  # by bit pattern: 0 first, negative values last


def _repeated(image: Image) -> Image:
    """(H, W[, 1]) to (H, W, 3)."""
    import cv2

    return np.asarray(cv2.cvtColor(image.reshape(image.shape[:2]), cv2.COLOR_GRAY2RGB))
