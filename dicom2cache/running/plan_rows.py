"""Rows of a plan that a worker needs, held to their checksums before they are read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from dicom2cache.arrow import lazy_rows
from dicom2cache.frames.treat import FRAME_COLUMNS
from dicom2cache.records import FrameRow, Header
from dicom2cache.running.job import Job


def headers_of(job: Job, rows: Iterable[FrameRow]) -> dict[int, Header]:
    """The headers (rows of FILES, by number) of the files that rows of the plan's frames are in.

    Raises CacheError if they are damaged.
    """
    needed = sorted({row["file"] for row in rows})
    job.check("files", rows=needed)
    found = cast(list[Header], lazy_rows(job.plan.files, needed))
    return dict(zip(needed, found, strict=True))


def frames_of(job: Job, rows: Any) -> list[FrameRow]:
    """Some rows of the plan's frames, numbers ascending, as `to_values` reads them.

    Raises CacheError if they are damaged.
    """
    job.check("frames", rows=rows)
    return cast(list[FrameRow], lazy_rows(job.plan.frames.select(FRAME_COLUMNS), rows))
