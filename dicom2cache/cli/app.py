"""The command line: `dicom2cache build|plan|convert|commit|update|verify|repair|info|...`.

Exit status: 0 all is stored, 1 finished but some files failed, 2 could not run or finish, 130
interrupted; of `convert`, for the frames of its part.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from dicom2cache import __version__, pipeline
from dicom2cache.arrow import tally
from dicom2cache.cli import (
    changing,
    dividing,
    doctoring,
    exporting,
    interrupts,
    keys,
    looking,
    predicting,
    report,
    sbatch,
    under_way,
    words,
)
from dicom2cache.cli.bars import progress
from dicom2cache.cli.flags import (
    Backend,
    CachePath,
    Deidentify,
    Force,
    Jobs,
    Mapping,
    Moved,
    OnError,
    Overwrite,
    Paths,
    PatientKey,
    Scheduler,
    Sources,
    Update,
    parts_of,
    places,
    recipe_options,
)
from dicom2cache.errors import Dicom2cacheError, disk_error
from dicom2cache.privacy.veil import veil_of
from dicom2cache.recipes.recipe import Recipe
from dicom2cache.running import errata, pool
from dicom2cache.running.engines import engine
from dicom2cache.running.target import cache_of, is_committed
from dicom2cache.store.committed import as_in_format

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Decode DICOM once, true to the standard, into a Zarr v3 cache to train from.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _check(backend: str, on_error: str = "skip") -> None:
    if backend not in pool.BACKENDS:
        raise Dicom2cacheError(f"--backend {backend}; legal: {', '.join(pool.BACKENDS)}")
    if on_error not in ("skip", "raise"):
        raise Dicom2cacheError(f"--on-error {on_error}; legal: skip, raise")


def _finish(counts: dict[str, int]) -> NoReturn:
    raise typer.Exit(1 if counts["files_failed"] or counts["frames_failed"] else 0)


@app.command()
@recipe_options
def build(
    paths: Paths,
    recipe: Recipe,
    jobs: Jobs = None,
    backend: Backend = "loky",
    scheduler: Scheduler = None,
    on_error: OnError = "skip",
    overwrite: Overwrite = False,
    force: Force = False,
    patient_key: PatientKey = None,
    deidentify: Deidentify = None,
    mapping: Mapping = None,
) -> None:
    """Convert SRC... to CACHE: plan, convert and commit. Run again, it goes on where it stopped."""
    sources, cache = parts_of(paths)
    _check(backend, on_error)
    with engine(backend, scheduler):
        counts = pipeline.build(
            sources, cache, recipe, jobs=jobs, backend=backend, on_error=on_error,
            overwrite=overwrite, force=force, patient_key=patient_key, deidentify=deidentify,
            mapping=mapping, progress=progress(),
        )  # fmt: skip
    report.print_cache(cache, pipeline.info(cache))
    _finish(counts)


@app.command()
@recipe_options
def plan(
    paths: Paths,
    recipe: Recipe | None,
    jobs: Jobs = None,
    backend: Backend = "loky",
    scheduler: Scheduler = None,
    overwrite: Overwrite = False,
    force: Force = False,
    patient_key: PatientKey = None,
    deidentify: Deidentify = None,
    update: Update = False,
    moved: Moved = None,
    page: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="A page about it, as HTML.")
    ] = None,
) -> None:
    """Read all headers; print what would be stored and what not, before any pixel is read."""
    sources, cache = parts_of(paths)
    _check(backend)
    with engine(backend, scheduler):
        job = pipeline.plan(
            sources, cache, recipe, jobs=jobs, backend=backend, overwrite=overwrite, force=force,
            patient_key=patient_key, deidentify=deidentify, update=update,
            moved=places(moved), progress=progress(),
        )  # fmt: skip
    if job is None:
        report.print_cache(cache, pipeline.info(cache))
        return
    report.print_plan(job, veil_of(deidentify))
    if page is not None:
        looking.write_plan(job, page)
    raise typer.Exit(1 if tally(job.plan.rejects["outcome"])["failed"] else 0)


@app.command()
def convert(
    cache: CachePath,
    part: Annotated[
        str,
        typer.Option(
            metavar="I/N|slurm/N",
            help="Only part I of N, I from 0 to N-1; slurm: I is SLURM_ARRAY_TASK_ID.",
        ),
    ] = "0/1",
    jobs: Jobs = None,
    backend: Backend = "loky",
    scheduler: Scheduler = None,
    on_error: OnError = "skip",
) -> None:
    """Convert what `plan` planned, on any node that sees CACHE, and on several at once.

    Without --part whatever is not done, and no other process works on.
    """
    _check(backend, on_error)
    with engine(backend, scheduler):
        failed = pipeline.convert(
            cache, part=part, jobs=jobs, backend=backend, on_error=on_error, progress=progress()
        )
    if failed:
        print(
            f"frames that failed: {failed}; failures/ has the reasons after commit", file=sys.stderr
        )
        raise typer.Exit(1)


@app.command()
def commit(cache: CachePath, deidentify: Deidentify = None, mapping: Mapping = None) -> None:
    """Make the cache whole once all parts are converted."""
    counts = pipeline.commit(cache, deidentify=deidentify, mapping=mapping)
    report.print_cache(cache, pipeline.info(cache))
    _finish(counts)


@app.command()
@recipe_options
def update(
    paths: Paths,
    recipe: Recipe | None,
    jobs: Jobs = None,
    backend: Backend = "loky",
    scheduler: Scheduler = None,
    on_error: OnError = "skip",
    force: Force = False,
    patient_key: PatientKey = None,
    deidentify: Deidentify = None,
    mapping: Mapping = None,
    moved: Moved = None,
    restack: Annotated[
        bool, typer.Option("--restack", help="Then make whole stacks of series that came in parts.")
    ] = False,
) -> None:
    """Add what is new below SRC... to CACHE, by its own recipe; nothing that is there changes.

    Says which files are gone, or changed since: the cache keeps them as they were. Exit status 1 if
    files of this update failed, or files have changed.
    """
    sources, cache = parts_of(paths)
    _check(backend, on_error)
    with engine(backend, scheduler):
        done = pipeline.update(
            sources, cache, recipe, jobs=jobs, backend=backend, on_error=on_error, force=force,
            patient_key=patient_key, deidentify=deidentify, mapping=mapping,
            moved=places(moved), restack=restack, progress=progress(),
        )  # fmt: skip
    report.print_updated(cache, done)
    failed = tally(done.rejects["outcome"])["failed"]
    raise typer.Exit(1 if failed or done.changed else 0)


app.command()(changing.remove)
app.command()(changing.purge)
app.command()(changing.merge)


@app.command()
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
    problems = pipeline.verify(cache, quick=quick, deep=deep, sources=source, deidentify=deidentify)
    for problem in problems:
        print(words.one_line(problem), file=sys.stderr)
    if problems:
        raise typer.Exit(1)
    frames = words.counting(pipeline.counts(cache)["frames_stored"], "frame")
    print(f"{words.one_line(str(cache))}: whole ({frames})")


@app.command()
def repair(
    cache: CachePath,
    source: Sources = None,
    deidentify: Deidentify = None,
    jobs: Jobs = None,
    backend: Backend = "loky",
) -> None:
    """Mend a damaged cache: from its second copies, and its shards from the sources."""
    _check(backend)
    done = pipeline.repair(
        cache, sources=source, deidentify=deidentify, jobs=jobs, backend=backend,
        progress=progress(),
    )  # fmt: skip
    left = report.print_repaired(cache, done, pipeline.verify(cache, quick=True))
    raise typer.Exit(1 if left else 0)


@app.command()
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


app.command()(recipe_options(sbatch.slurm))


@app.command()
def compare(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="A cache.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Another one of the same sources.")],
    deidentify: Deidentify = None,
) -> None:
    """List frames whose unit, stack or pixels differ, and contours; exit status 1 if any do."""
    if report.print_differences(pipeline.compare(old, new, deidentify=deidentify)):
        raise typer.Exit(1)
    same = f"{old} and {new}: every frame has the same unit, stack and pixels"
    print(words.one_line(same))


app.command()(dividing.split)
app.command()(exporting.export)
app.command()(predicting.labels)
app.command()(doctoring.doctor)
for _command in (looking.report, looking.show, looking.failures):
    app.command()(_command)
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
    with interrupts.raised():
        code = _guarded(lambda: app(standalone_mode=False))
    if code == interrupts.INTERRUPTED:
        print(interrupts.SAID, file=sys.stderr)
    sys.stdout.flush()
    sys.exit(code)


def _guarded(run: Callable[[], Any]) -> int:
    try:
        return int(run() or 0)
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
        print(said, file=sys.stderr)
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
