"""The flags that the commands share, with their help."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from dicom2cache.errors import Dicom2cacheError
from dicom2cache.pixels.window import PRESETS
from dicom2cache.recipes.choices import EXCLUDABLE, OF_RECIPES, OF_TREATMENTS
from dicom2cache.recipes.limits import Limits
from dicom2cache.recipes.recipe import Recipe, named_recipes
from dicom2cache.running import pool

Paths = Annotated[
    list[Path],
    typer.Argument(metavar="SRC... CACHE", help="DICOM files or folders, then the cache's folder."),
]
CachePath = Annotated[Path, typer.Argument(metavar="CACHE", help="The cache's folder.")]
Jobs = Annotated[
    int | None, typer.Option("--jobs", "-j", min=1, help="Processors to use, at most (all).")
]
Backend = Annotated[str, typer.Option(help=f"joblib's backend: {', '.join(pool.BACKENDS)}.")]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS|FILE",
        help="With --backend dask: address of the scheduler, or the file that it writes.",
    ),
]
OnError = Annotated[
    str, typer.Option(help="skip: a bad file costs itself only; raise: stop at the first.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing cache.")]
Update = Annotated[
    bool, typer.Option("--update", help="Only what is new, as `update` adds it to CACHE.")
]
Moved = Annotated[
    list[str] | None,
    typer.Option(
        metavar="OLD=NEW",
        help="Where a source folder of CACHE is by now, of an update (may be repeated).",
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Go on though the disk has no room for all frames.")
]
PatientKey = Annotated[
    Path | None,
    typer.Option(help="Key of the patient hashes (made for this user at first use)."),
]
Deidentify = Annotated[
    Path | None,
    typer.Option(metavar="KEYFILE", help="Key file: UIDs and paths are hashes, free text is out."),
]
Sources = Annotated[
    list[Path] | None,
    typer.Option(
        "--source",
        metavar="FOLDER",
        help="Where a source folder is by now; once for each, in the order of `info --json`.",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only say what would be stored; nothing is written.")
]
Mapping = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="With --deidentify: write there what hashes stand for."),
]


def recipe_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with --recipe and a flag for each key of the recipe, which override it.

    The command itself has a parameter `recipe` and gets the Recipe that these say; None, if it is
    declared so, where none of them is given.
    """
    own = inspect.signature(command, eval_str=True)
    keys = {f.name: f for f in dataclasses.fields(Recipe) if f.metadata["metavar"] != ""}
    hints = get_type_hints(Recipe)
    optional = type(None) in get_args(own.parameters["recipe"].annotation)
    file = typer.Option(
        "--recipe",
        metavar="FILE.toml|NAME",
        help=f"Recipe file, or one of {', '.join(named_recipes())}; flags override it.",
    )
    flags = [_parameter("recipe", Annotated[Path | None, file])]
    flags += [_parameter(name, _flag(key, hints[name])) for name, key in keys.items()]
    parameters: list[inspect.Parameter] = []
    for parameter in own.parameters.values():
        parameters += flags if parameter.name == "recipe" else [parameter]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        said = {name: given.pop(name) for name in keys}
        said = {name: _value(text, hints[name]) for name, text in said.items()}
        said = {name: value for name, value in said.items() if value is not None and value != []}
        path = given.pop("recipe")
        if optional and not said and path is None:
            command(recipe=None, **given)
            return
        recipe = Recipe.from_toml(path, **said) if path else Recipe.said(said, "flags")
        command(recipe=recipe, **given)

    run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def parts_of(paths: list[Path]) -> tuple[list[Path], Path]:
    """(sources, the cache's folder). Raises Dicom2cacheError for fewer than two paths."""
    if len(paths) < 2:
        raise Dicom2cacheError("give at least one source and then the cache's folder")
    return paths[:-1], paths[-1]


def places(moved: list[str] | None) -> dict[str, str]:
    """{OLD: NEW} of --moved. Raises Dicom2cacheError for what is no such pair."""
    found = {}
    for said in moved or ():
        cuts = [
            k for k, letter in enumerate(said) if letter == "=" and Path(said[k + 1 :]).is_dir()
        ]
        if not cuts:  # either of the names may have such a sign in it
            raise Dicom2cacheError(f"--moved {said}; legal: OLD=NEW, and NEW a folder")
        found[said[: cuts[0]]] = said[cuts[0] + 1 :]
    return found


def plan_flags(context: typer.Context) -> list[str]:
    """The flags of `plan` among those that a command was given, for another folder."""
    known = {f.name for f in dataclasses.fields(Recipe)}
    known |= {"recipe", "overwrite", "force", "patient_key", "update"}
    found: list[str] = []
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name not in known or source is None or source.name != "COMMANDLINE":
            continue
        value, (flag, *_) = context.params[name], parameter.opts
        if value is True:
            found.append(flag)
        elif value is False:
            continue  # as it is without
        else:
            for one in value if isinstance(value, (list, tuple)) else [value]:
                is_file = isinstance(one, Path) and str(one) not in named_recipes()
                found += [flag, str(one.absolute() if is_file else one)]
    return found


def _parameter(name: str, annotation: Any) -> inspect.Parameter:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Parameter(name, kind, default=None, annotation=annotation)


def _flag(key: dataclasses.Field[Any], hint: Any) -> Any:
    """The annotation that Typer makes the flag of a key from."""
    # Typer prints through rich, for which brackets are markup.
    words = key.metadata["values"].translate({ord("`"): None, ord("["): "(", ord("]"): ")"})
    if _is_list(hint):
        words = f"{words.removeprefix('list of ')} (may be repeated)"
        kind: Any = list[str] | None
    else:
        kind = str | None if _pair_of(hint) else _one(hint)
    if key.default not in (None, ()) and hint is not Limits:
        words += f" ({_plain(key.default)})"
    completed = _starting(_WORDS[key.name]) if key.name in _WORDS else None
    return Annotated[
        kind,
        typer.Option(metavar=key.metadata["metavar"], help=words, autocompletion=completed),
    ]


_WORDS = {
    **OF_TREATMENTS, **OF_RECIPES, "exclude": EXCLUDABLE, "window": (*PRESETS, "dicom"),
}  # fmt: skip
"""values of keys that a shell can complete"""


def _starting(words: Iterable[str]) -> Callable[[str], list[str]]:
    def those(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return those


def _value(said: Any, hint: Any) -> Any:
    kind = _pair_of(hint)
    return _pair(said, kind) if kind and said is not None else said


def _one(hint: Any) -> Any:
    return hint if type(None) in get_args(hint) else hint | None


def _is_list(hint: Any) -> bool:
    return hint is Limits or get_args(hint)[-1:] == (...,)


def _pair_of(hint: Any) -> Any:
    """The type of the two numbers of a pair, or of None and a pair; None for what is no pair."""
    for one in (hint, *get_args(hint)):
        if get_origin(one) is tuple and ... not in get_args(one):
            return get_args(one)[0]
    return None


def _plain(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _pair(said: str, kind: Callable[[str], Any]) -> Any:
    """A,B as two numbers, A as one; what is neither is left for the recipe to refuse."""
    try:
        found = [kind(part) for part in said.split(",")]
    except ValueError:
        return said
    return found if len(found) != 1 else found[0]
