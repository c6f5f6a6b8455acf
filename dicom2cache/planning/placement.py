"""Where every frame of a plan lies in what is stored, and its geometry there; pure, columnar."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dicom2cache.arrow import floats, ints, vectors
from dicom2cache.errors import RecipeError
from dicom2cache.pixels.resize import Placement, place
from dicom2cache.planning.parts import frame_sides
from dicom2cache.planning.treatments import waveforms
from dicom2cache.recipes.recipe import Recipe

MOST_PIXELS = 65535
"""on a side, as in DICOM"""


def place_frames(
    files: pa.Table,
    file: NDArray[np.int32],
    frame: NDArray[np.int32],
    per_frame: dict[str, Any],
    recipe: Recipe,
) -> Placement:
    """Where every frame lies in what is stored.

    Raises RecipeError if the recipe's spacing makes frames that are too large.
    """
    height, width = frame_sides(files, file, frame)
    images = ~waveforms(files)[file]
    spacing = [floats(per_frame[c]) for c in ("spacing_y", "spacing_x")]
    aspect = floats(files["pixel_aspect"])[file]
    rule = ints(files["rule"], 0)[file]
    parts: dict[str, Any] = {"height": height.copy(), "width": width.copy()}
    parts |= {name: np.ones(len(file)) for name in ("scale_y", "scale_x")}
    parts |= {name: np.zeros(len(file)) for name in ("offset_y", "offset_x")}
    for number, treatment in enumerate(recipe.treatments):
        mine = (rule == number) & images
        if treatment.resized and mine.any():
            placed = place(
                height[mine], width[mine], spacing[0][mine], spacing[1][mine], aspect[mine],
                treatment.size, treatment.fit, treatment.spacing,
            )  # fmt: skip
            for name, column in parts.items():
                column[mine] = getattr(placed, name)
    largest = max(parts[side].max(initial=0, where=images) for side in ("height", "width"))
    if largest > MOST_PIXELS:
        raise RecipeError(
            f"recipe: spacing makes frames of {largest} pixels on a side; legal: up to "
            f"{MOST_PIXELS}; use a larger spacing"
        )
    return Placement(**parts)


def columns_of(p: Placement, per_frame: dict[str, Any], order: NDArray[np.int64]) -> dict[str, Any]:
    """The placement of every frame, and the geometry of what is stored where anything moves.

    The position is that of the first stored pixel's centre (PS3.3 C.7.6.2.1.1).
    """
    still = (p.offset_y == 0) & (p.offset_x == 0) & (p.scale_y == 1) & (p.scale_x == 1)
    if still.all():
        return {"height": p.height[order], "width": p.width[order]}
    spacing = [floats(per_frame[c]) for c in ("spacing_y", "spacing_x")]
    position, cosines = vectors(per_frame["position"], 3), vectors(per_frame["orientation"], 6)
    down, right = (
        ((0.5 - offset) / scale - 0.5) * mm
        for offset, scale, mm in (
            (p.offset_y, p.scale_y, spacing[0]), (p.offset_x, p.scale_x, spacing[1])
        )
    )  # fmt: skip
    moved = position + right[:, None] * cosines[:, :3] + down[:, None] * cosines[:, 3:]
    # Without spacing or orientation, a frame that moved has no known position.
    moved = np.where(still[:, None], position, moved)[order]
    known = np.isfinite(moved).all(axis=1)
    flat = pa.array(np.nan_to_num(moved).reshape(-1))
    columns = {name: getattr(p, name)[order] for name in Placement.__annotations__}
    return {
        **columns,
        "spacing_y": pa.array((spacing[0] / p.scale_y)[order], from_pandas=True),
        "spacing_x": pa.array((spacing[1] / p.scale_x)[order], from_pandas=True),
        "position": pa.FixedSizeListArray.from_arrays(flat, 3, mask=pa.array(~known)),
    }
