"""The command line: `dicom2cache build|plan|convert|commit|update|verify|repair|info|...`.

Exit status: 0 all is stored, or no more failed than --max-failures allows, 1 finished but some
files failed, 2 could not run or finish, 130 interrupted, 141 instead of 0 and 1 where nobody read
all that stdout was told; of `convert`, for the frames of its part.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from dicom2cache import __version__, pipeline
from dicom2cache.cli import (
    changing,
    converting,
    dividing,
    doctoring,
    events,
    exporting,
    interrupts,
    keys,
    looking,
    predicting,
    report,
    sbatch,
    under_way,
    voice,
    words,
)
from dicom2cache.cli.bars import progress
from dicom2cache.cli.examples import added
from dicom2cache.cli.flags import (
    Backend,
    CachePath,
    Deidentify,
    Jobs,
    Sources,
    recipe_options,
)
from dicom2cache.errors import Dicom2cacheError, disk_error
from dicom2cache.running import errata
from dicom2cache.running.target import cache_of, is_committed
from dicom2cache.store.committed import as_in_format

app = typer.Typer(
    no_args_is_help=True,
    help="Decode DICOM once, true to the standard, into a Zarr v3 cache to train from.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def told(function: Callable[..., None]) -> Callable[..., None]:
    """A command, with an example and its page under its help."""
    app.command(epilog=added(function.__name__))(function)
    return function


def command(function: Callable[..., None]) -> Callable[..., None]:
    """A command that may be quiet, verbose or speak in events."""
    return told(voice.voiced(function))


for _function in (
    converting.build, converting.plan, converting.convert, converting.commit, converting.update,
    changing.remove, changing.purge, changing.merge,
):  # fmt: skip
    command(_function)


@command
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


@command
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


@told
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


told(recipe_options(sbatch.slurm))


@command
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


for _function in (
    dividing.split, exporting.export, predicting.labels, doctoring.doctor, looking.report,
    looking.show, looking.failures,
):  # fmt: skip
    told(_function)
app.add_typer(keys.app, name="key")


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit()


def main() -> None:
    """Run the command line; errors that are foreseen print a sentence, not a traceback."""
    words.plain_warnings()
    with voice.heard():
        with interrupts.raised():
            code = _guarded(lambda: app(standalone_mode=False))
        if code == interrupts.INTERRUPTED:
            print(interrupts.SAID, file=sys.stderr)
        voice.ended(code)
    if voice.is_cut():
        code = voice.cut(code)
    sys.exit(code)


def _guarded(run: Callable[[], Any]) -> int:
    out = sys.stdout
    try:
        return int(run() or 0)
    except SystemExit:
        if sys.stdout is out:
            raise
        sys.stdout = out  # Typer has put another in its place, and would leave by 1
        return voice.cut()
    except typer.Exit as e:
        return int(e.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        return interrupts.INTERRUPTED
    except Exception as e:
        if interrupts.asked():  # as worker processes that were ended with this one
            return interrupts.INTERRUPTED
        if hasattr(e, "show"):  # a usage error, whose class is not the same in all typer versions
            e.show()
            return 2
        said = _said(e)
        if said is None:
            raise
        voice.failed(said)
        return 2


def _said(error: Exception) -> str | None:
    """The sentence for an error that is foreseen; None for one that is not."""
    if isinstance(error, (Dicom2cacheError, ValueError)):
        return f"dicom2cache: {words.lines(str(error))}"
    if isinstance(error, MemoryError):
        what = f"out of memory: {error}" if str(error) else "out of memory"
        return f"dicom2cache: {words.one_line(what)}; use fewer --jobs"
    if isinstance(error, OSError):
        return f"dicom2cache: {words.lines(str(disk_error(error)))}"
    return None
