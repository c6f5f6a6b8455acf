"""The recipe: what is stored and how. It is recorded in the cache."""

from __future__ import annotations

import dataclasses
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dicom2cache.errors import RecipeError, meant
from dicom2cache.pixels.window import PRESETS, window_text
from dicom2cache.recipes.choices import (
    DTYPES,
    EXCLUDABLE,
    IMPLIED,
    OF_RECIPES,
    OF_TREATMENTS,
    illegal,
    implied,
)
from dicom2cache.recipes.columns import Reading, check_columns, own_of
from dicom2cache.recipes.idle import check_said
from dicom2cache.recipes.limits import Limits
from dicom2cache.recipes.rois import rois_of

WAVEFORM = "waveform"
"""the kind of what has no pixels: of the recipe's keys, those of images do not hold for it"""
_NAMED = Path(__file__).parent
_PERCENTILES = (0.5, 99.5)
_MOST_PIXELS = 65535
"""on a side, as in DICOM"""


def _key(default: Any, values: str, metavar: str | None = None) -> Any:
    """A key of the recipe: its default, and what it may be, in Markdown.

    The flag of its name and its row in docs/recipe.md are made from this; `metavar` is what the
    flag is followed by, where that is not one word. A key without a flag has the metavar "".
    """
    return field(default=default, metadata={"values": values, "metavar": metavar})


class _Unsaid(str):
    """A default that nobody asked for: what does not go with it replaces it."""

    __slots__ = ()


@dataclass(frozen=True)
class Treatment:
    """How the frames of a file become what is stored.

    Raises RecipeError, when made, for a value that is not legal.
    """

    intensity: str = _key(
        _Unsaid("modality"),
        "`modality`: after the modality LUT (HU for CT); `stored`: as in the file; `window`: grey "
        "images through `window`; `percentiles`: between two percentiles of the stack; `suv`: PET "
        "as SUV by body weight",
    )
    window: tuple[str, ...] = _key(
        (),
        "list of `CENTER,WIDTH`, presets for CT "
        f"({', '.join(f'`{name}`' for name in PRESETS)}), and `dicom` (the file's VOI LUT or first "
        "window); each a channel, 0 to 255 in uint8",
    )
    percentiles: tuple[float, float] = _key(
        _PERCENTILES, "two numbers from 0 to 100; padding does not count", "LOW,HIGH"
    )
    dtype: str = _key(
        "auto",
        "`auto`: the smallest that holds each stack truly, uint8 for windows and percentiles; or "
        f"{', '.join(f'`{name}`' for name in DTYPES)}",
    )
    colour: str = _key("rgb", "`rgb`, `grey`")
    monochrome1: str = _key(
        "invert", "`invert`: values without a unit, so that larger is brighter; `keep`"
    )
    size: tuple[int, int] | None = _key(
        None,
        "`[rows, columns]` of every stored frame, antialiased; or one number for both",
        "ROWS,COLUMNS",
    )
    fit: str = _key(
        "pad",
        "how to come to `size`: `pad` keeps all of the image, `crop` fills the frame, `stretch` "
        "distorts",
    )
    pad: float | None = _key(
        None, "value of what `fit` adds; none: -1000 where the unit is HU, else 0"
    )
    spacing: float | None = _key(
        None, "mm between pixels that frames are resampled to; `size` then pads or crops"
    )

    def __post_init__(self) -> None:
        for name, legal in OF_TREATMENTS.items():
            value = getattr(self, name)
            if value not in legal:
                raise illegal(name, value, legal)
        self._check_percentiles()
        self._check_window()
        self._check_geometry()

    def _check_window(self) -> None:
        if not isinstance(self.window, list | tuple):
            raise RecipeError(f"recipe: window = {self.window!r} must be a list")
        object.__setattr__(self, "window", tuple(window_text(w) for w in self.window))
        if isinstance(self.intensity, _Unsaid):  # what else would they be for
            graded = self.percentiles != _PERCENTILES
            if self.window and graded:
                raise RecipeError(
                    f"recipe: window {list(self.window)} and percentiles {self.percentiles!r} "
                    "contradict each other; leave one, or give rules of their own"
                )
            if self.window or graded:
                object.__setattr__(self, "intensity", "window" if self.window else "percentiles")
        if bool(self.window) != (self.intensity == "window"):
            raise RecipeError(
                f"recipe: intensity {self.intensity!r} with window {list(self.window)}; legal: "
                "intensity window with at least one window, or no window"
            )

    def _check_percentiles(self) -> None:
        said = self.percentiles
        legal = isinstance(said, list | tuple) and len(said) == 2 and all(map(_is_number, said))
        if not legal or not 0 <= said[0] < said[1] <= 100:
            raise RecipeError(
                f"recipe: percentiles = {said!r}; legal: two numbers from 0 to 100, the "
                "first below the second, such as [0.5, 99.5]"
            )
        object.__setattr__(self, "percentiles", (float(said[0]), float(said[1])))

    def _check_geometry(self) -> None:
        size = self.size
        if isinstance(size, int) and not isinstance(size, bool):
            size = (size, size)
        if size is not None:
            sides = list(size) if isinstance(size, list | tuple) else []
            whole = all(isinstance(n, int) and not isinstance(n, bool) for n in sides)
            if len(sides) != 2 or not whole or not all(0 < n <= _MOST_PIXELS for n in sides):
                raise RecipeError(
                    f"recipe: size = {self.size!r}; legal: [rows, columns], or one number for "
                    f"both, from 1 to {_MOST_PIXELS}"
                )
            object.__setattr__(self, "size", (sides[0], sides[1]))
        for name in ("pad", "spacing"):
            value = getattr(self, name)
            if value is not None:
                if not _is_number(value) or (name == "spacing" and not 0 < value <= 1000):
                    legal = "a number" if name == "pad" else "mm, above 0 and at most 1000"
                    raise RecipeError(f"recipe: {name} = {value!r}; legal: {legal}")
                object.__setattr__(self, name, float(value))
        if self.spacing is not None and self.fit == "stretch":
            raise RecipeError("recipe: fit stretch with spacing contradict each other; leave one")

    @property
    def graded(self) -> bool:
        """True if grey values become shares of a range: windows and percentiles."""
        return self.intensity in ("window", "percentiles")

    @property
    def resized(self) -> bool:
        """True if frames may be stored in another size than their own."""
        return self.size is not None or self.spacing is not None


def _is_number(value: Any) -> bool:
    """True for what float64 holds: neither NaN, infinite nor a greater int, which JSON has not."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) <= sys.float_info.max


TREATMENT_KEYS = tuple(field.name for field in dataclasses.fields(Treatment))


@dataclass(frozen=True)
class Rule:
    """A treatment of its own for the files that `where` holds for."""

    where: str
    treatment: Treatment


_LIMITS = (
    "table of the most that one file may ask for, in which each has its default: "
    + ", ".join(f"`{name}` ({value})" for name, value in dataclasses.asdict(Limits()).items())
    + "; docs/reliability.md says what they are"
)


@dataclass(frozen=True)
class Recipe(Treatment):
    """What is stored, and how: a treatment for all files, or by `rules`.

    Raises RecipeError, when made, for a value that is not legal.
    """

    rules: tuple[Rule, ...] = _key(
        (),
        "list of tables, each with `where` and keys from above; the first that holds decides",
        "",
    )
    where: str | None = _key(
        None,
        "expression over header columns with `==`, `<`, `in`, `and`, `or`, `not`, `is None`; what "
        "it does not hold for is left out",
    )
    exclude: tuple[str, ...] = _key(
        (),
        f"list of what to leave out: {', '.join(f'`{name}`' for name in EXCLUDABLE)}; `mosaic`: "
        "those that cannot be cut into slices; the last three: pictures of whole slides",
    )
    shard_mib: int = _key(128, "frame bytes in a shard, MiB; a larger frame has one of its own")
    max_arrays: int = _key(256, "most Zarr arrays; rare sizes share larger slots to stay under it")
    codec: str = _key(
        "none",
        "`none`: frames are mapped; `lz4`, `zstd`: compressed, for storage that is slow or short; "
        "`auto`: for each array, by what a sample of it comes to",
    )

    masks: str = _key(
        "none",
        "`none`: segmentations as their files have them; `planes`: on the image that they lie on, "
        "in its size, a plane for each segment; `labelmap`: so, one for all segments of a file",
    )
    rois: tuple[tuple[str, tuple[str, ...]], ...] = _key(
        (),
        "table of classes, numbered in its order, each with a regular expression, or a list of "
        'them, that is looked for in labels of segments: `{ liver = "(?i)^liver" }`; others are '
        "left out; without it all are taken, under their own numbers. Of `planes` and `labelmap`",
        "",
    )
    mask_grid: str = _key(
        "same",
        "`same`: only masks whose pixels are those of their image are drawn on it; `image`: others "
        "of the same frame of reference too, resampled to the nearest",
    )

    columns: tuple[str, ...] = _key(
        (),
        "list of elements that become columns of frames/: a keyword, `(gggg,eeee)`, or "
        '`(gggg,"CREATOR",ee)`, each with a VR behind it where the dictionary does not know it',
    )
    identifying: bool = _key(
        False, "true: `columns` may have elements that may tell who a person is"
    )

    limits: Limits = _key(Limits(), _LIMITS, "NAME=NUMBER")  # noqa: RUF009, which is frozen

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "limits", Limits.of(self.limits))
        for name, legal in OF_RECIPES.items():
            if getattr(self, name) not in legal:
                raise illegal(name, getattr(self, name), legal)
        object.__setattr__(self, "columns", check_columns(self.columns, self.identifying))
        object.__setattr__(self, "rois", rois_of(self.rois))
        if self.rois and self.masks == "none":
            raise RecipeError("recipe: rois with masks none; legal: with masks planes or labelmap")
        if not isinstance(self.exclude, list | tuple | set | frozenset):
            raise RecipeError(f"recipe: exclude = {self.exclude!r} must be a list")
        for kind in self.exclude:
            if kind not in EXCLUDABLE:
                names = ", ".join(EXCLUDABLE)
                raise RecipeError(
                    f"recipe: exclude has {kind!r}; legal: {names}{meant(kind, EXCLUDABLE)}"
                )
        object.__setattr__(self, "exclude", tuple(sorted(set(self.exclude))))
        for name, low, high in (("shard_mib", 1, 65536), ("max_arrays", 1, 32767)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise RecipeError(
                    f"recipe: {name} = {value!r}; legal: a whole number from {low} to {high}"
                )
        if self.where is not None:
            _check_where(self.where)
        if not isinstance(self.rules, list | tuple):
            raise RecipeError(f"recipe: rules = {self.rules!r} must be a list of tables")
        object.__setattr__(self, "rules", tuple(self._rule(r) for r in self.rules))

    def _rule(self, said: Any) -> Rule:
        if isinstance(said, Rule):
            return said
        if not isinstance(said, dict) or "where" not in said:
            raise RecipeError(f"recipe: a rule is a table with `where`, not {said!r}")
        _check_where(said["where"])
        own = implied({k: v for k, v in said.items() if k != "where"})
        unknown = sorted(set(own) - set(TREATMENT_KEYS))
        if unknown:
            raise RecipeError(
                f"recipe: unknown {', '.join(unknown)} in the rule for {said['where']!r}; legal: "
                f"where, {', '.join(TREATMENT_KEYS)}{meant(unknown[0], TREATMENT_KEYS)}"
            )
        base = {k: getattr(self, k) for k in TREATMENT_KEYS}
        if own.get("intensity", "window") != "window":
            base["window"] = ()
        try:
            return Rule(said["where"], Treatment(**{**base, **own}))
        except RecipeError as e:
            raise RecipeError(f"{e} (in the rule for {said['where']!r})") from e

    @property
    def treatments(self) -> tuple[Treatment, ...]:
        """What `rule` of a file counts: the recipe's own first, then those of its rules."""
        return (self, *(rule.treatment for rule in self.rules))

    @property
    def reading(self) -> Reading:
        """What is read of a header."""
        return Reading(**vars(self.limits), own=own_of(self.columns), agreed=self.identifying)

    @property
    def shard_bytes(self) -> int:
        """Frame bytes that a shard may hold."""
        return self.shard_mib << 20

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON values, defaults included."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        own["rois"] = [[name, list(patterns)] for name, patterns in self.rois]
        own["rules"] = [
            {"where": r.where, **_plain(dataclasses.asdict(r.treatment))} for r in self.rules
        ]
        return _plain(own)

    @classmethod
    def from_dict(cls, values: dict[str, Any], origin: str = "recipe") -> Recipe:
        """The recipe that `values` says; RecipeError names unknown keys."""
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise RecipeError(
                f"{origin}: unknown {', '.join(unknown)}; legal: {', '.join(sorted(known))}"
                f"{meant(unknown[0], known)}"
            )
        return cls(**implied(values))

    @classmethod
    def said(cls, values: dict[str, Any], origin: str = "recipe") -> Recipe:
        """As `from_dict`, of what a user says now: keys that would change nothing are refused."""
        recipe = cls.from_dict(values, origin)
        check_said(values, recipe, origin)
        return recipe

    @classmethod
    def from_toml(cls, path: Path | str, **overrides: Any) -> Recipe:
        """The recipe in a TOML file, or one that has that name here; `overrides` win.

        Raises RecipeError naming the file, if it cannot be read or makes no sense.
        """
        file, named = Path(path), named_recipes()
        if str(path) in named and not file.exists():
            file = _NAMED / f"{path}.toml"
        try:
            values = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
            raise RecipeError(
                f"{path}: cannot read the recipe: {e}; legal: a TOML file, or one of "
                f"{', '.join(named)}{meant(path, named)}"
            ) from e
        intensity = implied(overrides).get("intensity")
        for key, wanted in IMPLIED:
            if intensity not in (None, wanted) and key not in overrides:
                values.pop(key, None)
        try:
            if "limits" in overrides:
                base = Limits.of(values.get("limits", {}))
                overrides = {**overrides, "limits": Limits.of(overrides["limits"], base)}
            return cls.said({**values, **implied(overrides)}, origin=str(path))
        except RecipeError as e:
            raise RecipeError(e.args[0] if str(path) in str(e) else f"{path}: {e}") from e


def named_recipes() -> list[str]:
    """Names of the recipes that come with dicom2cache."""
    return sorted(f.stem for f in _NAMED.glob("*.toml"))


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
    return {k: dataclasses.asdict(v) if isinstance(v, Limits) else v for k, v in plain.items()}


def _check_where(where: Any) -> None:
    if not isinstance(where, str) or not where.strip():
        raise RecipeError(f"recipe: where = {where!r} is not an expression")
    from dicom2cache.recipes.where import parse_where
    from dicom2cache.schema import FILE_COLUMNS

    parse_where(where, FILE_COLUMNS)
