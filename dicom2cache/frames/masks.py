"""Masks as they are drawn on an image: frames of their file, or segments of one, on its grid."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from dicom2cache.errors import FrameError
from dicom2cache.frames.decode import Room, Source, Stored
from dicom2cache.pixels.outlines import Slices, draw
from dicom2cache.pixels.scanline import snapped
from dicom2cache.planning.masks.outlined import CONTOUR_DATA
from dicom2cache.records import Drawn, FrameRow, Header

OVERLAP = "mask-overlap"
"""a flag (FORMAT.md): segments of one file claim the same pixel"""


def read(source: Source, row: FrameRow, room: Room = None) -> Stored:
    """The frame of a row of the plan: as its file has it, or drawn as `drawn` says.

    Raises as `Source.read`.
    """
    drawn = row.get("drawn")
    if drawn is None:
        return source.read(row["frame"], room)
    shape = (row["drawn_height"] or 0, row["drawn_width"] or 0)
    fractional = row["unit"] == "fractional"
    pixels: NDArray[Any] | None = None
    flags: set[str] = set()
    codec, last, stored = "", -1, None
    for one in drawn:
        if stored is None or one["frame"] != last:
            stored, last = _frame(source, one, shape), one["frame"]
        codec = stored.codec
        flags.update(stored.flags)
        lead = None if _is_outlined(source) else one["lead"]
        mine = _values(_on_grid(stored.pixels, lead, shape), one, source.header, fractional)
        if pixels is None:
            pixels = mine
        elif fractional:
            pixels = np.maximum(pixels, mine)
        else:
            if ((pixels != 0) & (mine != 0) & (pixels != mine)).any():
                flags.add(OVERLAP)
            pixels = np.where(mine != 0, mine, pixels)
    assert stored is not None
    assert pixels is not None
    return replace(stored, pixels=pixels, codec=codec, flags=tuple(sorted(flags)), ends=None)


COLUMNS = (
    "drawn", "source_height", "source_width", "unit", "height", "width", "scale_y", "scale_x",
    "offset_y", "offset_x", "frame", "part_of_frame",
)  # fmt: skip
"""of frames/ that `planned` wants"""


def planned(stored: dict[str, Any]) -> FrameRow:
    """The row of the plan that a row of frames/ (COLUMNS) of a mask that is drawn comes from."""
    row: dict[str, Any] = {name: stored[name] for name in COLUMNS if "source" not in name}
    row |= {f"drawn_{side}": stored[f"source_{side}"] for side in ("height", "width")}
    none = ("slope", "intercept", "windows", "mapped_low", "mapped_high")
    return cast(FrameRow, row | dict.fromkeys(none))


def _frame(source: Source, one: Drawn, shape: tuple[int, int]) -> Stored:
    if _is_outlined(source):
        return _outlined(source, one["lead"] or [], shape)
    try:
        return source.read(one["frame"])
    except FrameError as e:
        raise FrameError(f"frame {one['frame']} of the mask: {e}") from e


def _is_outlined(source: Source) -> bool:
    return source.header["pixel_keyword"] == CONTOUR_DATA


def _outlined(source: Source, by: list[float], shape: tuple[int, int]) -> Stored:
    """A structure on an image, drawn by its contours (planning.masks.drawing._leads)."""
    structure, *place = by
    position, orientation, (dy, dx, step) = (np.array(place[a:b]) for a, b in _PARTS)
    slices = Slices(position[None], orientation, (float(dy), float(dx)), shape, float(step))
    outlines = source.outlines.get(int(structure))
    if outlines is None:
        raise FrameError(f"it has no contours of structure {structure:.0f} any more")
    drawn = draw(outlines, slices)
    if not len(drawn.images):
        raise FrameError(f"no contour of structure {structure:.0f} lies on the image any more")
    return Stored(drawn.pixels[0].astype(np.uint8), "", drawn.flags[0])


_PARTS = ((0, 3), (3, 9), (9, 12))


def _on_grid(
    pixels: NDArray[Any], lead: list[float] | None, shape: tuple[int, int]
) -> NDArray[Any]:
    """The pixels of the mask at those of the image, the nearest; 0 beyond it.

    Halfway between two the next one counts. Places are rounded first: by the noise of floats some
    columns of one mask would take the one before, others the next, and one between would be lost.
    """
    if lead is None:
        return pixels
    a = np.asarray(lead).reshape(2, 3)
    y, x = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
    column, row = (
        np.floor(snapped(a[k, 0] * x + a[k, 1] * y + a[k, 2]) + 0.5) for k in (0, 1)
    )  # fmt: skip
    inside = (row >= 0) & (row < pixels.shape[0]) & (column >= 0) & (column < pixels.shape[1])
    found = np.zeros(shape, pixels.dtype)
    found[inside] = pixels[row[inside].astype(np.int64), column[inside].astype(np.int64)]
    return found


def _values(pixels: NDArray[Any], one: Drawn, header: Header, fractional: bool) -> NDArray[Any]:
    """The pixels that count as what they are drawn as."""
    number, value = one["number"], one["value"]
    if value is None:
        return pixels
    if number is not None:
        counts = pixels == number
    elif header["unit"] == "fractional" and not fractional:
        counts = pixels >= (header["fractional_max"] or 255) / 2
    else:
        counts = pixels != 0
    return np.where(counts, value, 0).astype(np.uint16 if value > 255 else np.uint8)


def counts_of(pixels: NDArray[Any], row: FrameRow, header: Header) -> list[int]:
    """Pixels of each segment that a stored frame of a mask shows, in the order of `segments`."""
    if row["unit"] != "labelmap":
        least = (header["fractional_max"] or 255) / 2 if row["unit"] == "fractional" else 1
        return [int((pixels >= least).sum())]
    found = np.bincount(pixels.reshape(-1))
    return [int(found[n]) if 0 <= n < len(found) else 0 for n in values_of(row, header)]


def values_of(row: FrameRow, header: Header) -> list[int]:
    """The stored values that `segments` of a label map lists, in its order."""
    drawn = row.get("drawn")
    numbers = [-1 if s["number"] is None else s["number"] for s in header["segments"] or ()]
    if drawn is None:
        return numbers
    if any(one["value"] is None for one in drawn):
        return [n for n in numbers if n != 0]
    return sorted({one["value"] or 0 for one in drawn})
