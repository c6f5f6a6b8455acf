"""The plan of a new cache."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from dicom2cache.errors import CacheError, RecipeError, SourceError
from dicom2cache.privacy import keys
from dicom2cache.privacy.own_words import own_words_only
from dicom2cache.privacy.veil import Veil, keys_of
from dicom2cache.recipes.recipe import Recipe
from dicom2cache.recipes.where import check_kept
from dicom2cache.running import holders, pool
from dicom2cache.running import target as target_folder
from dicom2cache.running.await_job import await_job
from dicom2cache.running.contours import alone
from dicom2cache.running.identity import facts_of, identity_of
from dicom2cache.running.job import Job, is_same, planned_identity, save_plan
from dicom2cache.running.known import seen_of
from dicom2cache.running.listing import listed
from dicom2cache.running.lost import nothing
from dicom2cache.running.processors import cpu_count
from dicom2cache.running.progress import Progress
from dicom2cache.running.worth import worth
from dicom2cache.store.layout import ROOT, SPARE

_log = logging.getLogger("dicom2cache")

Sources = Sequence[str | os.PathLike[str]]


@dataclass(frozen=True)
class Wanted:
    """The arguments of `pipeline.build` and `plan`."""

    sources: Sources | str | os.PathLike[str]
    cache: Path
    recipe: Recipe
    jobs: int | None
    backend: str
    overwrite: bool
    force: bool
    patient_key: str | os.PathLike[str] | None
    deidentify: str | os.PathLike[str] | None
    progress: Progress
    is_built: bool = False
    """whether frames are converted as soon as there is a plan"""
    is_dry: bool = False
    """whether the plan is only looked at: nothing is written"""


def plan_build(wanted: Wanted) -> Job | None:
    """The plan on disk; None if the cache is complete already. Raises as `pipeline.plan`."""
    target_folder.check(wanted.cache)
    veil, key = keys_of(wanted.patient_key, wanted.deidentify)
    if veil:
        recipe = wanted.recipe
        if recipe.identifying:
            raise RecipeError(
                "recipe: identifying and --deidentify contradict each other; leave one out"
            )
        check_kept([recipe.where, *(rule.where for rule in recipe.rules)])
    sources = wanted.sources
    sources = [sources] if isinstance(sources, str | os.PathLike) else sources
    unseen = [s for s in sources if not os.path.exists(s)]  # names that the caller gave
    with own_words_only(veil is not None, wanted.cache, *unseen):
        return _planned(wanted, sources, veil, key)


def _tell_inside(target: Path, sources: Sources) -> None:
    """Say so, once, where a cache is to be made in a folder that it is made of."""
    for source in () if target.exists() else sources:
        if os.path.realpath(target).startswith(os.path.join(os.path.realpath(source), "")):
            _log.warning(
                "%s: will lie in %s, a source: there it is left out, as every cache is, and other "
                "programs that read this folder find it",
                target, source,
            )  # fmt: skip
            return


def _planned(wanted: Wanted, sources: Sources, veil: Veil | None, key: bytes) -> Job | None:
    target, recipe, overwrite = wanted.cache, wanted.recipe, wanted.overwrite
    progress, workers = wanted.progress, wanted.jobs or cpu_count()
    _tell_inside(target, sources)
    roots, candidates, unlisted = listed(sources, target, progress, recipe.limits)
    if not candidates:
        raise SourceError(nothing(sources, unlisted))
    facts = facts_of(key, veil, recipe)
    identity = identity_of(roots, candidates, unlisted, recipe, facts, veil)
    known = planned_identity(target)
    if known is None and not overwrite and target.exists() and target_folder.is_wreck(target):
        raise CacheError(
            f"{target}: what is left of a cache whose {ROOT} is lost or damaged, and its copy in "
            f"{SPARE}/ too; give --overwrite to make it again, or another path"
        )
    if known is not None and not overwrite:
        from dicom2cache.running import damage
        from dicom2cache.running.update import is_made_of

        found = roots, candidates, unlisted
        if is_same(known, identity):
            pass
        elif is_made_of(target, sources, found, recipe, facts, key, veil):
            identity = known  # of a cache that grew, it is that of what came last
        else:
            raise CacheError(
                f"{target}: made from other files, another recipe or other versions than these; "
                "add files by `dicom2cache update`, or give --overwrite to replace it, or another "
                f"path{holders.said(target)}"
            )
        with target_folder.or_committed(target, identity):
            if not (target / ROOT).exists():
                return await_job(target)
        damage.refuse(target)
        return None
    patients = keys.PatientKey(key, veil is not None)
    some = 0
    if wanted.is_built:
        forked = pool.are_forked(wanted.backend)
        some = worth(workers, roots, candidates, recipe.shard_bytes, forked)
    with pool.workers_starting(
        some, wanted.backend, pool.CONVERT
    ):  # and what plans is imported meanwhile
        from dicom2cache.running.faults import FaultLog
        from dicom2cache.running.survey import Survey

        log = FaultLog(veil is not None)
        by = Survey(roots, patients, recipe, workers, wanted.backend, progress, log)
        planned, every, contours = by.plan(candidates, unlisted, by.without_copies)
    if planned is None:
        raise SourceError(nothing(sources, pa.concat_tables([every, alone(contours)])))
    if not wanted.force:
        target_folder.check_room(target, planned, roots)
    if wanted.is_dry:
        return Job(target, identity, tuple(roots), recipe, planned, facts)
    if overwrite:
        holders.tell(target, "--overwrite takes the plan from %s, which ends then")
        target_folder.clear(target, (os.path.join(roots[c.root], c.path) for c in candidates))
    with target_folder.or_committed(target, identity):
        try:
            seen = seen_of(candidates, veil)
            return save_plan(Job(target, identity, tuple(roots), recipe, planned, facts, seen))
        except CacheError as e:
            raise CacheError(f"{e}{holders.said(target)}") from e
    return None
