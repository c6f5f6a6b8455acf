"""The headers of the files that a stack was made of, where these are now."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from trainer_adapter.errors import ExportError
from trainer_adapter.reading.hashed import Hashes, hashes, is_deidentified
from trainer_adapter.reading.opened import Core
from trainer_adapter.volumes import convert
from trainer_adapter.volumes.stacks import Ints

Folders = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None
_UID = 0x00080018
"""SOPInstanceUID"""


def headers(core: Core, frames: Ints, sources: Folders, key: Any) -> list[Any]:
    """A pydicom Dataset, without pixels, for the file of each frame, each file read once.

    `sources`: folders that they lie in, by default where they were when the cache was built; files
    that are called otherwise now are known by their SOP Instance UID. Of a de-identified cache
    folders are needed, and its key. Raises ExportError for a file that is not there, ValueError.
    """
    deidentified = is_deidentified(core.root.attributes)
    hashed = hashes(core.root.path, core.root.attributes, key)
    if deidentified and (hashed is None or sources is None):
        raise ValueError(
            f"{core.root.path}: de-identified: it does not say where its sources are; give "
            "sources=FOLDER and key=KEYFILE"
        )
    folders = None if sources is None else [Path(f).expanduser() for f in _several(sources)]
    columns = (core.said(name, frames).to_pylist() for name in ("root", "path", "sop_uid"))
    read: dict[tuple[int, str], Any] = {}
    for root, path, uid in zip(*columns, strict=True):
        if (root, path) in read:
            continue
        places = [] if deidentified else _places(core, folders, root, path)
        found = next((ds for ds in map(_header, places) if ds is not None and _is(ds, uid)), None)
        if found is None and folders is not None:
            there = _by_uid(tuple(map(str, folders)), hashed).get(uid)
            found = None if there is None else _header(there)
        if found is None:
            where = ", ".join(map(str, places[:1] if folders is None else folders))
            raise ExportError(
                f"{where}: no file there is {path} of {core.root.path} (SOP Instance UID "
                f"(0008,0018) {uid}); give sources=FOLDER, where it is now"
            )
        read[root, path] = found
    columns = (core.said(name, frames).to_pylist() for name in ("root", "path"))
    return [read[place] for place in zip(*columns, strict=True)]


def _several(sources: Any) -> list[Any]:
    return [sources] if isinstance(sources, str | os.PathLike) else list(sources)


def _places(core: Core, folders: list[Path] | None, root: int, path: str) -> list[Path]:
    """Where a file may be, by its name.

    Raises ExportError for a name that leads out of its folder: no cache has such of itself.
    """
    if "!/" in path and folders is None:
        archive = Path(core.root.sources[root]) / path.partition("!/")[0]
        if archive.is_file():
            raise ExportError(
                f"{archive}: the source of a frame lies in this archive; unpack it, and give its "
                "folder as sources"
            )
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise ExportError(
            f"{core.root.path}: the path {path!r} of a frame leads out of the folder of its "
            "source; the cache was altered, get it again"
        )
    if folders is None:
        return [Path(core.root.sources[root]) / path]
    return [folder / path for folder in folders]


def _is(ds: Any, uid: str | None) -> bool:
    return uid is None or str(ds.get("SOPInstanceUID", "")) == uid


def _header(path: Path) -> Any:
    """The Dataset of a file without its pixels; None for what is no DICOM file."""
    ds = _read(path, stop_before_pixels=True, force=True)
    return ds if ds is not None and "SOPInstanceUID" in ds else None


def _read(path: Path, **how: Any) -> Any:
    """As dcmread; None for what is no file, which may be waited for without end, or no DICOM."""
    pydicom = convert.library("pydicom", "DICOM segmentations", "seg")
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None
        return pydicom.dcmread(path, **how)
    except MemoryError:
        raise
    except Exception:  # pydicom raises whatever the bytes provoke
        return None


@lru_cache(4)
def _by_uid(folders: tuple[str, ...], hashed: Hashes | None) -> dict[str, Path]:
    """{SOP Instance UID, as the cache has it: file} of all files below the folders."""
    found: dict[str, Path] = {}
    for path in _files(folders):
        ds = _read(path, specific_tags=[_UID], stop_before_pixels=True)
        if ds is None:
            continue
        uid = str(ds.get("SOPInstanceUID", ""))
        found.setdefault(uid if hashed is None else hashed.of("uid", uid), path)
    return found


def _files(folders: tuple[str, ...]) -> Iterator[Path]:
    for folder in folders:
        for parent, below, names in os.walk(folder):
            below.sort()
            yield from (Path(parent, name) for name in sorted(names))
