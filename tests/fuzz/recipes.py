"""Recipes: `where` over real headers, TOML, and limits; all that is wrong is a RecipeError."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import pyarrow as pa

from dicom2cache.errors import RecipeError
from dicom2cache.planning.select import select_files
from dicom2cache.recipes.recipe import Recipe, named_recipes
from dicom2cache.schema import FILE_COLUMNS
from tests.fuzz.choices import Choices
from tests.fuzz.headers import place
from tests.support.plans import files, header


@cache
def _some_files() -> pa.Table:
    return files([header("a", modality="CT", thickness=2.5), header("b", kvp=120.0, b_value=0.0)])


def where_text(data: bytes) -> None:
    """`data` is an expression, in UTF-8."""
    text = data.decode("utf-8", "surrogateescape")
    with suppress(RecipeError):
        select_files(_some_files(), Recipe(where=text))


_WORDS = (
    " ", "(", ")", "[", "]", ",", "==", "!=", "<", "<=", ">", ">=", " in ", " not in ", " and ",
    " or ", " not ", " is ", " is not ", "None", "True", "False", "0", "1", "2.5", "-1", "1e400",
    "10000000000000000000000", "1j", '"CT"', "'MR'", 'b"x"', '""', "{}", "{1}", "()", "lambda:0",
    "modality", "thickness", "kvp", "rows", "flags", "windows", "per_frame", "position", "size",
    "lossy", "height", "+", "*", "**", ".", ":=", "if", "else", "#", "\\", '"\\ud800"', "...",
    '"\\x00"', "f''", "[1,'a']", "['CT','MR']", "[None]", "[[1]]", "(1,2.5)",
)  # fmt: skip


def where_words(data: bytes) -> None:
    """Each byte is a word of an expression, or a column."""
    words = (*_WORDS, *FILE_COLUMNS)
    where_text("".join(words[b % len(words)] for b in data).encode("utf-8", "surrogateescape"))


def where_seeds() -> Iterator[bytes]:
    """Expressions that are right."""
    for text in (
        'modality == "CT" and thickness <= 2.5', "kvp is None or not lossy", "1 < height < 512",
        'modality in ["CT", "MR"]', 'modality not in ["CT"] and b_value > 1000',
    ):  # fmt: skip
        yield text.encode()


def word_seeds() -> Iterator[bytes]:
    """Short expressions by their words."""
    places = {word: k for k, word in enumerate((*_WORDS, *FILE_COLUMNS))}
    for words in (
        ("modality", "==", '"CT"', " and ", "thickness", "<=", "2.5"), ("lossy",),
        ("kvp", " is ", "None"), ("modality", " in ", "['CT','MR']"),
    ):  # fmt: skip
        yield bytes(places[word] for word in words)


def toml_text(data: bytes) -> None:
    """`data` is a recipe file; as in a cache it comes back the same."""
    path = place().folder / "recipe.toml"
    path.write_bytes(data)
    with suppress(RecipeError):
        recipe = Recipe.from_toml(path)
        said = recipe.to_dict()
        assert Recipe.from_dict(said).to_dict() == json.loads(json.dumps(said, allow_nan=False))


_KEYS = (
    "intensity", "window", "percentiles", "dtype", "colour", "size", "fit", "pad", "spacing",
    "where", "exclude", "shard_mib", "max_arrays", "codec", "monochrome1", "limits.frames",
    "limits.inflate", "limits", "unknown",
)  # fmt: skip
_VALUES = (
    '"window"', '"percentiles"', '"suv"', '"stored"', '["40,400"]', '["dicom", "lung"]', "[]",
    "[1, 99]", "[nan, 1]", "[-inf, inf]", '"uint8"', '"grey"', "512", "[5, 7]", "[0, 1]", '"crop"',
    '"stretch"', "0.7", "-1", "1e308", "inf", "nan", "true", '""', '["mask"]',
    '"modality == \'CT\'"',
    "1", "0", "99999999999999999999", "{}", "{frames = 3}", "{frames = true}", "1979-05-27",
    "[[1], [2]]", '["1,1e308"]', '["1,-1"]', '["nan,nan"]', '[","]', '"zstd"', "[{}]", "12:00:00",
    '"auto"', '["40,400", "40,400"]', "[1e-320, 5e-324]", '"1e999,1"',
)  # fmt: skip


def toml_keys(data: bytes) -> None:
    """Keys and values chosen by `data`; perhaps rules."""
    c = Choices(data)
    lines = list[str]()
    while c:
        if c.one_in(8):
            lines.append(f"[[rules]]\nwhere = {c.pick(_VALUES)}")
        lines.append(f"{c.pick(_KEYS)} = {c.pick(_VALUES)}")
    toml_text("\n".join(lines).encode())


def toml_seeds() -> Iterator[bytes]:
    """The recipes that come along."""
    import dicom2cache.recipes as package

    for name in named_recipes():
        yield Path(str(package.__file__)).with_name(f"{name}.toml").read_bytes()


def key_seeds() -> Iterator[bytes]:
    """Each key with a few values."""
    for key in range(len(_KEYS)):
        for value in range(0, len(_VALUES), 7):
            yield bytes([0, key, value])
