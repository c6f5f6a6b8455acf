"""Which transfer syntaxes were proved on this kind of machine with what is installed here.

A file in the user's folder for caches (XDG Base Directory Specification), named by a digest of all
that the pixels may depend on: versions, the processor, and size and time of each compiled part. It
holds UIDs of transfer syntaxes, and can be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import secrets
import sys
from collections.abc import Collection, Iterator
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from dicom2cache import __version__
from dicom2cache.running.proof.samples import FOLDER
from dicom2cache.syntaxes import SYNTAXES

_LIBRARIES = ("imagecodecs", "simplejpeg", "pydicom")
_OWN = ("frames", "headers", "pixels")


def folder() -> Path | None:
    """Where it is kept; None where the user has no home."""
    said = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(said):  # others are to be ignored
        said = os.environ.get("LOCALAPPDATA", "") if os.name == "nt" else ""
    try:
        return (Path(said) if said else Path.home() / ".cache") / "dicom2cache" / "proofs"
    except RuntimeError:
        return None


def remembered() -> set[str]:
    """UIDs of the syntaxes that were proved; empty where nothing can be known."""
    try:
        found = json.loads(_path().read_bytes())
        return set(SYNTAXES) & set(found["proved"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def remember(proved: Collection[str]) -> None:
    """Add syntaxes; where that cannot be written they are proved again the next time."""
    temporary = None
    with suppress(OSError):
        path = _path()
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        text = json.dumps({"proved": sorted({*remembered(), *proved})})
        temporary.write_text(text)
        os.replace(temporary, path)
        return
    if temporary is not None:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _path() -> Path:
    where = folder()
    if where is None:
        raise OSError("no home")
    return where / f"{_digest()}.json"


@cache
def _digest() -> str:
    about = [
        __version__, sys.version, np.__version__, platform.machine(), _processor(),
        *_parts(),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:32]


def _processor() -> str:
    """What the first processor is and can, as far as the system says it."""
    try:
        with open("/proc/cpuinfo", "rb") as file:
            first = file.read(1 << 14).split(b"\n\n")[0].decode(errors="replace")
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "CPU part", "Features")
    return "\n".join(line for line in first.split("\n") if line.startswith(wanted))


def _parts() -> Iterator[tuple[str, int, int]]:
    """Path, size and time of each file that has a part in decoding."""
    own = Path(__file__).parents[2]
    folders = [FOLDER, *(own / name for name in _OWN)]
    for name in _LIBRARIES:
        spec = find_spec(name)
        for there in (spec.submodule_search_locations or ()) if spec else ():
            folders += [Path(there), Path(f"{there}.libs")]  # .libs: what a wheel brings along
    for place in folders:
        with suppress(OSError), os.scandir(place) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.is_file():
                    status = entry.stat()
                    yield os.fspath(entry.path), status.st_size, status.st_mtime_ns
