"""`dicom2cache split`: the sides of a cache, by what reads it for training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from dicom2cache.cli import files, words
from dicom2cache.cli.flags import CachePath
from dicom2cache.errors import Dicom2cacheError, remedy


def split(
    cache: CachePath,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A .csv or .parquet file.")],
    by: Annotated[
        str, typer.Option(help="patient, study, series, or a column of frames/.")
    ] = "patient",
    fractions: Annotated[
        str | None,
        typer.Option(metavar="A,B[,C]|NAME=A,...", help="train, val, test (0.8,0.1,0.1)."),
    ] = None,
    folds: Annotated[int | None, typer.Option(metavar="N", help="Folds instead.")] = None,
    stratify: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Balance its classes; not stable.")
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Count its classes only.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The table that has this COLUMN.")
    ] = None,
    on: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Joined on this column of both.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(metavar="KEYFILE", help="Key of the hashes that are joined.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Other sides.")] = 0,
) -> None:
    """Divide the frames of CACHE in sides, no patient on two; `cache.split(OUT)` reads them."""
    files.check(out, "OUT", cache)
    if (labels is None) != (on is None) or (labels and not (stratify or label)):
        raise Dicom2cacheError("--labels, --on and --stratify or --label go together")
    if labels is not None and not labels.is_file():
        raise Dicom2cacheError(f"--labels {labels}: no such file")
    with _reader():
        from trainer_adapter import open_cache

        opened = open_cache(cache)
        said: dict[str, Any] = {"stratify": stratify, "label": label}
        if labels is not None:
            joined = {name: _values(opened, name, labels, on, key)
                      for name in said.values() if name is not None}  # fmt: skip
            said = {role: joined.get(name) for role, name in said.items()}
        sides = opened.split(by=by, fractions=_shares(fractions), folds=folds, seed=seed, **said)
        sides.write(out)
    print(words.lines(repr(sides)))


@contextmanager
def _reader() -> Iterator[None]:
    """What the reader refuses, in the words of a command."""
    try:
        from trainer_adapter import CacheError
    except ImportError as e:
        raise Dicom2cacheError(f"{e}; {remedy()}") from e
    try:
        yield
    except CacheError as e:
        raise Dicom2cacheError(str(e)) from e
    except ImportError as e:
        raise Dicom2cacheError(f"{e}; {remedy()}") from e
    except KeyError as e:
        raise Dicom2cacheError(str(e.args[0])) from e


def _values(opened: Any, name: str, labels: Path, on: str | None, key: Path | None) -> list[Any]:
    """The label of each frame of a cache; None where the table has none."""
    from trainer_adapter import FrameDataset

    known: Any = FrameDataset(
        opened, name, labels=labels, on=on, kind=None, missing="drop", key=key
    )
    values: list[Any] = [None] * len(opened)
    for i, value in zip(known.cache.indices.tolist(), known.labels.tolist(), strict=True):
        values[i] = known.classes[value] if known.classes else value
    return values


def _shares(said: str | None) -> Any:
    """0.8,0.2 as numbers, a=0.8,b=0.2 with names; what is neither is refused by the split."""
    if said is None:
        return None
    try:
        if "=" in said:
            return {k: float(v) for k, v in (part.split("=", 1) for part in said.split(","))}
        return [float(part) for part in said.split(",")]
    except ValueError:
        return said
