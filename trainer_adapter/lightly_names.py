"""Frames by name: the paths that LightlyTrain opens, and names for single frames of a file.

A name is `PATH#frame=N.dcm`, N from 0: LightlyTrain takes it for a DICOM file by its suffix.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trainer_adapter.cache import Cache
from trainer_adapter.errors import NotServedError

Roots = str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]] | None
_NAME = re.compile(r"(.+)#frame=(\d+)\.dcm", re.DOTALL)


def name_of(path: str, frame: int) -> str:
    """The name of one frame of a file."""
    return f"{path}#frame={frame}.dcm"


def parse_name(name: str) -> tuple[str, int | None]:
    """(path, frame) of a name; the frame of a plain path is None."""
    found = _NAME.fullmatch(name)
    return (found[1], int(found[2])) if found else (name, None)


def frame_names(cache: Cache) -> list[str]:
    """A name for each frame, in the cache's order; no file needs to be there."""
    folders = {s["root"]: s["path"] for s in cache.attributes["sources"]}
    columns = (cache.column(c).to_pylist() for c in ("root", "path", "frame"))
    return [name_of(os.path.join(folders[r], p), f) for r, p, f in zip(*columns, strict=True)]


class Names:
    """Which frame of a cache (or of a selection) a path or a name stands for."""

    def __init__(self, cache: Cache, root: Roots = None) -> None:
        """`root`: where the source folder is now, if it was moved; for caches of several, a mapping
        from where each was to where it is.

        Raises ValueError for a mapping that names another folder than the cache's.
        """
        self.cache = cache
        self._folders = _folders(cache.attributes["sources"], root)
        table = pa.table({c: cache.column(c) for c in ("path", "root", "frame")})
        table = table.set_column(0, "path", table["path"].cast(pa.string()))
        self._order = pc.sort_indices(
            table, [(c, "ascending") for c in ("path", "root", "frame")]
        ).to_numpy()
        # As Arrow's own arrays: a million paths as Python strings would weigh in every worker.
        self._path, self._root, self._frame = (
            table[c].take(self._order).combine_chunks() for c in ("path", "root", "frame")
        )

    def __getitem__(self, name: str | os.PathLike[str]) -> int:
        """Index into the cache of the frame that `name` stands for.

        Raises NotServedError if there is none, or if a path has several frames.
        """
        path, frame = parse_name(os.fspath(name))
        places = self._places(path)
        if not places and frame is not None:  # a file that is really called so
            places, frame = self._places(os.fspath(name)), None
        if not places:
            raise NotServedError(self._absent(path))
        if frame is not None:
            k = bisect_left(places, frame, key=self._frame_at)
            if k == len(places) or self._frame_at(places[k]) != frame:
                raise NotServedError(f"{path}: frame {frame} is not in {self.cache.path}")
            return int(self._order[places[k]])
        if len(places) > 1:
            raise NotServedError(
                f"{path}: {len(places)} frames of it are in {self.cache.path}; name one, such as "
                f"{name_of(path, self._frame_at(places[0]))}, or train on "
                "trainer_adapter.lightly.names(cache)"
            )
        return int(self._order[places[0]])

    def _frame_at(self, k: int) -> int:
        return int(self._frame[k].as_py())

    def _places(self, path: str) -> range:
        """Places in the sorted columns of all frames of a file, by frame number."""
        for number, below in self._candidates(path):
            start = bisect_left(self._path, below, key=lambda p: p.as_py())
            stop = start
            if start < len(self._path) and self._path[start].as_py() == below:
                stop = start + 1
            if stop < len(self._path) and self._path[stop].as_py() == below:  # of many frames
                stop = bisect_right(self._path, below, start, key=lambda p: p.as_py())
            same = self._root[start:stop].to_numpy()
            first, last = np.searchsorted(same, [number, number + 1])
            if first < last:
                return range(start + int(first), start + int(last))
        return range(0)

    def _candidates(self, path: str) -> Any:
        """(root, path below it) that a path may mean: as written, then with links followed."""
        seen = set()
        for spelling in (os.path.abspath, os.path.realpath):
            whole = spelling(path)
            for number, folder in self._folders:
                if whole.startswith(folder):
                    place = (number, whole[len(folder) :].replace(os.sep, "/"))
                    if place not in seen:
                        seen.add(place)
                        yield place

    def _absent(self, path: str) -> str:
        """Why a path is not served, and what to do."""
        places = list(self._candidates(path))
        if not places:
            known = ", ".join(s["path"] for s in self.cache.attributes["sources"])
            return (
                f"{path}: not below a folder that {self.cache.path} was made from ({known}); give "
                "serve(cache, root=...) where that folder is now"
            )
        table = self.cache.core.root.read("failures", ["root", "path", "outcome", "reason"])
        for number, below in places:
            held = pc.and_(pc.equal(table["path"], below), pc.equal(table["root"], number))
            for row in table.filter(held).slice(0, 1).to_pylist():
                return (
                    f"{path}: not in {self.cache.path}: {row['outcome']}: {row['reason']}; train "
                    "on trainer_adapter.lightly.names(cache), which has just what is stored"
                )
        return (
            f"{path}: not in {self.cache.path}; build the cache again with this file, select it, "
            "or give missing='pass' to let LightlyTrain open it itself"
        )


def _folders(sources: list[dict[str, Any]], root: Roots) -> list[tuple[int, str]]:
    """(root, folder with a separator at its end), all spellings."""
    recorded = {s["path"]: int(s["root"]) for s in sources}
    moved: dict[str, Any] = {}
    if isinstance(root, Mapping):
        moved = {os.fspath(k): v for k, v in root.items()}
    elif root is not None:
        if len(recorded) > 1:
            raise ValueError(
                f"the cache was made from {len(recorded)} folders, {', '.join(recorded)}; give "
                "root as a mapping from each to where it is now"
            )
        moved = dict.fromkeys(recorded, root)
    unknown = sorted(set(moved) - set(recorded))
    if unknown:
        raise ValueError(f"root names {unknown[0]}; the cache's folders: {', '.join(recorded)}")
    found = []
    for path, number in recorded.items():
        for spelling in (path, moved.get(path, path)):
            for folder in (os.path.abspath(spelling), os.path.realpath(spelling)):
                place = (number, folder.rstrip(os.sep) + os.sep)
                if place not in found:
                    found.append(place)
    return found


def stub_tree(cache: Cache, folder: str | os.PathLike[str]) -> Path:
    """Empty files named like the frames, below `folder`: for fine-tuning, which wants files."""
    below = Path(folder)
    several = len(cache.attributes["sources"]) > 1
    columns = (cache.column(c).to_pylist() for c in ("root", "path", "frame"))
    for root, path, frame in zip(*columns, strict=True):
        file = below / (str(root) if several else "") / name_of(path, frame)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return below
