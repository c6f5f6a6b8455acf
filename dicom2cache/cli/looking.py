"""`dicom2cache report`, `show` and `failures`: what is in a cache, looked at."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
import typer

from dicom2cache import pipeline
from dicom2cache.cli import files, words
from dicom2cache.cli.flags import CachePath, Deidentify
from dicom2cache.cli.reporting.unstored import OUTCOMES
from dicom2cache.errors import Dicom2cacheError, meant, remedy
from dicom2cache.pixels.window import FromFile, parse_window
from dicom2cache.privacy.veil import KEY, check_key, veil_of
from dicom2cache.running.job import Job
from dicom2cache.running.target import cache_of
from dicom2cache.store.committed import as_in_format, read_table, void_failures

PAGE = Path("report.html")


def report(
    cache: CachePath,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Written to (report.html).")
    ] = None,
    most: Annotated[
        int, typer.Option("--pictures", min=0, max=200, help="Stacks shown at most.")
    ] = 24,
    seed: Annotated[int, typer.Option(min=0, help="Other stacks.")] = 0,
    split: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A split that `dicom2cache split` wrote.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Heading of the page.")] = None,
    identifying: Annotated[
        bool, typer.Option("--identifying", help="With paths, machines and values of headers.")
    ] = False,
) -> None:
    """Write one HTML file that shows CACHE: counts, pictures, histograms, failures, a datasheet.

    It opens offline, has no script, and no paths, UIDs or free text unless --identifying.
    """
    from dicom2cache.cli.reporting import page, whole

    target, about = cache_of(cache), pipeline.info(cache)
    path = files.check(out or PAGE)
    if out is None:
        files.refuse_others(path, page.MARK.encode())
    sides = _sides(cache, split) if split else None
    with as_in_format(cache):
        contents = whole.report(
            target, about, most=most, seed=seed, sides=sides, title=title, identifying=identifying
        )
        document = page.page_of(contents).encode()
    files.write(path, document)
    print(
        words.one_line(
            f"{path}: {whole.titled(contents.facts)}; "
            f"{words.counting(len(contents.pictures), 'picture')}, "
            f"{len(document) / 1e6:.1f} MB"
        )
    )


def write_plan(job: Job, path: Path) -> str:
    """Write the page of a plan; what that came to."""
    from dicom2cache.cli.reporting import page, planned

    contents = planned.planned(job)
    files.write(path, page.page_of(contents).encode())
    return f"{path}: {contents.title}"


def show(
    cache: CachePath,
    index: Annotated[int | None, typer.Argument(metavar="[INDEX]", help="A frame.")] = None,
    stack: Annotated[int | None, typer.Option(metavar="N", help="A stack instead.")] = None,
    path: Annotated[
        str | None, typer.Option(metavar="P", help="Or a source file, as frames/ has it.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Written to (frame-12.png).")
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(metavar="NAME|CENTER,WIDTH", help="Another window than the frame's own."),
    ] = None,
    deidentify: Deidentify = None,
) -> None:
    """Write a frame, a stack or a file of CACHE as PNG, and print its source and its row."""
    from dicom2cache.cli.reporting import one, pictures

    if sum(said is not None for said in (index, stack, path)) != 1:
        raise Dicom2cacheError("give one: INDEX, --stack N or --path P")
    chosen = None if window is None else parse_window(window)
    if isinstance(chosen, FromFile):
        chosen = None
    target, about = cache_of(cache), pipeline.info(cache)
    veil = veil_of(deidentify)
    if path is not None and (veil is not None or KEY in about):
        remedy = "give its key by --deidentify, or INDEX or --stack"
        if veil is not None or not one.is_hash(path):
            check_key(veil, about, target, remedy)
        path = veil.hashed("path", path) if veil is not None else path
    asked = one.Asked(index, stack, path)
    file = files.check(out or Path(f"{asked.name}.png"))
    if out is None:
        files.refuse_others(file, pictures.SIGNED)
    with as_in_format(cache):
        where = one.found(target, about, asked)
        rows = one.rows_at(target, about, where)
        folders = {s["root"]: s["path"] for s in about["sources"]}
        source = os.path.join(folders[rows[0]["root"]], rows[0]["path"])
        told = list(one.told(about, where, rows, source))
        try:
            data, how = one.drawn(target, about, rows, chosen)
            files.write(file, data)
        finally:  # of a damaged frame, the row says where it came from
            for line in told:
                print(words.one_line(line))
    print(words.one_line(f"{file}: {how}"))


def failures(
    cache: CachePath,
    outcome: Annotated[
        list[str] | None, typer.Option(help=f"Only of this outcome: {', '.join(OUTCOMES)}.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="As CSV, a line for each reason.")] = False,
    each: Annotated[
        bool, typer.Option("--each", help="As CSV, a line for each file, or frame of one.")
    ] = False,
) -> None:
    """Say what of CACHE is not stored: each reason with its count, an example and what to do."""
    from dicom2cache.cli import rejects

    for said in outcome or ():
        if said not in OUTCOMES:
            legal = f"{', '.join(OUTCOMES)}{meant(said, OUTCOMES)}"
            raise Dicom2cacheError(f"--outcome {said}; legal: {legal}")
    target, about = cache_of(cache), pipeline.info(cache)
    with as_in_format(cache):
        void = void_failures(target, about)
        rows = read_table(target, about, "failures").filter(pa.array(~void))
        if outcome:
            rows = rows.filter(pc.is_in(rows["outcome"], value_set=pa.array(outcome)))
        if each:
            folders = {s["root"]: s["path"] for s in about["sources"]}
            rejects.write_each(rows, folders, sys.stdout)
        elif as_csv:
            rejects.write_groups(rows, sys.stdout)
        else:
            rejects.print_groups(rows)


def _sides(cache: Path, split: Path) -> dict[str, Any]:
    """{side: sample indices} of a split that is stored."""
    try:
        from trainer_adapter import CacheError, open_cache
    except ImportError as e:
        raise Dicom2cacheError(f"{e}; {remedy()}") from e
    try:
        found = open_cache(cache).split(split)
        return {name: side.indices for name, side in found.items()}
    except CacheError as e:
        raise Dicom2cacheError(str(e)) from e
