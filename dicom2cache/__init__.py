"""DICOM decoded once, true to the standard, into Zarr v3 shards that train at memory speed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Recipe", "__version__", "build"]

if TYPE_CHECKING:
    from dicom2cache.pipeline import build
    from dicom2cache.recipes.recipe import Recipe


def __getattr__(name: str) -> Any:  # PEP 562: a worker that decodes need not import the rest
    if name == "Recipe":
        from dicom2cache.recipes.recipe import Recipe

        return Recipe
    if name == "build":
        from dicom2cache.pipeline import build

        return build
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
