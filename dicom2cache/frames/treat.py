"""One decoded frame to the values that the recipe asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom2cache.errors import FrameError
from dicom2cache.frames.decode import Source, Stored
from dicom2cache.frames.ranges import check_sign, clamped, line_of, stored_range
from dicom2cache.pixels import resize
from dicom2cache.pixels.colour import rgb_to_grey
from dicom2cache.pixels.intensity import (
    apply_lut,
    padding_mask,
    rescale,
    rescaled_ends,
    to_dtype,
    wrapped,
)
from dicom2cache.pixels.resize import Canvas
from dicom2cache.pixels.window import (
    Window,
    apply_voi_lut,
    apply_window,
    limits_of,
    parse_window,
    to_range,
)
from dicom2cache.recipes.recipe import WAVEFORM, Treatment
from dicom2cache.records import FrameRow, Header

_PLACEMENT = ("height", "width", "scale_y", "scale_x", "offset_y", "offset_x")
FRAME_COLUMNS = ["file", "frame", "part_of_frame", "stack", "slope", "intercept", "unit", "windows"]
FRAME_COLUMNS += ["mapped_low", "mapped_high", *_PLACEMENT]
FRAME_COLUMNS += ["drawn", "drawn_height", "drawn_width"]
"""columns of the plan's frames that `to_values` reads"""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Values:
    """One frame as it is stored."""

    pixels: NDArray[Any]
    """(H, W) or (H, W, C) in the array's dtype"""
    padding: Mask | None
    """(H, W): what the file or the recipe padded; None: nothing"""
    window_low: float | None = None
    """value that became 0, of one linear window or of percentiles"""
    window_high: float | None = None
    """value that became the greatest"""
    ends: tuple[int, int] | None = None
    """least and greatest of `pixels`, padding too, where they are known"""
    flags: tuple[str, ...] = ()


def to_values(
    stored: Stored,
    row: FrameRow,
    source: Source,
    treatments: Sequence[Treatment],
    dtype: str,
    limits: tuple[float, float] | None = None,
) -> Values:
    """The frame as its treatment says, in `dtype`; `limits` are a stack's percentiles.

    Raises FrameError for a value that `dtype` cannot hold truly.
    """
    made = _treated(stored, row, source, treatments, dtype, limits)
    if "overlay" in (source.header["flags"] or ()) and _is_blank(stored):
        made = replace(made, flags=(*made.flags, "overlay-only"))
    if row["mapped_low"] is not None and source.header["unit"] != "stored":
        pixels = stored.pixels if made.padding is None else stored.pixels[~made.padding]
        if not ((pixels >= row["mapped_low"]) & (pixels <= row["mapped_high"])).all():
            made = replace(made, flags=(*made.flags, "real-world-range"))
    return made


def _is_blank(stored: Stored) -> bool:
    """True if all pixels are the same."""
    first = stored.pixels[0, 0]
    return bool((stored.pixels == first).all())


def _treated(
    stored: Stored,
    row: FrameRow,
    source: Source,
    treatments: Sequence[Treatment],
    dtype: str,
    limits: tuple[float, float] | None,
) -> Values:
    header, pixels = source.header, stored.pixels
    if header["kind"] == WAVEFORM:  # physical values are what they are, whatever is said of images
        return Values(pixels, None)
    treatment = treatments[header["rule"] or 0]
    canvas = None
    if row["scale_y"] is not None:
        canvas = Canvas(*itemgetter(*_PLACEMENT)(row))
        if canvas == Canvas(pixels.shape[0], pixels.shape[1], 1.0, 1.0, 0.0, 0.0):
            canvas = None
    if header["kind"] == "mask":
        return _mask(pixels, canvas, dtype)
    if pixels.ndim == 3:
        made = _colour(pixels, header, treatment, canvas, dtype)
        return replace(made, ends=stored.ends) if made.pixels is pixels else made
    padding = padding_of(pixels, header)
    slope, intercept = line_of(row)
    if slope_is_lost(slope, pixels):
        factor = (
            "Dose Grid Scaling (3004,000E)"
            if header["kind"] == "dose"
            else "Rescale Slope (0028,1053)"
        )
        raise FrameError(f"{factor} is 0 but stored values are not; all would be lost")
    graded = treatment.graded and header["kind"] == "image"
    flags: tuple[str, ...] = ()
    if "sign-conflict" in stored.flags and not graded:
        check_sign(stored, row, header, dtype)
    if stored.lossy and not graded:
        stored, flags = clamped(stored, row, header, dtype, treatment.dtype == "auto")
        pixels = stored.pixels
    if not graded and canvas is None:  # exact, without a detour through floats
        if header["lut_low"] is not None and treatment.intensity != "stored":
            values = apply_lut(pixels, source.modality_lut)
            return Values(to_dtype(values, dtype, rounded=values.dtype.kind == "f"), padding)
        ends = stored.ends
        values = rescale(pixels, slope, intercept, dtype, own=True, ends=ends)
        if ends is not None:
            ends = rescaled_ends(ends, slope, intercept) if values.dtype.kind in "iu" else None
        return Values(values, padding, ends=ends, flags=flags)
    values = modality(pixels, row, source, treatment)
    outside = None
    if canvas is not None:
        values, padding, outside = _resampled(values, padding, canvas, row, header)
    if graded:
        return _graded(values, padding, outside, row, source, treatment, dtype, limits)
    whole = np.dtype(dtype).kind in "iu"
    if outside is not None and outside.any():
        pad = treatment.pad
        values[outside] = (-1000.0 if row["unit"] == "HU" else 0.0) if pad is None else pad
    # The interpolated values are new ones: to the nearest that the dtype has.
    values = to_dtype(np.floor(values + 0.5) if whole else values, dtype, True)
    return Values(values, padding, flags=flags)


def modality(
    pixels: NDArray[Any], row: FrameRow, source: Source, treatment: Treatment
) -> NDArray[np.float64]:
    """(H, W) float64 values after the modality LUT, or as stored."""
    if source.header["lut_low"] is not None and treatment.intensity != "stored":
        return apply_lut(pixels, source.modality_lut).astype(np.float64)
    slope, intercept = line_of(row)
    return np.asarray(pixels * slope + intercept, np.float64)


def padding_of(pixels: NDArray[Any], header: Header) -> Mask | None:
    """Where stored values are padding; None where none is declared."""
    if header["padding_value"] is None:
        return None
    return padding_mask(
        pixels, header["padding_value"], header["padding_limit"],
        header["bits_allocated"], pixels.dtype.kind != "u",
    )  # fmt: skip


def slope_is_lost(slope: float, pixels: NDArray[Any]) -> bool:
    """True where a slope of 0 would turn different values into one."""
    return slope == 0 and bool(pixels.any())


def _mask(pixels: NDArray[Any], canvas: Canvas | None, dtype: str) -> Values:
    """Labels are never mixed: the nearest one counts (PS3.3 C.8.20)."""
    if canvas is None:
        return Values(to_dtype(pixels, dtype), None)
    scaled = resize.nearest(pixels, *canvas.scaled(*pixels.shape))
    return Values(to_dtype(canvas.lay(scaled, 0), dtype), None)


def _colour(
    pixels: NDArray[Any],
    header: Header,
    treatment: Treatment,
    canvas: Canvas | None,
    dtype: str,
) -> Values:
    """Colour is never windowed; where grey becomes shares of a range, so does colour."""
    if treatment.colour == "grey":
        pixels = rgb_to_grey(pixels)
    padding = None
    if canvas is not None:
        planes = np.atleast_3d(pixels)
        rows, columns = canvas.scaled(*pixels.shape[:2])
        scaled = np.stack(
            [resize.resample(planes[..., c], rows, columns) for c in range(planes.shape[2])], -1
        )
        laid = canvas.lay(np.floor(scaled + 0.5).astype(pixels.dtype), treatment.pad or 0)
        pixels = laid.reshape(*laid.shape[:2], *pixels.shape[2:])
        padding = canvas.lay(np.zeros((rows, columns), bool), True)
    if not treatment.graded:
        return Values(to_dtype(pixels, dtype), padding)
    bits = header["palette_bits"] or header["bits_stored"]
    if np.dtype(dtype) == pixels.dtype and bits == 8 * pixels.dtype.itemsize:
        return Values(pixels, padding)
    return Values(to_range(pixels / float((1 << bits) - 1), dtype), padding)


def _resampled(
    values: NDArray[np.float64],
    padding: Mask | None,
    canvas: Canvas,
    row: FrameRow,
    header: Header,
) -> tuple[NDArray[np.float64], Mask | None, Mask]:
    """(values, padding, what the fit added); padding is no part of any mean."""
    rows, columns = canvas.scaled(*values.shape)
    valid = np.isfinite(values)
    if padding is not None:
        valid &= ~padding
    if (rows, columns) == values.shape:
        scaled, kept = values, valid
    else:
        scaled, kept = resize.resample_valid(values, valid, rows, columns)
        if not kept.all():
            scaled[~kept] = np.nan if padding is None else _padding_value(row, header)
    outside = canvas.lay(np.zeros((rows, columns), bool), True)
    laid = canvas.lay(scaled, 0.0)
    if padding is None and not outside.any():
        return laid, None, outside
    return laid, outside | ~canvas.lay(kept | (padding is None), False), outside


def _padding_value(row: FrameRow, header: Header) -> float:
    (slope, intercept), value = line_of(row), header["padding_value"]
    assert value is not None  # `padding_of` has found some
    if header["pixel_keyword"] == "PixelData":
        value = wrapped(value, header["bits_allocated"], header["signed"])
    return float(value * slope + intercept)


def _graded(
    values: NDArray[np.float64],
    padding: Mask | None,
    outside: Mask | None,
    row: FrameRow,
    source: Source,
    treatment: Treatment,
    dtype: str,
    limits: tuple[float, float] | None,
) -> Values:
    """(H, W) or, with several windows, (H, W, n); padding is 0, what the fit added `pad`."""
    if treatment.intensity == "percentiles":
        assert limits is not None
        low, high = limits
        span = high - low
        if not math.isfinite(span):
            raise FloatingPointError(f"percentiles from {low} to {high}")
        share = np.clip((values - low) / span, 0, 1) if span else (values > low) * 1.0
        units = [np.asarray(share, np.float64)]
    else:
        windows = row["windows"] or source.header["windows"]
        found = [_window_of(said, source, row, windows) for said in treatment.window]
        units = [
            apply_window(values, w) if isinstance(w, Window) else apply_voi_lut(values, w)
            for w in found
        ]
        one = found[0] if len(found) == 1 else None
        limits = limits_of(one) if isinstance(one, Window) else None
    channels = []
    for unit in units:
        if source.header["inverted"] and treatment.monochrome1 == "invert":
            unit = 1 - unit  # PS3.3 C.7.6.3.1.2
        if padding is not None:
            unit = np.where(padding, 0.0, unit)
        channel = to_range(np.nan_to_num(unit), dtype)
        if outside is not None and treatment.pad is not None:
            channel[outside] = to_dtype(np.array([treatment.pad]), dtype)[0]
        channels.append(channel)
    pixels = channels[0] if len(channels) == 1 else np.stack(channels, axis=-1)
    return Values(pixels, padding, *(limits or (None, None)))


def _window_of(said: str, source: Source, row: FrameRow, windows: Any) -> Any:
    spec = parse_window(said)
    if isinstance(spec, Window):
        return spec
    if source.header["voi_lut"]:
        return source.voi_lut(_modality_range(row, source.header))
    if windows:
        return Window(windows[0]["center"], windows[0]["width"], windows[0]["function"])
    raise FrameError(
        f"the recipe says window dicom, but {source.without_window}; give CENTER,WIDTH, a rule of "
        "its own, or leave it out by `where`"
    )


def _modality_range(row: FrameRow, header: Header) -> tuple[float, float] | None:
    """Least and greatest value that a frame can have after the modality LUT; None of floats."""
    low, high = header["lut_low"], header["lut_high"]
    if low is not None and high is not None:
        return low, high
    if header["pixel_keyword"] != "PixelData":
        return None
    slope, intercept = line_of(row)
    one, other = (slope * end + intercept for end in stored_range(header))
    return min(one, other), max(one, other)
