"""Versions of what the pixels may depend on: noted by who plans, held to by who converts."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from dicom2cache import __version__
from dicom2cache.codecs import versions as codecs

__all__ = ["codecs", "differences", "software"]


def software(codec: str) -> dict[str, str]:
    """Versions of the packages that make a cache of this codec."""
    import numpy
    import pyarrow
    import pydicom

    return {
        "dicom2cache": __version__,
        "numpy": numpy.__version__,
        "pyarrow": pyarrow.__version__,
        "pydicom": pydicom.__version__,
        **({} if codec == "none" else {"numcodecs": version("numcodecs")}),
    }


def differences(planned: Mapping[str, Any], codec: str) -> list[str]:
    """Where the versions here are not those of a plan, `numpy 2.4.1 planned, 2.3.0 here`."""
    here = {**software(codec), **codecs()}
    there = {**planned["software"], **planned["codecs"]}
    return [
        f"{name} {there.get(name, 'none')} planned, {here.get(name, 'none')} here"
        for name in sorted({*here, *there})
        if here.get(name) != there.get(name)
    ]
