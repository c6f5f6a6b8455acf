"""Versions of what the pixels may depend on: noted by who plans, held to by who converts."""

from __future__ import annotations

import sys
from collections.abc import Mapping
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
        "pydicom": _version("pydicom"),
        **({} if codec == "none" else {"numcodecs": _version("numcodecs")}),
    }


def _version(package: str) -> str:
    """The version that a package was installed as.

    As importlib.metadata says it, whose import reads mail, archives and tables: for one line.
    """
    for folder in map(Path, sys.path):
        for found in folder.glob(f"{package}-*.dist-info/METADATA"):
            head, _, _ = found.read_text("utf-8", "replace").partition("\n\n")
            said = dict(line.split(": ", 1) for line in head.splitlines() if ": " in line)
            if said.get("Name", "").lower() == package and "Version" in said:
                return said["Version"].strip()
    from importlib.metadata import version

    return version(package)


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
