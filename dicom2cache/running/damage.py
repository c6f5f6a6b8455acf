"""Damage that is met by who does not look for it."""

from __future__ import annotations

from pathlib import Path

from dicom2cache.errors import CacheError


def refuse(cache: Path) -> None:
    """Raises CacheError if a committed cache is not whole, as far as `verify --quick` sees.

    What is in its folder that is none of its own does no harm. How zarr-python sees it is not
    asked: its import takes longer than the rest, and its metadata are held to their digests.
    """
    from dicom2cache.running.verify.whole import verify  # most find no cache here

    for found in verify(cache, quick=True, others=False):
        if found.kind != "extra":
            raise CacheError(str(found))
