"""The recipe: what is stored and how. It is recorded in the cache."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicom2cache.errors import RecipeError
from dicom2cache.window import window_text

DTYPES = ("uint8", "int16", "uint16", "int32", "float32", "float64")
EXCLUDABLE = ("localizer", "derived", "secondary", "burned-in", "dose", "map", "lossy")
_CHOICES = {
    "intensity": ("modality", "stored", "window"),
    "dtype": ("auto", *DTYPES),
    "colour": ("rgb", "grey"),
    "monochrome1": ("invert", "keep"),
    "codec": ("none",),
}


@dataclass(frozen=True)
class Recipe:
    """What is stored, and how.

    Raises RecipeError, when made, for a value that is not legal.
    """

    intensity: str = "modality"
    """`modality`: values after the modality LUT (HU for CT); `stored`: as in the file; `window`:
    grey values through `window` to the whole range of the dtype."""
    window: tuple[str, ...] = ()
    """Windows of grey images, each a channel: CENTER,WIDTH, a preset, or `dicom` (the file's)."""
    dtype: str = "auto"
    """`auto`: the smallest that holds a stack truly; else one NumPy name for all."""
    colour: str = "rgb"
    """`rgb`: three channels; `grey`: luminance."""
    monochrome1: str = "invert"
    """`invert`: values without a unit, so that larger is brighter; `keep`: never."""
    where: str | None = None
    """Expression over header columns; what it does not hold for is excluded."""
    exclude: tuple[str, ...] = ()
    """Kinds of image to leave out, of EXCLUDABLE."""
    shard_mib: int = 128
    """Frame bytes in a shard, in MiB; a larger frame has a shard of its own."""
    max_arrays: int = 256
    """Most Zarr arrays; rare sizes share larger slots to stay under it."""
    codec: str = "none"
    """Compression of the frames in the cache."""

    def __post_init__(self) -> None:
        for name, legal in _CHOICES.items():
            value = getattr(self, name)
            if value not in legal:
                raise RecipeError(f"recipe: {name} = {value!r}; legal: {', '.join(legal)}")
        if not isinstance(self.exclude, list | tuple | set | frozenset):
            raise RecipeError(f"recipe: exclude = {self.exclude!r} must be a list")
        for kind in self.exclude:
            if kind not in EXCLUDABLE:
                raise RecipeError(f"recipe: exclude has {kind!r}; legal: {', '.join(EXCLUDABLE)}")
        object.__setattr__(self, "exclude", tuple(sorted(set(self.exclude))))
        self._check_window()
        for name, low, high in (("shard_mib", 1, 65536), ("max_arrays", 1, 32767)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise RecipeError(
                    f"recipe: {name} = {value!r}; legal: a whole number from {low} to {high}"
                )
        if self.where is not None:
            if not isinstance(self.where, str) or not self.where.strip():
                raise RecipeError(f"recipe: where = {self.where!r} is not an expression")
            from dicom2cache.records import FILE_COLUMNS
            from dicom2cache.where import parse_where

            parse_where(self.where, FILE_COLUMNS)

    def _check_window(self) -> None:
        if not isinstance(self.window, list | tuple):
            raise RecipeError(f"recipe: window = {self.window!r} must be a list")
        object.__setattr__(self, "window", tuple(window_text(w) for w in self.window))
        if self.window and self.intensity == "modality":  # what else would a window be for
            object.__setattr__(self, "intensity", "window")
        if bool(self.window) != (self.intensity == "window"):
            raise RecipeError(
                f"recipe: intensity {self.intensity!r} with window {list(self.window)}; legal: "
                "intensity window with at least one window, or no window"
            )

    @property
    def shard_bytes(self) -> int:
        """Frame bytes that a shard may hold."""
        return self.shard_mib << 20

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON values, defaults included."""
        return {
            **dataclasses.asdict(self),
            "exclude": list(self.exclude),
            "window": list(self.window),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any], origin: str = "recipe") -> Recipe:
        """The recipe that `values` says; RecipeError names unknown keys."""
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise RecipeError(
                f"{origin}: unknown {', '.join(unknown)}; legal: {', '.join(sorted(known))}"
            )
        for name in ("exclude", "window"):
            if isinstance(values.get(name), list):
                values = {**values, name: tuple(values[name])}
        return cls(**values)

    @classmethod
    def from_toml(cls, path: Path | str, **overrides: Any) -> Recipe:
        """The recipe in a TOML file; `overrides` win.

        Raises RecipeError naming the file, if it cannot be read or makes no sense.
        """
        try:
            values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
            raise RecipeError(f"{path}: cannot read the recipe: {e}") from e
        try:
            return cls.from_dict({**values, **overrides}, origin=str(path))
        except RecipeError as e:
            raise RecipeError(e.args[0] if str(path) in str(e) else f"{path}: {e}") from e
