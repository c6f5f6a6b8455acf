"""The plan of a new cache."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from dicom2cache.errors import CacheError, SourceError
from dicom2cache.privacy import keys
from dicom2cache.privacy.veil import Veil
from dicom2cache.recipes.recipe import Recipe
from dicom2cache.running import damage, holders, inventory
from dicom2cache.running import target as target_folder
from dicom2cache.running.await_job import await_job
from dicom2cache.running.faults import FaultLog
from dicom2cache.running.identity import facts_of, identity_of
from dicom2cache.running.job import Job, is_same, planned_identity, save_plan
from dicom2cache.running.known import seen_of
from dicom2cache.running.lost import nothing
from dicom2cache.running.progress import Progress
from dicom2cache.running.survey import Survey
from dicom2cache.running.update import is_made_of
from dicom2cache.store.layout import ROOT, SPARE

Sources = Sequence[str | os.PathLike[str]]


def plan_build(
    sources: Sources,
    target: Path,
    recipe: Recipe,
    key: bytes,
    veil: Veil | None,
    workers: int,
    backend: str,
    overwrite: bool,
    force: bool,
    progress: Progress,
) -> Job | None:
    """The plan on disk; None if the cache is complete already. Raises as `pipeline.plan`."""
    roots, candidates, unlisted = inventory.listed(sources, target, progress)
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
    by = Survey(roots, patients, recipe, workers, backend, progress, FaultLog(veil is not None))
    planned, every = by.plan(candidates, unlisted, by.without_copies)
    if planned is None:
        raise SourceError(nothing(sources, every))
    if not force:
        target_folder.check_room(target, planned, roots)
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
