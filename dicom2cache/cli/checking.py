"""Commands that look at caches: what is in one, whether it is whole, how two differ; and mend."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from dicom2cache import pipeline
from dicom2cache.cli import converting, events, report, under_way, voice, words
from dicom2cache.cli.bars import progress
from dicom2cache.cli.flags import Backend, CachePath, Deidentify, Jobs, Sources
from dicom2cache.errors import Dicom2cacheError
from dicom2cache.running import errata
from dicom2cache.running.target import cache_of, is_committed
from dicom2cache.store.committed import as_in_format


def verify(
    cache: CachePath,
    quick: Annotated[
        bool, typer.Option("--quick", help="Of shards, sizes and indexes only.")
    ] = False,
    deep: Annotated[
        float | None, typer.Option(metavar="FRACTION", help="Decode this share of the files again.")
    ] = None,
    source: Sources = None,
    deidentify: Deidentify = None,
) -> None:
    """Check every checksum of a cache."""
    if quick and deep is not None:
        raise Dicom2cacheError("--quick and --deep contradict each other; leave one")
    found = pipeline.findings(
        cache, quick=quick, deep=deep, sources=source, deidentify=deidentify
    )  # fmt: skip
    if voice.now().json:
        voice.emit_all(events.of_findings(found))
    else:
        for problem in found:
            print(words.one_line(str(problem)), file=sys.stderr)
    if found:
        raise typer.Exit(1)
    stored = pipeline.counts(cache)["frames_stored"]
    said = f"{words.one_line(str(cache))}: whole ({words.counting(stored, 'frame')})"
    voice.say(
        lambda: print(said),
        lambda: [{"event": "whole", "cache": str(cache), "frames": stored}],
    )


def repair(
    cache: CachePath,
    source: Sources = None,
    deidentify: Deidentify = None,
    jobs: Jobs = None,
    backend: Backend = "loky",
) -> None:
    """Mend a damaged cache: from its second copies, and its shards from the sources."""
    converting.check(backend)
    done = pipeline.repair(
        cache, sources=source, deidentify=deidentify, jobs=jobs, backend=backend,
        progress=progress(),
    )  # fmt: skip
    left = pipeline.verify(cache, quick=True)
    voice.say(
        lambda: report.print_repaired(cache, done, left),
        lambda: events.of_repair(done, left),
    )
    if voice.now().quiet:
        for problem in left:
            print(words.one_line(problem), file=sys.stderr)
    raise typer.Exit(0 if done.is_whole and not left else 1)


def info(
    cache: CachePath,
    as_json: Annotated[bool, typer.Option("--json", help="The root metadata as JSON.")] = False,
    as_errata: Annotated[
        bool, typer.Option("--errata", help="Only what may be wrong, a line for each frame.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="While it is converted: until it is committed.")
    ] = False,
) -> None:
    """Say what is in a cache, and what may be wrong in it if an earlier version made it.

    Of one that is not committed yet, or to which files are added: how far that is, and who works on
    it.
    """
    chosen = [n for n, on in (("--json", as_json), ("--errata", as_errata)) if on]
    if as_errata and (as_json or watch):
        other = chosen[0] if as_json else "--watch"
        raise Dicom2cacheError(f"{other} and --errata contradict each other; leave one")
    if (watch or not is_committed(cache_of(cache))) and under_way.follow(cache, watch, as_json):
        return
    about = pipeline.info(cache)
    if as_json:
        print(json.dumps(about, indent=1))
        return
    with as_in_format(cache):
        found = errata.concerned(cache_of(cache), about)
        if as_errata:
            report.print_frames(found, about)
            return
        report.print_cache(cache, about, whose=True)
        report.print_errata(found, about)
    under_way.follow(cache)


def compare(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="A cache.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Another one of the same sources.")],
    deidentify: Deidentify = None,
) -> None:
    """List frames whose unit, stack or pixels differ, and contours; exit status 1 if any do."""
    found = pipeline.compare(old, new, deidentify=deidentify)
    if voice.now().json:
        some = voice.emit_all(events.of_differences(found))
    elif voice.now().quiet:
        some = sum(1 for _ in found)
    else:
        some = report.print_differences(found)
    if some:
        raise typer.Exit(1)
    same = f"{old} and {new}: every frame has the same unit, stack and pixels"
    voice.say(
        lambda: print(words.one_line(same)),
        lambda: [{"event": "same", "old": str(old), "new": str(new)}],
    )
