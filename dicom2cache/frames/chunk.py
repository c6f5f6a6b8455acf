"""One frame of a file to the chunk that is stored, and its row of results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom2cache.errors import FrameError
from dicom2cache.frames import masks
from dicom2cache.frames.decode import Source, Stored
from dicom2cache.frames.plain import Plain, plain_frame
from dicom2cache.frames.ranges import line_of
from dicom2cache.frames.slices import values_of
from dicom2cache.frames.treat import padding_of
from dicom2cache.pixels.intensity import DoesNotFit
from dicom2cache.pixels.statistics import Statistics, of_waveform, statistics
from dicom2cache.recipes.recipe import WAVEFORM, Treatment
from dicom2cache.records import ArraySpec, FrameRow, Header
from dicom2cache.store.shards import Chunk, chunk_of


@dataclass(frozen=True)
class Limits:
    """The values at the percentiles of a stack, and whether a frame of it counts in them."""

    ends: tuple[float, float] | None
    """None: no pixel of the stack counts"""
    left_out: str | None
    """why the frame does not count; None: it does"""

    def needed(self) -> tuple[float, float]:
        """The ends. Raises FrameError if there are none."""
        if self.ends is None:
            why = "no pixel of the stack is left to take percentiles of: all are padding"
            raise FrameError(self.left_out or why)
        return self.ends

    def check(self) -> None:
        """Raises FrameError if the frame does not count: the limits may clip its values."""
        if self.left_out is not None:
            raise FrameError(
                "readable now, but not when the percentiles of its stack were taken, so it does "
                f"not count in them ({self.left_out}); build again with --overwrite"
            )


def chunk_of_frame(
    source: Source,
    row: FrameRow,
    room: NDArray[np.uint8] | None,
    *,
    treatments: Sequence[Treatment],
    spec: ArraySpec,
    limits: Limits | None,
) -> tuple[Chunk, dict[str, Any]]:
    """(chunk, row of RESULTS) of a frame; `room` as of `Source.read`.

    Raises FrameError if it cannot be stored truly.
    """
    plain = plain_frame(source, row, room, treatments, spec.dtype) if limits is None else None
    if isinstance(plain, Plain):
        chunk = chunk_of(plain.pixels, spec)
        return chunk, _result(plain.codec, plain.statistics, plain.flags, chunk)
    stored = source.stored(plain) if plain else masks.read(source, row, room)
    ends = limits.needed() if limits else None
    try:
        made = values_of(stored, row, source, treatments, spec.dtype, ends)
    except DoesNotFit as e:
        chosen = treatments[source.header["rule"] or 0].dtype
        padding = _padding_alone(stored, row, source.header, spec.dtype)
        raise FrameError(f"{e}{padding or _remedy(chosen, spec.dtype)}") from e
    if limits is not None:
        limits.check()
    if source.header["kind"] == WAVEFORM:
        found = of_waveform(made.pixels)
    else:
        found = statistics(made.pixels, made.padding, made.ends)
    chunk = chunk_of(made.pixels, spec)
    result = _result(stored.codec, found, (*stored.flags, *made.flags), chunk)
    result["window_low"], result["window_high"] = made.window_low, made.window_high
    if source.header["kind"] == "mask":
        result["mask_counts"] = masks.counts_of(made.pixels, row, source.header)
    return chunk, result


def _remedy(chosen: str, dtype: str) -> str:
    """What to do about a value that does not fit `dtype`: `auto` helps only if it was not used."""
    if chosen != "auto":
        return "; use dtype auto, or int32 or float32"
    other = "dtype int32 or float32" if dtype[0] in "iu" else "intensity stored"
    return (
        ", which follows from what the header says of bits, slope and intercept: one of them is "
        f"wrong; correct it, or give {other} in a rule for such files"
    )


def _padding_alone(stored: Stored, row: FrameRow, header: Header, dtype: str) -> str | None:
    """What to do where all values but those of padding fit `dtype`; None where others do not."""
    if header["pixel_keyword"] != "PixelData" or header["slope"] is None or dtype[0] not in "iu":
        return None
    if header["lut_low"] is not None:
        return None
    padding = padding_of(stored.pixels, header)
    if padding is None or not padding.any() or padding.all():
        return None
    slope, intercept = line_of(row)
    limits, values = np.iinfo(dtype), stored.pixels[~padding]
    ends = [slope * int(end) + intercept for end in (values.min(), values.max())]
    if min(ends) < limits.min or max(ends) > limits.max:
        return None
    limit = header["padding_limit"]
    return (
        f": only padding does not, Pixel Padding Value (0028,0120) {header['padding_value']:.12g}"
        f"{'' if limit is None else f' to {limit:.12g}'}; correct it in the header and the pixels, "
        "or give dtype int32 or float32 in a rule for such files"
    )


def _result(codec: str, found: Statistics, flags: tuple[str, ...], chunk: Chunk) -> dict[str, Any]:
    """The row of RESULTS, of no window."""
    overflow = () if found.min is None or found.std is not None else ("statistics-overflow",)
    return {
        "codec": codec,
        "padding_fraction": found.padding_fraction,
        "min": found.min,
        "max": found.max,
        "mean": found.mean,
        "std": found.std,
        **dict(zip(("p0_5", "p1", "p50", "p99", "p99_5"), found.percentiles, strict=True)),
        "flags": [*flags, *overflow] or None,
        "crc32c": chunk.crc32c,
    }
