"""The whole story: sources to plan, plan to shards, shards to cache."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicom2cache.errors import CacheError, FrameError, at_disk
from dicom2cache.privacy.mapping import check_mapping
from dicom2cache.privacy.own_words import own_words_only
from dicom2cache.privacy.veil import KEY, check_key, veil_of
from dicom2cache.recipes.recipe import Recipe
from dicom2cache.running import holders
from dicom2cache.running import target as target_folder
from dicom2cache.running.await_job import await_job, wait
from dicom2cache.running.job import Job, is_open, is_same, planned_identity, update_of
from dicom2cache.running.processors import cpu_count
from dicom2cache.running.progress import Progress, Silent
from dicom2cache.running.remains import tidy
from dicom2cache.running.target import cache_of
from dicom2cache.store import root

# What only some commands do is imported there: a command is to be at work at once.
if TYPE_CHECKING:
    from dicom2cache.running.compare import Difference
    from dicom2cache.running.growing import Updated
    from dicom2cache.running.repair.whole import Repaired
    from dicom2cache.running.standing import Watched
    from dicom2cache.running.verify.findings import Finding

Sources = Sequence[str | os.PathLike[str]]


@at_disk
def build(
    sources: Sources | str | os.PathLike[str],
    cache: str | os.PathLike[str],
    recipe: Recipe | None = None,
    *,
    jobs: int | None = None,
    backend: str = "loky",
    on_error: str = "skip",
    overwrite: bool = False,
    force: bool = False,
    patient_key: str | os.PathLike[str] | None = None,
    deidentify: str | os.PathLike[str] | None = None,
    mapping: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> dict[str, int]:
    """Convert the DICOM files in `sources` (files or folders) to a cache; its counts.

    A run that was interrupted is taken up where it stopped. `jobs` is how many processors it uses
    at most (all by default; fewer where more do not pay), `on_error` "skip" (a bad file costs
    itself only) or "raise". With `force` it goes on though the disk has no room for all frames.
    `deidentify`: a key file; the cache then has keyed hashes of UIDs and paths and no free text
    (docs/privacy.md), and `mapping` is where a file shall be written that says what they stand for.

    Raises SourceError if there is nothing to convert, CacheError if `cache` holds something else,
    RecipeError, Unfinished if the machine could not end it, FrameError if `on_error` is "raise".
    """
    from dicom2cache.running.building import Wanted, plan_build

    progress = progress or Silent()
    check_mapping(mapping, deidentify, cache_of(cache))
    wanted = Wanted(
        sources, cache_of(cache), recipe or Recipe(), jobs, backend, overwrite, force, patient_key,
        deidentify, progress, is_built=True,
    )  # fmt: skip
    job = plan_build(wanted)
    if job is None and mapping is not None:
        raise CacheError(f"{cache}: committed already; a mapping is made by the run that commits")
    if job is not None:
        if on_error == "raise":
            from dicom2cache.running.lost import first_failed

            said = first_failed(job)
            if said is not None:
                with own_words_only(deidentify is not None, cache):
                    raise FrameError(said)
        convert(cache, jobs=jobs, backend=backend, on_error=on_error, progress=progress)
        commit(cache, deidentify=deidentify, mapping=mapping)
        if not is_same(planned_identity(cache_of(cache)), job.identity):
            raise CacheError(
                f"{cache}: another process has replaced the plan of this run"
                f"{holders.said(cache_of(cache))}"
            )
    return counts(cache)


@at_disk
def plan(
    sources: Sources | str | os.PathLike[str],
    cache: str | os.PathLike[str],
    recipe: Recipe | None = None,
    *,
    jobs: int | None = None,
    backend: str = "loky",
    overwrite: bool = False,
    force: bool = False,
    patient_key: str | os.PathLike[str] | None = None,
    deidentify: str | os.PathLike[str] | None = None,
    update: bool = False,
    moved: Mapping[str, str | os.PathLike[str]] | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Job | None:
    """Read all headers and write the plan into `cache`; None if the cache is complete already.

    With `dry_run` it is not written. No pixel is read, save of files that share a SOP Instance UID.
    With `update` it is the plan of what is new below `sources`, as `pipeline.update` adds it to a
    committed cache by its own recipe, `moved` as there. Raises as `build`, or as `update`,
    CacheError too if the cache is complete but damaged.
    """
    if update:
        from dicom2cache.running.update import plan_update, request

        if overwrite:
            raise ValueError("an update adds to a cache, and overwrite replaces it; give one only")
        info(cache)  # says what it is if it is none
        asked = request(
            cache_of(cache), sources, recipe, jobs, backend, force, patient_key, deidentify,
            progress, False, moved,
        )  # fmt: skip
        return plan_update(replace(asked, is_dry=dry_run))[0]
    from dicom2cache.running.building import Wanted, plan_build

    wanted = Wanted(
        sources, cache_of(cache), recipe or Recipe(), jobs, backend, overwrite, force, patient_key,
        deidentify, progress or Silent(), is_dry=dry_run,
    )  # fmt: skip
    return plan_build(wanted)


@at_disk
def convert(
    cache: str | os.PathLike[str],
    *,
    part: str | tuple[int, int] = (0, 1),
    jobs: int | None = None,
    backend: str = "loky",
    on_error: str = "skip",
    progress: Progress | None = None,
) -> int:
    """Convert the shards of a part; how many of their frames failed.

    `part` is (I, N) or "I/N", I from 0 to N-1, or "slurm/N" with I = SLURM_ARRAY_TASK_ID. Without
    one whatever is not done, on several nodes at once if need be: what another process works on is
    left to it, and waited for. Of a cache that is committed, how many failed in all. Raises
    Unfinished if the machine could not end it, SourceAway if it cannot see a source folder,
    FrameError if `on_error` is "raise", CacheError if it is committed and damaged.
    """
    from dicom2cache.running import damage, execute, shares, versions

    progress = progress or Silent()
    share = shares.share_of(part)
    if on_error not in ("skip", "raise"):
        raise ValueError(f"on_error {on_error!r}; legal: skip, raise")
    target = cache_of(cache)
    with target_folder.or_committed(target, update_of(target) or planned_identity(target)):
        if is_open(target):
            job = await_job(target)
            versions.check(target, job.facts, job.recipe.codec)
            mine = shares.hold(job, share)
            holders.tell(target)
            with holders.holding(job.state, "convert"), own_words_only(KEY in job.facts, target):
                return execute.convert_part(
                    job, mine, jobs or cpu_count(), backend, on_error, progress
                )
    damage.refuse(target)
    return counts(target)["frames_failed"]


@at_disk
def commit(
    cache: str | os.PathLike[str],
    *,
    deidentify: str | os.PathLike[str] | None = None,
    mapping: str | os.PathLike[str] | None = None,
) -> dict[str, int]:
    """Make a cache of converted shards; its counts.

    `deidentify`: the key file of the plan, if that has one; `mapping` as in `build`. Raises
    Unfinished while a shard is missing, CacheError for another key, or if it is committed and
    damaged.
    """
    from dicom2cache.running import commit as committing
    from dicom2cache.running import damage

    target = cache_of(cache)
    check_mapping(mapping, deidentify, target)
    if not is_open(target):
        damage.refuse(target)
        return counts(target)
    with target_folder.or_committed(target, update_of(target) or planned_identity(target)):
        job = await_job(target)
        veil = veil_of(deidentify, mapping is not None)
        remedy = f"give its key: `dicom2cache commit {target} --deidentify KEYFILE`"
        check_key(veil, job.facts, target, remedy)
        with holders.holding(job.state, "commit"), own_words_only(veil is not None, target):
            committing.commit(job, veil, Path(mapping) if mapping else None)
    return counts(target)


@at_disk
def info(cache: str | os.PathLike[str]) -> dict[str, Any]:
    """The root metadata's attributes of a committed cache (FORMAT.md).

    Raises Unfinished if the cache is not committed, CacheError if it is none.
    """
    target = cache_of(cache)
    try:
        about = root.attributes(target)
    except (FileNotFoundError, NotADirectoryError):
        raise target_folder.no_cache(target) from None
    with suppress(OSError):  # a run may have died before this; whoever may not write leaves it
        tidy(target)
    return about


@at_disk
def standing(cache: str | os.PathLike[str]) -> Watched | None:
    """How far the conversion of a cache is, by all processes that work on it; None if committed.

    Of a committed one to which files are added, how far that is.

    Raises Unfinished if nothing is planned, CacheError if `cache` is no cache.
    """
    target = cache_of(cache)
    if planned_identity(target) is None:
        wait(target)
    if not is_open(target):
        return None
    from dicom2cache.running.standing import Watched

    if planned_identity(target) is None:
        info(target)  # says what it is
    return Watched(await_job(target))


@at_disk
def verify(
    cache: str | os.PathLike[str],
    *,
    quick: bool = False,
    deep: float | None = None,
    sources: Sources | None = None,
    deidentify: str | os.PathLike[str] | None = None,
) -> list[str]:
    """What is wrong with a committed cache, a sentence each; empty if it is whole.

    `quick` checks metadata, tables, sizes and indexes; else every slot's checksum too. `deep`: if
    nothing is wrong so far, that fraction of the source files is decoded again and compared; they
    lie in `sources`, if not where the cache says, and `deidentify` is the key file of a cache that
    does not say it. Raises as `info`.
    """
    found = findings(cache, quick=quick, deep=deep, sources=sources, deidentify=deidentify)
    return [str(one) for one in found]


def findings(
    cache: str | os.PathLike[str],
    *,
    quick: bool = False,
    deep: float | None = None,
    sources: Sources | None = None,
    deidentify: str | os.PathLike[str] | None = None,
) -> list[Finding]:
    """What `verify` finds, a record each. Raises as `verify`."""
    from dicom2cache.running.originals import originals_of
    from dicom2cache.running.verify import deep as again
    from dicom2cache.running.verify import whole as checks

    target = cache_of(cache)
    try:
        found = list(checks.verify(target, quick))
    except (FileNotFoundError, NotADirectoryError):
        raise target_folder.no_cache(target) from None
    if deep is not None and not found:
        attributes, veil = info(target), veil_of(deidentify)
        originals = originals_of(target, attributes, sources, veil)
        found += again.verify_deep(target, attributes, deep, originals)
    return found


def compare(
    old: str | os.PathLike[str],
    new: str | os.PathLike[str],
    *,
    deidentify: str | os.PathLike[str] | None = None,
) -> Iterator[Difference]:
    """Frames whose unit, stack or pixels differ in two caches of the same sources, by path.

    `deidentify`: the key file, where one of them is de-identified. Raises as `info`, and CacheError
    where paths cannot be matched.
    """
    from dicom2cache.running import compare as comparing

    one, other = info(old), info(new)
    veil = veil_of(deidentify)
    return comparing.compare((cache_of(old), one), (cache_of(new), other), veil)


@at_disk
def update(
    sources: Sources | str | os.PathLike[str],
    cache: str | os.PathLike[str],
    recipe: Recipe | None = None,
    *,
    jobs: int | None = None,
    backend: str = "loky",
    on_error: str = "skip",
    force: bool = False,
    patient_key: str | os.PathLike[str] | None = None,
    deidentify: str | os.PathLike[str] | None = None,
    mapping: str | os.PathLike[str] | None = None,
    moved: Mapping[str, str | os.PathLike[str]] | None = None,
    restack: bool = False,
    progress: Progress | None = None,
) -> Updated:
    """Add what is new below `sources` to a committed cache: its next generation (FORMAT.md).

    No shard and no sample index that is there changes, and whoever has the cache open goes on. The
    recipe is the cache's; another one is refused, and so are other versions and another key. An
    update that was interrupted is ended first. `moved`: {source folder of the cache: where it is by
    now}. What hashes of new files stand for is added to the file `mapping`. With `restack` series
    that came in parts become whole stacks, in a new numbering; their files are converted again. The
    rest is as for `build`. Raises CacheError if the cache cannot be added to, SourceError,
    Unfinished, FrameError.
    """
    from dicom2cache.running.growing import grow
    from dicom2cache.running.update import request

    target = cache_of(cache)
    check_mapping(mapping, deidentify, target)
    asked = request(
        target, sources, recipe, jobs, backend, force, patient_key, deidentify, progress, True,
        moved,
    )  # fmt: skip
    info(target)  # says what it is if it is none

    def finish() -> None:
        convert(cache, jobs=jobs, backend=backend, on_error=on_error, progress=progress)
        commit(cache, deidentify=deidentify, mapping=mapping)

    return grow(asked, finish, restack)


@at_disk
def repair(
    cache: str | os.PathLike[str],
    *,
    sources: Sources | None = None,
    deidentify: str | os.PathLike[str] | None = None,
    jobs: int | None = None,
    backend: str = "loky",
    progress: Progress | None = None,
) -> Repaired:
    """Mend a committed cache: from its second copies, and damaged shards from the sources.

    `sources` are the folders of the sources in the order in which `info` has them, if they lie
    elsewhere by now; of a de-identified cache they are needed, and its key file. What cannot be
    mended stays as it is, and is in what is returned. Raises CacheError where root or tables are
    lost with their copies, Unfinished, OSError.
    """
    from dicom2cache.running.repair import whole as repairing

    veil = veil_of(deidentify)
    workers, told = jobs or cpu_count(), progress or Silent()
    return repairing.repair(cache_of(cache), sources, veil, workers, backend, told)


@at_disk
def merge(
    caches: Sources,
    cache: str | os.PathLike[str],
    *,
    copy: bool = False,
    move: bool = False,
    patient_key: str | os.PathLike[str] | None = None,
    deidentify: str | os.PathLike[str] | None = None,
) -> dict[str, int]:
    """Make one cache of several of one recipe and the same versions; its counts.

    Shards get second names; `copy`: are copied; `move`: `caches` are removed. Their key is needed
    only where frames were removed from one. Raises CacheError.
    """
    from dicom2cache.running.merge import whole as merging

    parts = list(map(cache_of, caches))
    merging.merge(parts, cache_of(cache), copy, move, patient_key, deidentify)
    return counts(cache)


def counts(cache: str | os.PathLike[str]) -> dict[str, int]:
    """The counts of a committed cache."""
    return dict(info(cache)["counts"])
