"""The flags that the commands share, with their help."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from dicom2cache.recipes.recipe import DTYPES, EXCLUDABLE, named_recipes
from dicom2cache.running import pool

Paths = Annotated[
    list[Path],
    typer.Argument(metavar="SRC... CACHE", help="DICOM files or folders, then the cache's folder."),
]
CachePath = Annotated[Path, typer.Argument(metavar="CACHE", help="The cache's folder.")]
RecipeFile = Annotated[
    Path | None,
    typer.Option(
        "--recipe",
        metavar="FILE.toml|NAME",
        help=f"Recipe file, or one of {', '.join(named_recipes())}; flags override it.",
    ),
]
Intensity = Annotated[
    str | None,
    typer.Option(help="modality (HU for CT; the default), stored, window, percentiles, suv."),
]
Windows = Annotated[
    list[str] | None,
    typer.Option("--window", help="CENTER,WIDTH, a preset such as lung, or dicom; each a channel."),
]
Percentiles = Annotated[
    str | None,
    typer.Option(metavar="LOW,HIGH", help="Percentiles of a stack that span the range (0.5,99.5)."),
]
Size = Annotated[
    str | None, typer.Option(metavar="ROWS,COLUMNS", help="Size of every stored frame; or N.")
]
Fit = Annotated[str | None, typer.Option(help="How to come to --size: pad, crop or stretch.")]
Pad = Annotated[float | None, typer.Option(help="Value of what --fit adds (-1000 HU, else 0).")]
Spacing = Annotated[float | None, typer.Option(help="Resample to this in-plane spacing, mm.")]
Dtype = Annotated[str | None, typer.Option(help=f"auto (the default) or {', '.join(DTYPES)}.")]
Colour = Annotated[str | None, typer.Option(help="rgb (the default) or grey.")]
Monochrome1 = Annotated[
    str | None, typer.Option(help="invert (the default; only values without a unit) or keep.")
]
Where = Annotated[
    str | None, typer.Option(help="Take only what this holds for, e.g. 'modality == \"CT\"'.")
]
Exclude = Annotated[
    list[str] | None, typer.Option(help=f"Leave out: {', '.join(EXCLUDABLE)}. May be repeated.")
]
ShardMib = Annotated[int | None, typer.Option(help="Frame bytes in a shard, MiB (128).")]
MaxArrays = Annotated[int | None, typer.Option(help="Most Zarr arrays (256).")]
Codec = Annotated[
    str | None, typer.Option(help="none (the default), lz4, zstd or auto: compress frames.")
]
Jobs = Annotated[
    int | None, typer.Option("--jobs", "-j", min=1, help="Processes (all processors).")
]
Backend = Annotated[str, typer.Option(help=f"joblib's backend: {', '.join(pool.BACKENDS)}.")]
OnError = Annotated[
    str, typer.Option(help="skip: a bad file costs itself only; raise: stop at the first.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing cache.")]
PatientKey = Annotated[
    Path | None,
    typer.Option(help="Key of the patient hashes (made for this user at first use)."),
]


def pair(said: str | None, kind: Callable[[str], Any]) -> Any:
    """A,B as two numbers, A as one; what is neither is left for the recipe to refuse."""
    if said is None:
        return None
    try:
        found = [kind(part) for part in said.split(",")]
    except ValueError:
        return said
    return found if len(found) != 1 else found[0]
