"""What of a plan is not stored, in words for an error."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pyarrow as pa

from dicom2cache.arrow import rows_of_outcome
from dicom2cache.errors import counting
from dicom2cache.running.job import Job

_SHOWN = 20  # most files in a message


def first_failed(job: Job) -> str | None:
    """What failed first of a plan, with its reason; None: nothing."""
    job.check("rejects")
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
    files = counting(rejects.num_rows, "file")
    return "\n".join([f"{where}: {files}, none with an image to store:", *lines])
