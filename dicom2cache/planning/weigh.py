"""What files claim against what they may, pure and columnar: before anything is allocated.

A header of a few kilobytes can ask for terabytes. What lies in the file bounds native pixels, but
not those of a codestream, nor what a deflated dataset inflates to.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dicom2cache import syntaxes
from dicom2cache.arrow import Floats, floats, ints, mask_of
from dicom2cache.pixels.resize import place
from dicom2cache.planning.parts import sides
from dicom2cache.planning.placement import MOST_PIXELS
from dicom2cache.planning.treatments import waveforms
from dicom2cache.recipes.limits import Limits
from dicom2cache.recipes.recipe import Recipe

_ALWAYS = 256 << 20
"""bytes that a file may claim, however small it is: black frames are coded in next to nothing"""
_LEAST, _LEAST_UNMARKED, _LEAST_RLE = 32, 10, 74
"""bytes of the least frame, with the header of its fragment: a codestream of JPEG-LS has 27, the
header of RLE 64"""
_OF_RLE = 64
"""bytes that a byte of RLE can make: two make 128"""
_LISTED = 4
"""windows and segments that all frames of a file bear together, for each frame that it may have"""
_HUGE = 1e9
"""pixels on a side that no frame has"""


def over_limits(files: pa.Table, recipe: Recipe) -> Iterator[tuple[int, str]]:
    """(row, reason) of files that ask for more than the recipe's limits."""
    limits = recipe.limits
    deflated = mask_of(pc.equal(files["transfer_syntax"], syntaxes.DEFLATED))
    native = mask_of(pc.is_in(files["transfer_syntax"], pa.array(sorted(syntaxes.NATIVE))))
    height, width, frames, samples, bits, size, offset, length = (
        np.nan_to_num(floats(files[name]))
        for name in (
            "height", "width", "frames", "samples", "bits_allocated", "size", "pixel_offset",
            "pixel_length",
        )
    )  # fmt: skip
    pixels = height * width
    waves = waveforms(files)
    claimed = frames * pixels * samples * np.maximum(bits, 8) / 8
    inflated = offset + length
    windows, segments = (
        np.nan_to_num(floats(pc.list_value_length(files[name]))) for name in ("windows", "segments")
    )
    listed = windows + segments
    checks: list[tuple[NDArray[np.bool_], str, Floats, str]] = [
        (
            waves & (pixels > limits.waveform_values),
            "waveform_values",
            pixels,
            "NumberOfWaveformChannels (003A,0005) x NumberOfWaveformSamples (003A,0010) is {}",
        ),
        (
            ~waves & (pixels > limits.frame_pixels),
            "frame_pixels",
            pixels,
            "Rows (0028,0010) x Columns (0028,0011) is {} pixels a frame",
        ),
        (frames > limits.frames, "frames", frames, "Number of Frames (0028,0008) is {}"),
        (
            frames * listed > _LISTED * limits.frames,
            "frames",
            listed,
            "each frame would bear all {} windows or segments of the file",
        ),
        (
            ~native & (claimed > np.maximum(_ALWAYS, limits.expansion * size)),
            "expansion",
            claimed / np.maximum(size, 1),
            "the header claims {} bytes of pixels for each byte of the file",
        ),
        (
            deflated & (inflated > np.maximum(_ALWAYS, limits.inflate * size)),
            "inflate",
            inflated / np.maximum(size, 1),
            "each byte of the file would inflate to {}",
        ),
        (
            deflated & (inflated > limits.inflate_mib * 2.0**20),
            "inflate_mib",
            inflated / 2**20,
            "the dataset would inflate to {} MiB",
        ),
        (
            offset > limits.header_mib * 2.0**20,
            "header_mib",
            offset / 2**20,
            "{} MiB lie before the pixel data",
        ),
    ]
    for over, name, value, said in checks:
        for i in np.flatnonzero(over):
            yield int(i), _reason(said.format(f"{value[i]:.0f}"), name, limits)
    rle = mask_of(pc.equal(files["transfer_syntax"], syntaxes.RLE))
    unmarked = mask_of(pc.is_in(files["transfer_syntax"], pa.array(sorted(syntaxes.UNMARKED))))
    least = np.select([rle, unmarked], [_LEAST_RLE, _LEAST_UNMARKED], _LEAST)
    there = np.maximum(size - offset, 0)
    for i in np.flatnonzero(~native & (frames > 1) & (frames * least > there)):
        said = (
            f"{there[i]:.0f} bytes of pixel data cannot hold {frames[i]:.0f} frames, of which each "
            f"takes {least[i]}; Number of Frames (0028,0008) is wrong, or the file is cut: copy it "
            "again"
        )
        yield int(i), said
    for i in np.flatnonzero(rle & (claimed > _OF_RLE * there)):
        said = (
            f"{there[i]:.0f} bytes of RLE cannot hold the {claimed[i]:.0f} that the header says "
            "(PS3.5 G.3.1); it is wrong, or the file is cut: copy it again"
        )
        yield int(i), said
    yield from _resampled(files, recipe)


def _resampled(files: pa.Table, recipe: Recipe) -> Iterator[tuple[int, str]]:
    """Files that the recipe's size and spacing make too large, on the way there too."""
    rule, most = ints(files["rule"], 0), recipe.limits.frame_pixels
    waves = waveforms(files)
    height, width = (side.astype(np.float64) for side in sides(files))
    spacings, aspect = [_largest(files, c) for c in ("spacing_y", "spacing_x")], floats(
        files["pixel_aspect"]
    )  # fmt: skip
    for number, treatment in enumerate(recipe.treatments):
        mine = rule == number
        y, x = spacings
        if treatment.spacing is not None:
            mine &= np.isfinite(y) & np.isfinite(x)  # without one it is refused as that
            y, x = (
                np.minimum(mm, _HUGE * treatment.spacing / side)
                for mm, side in ((y, height), (x, width))
            )
        rows = np.flatnonzero(mine & ~waves)
        if not treatment.resized or not len(rows):
            continue
        placed = place(
            height[rows].astype(np.int64), width[rows].astype(np.int64), y[rows], x[rows],
            aspect[rows], treatment.size, treatment.fit, treatment.spacing,
        )  # fmt: skip
        tall, wide = placed.scale_y * height[rows], placed.scale_x * width[rows]
        over = (tall * wide > most) | (np.maximum(placed.height, placed.width) > MOST_PIXELS)
        for k in np.flatnonzero(over):
            said = (
                f"recipe: size and spacing make {tall[k]:.0f} x {wide[k]:.0f} pixels of a frame of "
                f"this file; legal: up to {MOST_PIXELS} on a side"
            )
            yield int(rows[k]), _reason(said, "frame_pixels", recipe.limits)


def _largest(files: pa.Table, column: str) -> Floats:
    """The largest spacing of the file or of one of its frames, mm; NaN where there is none."""
    found = floats(files[column]).copy()
    groups = files["per_frame"].combine_chunks()
    if groups.null_count < len(groups):
        own = floats(pc.struct_field(groups.flatten(), column))
        parent = pc.list_parent_indices(groups).to_numpy()
        np.fmax.at(found, parent, own)
    return found


def _reason(said: str, name: str, limits: Limits) -> str:
    most: Any = getattr(limits, name)
    return f"{said}; limits.{name} is {most}: if the file is right, give --limits {name}=NUMBER"
