"""The libraries whose output is stored: versions, and how a frame's row names them."""

from __future__ import annotations

from functools import cache


@cache
def versions() -> dict[str, str]:
    """Versions of the codec libraries whose output is stored."""
    import imagecodecs
    import simplejpeg

    # imagecodecs.version() imports every codec that there is.
    functions = (getattr(imagecodecs, f"{name}_version", str) for name in _ASKED)
    parts = sorted(str(function()).partition(" ") for function in functions)
    found = {name: version for name, _, version in parts if name in _WANTED}
    own = {"imagecodecs": imagecodecs.__version__, **found}
    return {**own, "simplejpeg": simplejpeg.__version__}  # its libjpeg-turbo comes with it


_ASKED = ("jpeg8", "jpegls", "jpeg2k", "htj2k", "jpegxl")
_WANTED = frozenset({"libjpeg_turbo", "charls", "openjpeg", "openjph", "libjxl"})


@cache
def label(function: str, library: str) -> str:
    """What decoded a frame: a function of imagecodecs, and the library beneath."""
    v = versions()
    return f"imagecodecs {v['imagecodecs']} {function} ({library} {v.get(library, '?')})"
