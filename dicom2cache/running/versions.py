"""Versions of what the pixels may depend on: noted by who plans, held to by who converts."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dicom2cache import __version__
from dicom2cache.errors import CacheError
from dicom2cache.frames.libraries import versions as codecs

__all__ = ["check", "codecs", "software"]


def software(codec: str) -> dict[str, str]:
    """Versions of the packages that make a cache of this codec."""
    import numpy
    import pyarrow

    return {
        "dicom2cache": __version__,
        "numpy": numpy.__version__,
        "pyarrow": pyarrow.__version__,
        "pydicom": version("pydicom"),
        **({} if codec == "none" else {"numcodecs": version("numcodecs")}),
    }


def check(
    cache: Path,
    planned: Mapping[str, Any],
    codec: str,
    remedy: str = "Install those here, or plan again with --overwrite",
) -> None:
    """Raises CacheError, naming both, if versions here are not those of the plan in `cache`."""
    here = {**software(codec), **codecs()}
    there = {**planned["software"], **planned["codecs"]}
    differing = [
        f"{name} {there.get(name, 'none')} planned, {here.get(name, 'none')} here"
        for name in sorted({*here, *there})
        if here.get(name) != there.get(name)
    ]
    if differing:
        raise CacheError(
            f"{cache}: planned by other versions, which the pixels may depend on: "
            f"{'; '.join(differing)}. {remedy}"
        )
