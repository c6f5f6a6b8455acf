"""The plan of a cache, where another node may have named or ended it just now."""

from __future__ import annotations

from pathlib import Path

from dicom2cache.errors import CacheError, Unfinished
from dicom2cache.running import job
from dicom2cache.running.job import Job
from dicom2cache.store.late import until_seen
from dicom2cache.store.layout import ROOT


def await_job(cache: Path) -> Job:
    """As `load_job`, of a plan that may be seen late."""
    try:
        return job.load_job(cache)
    except (CacheError, Unfinished):
        wait(cache)
        return job.load_job(cache)


def wait(cache: Path) -> None:
    """Wait for the plan or the root, if other things that a cache has say that one is there."""
    build = cache / "build"
    if not job.has_plan(cache) and (build.exists() or (cache / "frames").exists()):
        until_seen(lambda: job.has_plan(cache) or (cache / ROOT).exists(), build)
