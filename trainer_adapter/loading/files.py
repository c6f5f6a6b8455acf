"""Which stored file a path of the user's stands for: relative, absolute, or of a copy."""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trainer_adapter.cache import Cache
from trainer_adapter.errors import LabelError
from trainer_adapter.format.twins import read_twins
from trainer_adapter.loading.tables import plain
from trainer_adapter.reading.hashed import Hashes

Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Named:
    """What the paths of a table stand for, by numbers of files."""

    frames: Codes
    """(n,) the file of each frame of the selection"""
    written: Codes
    """(m,) the file that each row of the table names, be it a copy that is not stored; -1: none"""
    stored: Codes
    """(m,) the file that is stored in its place"""


class Files:
    """The files of a whole cache, stored or copies of such, by number: root * paths + path.

    All of the cache counts, not just the selection: of two sites' I10 only one may be in a fold.
    """

    def __init__(self, cache: Cache, hashes: Hashes | None) -> None:
        whole = Cache(cache.core, None)
        self._cache, self._hashes = cache, hashes
        path, root = plain(whole.column("path")), whole.column("root").to_numpy()
        twins = read_twins(cache.core.root)
        own, same = (plain(twins[c].cast(pa.string())) for c in ("path", "same_path"))
        self._paths = pc.unique(pa.chunked_array([path, own, same], pa.string()))
        number = self._numbers(path, root)
        self.frames = number[cache.indices]
        stored = np.unique(number)
        copies = self._numbers(own, twins["root"].to_numpy())
        originals = self._numbers(same, twins["same_root"].to_numpy())
        real = ~np.isin(copies, stored) & np.isin(originals, stored)
        known = np.concatenate([stored, copies[real]])
        self._known, first = np.unique(known, return_index=True)
        self._stored = np.concatenate([stored, originals[real]])[first]

    def _numbers(self, path: Any, root: Any) -> Codes:
        place = pc.index_in(path, value_set=self._paths).fill_null(-1).to_numpy()
        return np.where(place < 0, -1, np.asarray(root, np.int64) * len(self._paths) + place)

    def named(self, paths: Any, roots: Any) -> Named:
        """What paths stand for; `roots`: the source of each, by number or folder, or None.

        Raises LabelError for a path that stands for files of several sources.
        """
        absolute = pc.or_(pc.starts_with(paths, "/"), pc.starts_with(paths, "~"))
        absolute = absolute.fill_null(False).to_numpy(zero_copy_only=False)
        if roots is not None:
            below = self._below(_normal(paths))
            written = self._held(self._numbers(below, self._roots(roots)))
        else:
            written = self._unique(paths, absolute)
        if absolute.any():
            found = np.flatnonzero(absolute)
            written[found] = self._absolute(paths.take(pa.array(found)))
        place = np.searchsorted(self._known, written).clip(max=max(len(self._known) - 1, 0))
        stored = np.where(written < 0, -1, self._stored[place]) if len(self._known) else written
        return Named(self.frames, written, stored)

    def _held(self, numbers: Codes) -> Codes:
        return np.where(np.isin(numbers, self._known), numbers, -1)

    def _below(self, paths: Any) -> Any:
        """Paths below a source, as frames/ has them."""
        return self._hashes.column("path", paths) if self._hashes else paths

    def _unique(self, paths: Any, absolute: Any) -> Codes:
        count = max(len(self._paths), 1)
        place = pc.index_in(self._below(_normal(paths)), value_set=self._paths, skip_nulls=True)
        place = np.where(absolute, -1, place.fill_null(-1).to_numpy())
        by_path = np.argsort(self._known % count, kind="stable")
        known, stored = self._known[by_path], self._stored[by_path]
        first = np.searchsorted(known % count, place, "left")
        last = np.searchsorted(known % count, place, "right")
        several = last - first > 1
        for k in np.flatnonzero(several).tolist():
            if len(np.unique(stored[first[k] : last[k]])) > 1:
                raise self._ambiguous(paths[k].as_py(), known[first[k] : last[k]] // count)
        found: Codes = np.where(last > first, known[first.clip(max=len(known) - 1)], -1)
        return found

    def _ambiguous(self, path: str, roots: Codes) -> LabelError:
        folders = self._cache.core.root.sources
        told = ", ".join(f"{k} ({folders[k]})" for k in roots.tolist())
        return LabelError(
            f"{path} is a file of several source folders, {told}, and the labels do not say of "
            "which; give absolute paths, or a column `root` with the number or the folder (the "
            "number, where merged caches were made from one folder)"
        )

    def _roots(self, roots: Any) -> Codes:
        """Numbers of sources; -1 for what is none."""
        folders = self._cache.core.root.sources
        if pa.types.is_integer(roots.type) or pa.types.is_floating(roots.type):
            numbers: Codes = roots.cast(pa.int64()).fill_null(-1).to_numpy()
            return numbers
        known = {str(number): number for number in folders}
        known |= {folder: number for number, folder in folders.items()}
        several = [f for f in folders.values() if list(folders.values()).count(f) > 1]
        texts = pc.unique(roots)
        values = []
        for text in texts.to_pylist():
            folder = None if text is None else os.path.expanduser(text).rstrip("/") or "/"
            if folder not in known and self._hashes and folder is not None:
                folder = self._hashes.of("source", folder)
            if folder in several:
                raise LabelError(
                    f"column 'root' of the labels has {text}, which several sources of the cache "
                    "have, that were merged; give their numbers"
                )
            values.append(-1 if folder is None else known.get(folder, -1))
        if texts.drop_null().to_pylist() and max(values) < 0:
            told = ", ".join(f"{k}: {folder}" for k, folder in folders.items())
            raise LabelError(
                f"column 'root' of the labels has {texts.drop_null()[0]}, which is no source of "
                f"the cache; legal: the number or the folder of {told}"
            )
        place = pc.index_in(roots, value_set=texts).to_numpy(zero_copy_only=False)
        found: Codes = np.asarray(values, np.int64)[place.astype(np.int64)]
        return found

    def _absolute(self, paths: Any) -> Codes:
        whole = _normal(paths)
        found = np.full(len(whole), -1, np.int64)
        for above, numbers in sorted(self._folders(whole).items(), key=lambda f: -len(f[0])):
            prefix = above if above == "/" else f"{above}/"
            held = pc.starts_with(whole, prefix).to_numpy(zero_copy_only=False) & (found < 0)
            rows = np.flatnonzero(held)
            below = self._below(pc.utf8_slice_codeunits(whole.take(pa.array(rows)), len(prefix)))
            for number in numbers:
                other = self._held(self._numbers(below, np.full(len(rows), number)))
                both = np.flatnonzero((found[rows] >= 0) & (other >= 0))
                for k in both[self._stored_of(found[rows[both]]) != self._stored_of(other[both])]:
                    place = np.array([found[rows[k]], other[k]]) // max(len(self._paths), 1)
                    raise self._ambiguous(paths[int(rows[k])].as_py(), place)
                found[rows] = np.where(other >= 0, other, found[rows])
        return found

    def _folders(self, whole: Any) -> dict[str, list[int]]:
        """{folder: numbers of the sources that it is}, in all spellings, as they stand in paths."""
        folders: dict[str, list[int]] = {}
        for number, folder in self._cache.core.root.sources.items():
            for name in {folder, folder if self._hashes else os.path.realpath(folder)}:
                folders.setdefault(name.rstrip("/") or "/", []).append(number)
        if self._hashes is None:
            return folders
        above = set(map(posixpath.dirname, whole.to_pylist()))
        todo = list(above)
        while todo:
            up = posixpath.dirname(todo.pop())
            if up not in above:
                above.add(up)
                todo.append(up)
        hashed = {folder: self._hashes.of("source", folder) for folder in above}
        return {f: folders[h] for f, h in hashed.items() if h in folders}

    def _stored_of(self, numbers: Codes) -> Codes:
        found: Codes = self._stored[np.searchsorted(self._known, numbers)]
        return found


def _normal(paths: Any) -> Any:
    """Paths without what says nothing, ./a//b being a/b, and with the home folder for ~."""
    odd = pc.match_substring_regex(paths, r"(^|/)\.\.?(/|$)|//|^~").fill_null(False)
    if not pc.any(odd, min_count=0).as_py():
        return paths
    return pa.array([n and _normal_one(n) for n in paths.to_pylist()], pa.string())


def _normal_one(path: str) -> str:
    """Of a member of an archive, behind !/, the name is no path: what leads up stays in it."""
    archive, inside, name = path.partition("!/")
    whole = posixpath.normpath(os.path.expanduser(archive))
    parts = (part for part in name.split("/") if part not in ("", "."))
    return f"{whole}{inside}{'/'.join(parts)}" if inside else whole
