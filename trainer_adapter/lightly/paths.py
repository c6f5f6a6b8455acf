"""Frames by name: the paths that LightlyTrain opens, and names for single frames of a file.

A name is `PATH#frame=N.dcm`, N from 0, and `PATH#frame=N#part=K.dcm` for slice K of a frame that is
a mosaic of several: LightlyTrain takes it for a DICOM file by its suffix. Before `.dcm`,
`#file=HASH` of its path may tell stubs of one name in several folders apart.
"""

from __future__ import annotations

import hashlib
import os
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trainer_adapter.cache import Cache
from trainer_adapter.errors import NotServedError
from trainer_adapter.format.twins import read_twins
from trainer_adapter.lightly.roots import Roots, folders, mark, stub_folder
from trainer_adapter.reading.hashed import hashes, is_deidentified

KINDS = ("image", "dose", "map")
"""of frames that can be an image; a mask cannot"""
_NAME = re.compile(r"(.+)#frame=(\d+)(?:#part=(\d+))?(?:#file=[0-9a-f]{16})?\.dcm", re.DOTALL)
_SHIFT = 16
"""bits of a place in a file that say the part of a frame; the frame's number stands above"""


def name_of(path: str, frame: int, part: int | None = None) -> str:
    """The name of one frame of a file, or of a slice of it."""
    return f"{path}#frame={frame}{'' if part is None else f'#part={part}'}.dcm"


def parse_name(name: str) -> tuple[str, int | None, int | None]:
    """(path, frame, part) of a name; None for what it does not say."""
    found = _NAME.fullmatch(name)
    if not found:
        return name, None, None
    return found[1], int(found[2]), None if found[3] is None else int(found[3])


def _parts(cache: Cache) -> Any:
    """The column `part_of_frame`, int64; 0 in caches that are older than it."""
    try:
        return cache.column("part_of_frame").cast(pa.int64())
    except KeyError:
        return pa.chunked_array([np.zeros(len(cache), np.int64)])


def _named(cache: Cache) -> Iterator[tuple[int, str, str]]:
    """(root, path, name below it) of each frame, in the cache's order."""
    columns = [cache.column(c).to_pylist() for c in ("root", "path", "frame")]
    parts = _parts(cache)
    cut: set[tuple[int, str]] = set()
    if pc.max(_parts(Cache(cache.core, None))).as_py():  # of files outside of the selection too
        every = cache.core.root.read("frames", ["root", "path", "part_of_frame"])
        every = every.filter(pc.greater(every["part_of_frame"], 0)).select(["root", "path"])
        files = every.group_by(["root", "path"]).aggregate([])
        cut = set(zip(files["root"].to_pylist(), files["path"].to_pylist(), strict=True))
    for root, path, frame, part in zip(*columns, parts.to_pylist(), strict=True):
        yield root, path, name_of(path, frame, part if (root, path) in cut else None)


def of_kind(cache: Cache, kind: str | None) -> Cache:
    """The frames of one kind, or, if it is None, all that can be an image.

    Raises ValueError naming the legal kinds.
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"kind {kind!r}; legal: {', '.join(KINDS)}, and None for all of these")
    return cache.select(kind=list(KINDS) if kind is None else kind)


def frame_names(cache: Cache) -> list[str]:
    """A name for each frame, in the cache's order; no file needs to be there."""
    folders = cache.core.root.sources
    return [os.path.join(folders[root], name) for root, _, name in _named(cache)]


class Names:
    """Which frame of a cache (or of a selection) a path or a name stands for."""

    def __init__(
        self,
        cache: Cache,
        root: Roots = None,
        called: str | None = None,
        key: str | os.PathLike[str] | None = None,
    ) -> None:
        """`root`: where the source folder is now, or its stubs; for caches of several, a mapping
        from where each was to where it is. `called`: how errors name the cache. `key`: the key file
        of a de-identified cache, by which paths below `root` are hashed.

        Raises ValueError for a root or a key that is not this cache's.
        """
        self.cache, self.called = cache, called or str(cache.path)
        self._hashes = hashes(cache.path, cache.attributes, key)
        if self._hashes and root is None:
            raise ValueError(f"{self.called}: de-identified: give root, the source folder, too")
        if self._hashes and isinstance(root, Mapping):
            known = set(cache.core.root.sources.values())
            source = partial(self._hashes.of, "source")
            root = {
                k if isinstance(k, int) or k in known else source(os.path.abspath(k)): v
                for k, v in root.items()
            }
        self._folders = folders(cache.core.root.sources, root)
        table = pa.table({c: cache.column(c) for c in ("path", "root", "frame")})
        frame = pc.shift_left(table["frame"].cast(pa.int64()), _SHIFT)
        table = table.set_column(2, "frame", pc.add(frame, _parts(cache)))
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
        path, frame, part = parse_name(os.fspath(name))
        places = self._places(path)
        if not places and frame is not None:  # a file that is really called so
            places, frame, part = self._places(os.fspath(name)), None, None
        if not places:
            raise NotServedError(self._absent(path))
        said = f"frame {frame}"
        if frame is not None:
            least, most = frame << _SHIFT, (frame + 1 << _SHIFT) - 1
            if part is not None:
                least = most = least | part
                said += f", part {part}"
            start, stop = (
                find(places, key, key=self._place_at)
                for find, key in ((bisect_left, least), (bisect_right, most))
            )
            if start == stop:
                raise NotServedError(f"{path}: {said} is not in {self.called}")
            places = places[start:stop]
        if len(places) > 1:
            first, last = (self._place_at(places[k]) for k in (0, -1))
            slices = first >> _SHIFT == last >> _SHIFT
            example = name_of(path, first >> _SHIFT, first % (1 << _SHIFT) if slices else None)
            what = "slices" if slices else "frames"
            raise NotServedError(
                f"{path}: {len(places)} {what} of it are in {self.called}; name one, such as "
                f"{example}, or train on trainer_adapter.lightly.names(cache)"
            )
        return int(self._order[places[0]])

    def holds(self, path: str | os.PathLike[str]) -> bool:
        """Whether frames of the file at `path` are here."""
        return len(self._places(os.fspath(path))) > 0

    def _place_at(self, k: int) -> int:
        return int(self._frame[k].as_py())

    def _places(self, path: str) -> range:
        """Places in the sorted columns of all frames of a file, by frame number.

        A file that is not stored since it is a copy of another stands for that one.
        """
        candidates = list(self._candidates(path))
        stored = {place: frames for place in candidates if (frames := self._frames_of(*place))}
        for number, below in list(stored)[1:]:
            first, name = next(iter(stored))
            if number != first and below == name:
                raise NotServedError(
                    f"{path}: may be of source {first} or {number} of {self.called}, which have "
                    "different files of that name, and were at the same path when it was merged; "
                    "give root={NUMBER: FOLDER} with a folder of its own for each"
                )
        if stored:
            return next(iter(stored.values()))
        twins = (self._frames_of(*twin) for twin in map(self._twin_of, candidates) if twin)
        return next(filter(None, twins), range(0))

    def _frames_of(self, number: int, below: str) -> range:
        start = bisect_left(self._path, below, key=lambda p: p.as_py())
        stop = start
        if start < len(self._path) and self._path[start].as_py() == below:
            stop = start + 1
        if stop < len(self._path) and self._path[stop].as_py() == below:  # of many frames
            stop = bisect_right(self._path, below, start, key=lambda p: p.as_py())
        same = self._root[start:stop].to_numpy()
        first, last = np.searchsorted(same, [number, number + 1])
        return range(start + int(first), start + int(last))

    @cached_property
    def _twins(self) -> pa.Table:
        order = [("path", "ascending"), ("root", "ascending")]
        return read_twins(self.cache.core.root).sort_by(order).combine_chunks()

    def _twin_of(self, place: tuple[int, str]) -> tuple[int, str] | None:
        """The (root, path) of the file that is stored in place of this one; None if it is none."""
        number, below = place
        start = bisect_left(self._twins["path"], below, key=lambda p: p.as_py())
        stop = bisect_right(self._twins["path"], below, start, key=lambda p: p.as_py())
        for row in self._twins.slice(start, stop - start).to_pylist():
            if row["root"] == number:
                return row["same_root"], row["same_path"]
        return None

    def _candidates(self, path: str) -> Any:
        """(root, path below it) that a path may mean: as written, then with links followed."""
        seen = set()
        for spelling in (os.path.abspath, os.path.realpath):
            whole = spelling(path)
            for number, folder in self._folders:
                if whole.startswith(folder):
                    below = whole[len(folder) :].replace(os.sep, "/")
                    both = (below, self._hashes.of("path", below)) if self._hashes else (below,)
                    for place in ((number, named) for named in both):
                        if place not in seen:
                            seen.add(place)
                            yield place

    def _absent(self, path: str) -> str:
        """Why a path is not served, and what to do."""
        if not path:
            return f"the path is empty, and names no frame of {self.called}"
        if "://" in path:
            return (
                f"{path}: a URL, and {self.called} holds files; download it, or give "
                "missing='pass' to let LightlyTrain open it itself"
            )
        if os.path.isdir(path):
            return f"{path}: a folder; give one of its files, or a name of lightly.names(cache)"
        said = f"{path}:" if os.path.exists(path) else f"{path}: no such file, and"
        if self._hashes is None and is_deidentified(self.cache.attributes):
            return (
                f"{said} not in {self.called}, which is de-identified and has hashes of paths; "
                "give serve(cache, root=FOLDER, key=KEYFILE), or train on "
                "trainer_adapter.lightly.names(cache)"
            )
        places = list(self._candidates(path))
        if not places:
            known = ", ".join(self.cache.core.root.sources.values())
            return (
                f"{said} not below a folder that {self.called} was made from ({known}); give "
                "serve(cache, root=...) where that folder is now"
            )
        table = self.cache.core.root.read("failures", ["root", "path", "outcome", "reason"])
        for number, below in places:
            held = pc.and_(pc.equal(table["path"], below), pc.equal(table["root"], number))
            for row in table.filter(held).slice(0, 1).to_pylist():
                return (
                    f"{said} not in {self.called}: {row['outcome']}: {row['reason']}; train "
                    "on trainer_adapter.lightly.names(cache), which has just what is stored"
                )
        return (
            f"{said} not in {self.called}; build the cache again with this file, select it, "
            "or give missing='pass' to let LightlyTrain open it itself"
        )


def stub_tree(cache: Cache, folder: str | os.PathLike[str]) -> Path:
    """Empty files named like the frames, below `folder`: for fine-tuning, which wants files.

    Of several sources, each lies below its number. Raises ValueError where another's stubs lie.
    """
    write_stubs(cache, folder)
    return Path(folder)


def write_stubs(cache: Cache, folder: str | os.PathLike[str], distinct: bool = False) -> list[str]:
    """Write these stubs; their paths below `folder`, in the cache's order.

    `distinct`: no two have the same name, in different folders either. Raises ValueError.
    """
    sources = cache.core.root.sources
    marked, written = set(), []
    for root, path, name in _named(cache):
        below = stub_folder(folder, root, len(sources) > 1)
        if root not in marked:
            mark(below, sources[root])
            marked.add(root)
        if distinct:
            of_file = hashlib.sha256(f"{root}/{path}".encode("utf-8", "surrogateescape"))
            name = f"{name.removesuffix('.dcm')}#file={of_file.hexdigest()[:16]}.dcm"
        file = below / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        written.append(os.path.relpath(file, folder))
    return written
