"""Rows of a plan that a worker needs, held to their checksums before they are read."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pyarrow as pa

from dicom2cache.arrow import lazy_rows, rows_of
from dicom2cache.records import Header
from dicom2cache.running.job import Job


def headers_of(job: Job, rows: pa.Table) -> dict[int, Header]:
    """The headers (rows of FILES, by number) of the files that rows of the plan's frames are in."""
    needed = np.unique(rows["file"].to_numpy()).tolist()
    job.check("files", rows=needed)
    found = cast(list[Header], lazy_rows(rows_of(job.plan.files, needed)))
    return dict(zip(needed, found, strict=True))


def frames_of(job: Job, rows: Any) -> pa.Table:
    """Some rows of the plan's frames, numbers ascending. Raises CacheError if they are damaged."""
    job.check("frames", rows=rows)
    return rows_of(job.plan.frames, rows)
