"""A single new file, converted as a cache was: by the converter's command, in a process of its own.

The command line and the format are the interface, as everywhere: this package imports nothing of
the converter. A process costs half a second, and a codec that aborts does not end an inference
server. For many new files, build a cache of them and serve that.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trainer_adapter.cache import Cache, open_cache
from trainer_adapter.errors import ConvertError

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""one, or several"""
_PROGRESS = re.compile(r"[a-z ]+: \d+ of \d+ (files|frames),")


@contextmanager
def converted(path: str | os.PathLike[str], like: Cache, beside: Paths = ()) -> Iterator[Cache]:
    """A cache of the file at `path` by the recipe of the cache `like`, while the context lasts.

    `beside`: files or folders with the rest of its stack, where the recipe takes percentiles of a
    stack; without, they are those of this file. Warns if the converter or a codec is of another
    version than the one that `like` was made with. Raises ConvertError with the converter's words.
    """
    found = find_spec("dicom2cache")
    if found is None or found.origin is None:  # a folder of that name is no package
        raise ConvertError(
            f"{path}: not in {like.path}; new files are loaded by the converter, which is not "
            "installed here: pip install dicom2cache, of the version of trainer_adapter"
        )
    file = os.fspath(path)
    more = [beside] if isinstance(beside, str | os.PathLike) else beside
    with tempfile.TemporaryDirectory(prefix="trainer_adapter-") as temporary:
        here = Path(temporary)
        try:
            recipe = toml(like.attributes["recipe"])
        except (KeyError, TypeError, AttributeError, ValueError) as e:
            raise ConvertError(f"{like.path}: its recipe is none ({e})") from e
        (here / "recipe.toml").write_text(recipe, encoding="utf-8", errors="replace")
        # Of one file nobody needs a patient's hash; so the user's own key is not asked for.
        (here / "key").touch(0o600)
        (here / "key").write_bytes(os.urandom(32))
        command = [
            # From the root on, no path can be taken for an option.
            sys.executable, "-m", "dicom2cache.cli", "build", *map(os.path.abspath, [file, *more]),
            str(here / "cache"), "--recipe", str(here / "recipe.toml"),
            "--patient-key", str(here / "key"), "--jobs", "1",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not (here / "cache" / "zarr.json").exists():
            raise ConvertError(f"{file}: {_words(done.stderr, here) or _words(done.stdout, here)}")
        made = open_cache(here / "cache")
        _compare(like, made)
        yield made


def _words(said: str, here: Path) -> str:
    """What a command said, without its progress, and without a folder that is gone by then."""
    lines = said.replace(str(here / "cache"), "a cache").replace(f"{here}{os.sep}", "").splitlines()
    return "\n".join(k for k in lines if k.strip() and not _PROGRESS.match(k)).strip()


def _compare(like: Cache, made: Cache) -> None:
    theirs, ours = like.attributes, made.attributes
    if theirs["recipe"] != ours["recipe"]:
        then = theirs.get("software", {}).get("dicom2cache")
        raise ConvertError(
            f"{like.path}: its recipe is not the same to this dicom2cache "
            f"({ours['software']['dicom2cache']}, made with {then})"
        )
    for kind in ("software", "codecs"):
        made_with = theirs.get(kind) or {}
        for name in sorted(set(made_with) | set(ours[kind])):
            then, now = made_with.get(name), ours[kind].get(name)
            if then != now:
                warnings.warn(
                    f"{like.path} was made with {name} {then}, new files are loaded with {now}: "
                    "pixels may differ",
                    stacklevel=4,
                )


def toml(recipe: dict[str, Any]) -> str:
    """A recipe of the root metadata as TOML; null is what TOML leaves out."""
    lines = [f"{k} = {_value(v)}" for k, v in recipe.items() if v is not None and k != "rules"]
    for rule in recipe["rules"]:
        lines += [
            "",
            "[[rules]]",
            *(f"{k} = {_value(v)}" for k, v in rule.items() if v is not None),
        ]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {_value(v)}" for k, v in value.items()) + "}"
    # A JSON string is a TOML string where nothing but control characters is escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
