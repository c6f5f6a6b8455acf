"""Slices out of a frame that several were tiled into: each frame is decoded once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom2cache.frames.decode import Read, Source, Stored


def cut(pixels: NDArray[Any], header: dict[str, Any], part: int) -> NDArray[Any]:
    """(h, w) pixels, a copy, of slice `part` of a mosaic; all of a frame that is one image."""
    if not header["parts"]:
        return pixels
    y, x = divmod(part, header["parts_across"])
    height, width = header["part_height"], header["part_width"]
    return np.array(pixels[y * height : (y + 1) * height, x * width : (x + 1) * width])


def once(read: Read) -> Read:
    """`read`, which decodes a mosaic once for all its slices that are asked for in a row."""

    def kept(source: Source, frame: int) -> Stored:
        if not source.header["parts"]:
            return read(source, frame)
        if source.kept is None or source.kept[0] != frame:
            source.room = source.kept = None  # a slot is smaller, and is not there for long
            source.kept = frame, read(source, frame)
        return source.kept[1]

    return kept
