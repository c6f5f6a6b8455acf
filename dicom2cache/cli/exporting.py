"""`dicom2cache export`: what the trainer's side makes of stacks, told on a terminal."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from dicom2cache.cli import words
from dicom2cache.cli.bars import progress
from dicom2cache.cli.flags import CachePath
from dicom2cache.errors import Dicom2cacheError, remedy
from dicom2cache.recipes.where import parse_where
from dicom2cache.running.progress import Work

SHOWN = 10
"""reasons that are printed; export.tsv has all"""


def export(
    cache: CachePath,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder of the files.")],
    to: Annotated[
        str, typer.Option(help="nifti, nnunet (raw data set of nnU-Net v2) or npy.")
    ] = "nifti",
    spacing: Annotated[
        str | None, typer.Option(metavar="MM|Z,Y,X", help="Resample (as the slices lie).")
    ] = None,
    upright: Annotated[
        bool, typer.Option("--upright", help="Make tilted stacks upright (else they fail).")
    ] = False,
    gaps: Annotated[
        bool, typer.Option("--gaps", help="Interpolate what is uneven or missing (else it fails).")
    ] = False,
    where: Annotated[
        str | None, typer.Option(help="Only frames where this holds, by columns of frames/.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Threads (all processors).")
    ] = None,
) -> None:
    """Write the stacks of CACHE as files for other tools; run again, it makes what is missing.

    Exit status 1 if some stacks failed. OUT/export.tsv says what became of each.
    """
    if out.exists() and not out.is_dir():
        raise Dicom2cacheError(f"OUT {out}: a file; name the folder of the files")
    wanted = None if spacing is None else _spacing(spacing)
    if _run(cache, out, to, where, spacing=wanted, upright=upright, gaps=gaps, jobs=jobs):
        raise typer.Exit(1)


def _run(cache: Path, out: Path, to: str, where: str | None, **options: Any) -> bool:
    """Write the stacks; True if one of them failed."""
    try:
        from trainer_adapter import CacheError, open_cache
        from trainer_adapter import export as export_stacks
    except ImportError as e:
        raise Dicom2cacheError(f"{e}; {remedy()}") from e

    bar, begun = progress(), [0]

    def tell(done: int, every: int) -> None:
        if not begun[0]:
            bar.begin("exporting", Work(every, cost=float(every)), "files")
        bar.advance(Work(done - begun[0], cost=float(done - begun[0])))
        begun[0] = done

    try:
        opened = open_cache(cache, check="first-touch")  # a file is kept for years
        if where is not None:
            opened = opened.select(parse_where(where, tuple(opened.frames.column_names)))
        if not len(opened):
            raise Dicom2cacheError(f"{cache}: no frame{f' where {where}' if where else ''}")
        made = export_stacks(opened, out, to, progress=tell, **options)
    except CacheError as e:
        raise Dicom2cacheError(str(e)) from e
    finally:
        if begun[0]:
            bar.end()
    return _report(out, made)


def _spacing(text: str) -> tuple[float, ...]:
    """Such as 1 or 3,0.8,0.8."""
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, 3):
        raise Dicom2cacheError(f"--spacing {text}; legal: one length in mm, or three: Z,Y,X")
    return numbers * 3 if len(numbers) == 1 else numbers


def _report(out: Path, made: Any) -> bool:
    """What became of the stacks; True if one failed."""
    counts = Counter(row.outcome for row in made.rows)
    files = len({row.file for row in made.rows if row.file})
    stacks = words.counting(counts["made"] + counts["there"], "stack")
    said = f"{words.one_line(str(out))}: {stacks} in {words.counting(files, 'file')}"
    if counts["there"]:
        said += f", {counts['there']} of an earlier run"
    if counts["no-volume"]:
        said += f"; {words.counting(counts['no-volume'], 'is no volume', 'are no volumes')}"
    if counts["failed"]:
        said += f"; {counts['failed']} failed"
    if made.others:
        said += f"; {words.counting(len(made.others), 'file')} of other stacks there too"
    print(f"{said}; export.tsv has each")
    failed = [row for row in made.rows if row.outcome == "failed"]
    for row in failed[:SHOWN]:
        named = row.reason.startswith("stack ")
        said = row.reason if named else f"stack {row.stack}: {row.reason}"
        print(words.one_line(said), file=sys.stderr)
    if len(failed) > SHOWN:
        print(f"and {len(failed) - SHOWN} more", file=sys.stderr)
    return bool(failed)
