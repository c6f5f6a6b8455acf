"""Commands that make caches, and make them grow."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import pyarrow as pa
import pyarrow.compute as pc
import typer

from dicom2cache import pipeline
from dicom2cache.cli import events, failing, files, looking, report, voice, words
from dicom2cache.cli.bars import progress
from dicom2cache.cli.failing import MaxFailures
from dicom2cache.cli.flags import (
    Backend,
    CachePath,
    Deidentify,
    DryRun,
    Force,
    Jobs,
    Mapping,
    Moved,
    OnError,
    Overwrite,
    Paths,
    PatientKey,
    Scheduler,
    Update,
    parts_of,
    places,
    recipe_options,
)
from dicom2cache.errors import Dicom2cacheError, meant
from dicom2cache.privacy.veil import veil_of
from dicom2cache.recipes.recipe import Recipe
from dicom2cache.running import pool
from dicom2cache.running.await_job import await_job
from dicom2cache.running.engines import engine
from dicom2cache.running.job import Job, is_open
from dicom2cache.running.target import cache_of
from dicom2cache.store.committed import as_in_format, read_table, void_failures


def check(backend: str, on_error: str = "skip") -> None:
    """Raises Dicom2cacheError for names that are none."""
    if backend not in pool.BACKENDS:
        legal = ", ".join(pool.BACKENDS)
        hint = meant(backend, pool.BACKENDS)
        raise Dicom2cacheError(f"--backend {backend}; legal: {legal}{hint}")
    if on_error not in ("skip", "raise"):
        hint = meant(on_error, ("skip", "raise"))
        raise Dicom2cacheError(f"--on-error {on_error}; legal: skip, raise{hint}")


def _finish(cache: Path, most: failing.Allowed) -> NoReturn:
    """Say what a cache has, and leave by its exit status."""
    about = pipeline.info(cache)
    voice.say(lambda: report.print_cache(cache, about), lambda: events.of_cache(cache, about))
    counts, failed = about["counts"], 0
    if counts["files_failed"] or counts["frames_failed"]:
        with as_in_format(cache_of(cache)):
            void = void_failures(cache_of(cache), about)
            rejects = read_table(cache_of(cache), about, "failures").filter(pa.array(~void))
        failed = failing.failed_files(rejects)
    _leave(failed, counts["files_stored"] + counts["files_failed"], most, f"failures {cache}")


def _leave(failed: int, of: int, most: failing.Allowed, listed: str) -> NoReturn:
    if failed and voice.now().quiet:
        many = words.counting(failed, "file")
        print(words.one_line(f"{many} failed: `dicom2cache {listed}`"), file=sys.stderr)
    raise typer.Exit(0 if most.holds(failed, of) else 1)


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
    max_failures: MaxFailures = None,
    dry_run: DryRun = False,
) -> None:
    """Convert SRC... to CACHE: plan, convert and commit. Run again, it goes on where it stopped."""
    sources, cache = parts_of(paths)
    check(backend, on_error)
    most = failing.allowed(max_failures, on_error)
    if dry_run:
        with engine(backend, scheduler):
            job = pipeline.plan(
                sources, cache, recipe, jobs=jobs, backend=backend, overwrite=overwrite,
                force=force, patient_key=patient_key, deidentify=deidentify, dry_run=True,
                progress=progress(),
            )  # fmt: skip
        _planned(job, cache, deidentify, most)
    with engine(backend, scheduler):
        pipeline.build(
            sources, cache, recipe, jobs=jobs, backend=backend, on_error=on_error,
            overwrite=overwrite, force=force, patient_key=patient_key, deidentify=deidentify,
            mapping=mapping, progress=progress(),
        )  # fmt: skip
    _finish(cache, most)


def _planned(
    job: Job | None, cache: Path, deidentify: Path | None, most: failing.Allowed,
    page: Path | None = None,
) -> NoReturn:  # fmt: skip
    """Say what is planned, or what is there if all is, and leave by its exit status."""
    if job is None:
        if page is not None:
            said = f"{page}: not written, all is converted: `dicom2cache report {cache} -o {page}`"
            print(words.one_line(said), file=sys.stderr)
        _finish(cache, most)
    veil = veil_of(deidentify)
    written = None if page is None else looking.write_plan(job, page)
    voice.say(lambda: report.print_plan(job, veil), lambda: events.of_plan(job, veil))
    if written and not (voice.now().json or voice.now().quiet):
        print(words.one_line(written))
    rejects = job.plan.rejects
    lost = len(rejects.filter(pc.equal(rejects["outcome"], "failed")))
    failed = failing.failed_files(rejects) if lost else 0
    _leave(failed, job.plan.files.num_rows + failed, most, f"plan ... {cache}")


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
    max_failures: MaxFailures = None,
) -> None:
    """Read all headers; print what would be stored and what not, before any pixel is read."""
    sources, cache = parts_of(paths)
    check(backend)
    most = failing.allowed(max_failures)
    if page is not None:
        files.check(page, "--report")
    if moved and not update:
        raise Dicom2cacheError("--moved says where sources of a cache are: it goes with --update")
    with engine(backend, scheduler):
        job = pipeline.plan(
            sources, cache, recipe, jobs=jobs, backend=backend, overwrite=overwrite, force=force,
            patient_key=patient_key, deidentify=deidentify, update=update,
            moved=places(moved), progress=progress(),
        )  # fmt: skip
    _planned(job, cache, deidentify, most, page)


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
    max_failures: MaxFailures = None,
) -> None:
    """Convert what `plan` planned, on any node that sees CACHE, and on several at once.

    Without --part whatever is not done, and no other process works on. --max-failures is of the
    frames of the part.
    """
    check(backend, on_error)
    most = failing.allowed(max_failures, on_error)
    frames = _frames_of(cache, part) if most.percent is not None else 0
    with engine(backend, scheduler):
        failed = pipeline.convert(
            cache, part=part, jobs=jobs, backend=backend, on_error=on_error, progress=progress()
        )
    if voice.now().json:
        voice.emit("converted", cache=str(cache), part=part, frames_failed=failed)
    elif failed:
        print(
            f"frames that failed: {failed}; failures/ has the reasons after commit", file=sys.stderr
        )
    raise typer.Exit(0 if most.holds(failed, frames) else 1)


def _frames_of(cache: Path, part: str) -> int:
    """Frames of a part of what is planned."""
    target = cache_of(cache)
    if not is_open(target):
        counts = pipeline.counts(cache)
        return counts["frames_stored"] + counts["frames_failed"]
    from dicom2cache.running import shares

    tasks = shares.hold(await_job(target), shares.share_of(part))
    return sum(task.stop - task.start for task in tasks)


def commit(
    cache: CachePath,
    deidentify: Deidentify = None,
    mapping: Mapping = None,
    max_failures: MaxFailures = None,
) -> None:
    """Make the cache whole once all parts are converted."""
    most = failing.allowed(max_failures)
    pipeline.commit(cache, deidentify=deidentify, mapping=mapping)
    _finish(cache, most)


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
    max_failures: MaxFailures = None,
    dry_run: DryRun = False,
) -> None:
    """Add what is new below SRC... to CACHE, by its own recipe; nothing that is there changes.

    Says which files are gone, or changed since: the cache keeps them as they were. Exit status 1 if
    files of this update failed, or files have changed.
    """
    sources, cache = parts_of(paths)
    check(backend, on_error)
    most = failing.allowed(max_failures, on_error)
    if dry_run:
        with engine(backend, scheduler):
            job = pipeline.plan(
                sources, cache, recipe, jobs=jobs, backend=backend, force=force,
                patient_key=patient_key, deidentify=deidentify, update=True, moved=places(moved),
                dry_run=True, progress=progress(),
            )  # fmt: skip
        _planned(job, cache, deidentify, most)
    with engine(backend, scheduler):
        done = pipeline.update(
            sources, cache, recipe, jobs=jobs, backend=backend, on_error=on_error, force=force,
            patient_key=patient_key, deidentify=deidentify, mapping=mapping,
            moved=places(moved), restack=restack, progress=progress(),
        )  # fmt: skip
    voice.say(lambda: report.print_updated(cache, done), lambda: events.of_update(cache, done))
    if done.changed:
        raise typer.Exit(1)
    failed = failing.failed_files(done.rejects)
    _leave(failed, done.added["files_stored"] + failed, most, f"failures {cache}")
