"""Damage that a command finds which is not there to look for it."""

from __future__ import annotations

from pathlib import Path

from dicom2cache.errors import CacheError
from dicom2cache.running import verify as checks
from dicom2cache.running.job import REPAIR
from dicom2cache.store.committed import whole_root
from dicom2cache.store.layout import ROOT


def refuse(cache: Path) -> None:
    """Raises CacheError if a committed cache is not whole, as far as `verify --quick` sees."""
    about = whole_root(cache)
    if about is None:
        found: str | None = f"{cache / ROOT}: lost or damaged"
    else:
        found = next(iter(checks.verify(cache, about, quick=True)), None)
    if found is not None:
        raise CacheError(f"{found}; this is damage: {REPAIR.format(cache)}")
