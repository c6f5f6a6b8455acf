"""What the keys of a recipe may be, where that is one of a few words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dicom2cache.errors import RecipeError, meant
from dicom2cache.records import CODECS

DTYPES = ("uint8", "int16", "uint16", "int32", "float32", "float64")
EXCLUDABLE = (
    "localizer", "derived", "secondary", "burned-in", "dose", "map", "mask", "lossy", "mosaic",
    "label", "overview", "thumbnail", "waveform",
)  # fmt: skip
OF_TREATMENTS = {
    "intensity": ("modality", "stored", "window", "percentiles", "suv"),
    "dtype": ("auto", *DTYPES),
    "colour": ("rgb", "grey"),
    "monochrome1": ("invert", "keep"),
    "fit": ("pad", "crop", "stretch"),
}
OF_RECIPES = {
    "codec": CODECS, "masks": ("none", "planes", "labelmap"), "mask_grid": ("same", "image")
}  # fmt: skip


def illegal(name: str, said: Any, legal: Sequence[str]) -> RecipeError:
    """The error for a value that is not one of those that are legal."""
    names = ", ".join(legal)
    return RecipeError(f"recipe: {name} = {said!r}; legal: {names}{meant(said, legal)}")


IMPLIED = (("window", "window"), ("percentiles", "percentiles"))
"""keys, and the intensity that each of them is for"""


def implied(values: dict[str, Any]) -> dict[str, Any]:
    """The values with the intensity that a window or percentiles imply."""
    if "intensity" not in values:
        for key, intensity in IMPLIED:
            if values.get(key):
                return {**values, "intensity": intensity}
    return values
