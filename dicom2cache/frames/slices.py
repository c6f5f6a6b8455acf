"""What is stored of a row of the plan: a frame, or one of the slices that were tiled into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dicom2cache.frames.decode import Source, Stored
from dicom2cache.frames.treat import Values, to_values
from dicom2cache.recipes.recipe import Treatment
from dicom2cache.records import FrameRow


def values_of(
    stored: Stored,
    row: FrameRow,
    source: Source,
    treatments: Sequence[Treatment],
    dtype: str,
    limits: tuple[float, float] | None = None,
) -> Values:
    """`to_values` of a frame, or of the slice of a mosaic that the row names.

    A mosaic is stored whole or not at all: raises FrameError if any of its slices cannot be.
    """
    if not source.header["parts"]:
        return to_values(stored, row, source, treatments, dtype, limits)
    key = row["frame"], dtype, limits
    if source.treated is None or source.treated[0] != key:
        slices = [
            replace(stored, pixels=source.cut(stored.pixels, part), ends=None)
            for part in range(source.header["parts"])
        ]
        source.treated = (
            key,
            [to_values(one, row, source, treatments, dtype, limits) for one in slices],
        )
    made: Values = source.treated[1][row["part_of_frame"]]
    return made
