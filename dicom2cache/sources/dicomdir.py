"""The files that a DICOMDIR names (PS3.10 8, PS3.3 F.3): of a disc, those that belong to it."""

from __future__ import annotations

import os
import warnings

from dicom2cache.errors import FrameError, is_environment
from dicom2cache.sources.place import BoundedFile

NAME = "DICOMDIR"
_MOST_ITEMS = 10_000_000
_DIRECTORY, _FILE = 0x00041220, 0x00041500


def is_dicomdir(path: str) -> bool:
    """Whether a file that is given as a source is one, by its name."""
    return os.path.basename(path).upper() == NAME


def files(path: str) -> list[tuple[str, str | None]]:
    """(path below its folder, with /; why it is no candidate) of each file that it names, once.

    Raises FrameError if it cannot be read, OSError where the machine is to blame.
    """
    folder, found = os.path.dirname(path), dict[str, str | None]()
    names: dict[str, dict[str, str]] = {}
    for parts in _named(path):
        shown = "/".join(parts)
        if not all(parts) or any(p in (".", "..") or "/" in p or "\0" in p for p in parts):
            found[shown or "."] = (
                f"{NAME} names it, and it leads out of its folder: it is not opened"
            )
            continue
        real = _found(folder, parts, names)
        if real is None:
            found[shown] = f"{NAME} names it, and it is not there; copy the whole disc again"
        else:
            found["/".join(real)] = None
    return sorted(found.items())


def _named(path: str) -> list[list[str]]:
    from pydicom import dcmread

    try:
        with BoundedFile(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            count = iter(range(_MOST_ITEMS))
            file.item = lambda: next(count)
            ds = dcmread(file, specific_tags=[_DIRECTORY])
            records = ds.get("DirectoryRecordSequence")
            if records is None:
                raise FrameError("it has no Directory Record Sequence (0004,1220)")
            said = [record.get("ReferencedFileID") for record in records]
    except FrameError:
        raise
    except Exception as e:  # pydicom raises whatever the bytes provoke
        if isinstance(e, MemoryError) or is_environment(e):
            raise
        raise FrameError(f"it cannot be read as a {NAME} ({type(e).__name__})") from e
    # A slash is no character of a component (PS3.10 8.2), and some write it between them.
    return [
        "/".join([one] if isinstance(one, str) else map(str, one)).split("/") for one in said if one
    ]


def _found(folder: str, parts: list[str], names: dict[str, dict[str, str]]) -> list[str] | None:
    """The parts as they are on this disc: some systems show names of CDs in lower case."""
    real: list[str] = []
    for part in parts:
        here = os.path.join(folder, *real)
        if here not in names:
            try:
                inside = os.listdir(here)
            except OSError as e:
                if is_environment(e):
                    raise
                inside = []
            names[here] = {_plain(name): name for name in sorted(inside, reverse=True)}
            names[here] |= {name: name for name in inside}
        name = names[here].get(part) or names[here].get(_plain(part))
        if name is None:
            return None
        real.append(name)
    return real if os.path.isfile(os.path.join(folder, *real)) else None


def _plain(name: str) -> str:
    """A name without case, and without the version that ISO 9660 ends it with."""
    return name.partition(";")[0].rstrip(".").upper()
