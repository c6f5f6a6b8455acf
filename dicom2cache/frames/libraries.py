"""The libraries whose output is stored: versions, and how a frame's row names them."""

from __future__ import annotations

from functools import cache


@cache
def versions() -> dict[str, str]:
    """Versions of the codec libraries whose output is stored."""
    import imagecodecs
    import simplejpeg

    wanted = ("imagecodecs", "libjpeg_turbo", "charls", "openjpeg", "openjph", "libjxl")
    parts = [part.rpartition("-") for part in imagecodecs.version().split(", ")]
    found = {name: version for name, _, version in parts if name in wanted}
    return {**found, "simplejpeg": simplejpeg.__version__}  # its libjpeg-turbo comes with it


@cache
def label(function: str, library: str) -> str:
    """What decoded a frame: a function of imagecodecs, and the library beneath."""
    v = versions()
    return f"imagecodecs {v['imagecodecs']} {function} ({library} {v.get(library, '?')})"
