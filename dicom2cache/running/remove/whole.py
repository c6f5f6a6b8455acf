"""Frames out of a cache, and what is left of them off the disk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from dicom2cache.errors import Unfinished, at_disk
from dicom2cache.privacy.own_words import own_words_only
from dicom2cache.privacy.veil import keys_of
from dicom2cache.running import holders
from dicom2cache.running.commit import commit
from dicom2cache.running.job import is_same, planned_identity
from dicom2cache.running.remove import purging
from dicom2cache.running.remove.asked import asked_of
from dicom2cache.running.remove.purging import Purged
from dicom2cache.running.remove.removing import Removed, plan_removal
from dicom2cache.running.target import cache_of, no_cache, or_committed
from dicom2cache.store import root

_LOOKS = 5
"""times that it is planned, while others change the cache too"""


@at_disk
def remove(
    cache: str | os.PathLike[str],
    *,
    patient_id: Sequence[str] = (),
    study: Sequence[str] = (),
    series: Sequence[str] = (),
    where: str | None = None,
    patient_key: str | os.PathLike[str] | None = None,
    deidentify: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
    force: bool = False,
) -> Removed:
    """Take frames out of a committed cache, by one of four: its next numbering (FORMAT.md).

    `patient_id`, `study`, `series`: the originals, in any cache; `where`: an expression over the
    columns of frames/. Updates leave out from then on what was removed. Sample indices are others
    afterwards; whoever has the cache open goes on with the old ones, until `purge` deletes what no
    table names any more. `dry_run`: only what would go. Raises CacheError, Unfinished while files
    are added, OSError.
    """
    target = cache_of(cache)
    asked = asked_of(patient_id, study, series, where)
    veil, key = keys_of(patient_key, deidentify)
    _attributes(target)
    for _ in range(_LOOKS):
        found = plan_removal(target, asked, key, veil, dry_run, force)
        if found is None:
            continue
        job, what = found
        if job is not None:
            with (
                or_committed(target, job.identity),
                holders.holding(job.state, "remove"),
                own_words_only(veil is not None, target),
            ):
                commit(job, veil)
            if not is_same(planned_identity(target), job.identity):
                continue
        if what is not None:
            return what
    raise Unfinished(f"{target}: other processes change it; run the same command again")


@at_disk
def purge(
    cache: str | os.PathLike[str], *, mapping: str | os.PathLike[str] | None = None
) -> Purged:
    """Delete what was removed from a committed cache, or superseded, and no table names any more.

    `mapping`: a file that `mapping` of `build` wrote; what the cache has no more is taken out.
    Raises CacheError, Unfinished while frames are added or removed, OSError.
    """
    target = cache_of(cache)
    _attributes(target)
    return purging.purge(target, Path(mapping) if mapping else None)


def _attributes(target: Path) -> None:
    """Raises Unfinished if the cache is not committed, CacheError if it is none."""
    try:
        root.attributes(target)
    except (FileNotFoundError, NotADirectoryError):
        raise no_cache(target) from None
