"""`dicom2cache report`: a page about a cache."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from dicom2cache import pipeline
from dicom2cache.cli import words
from dicom2cache.cli.flags import CachePath
from dicom2cache.errors import Dicom2cacheError
from dicom2cache.running.target import cache_of
from dicom2cache.store.committed import as_in_format

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
    path = out or PAGE
    if out is None and not _is_ours(path, page.MARK):
        raise Dicom2cacheError(f"{path}: exists, and is no report; give another name by -o")
    sides = _sides(cache, split) if split else None
    with as_in_format(cache):
        contents = whole.report(
            target, about, most=most, seed=seed, sides=sides, title=title, identifying=identifying
        )
        document = page.page_of(contents).encode()
    write(path, document)
    print(
        words.one_line(
            f"{path}: {whole.titled(contents.facts)}; {len(contents.pictures)} pictures, "
            f"{len(document) / 1e6:.1f} MB"
        )
    )


def _is_ours(path: Path, mark: str) -> bool:
    """Whether a file may be written over: it is not there, or a report."""
    try:
        with path.open("rb") as file:
            return file.read(len(mark)) == mark.encode()
    except FileNotFoundError:
        return True
    except OSError:
        return False


def write(path: Path, data: bytes) -> None:
    """A file, whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _sides(cache: Path, split: Path) -> dict[str, Any]:
    """{side: sample indices} of a split that is stored."""
    try:
        from trainer_adapter import CacheError, open_cache
    except ImportError as e:
        raise Dicom2cacheError(f"{e}; pip install 'dicom2cache[train]'") from e
    try:
        found = open_cache(cache).split(split)
        return {name: side.indices for name, side in found.items()}
    except CacheError as e:
        raise Dicom2cacheError(str(e)) from e
