"""What is not there, in words for an error: a cache, or what of a plan is not stored."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from dicom2cache.arrow import rows_of_outcome
from dicom2cache.errors import CacheError, Unfinished
from dicom2cache.running.job import Job, is_lost, lost, planned_identity

_SHOWN = 20  # most files in a message


def first_failed(job: Job) -> str | None:
    """What failed first of a plan, with its reason; None: nothing."""
    for row in rows_of_outcome(job.plan.rejects, "failed"):
        return f"{os.path.join(job.roots[row['root']], row['path'])}: {row['reason']}"
    return None


def nothing(sources: Sequence[object], rejects: pa.Table) -> str:
    """Why nothing below the sources can be stored, for the error that says so."""
    where = ", ".join(map(str, sources))
    if not rejects.num_rows:
        return f"{where}: no files here"
    lines = [f"  {r['path']}: {r['reason']}" for r in rejects.slice(0, _SHOWN).to_pylist()]
    more = rejects.num_rows - len(lines)
    if more > 0:
        lines.append(f"  and {more} more")
    return "\n".join([f"{where}: {rejects.num_rows} files, none with an image to store:", *lines])


def no_cache(target: Path) -> Exception:
    """What to raise where there is no cache."""
    if is_lost(target):
        return CacheError(lost(target))
    if planned_identity(target) is not None:
        return Unfinished(
            f"{target}: not committed yet; run `dicom2cache convert` and `dicom2cache commit`"
        )
    return CacheError(f"{target}: not a cache; make one with `dicom2cache build`")
