"""Pure: a stored frame to what LightlyTrain's transforms take, (H, W, C) in uint8 or float32.

The rules are those of the converter's recipe `lightlytrain` (docs/lightlytrain.md), so that a cache
of stored values and one made by that recipe are served alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer_adapter.errors import counting
from trainer_adapter.lightly.look import Curve, Look

Image = NDArray[Any]
RADIOGRAPHS = {"CR", "DX", "MG", "IO", "PX", "RF", "XA"}
"""modalities whose files choose a window for their image"""
COUNTS = {"MR", "NM", "PT"}
"""modalities whose 8-bit values are numbers and no picture of a screen"""
SCREEN = Curve("LINEAR_EXACT", 127.5, 255.0)
"""0 to 255 as they are"""
Padding = tuple[float, float] | None
"""least and greatest value that is padding"""


@dataclass(frozen=True)
class Facts:
    """What frames/ says of one frame (FORMAT.md)."""

    kind: str
    unit: str | None
    modality: str | None
    polarity: str | None
    padding: float | None
    """the least value, if it is a range"""
    low: float | None
    """percentile 0.5 of the frame, without padding"""
    high: float | None
    """percentile 99.5"""
    voi: tuple[float, float, str] | None
    """the file's first window: center, width, function; in the unit of the stored values"""
    padding_limit: float | None = None
    """the greatest value of a range"""
    plain: bool = False
    """slope 1 and intercept 0, or the same turned over: -1 and 255"""
    bits: float | None = None
    """BitsStored of the file; None in caches that do not say"""
    full_scale: float | None = None
    """what full intensity of colour is; None in caches that do not say"""

    @property
    def padded(self) -> Padding:
        """The values that are padding."""
        if self.padding is None:
            return None
        return self.padding, self.padding if self.padding_limit is None else self.padding_limit

    @property
    def colour(self) -> bool:
        """Colour, or grey made of it: neither has a polarity."""
        return self.unit is None and self.polarity is None

    def screen(self, dtype: np.dtype[Any]) -> bool:
        """A picture of a screen: 8 bits that nothing rescales, save that larger may be darker.

        The recipe's rule. `dtype`: what the frame is stored as; 8 bits unless the cache says.
        """
        return (
            self.kind == "image"
            and self.unit in ("US", "stored")
            and self.modality is not None
            and self.modality not in COUNTS
            and (self.bits or 8 * dtype.itemsize) == 8
            and self.plain
            and not (self.low is not None and self.low < 0)
        )


def curves_of(facts: Facts, dtype: np.dtype[Any], look: Look) -> tuple[Curve, ...] | None:
    """The curves that make channels of a frame; None if its numbers are shares of a range already.

    In this order: HU by the look's windows; radiographs by the file's window; pictures of a screen
    and colour as they are; all else from percentile 0.5 to 99.5 of the frame.
    """
    if facts.unit == "HU":
        return look.windows
    if facts.colour or facts.unit == "window":
        return None
    if facts.kind == "image" and facts.modality in RADIOGRAPHS and facts.voi is not None:
        center, width, function = facts.voi
        return (Curve(function, center, width),)  # type: ignore[arg-type]
    if facts.screen(dtype):
        as_it_is = dtype == np.uint8 and facts.padding is None and facts.polarity != "inverted"
        return None if as_it_is else (SCREEN,)
    if facts.low is None or facts.high is None:  # nothing but padding
        return (Curve("RANGE", math.inf, math.inf),)
    return (Curve("RANGE", facts.low, facts.high),)


def scale_of(facts: Facts, dtype: np.dtype[Any]) -> float:
    """The value of full intensity, where a frame's numbers are shares of a range.

    Raises ValueError for colour whose range nobody recorded.
    """
    if facts.colour:
        if facts.full_scale is not None:
            return facts.full_scale
        if dtype != np.uint8:
            raise ValueError(
                f"colour in {dtype} whose bits the cache does not record: it was made by an "
                "earlier dicom2cache; build it again"
            )
    return 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)


def image_of(frame: Image, facts: Facts, look: Look, rgb: bool) -> Image:
    """A stored frame, (H, W) or (H, W, C), as an image of its own, (H, W, C), that may be written.

    uint8, or float32 from 0 to 1. With `rgb`, grey is repeated to three channels; without, grey
    has one. Raises ValueError for a mask, for channels that are no RGB where that is wanted, and
    for colour of unknown range.
    """
    if facts.kind == "mask":
        raise ValueError("a mask, not an image; select(kind='image') leaves masks out")
    curves = curves_of(facts, frame.dtype, look)
    channels = len(curves) if curves is not None else (*frame.shape, 1)[2]
    if rgb and channels not in (1, 3):
        raise ValueError(
            f"{counting(channels, 'channel')} where LightlyTrain asks for RGB; give 1 or 3 "
            "windows, or set its num_channels"
        )
    inverted = facts.polarity == "inverted"
    if curves is None:
        image = _shares(frame, scale_of(facts, frame.dtype), look.dtype)
    elif frame.dtype in (np.uint8, np.int16, np.uint16):
        image = _by_table(frame, curves, facts.padded, inverted, look.dtype)
    else:
        found = [_graded(c(frame), frame, facts.padded, inverted, look.dtype) for c in curves]
        image = found[0] if len(found) == 1 else np.stack(found, axis=-1)
    if image.ndim == 2 or image.shape[2] == 1:
        return _repeated(image) if rgb else image.reshape(*image.shape[:2], 1)
    return image


def _shares(frame: Image, scale: float, dtype: str) -> Image:
    """What is a share of the range from 0 to `scale` already, in `dtype`; always a copy."""
    if frame.dtype == dtype and scale == (255 if dtype == "uint8" else 1):
        return np.array(frame)
    return _to_range(np.nan_to_num(np.clip(frame.astype(np.float64) / scale, 0, 1)), dtype)


def _graded(
    unit: NDArray[np.float64], values: Image, padding: Padding, inverted: bool, dtype: str
) -> Image:
    """[0, 1] to `dtype`, turned over if larger is darker (PS3.3 C.7.6.3.1.2); padding is 0."""
    if inverted:
        unit = 1 - unit
    if padding is not None:
        unit = np.where((values >= padding[0]) & (values <= padding[1]), 0.0, unit)
    return _to_range(np.nan_to_num(unit), dtype)


def _to_range(unit: NDArray[np.float64], dtype: str) -> Image:
    if dtype == "float32":
        return unit.astype(np.float32)
    return np.floor(unit * 255 + 0.5).astype(np.uint8)


def _by_table(
    frame: Image, curves: tuple[Curve, ...], padding: Padding, inverted: bool, dtype: str
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
    curves: tuple[Curve, ...], padding: Padding, inverted: bool, source: str, dtype: str
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
    curve: Curve, padding: Padding, inverted: bool, source: np.dtype[Any], dtype: str
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
    if padding is not None:
        least, most = max(math.ceil(padding[0]), info.min), min(math.floor(padding[1]), info.max)
        plane[least - info.min : max(least, most + 1) - info.min] = 0
    return np.roll(plane, int(info.min))  # by bit pattern: 0 first, negative values last


def _repeated(image: Image) -> Image:
    """(H, W[, 1]) to (H, W, 3)."""
    import cv2

    return np.asarray(cv2.cvtColor(image.reshape(image.shape[:2]), cv2.COLOR_GRAY2RGB))
