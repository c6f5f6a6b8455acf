"""The files below the sources, found before anything of them is read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from dicom2cache.recipes.limits import Limits
from dicom2cache.records import Candidate
from dicom2cache.running.progress import Progress, Work, phase
from dicom2cache.sources.find import scan


def listed(
    sources: Sequence[str | os.PathLike[str]], cache: Path, progress: Progress, limits: Limits
) -> tuple[list[str], list[Candidate], pa.Table]:
    """As `scan`, with progress."""
    with phase(progress, "listing", Work(), "entries"):
        tell = lambda count: progress.advance(Work(count))  # noqa: E731
        return scan(sources, cache, tell, limits.archive_members)
