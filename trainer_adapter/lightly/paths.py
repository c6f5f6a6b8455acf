"""Frames by name: the paths that LightlyTrain opens, and names for single frames of a file.

A name is `PATH#frame=N.dcm`, N from 0: LightlyTrain takes it for a DICOM file by its suffix.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_left, bisect_right
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trainer_adapter.cache import Cache
from trainer_adapter.errors import NotServedError
from trainer_adapter.lightly.roots import Roots, folders, mark, stub_folder

KINDS = ("image", "dose", "map")
"""of frames that can be an image; a mask cannot"""
_NAME = re.compile(r"(.+)#frame=(\d+)\.dcm", re.DOTALL)


def name_of(path: str, frame: int) -> str:
    """The name of one frame of a file."""
    return f"{path}#frame={frame}.dcm"


def parse_name(name: str) -> tuple[str, int | None]:
    """(path, frame) of a name; the frame of a plain path is None."""
    found = _NAME.fullmatch(name)
    return (found[1], int(found[2])) if found else (name, None)


def of_kind(cache: Cache, kind: str | None) -> Cache:
    """The frames of one kind, or, if it is None, all that can be an image.

    Raises ValueError naming the legal kinds.
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"kind {kind!r}; legal: {', '.join(KINDS)}, and None for all of these")
    return cache.select(kind=list(KINDS) if kind is None else kind)


def frame_names(cache: Cache) -> list[str]:
    """A name for each frame, in the cache's order; no file needs to be there."""
    folders = {s["root"]: s["path"] for s in cache.attributes["sources"]}
    columns = (cache.column(c).to_pylist() for c in ("root", "path", "frame"))
    return [name_of(os.path.join(folders[r], p), f) for r, p, f in zip(*columns, strict=True)]


class Names:
    """Which frame of a cache (or of a selection) a path or a name stands for."""

    def __init__(self, cache: Cache, root: Roots = None, called: str | None = None) -> None:
        """`root`: where the source folder is now, or its stubs; for caches of several, a mapping
        from where each was to where it is. `called`: how errors name the cache.

        Raises ValueError for a root that is not this cache's.
        """
        self.cache, self._called = cache, called or str(cache.path)
        self._folders = folders(cache.attributes["sources"], root)
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
                raise NotServedError(f"{path}: frame {frame} is not in {self._called}")
            return int(self._order[places[k]])
        if len(places) > 1:
            raise NotServedError(
                f"{path}: {len(places)} frames of it are in {self._called}; name one, such as "
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
        if not path:
            return f"the path is empty, and names no frame of {self._called}"
        if "://" in path:
            return (
                f"{path}: a URL, and {self._called} holds files; download it, or give "
                "missing='pass' to let LightlyTrain open it itself"
            )
        if os.path.isdir(path):
            return f"{path}: a folder; give one of its files, or a name of lightly.names(cache)"
        said = f"{path}:" if os.path.exists(path) else f"{path}: no such file, and"
        places = list(self._candidates(path))
        if not places:
            known = ", ".join(s["path"] for s in self.cache.attributes["sources"])
            return (
                f"{said} not below a folder that {self._called} was made from ({known}); give "
                "serve(cache, root=...) where that folder is now"
            )
        table = self.cache.core.root.read("failures", ["root", "path", "outcome", "reason"])
        for number, below in places:
            held = pc.and_(pc.equal(table["path"], below), pc.equal(table["root"], number))
            for row in table.filter(held).slice(0, 1).to_pylist():
                return (
                    f"{said} not in {self._called}: {row['outcome']}: {row['reason']}; train "
                    "on trainer_adapter.lightly.names(cache), which has just what is stored"
                )
        return (
            f"{said} not in {self._called}; build the cache again with this file, select it, "
            "or give missing='pass' to let LightlyTrain open it itself"
        )


def stub_tree(cache: Cache, folder: str | os.PathLike[str]) -> Path:
    """Empty files named like the frames, below `folder`: for fine-tuning, which wants files.

    Of several sources, each lies below its number. Raises ValueError where another's stubs lie.
    """
    sources = {s["root"]: s["path"] for s in cache.attributes["sources"]}
    columns = (cache.column(c).to_pylist() for c in ("root", "path", "frame"))
    marked = set()
    for root, path, frame in zip(*columns, strict=True):
        below = stub_folder(folder, root, len(sources) > 1)
        if root not in marked:
            mark(below, sources[root])
            marked.add(root)
        file = below / name_of(path, frame)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return Path(folder)
