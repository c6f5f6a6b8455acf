"""Where the source folders of a cache are: as recorded, moved, or trees of stubs with a marker."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer_adapter.errors import counting

_Root = str | os.PathLike[str] | Mapping[str | int, str | os.PathLike[str]]
Roots = _Root | Sequence[str | os.PathLike[str]] | None
_MARKER = ".source"
"""in a tree of stubs: the source folder that its frames are from, as the cache records it"""


def mark(folder: Path, source: str) -> None:
    """Say in a tree of stubs which source it stands for; ValueError if it stands for another."""
    said = _marked(folder)
    if said is not None and said != source:
        raise ValueError(f"{folder}: has stubs of {said}; choose another folder for {source}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARKER).write_bytes(os.fsencode(source))


def _marked(folder: str | os.PathLike[str]) -> str | None:
    try:
        return os.fsdecode((Path(folder) / _MARKER).read_bytes())
    except OSError:
        return None


def stub_folder(below: str | os.PathLike[str], number: int, several: bool) -> Path:
    """Where the stubs of one source lie: each has a folder of its own, if there are several."""
    return Path(below) / str(number) if several else Path(below)


def folders(sources: dict[int, str], root: Roots) -> list[tuple[int, str]]:
    """(number of a source, folder with a separator at its end), all spellings.

    `root`: where the source folder is now, or its stubs; for several sources a mapping from where
    each was, or its number, to where it is, or one folder of stubs; or a list of folders, each as
    if it were the only one. Sources of caches that were merged may have been at the same path.
    Raises ValueError for a folder that is not the cache's, and for stubs of another source.
    """
    one = root is None or isinstance(root, str | os.PathLike | Mapping)
    each: Sequence[Any] = [root] if one else list(root)  # type: ignore[arg-type]
    moved = [_moved(sources, place) for place in each]
    found = []
    for number, path in sources.items():
        for spelling in (path, *(places.get(number, path) for places in moved)):
            for folder in (os.path.abspath(spelling), os.path.realpath(spelling)):
                place = (number, folder.rstrip(os.sep) + os.sep)
                if place not in found:
                    found.append(place)
    return found


def _moved(sources: dict[int, str], root: _Root | None) -> dict[int, Any]:
    """{number of a source: where it is now}."""
    recorded = set(sources.values())
    known = ", ".join(f"{number}: {path}" for number, path in sources.items())
    if isinstance(root, Mapping):
        moved: dict[int, Any] = {}
        for key, place in root.items():
            path, said = (
                sources.get(key) if isinstance(key, int) else os.fspath(key),
                _marked(place),
            )
            if path not in recorded:
                raise ValueError(f"root names {key}; the cache's folders: {known}")
            # Stubs of a folder that was moved since are still its own, if one says so.
            if said != path and said in recorded:
                raise ValueError(f"root gives {place} for {path}, but its stubs are of {said}")
            same = [n for n, p in sources.items() if key in (n, p)]
            moved |= {n: place for n in same if isinstance(key, int) or n not in root}
        return moved
    if root is None:
        return {}
    several = len(sources) > 1
    places = {n: stub_folder(root, n, several) for n in sources}
    marked = {n: _marked(place) for n, place in places.items()}
    for n, said in marked.items():
        if said is not None and said not in recorded:
            raise ValueError(
                f"{places[n]}: stubs of {said}, and the cache was made from {known}; write stubs "
                "of this cache, or, if that folder was only moved, give root as a mapping"
            )
    if not several:
        return dict.fromkeys(sources, root)
    # Stubs lie below the number of their source, or of what that was in another cache.
    moved = {}
    for n, said in marked.items():
        if said is not None:
            same = [k for k, path in sources.items() if path == said]
            moved[n if n in same else same[0]] = places[n]
    if not moved:
        raise ValueError(
            f"the cache was made from {counting(len(sources), 'folder')}, {known}; give root as a "
            f"mapping from each, or its number, to where it is now: {root} is no folder of its "
            "stubs"
        )
    return moved
