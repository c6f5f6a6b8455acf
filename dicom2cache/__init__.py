"""DICOM decoded once, true to the standard, into Zarr v3 shards that train at memory speed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dicom2cache.errors import (
        CacheError,
        Dicom2cacheError,
        DiskError,
        EngineError,
        FrameError,
        NoPixels,
        NotDicom,
        OutOfTime,
        RecipeError,
        SourceAway,
        SourceError,
        Unfinished,
    )
    from dicom2cache.pipeline import (
        build,
        commit,
        compare,
        convert,
        info,
        merge,
        plan,
        repair,
        update,
        verify,
    )
    from dicom2cache.recipes.recipe import Recipe
    from dicom2cache.running.remove.whole import purge, remove

__version__ = "0.2.0.dev0"
__all__ = [
    "CacheError",
    "Dicom2cacheError",
    "DiskError",
    "EngineError",
    "FrameError",
    "NoPixels",
    "NotDicom",
    "OutOfTime",
    "Recipe",
    "RecipeError",
    "SourceAway",
    "SourceError",
    "Unfinished",
    "__version__",
    "build",
    "commit",
    "compare",
    "convert",
    "info",
    "merge",
    "plan",
    "purge",
    "remove",
    "repair",
    "update",
    "verify",
]
_COMMANDS = (
    "build", "commit", "compare", "convert", "info", "merge", "plan", "repair", "update", "verify",
)  # fmt: skip
_LATE = {
    **dict.fromkeys(__all__, "errors"), "Recipe": "recipes.recipe",
    **dict.fromkeys(_COMMANDS, "pipeline"),
    **dict.fromkeys(("purge", "remove"), "running.remove.whole"),
}  # fmt: skip


# PEP 562: a worker that decodes need not import the rest, and Ctrl-C is looked after at once.
def __getattr__(name: str) -> Any:
    if name in _LATE:
        from importlib import import_module

        return getattr(import_module(f"dicom2cache.{_LATE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
