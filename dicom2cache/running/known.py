"""Which files a cache knows, and how they are by now: new, changed, gone."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dicom2cache.errors import CacheError, counting
from dicom2cache.planning.masks.unplaced import NOWHERE
from dicom2cache.privacy.veil import Veil
from dicom2cache.records import Candidate, Plan
from dicom2cache.running.remove.withheld import Withheld
from dicom2cache.sources.archives.kinds import GZIP
from dicom2cache.sources.place import SEPARATOR
from dicom2cache.store import seen
from dicom2cache.store.committed import file_keys, read_table
from dicom2cache.store.root import CONTOURS

_ALIKE = "files there are as those"
_log = logging.getLogger("dicom2cache")
Key = tuple[int, str]
"""(root, path), as frames/ and failures/ name a file"""


@dataclass(frozen=True)
class Looked:
    """What lies below the sources now, as seen by a cache."""

    roots: tuple[str, ...]
    """all source folders, by number, new ones last; of a de-identified cache the hash of one that
    was not looked at"""
    candidates: tuple[Candidate, ...]
    """all files, by the cache's numbers of folders, in order of root and path"""
    new: tuple[Candidate, ...]
    """those that the cache does not know, or of which it has no frame and that have changed"""
    unlisted: pa.Table
    """REJECTS of what is new and could not be listed"""
    changed: tuple[str, ...]
    """paths of files of which the cache has frames, and whose size or time is another by now"""
    vanished: tuple[str, ...]
    """of a de-identified cache the hashes"""
    everywhere: bool
    """whether all that the cache knows was looked at"""
    alike: tuple[Alike, ...] = ()
    """new folders that look like those of the cache"""
    withheld: int = 0
    """new files that were removed from the cache, and stay out"""


@dataclass(frozen=True)
class Alike:
    """A new folder with files that one of the cache's has, by path, size and modification time."""

    folder: str
    known: str
    """the cache's, as its root has it"""
    files: int


def state_of(candidate: Candidate, veil: Veil | None) -> bytes:
    """A digest of size and modification time, 16 bytes; keyed under a veil."""
    said, member = f"{candidate.size} {candidate.mtime_ns}", candidate.member
    if member is not None and member.kind != GZIP:  # a gzip file is one, as it lies there
        said = f"{member.archive} {candidate.mtime_ns} {member.offset} {member.crc or 0}"
    elif member is not None:
        said = f"{member.archive} {candidate.mtime_ns}"
    if veil:
        return bytes.fromhex(replace(veil, seen=None).hashed("state", said))
    return hashlib.sha256(said.encode()).digest()[:16]


def seen_of(candidates: Iterable[Candidate], veil: Veil | None) -> pa.Table:
    """The rows of store.seen for these files."""
    plain = replace(veil, seen=None) if veil else None
    rows = list(candidates)
    return pa.table(
        {
            "root": [c.root for c in rows],
            "path": [plain.hashed("path", c.path) if plain else c.path for c in rows],
            "state": [state_of(c, plain) for c in rows],
        },
        seen.TABLE,
    )


def still_new(
    looked: Looked, cache: Path, attributes: dict[str, Any], key: bytes, veil: Veil | None
) -> tuple[Looked, Withheld]:
    """The same without files that were removed from the cache and are as they were then."""
    veil = replace(veil, seen=None) if veil else None
    withheld = Withheld.of(cache, attributes, key)
    states = [state_of(c, veil) for c in looked.new] if withheld else []
    fresh = withheld.unknown(looked.new[: len(states)], looked.roots, states, veil)
    new = tuple(c for c, ok in zip(looked.new, fresh, strict=True) if ok) if states else looked.new
    return replace(looked, new=new, withheld=len(looked.new) - len(new)), withheld


def look(
    cache: Path,
    attributes: dict[str, Any],
    sources: Sequence[str | os.PathLike[str]],
    scanned: tuple[Sequence[str], Sequence[Candidate], pa.Table],
    veil: Veil | None,
    moved: Mapping[str, str] | None = None,
) -> Looked:
    """What `scan` found of the sources, by what a committed cache knows.

    `moved`: where source folders of the cache are by now. Raises CacheError for one that is none.
    """
    veil = replace(veil, seen=None) if veil else None
    folders, candidates, unlisted = scanned
    known = _Known.of(cache, attributes)
    numbers = _Numbers(cache, attributes, veil, moved or {})
    first = len(numbers.roots)
    placed = sorted(
        (numbers.placed(folders[c.root], c) for c in candidates), key=lambda c: (c.root, c.path)
    )
    names = [veil.hashed("path", c.path) if veil else c.path for c in placed]
    keys = file_keys(pa.array([c.root for c in placed], pa.int16()), pa.array(names, pa.string()))
    odd = [
        {**row, "root": root, "path": path}
        for row in unlisted.to_pylist()
        for root, path in [numbers.place(folders[row["root"]], row["path"])]
    ]
    odd_names = [veil.hashed("path", row["path"]) if veil else row["path"] for row in odd]
    odd_keys = file_keys(
        pa.array([row["root"] for row in odd], pa.int16()), pa.array(odd_names, pa.string())
    )
    rows = pc.index_in(keys, value_set=known.seen)
    before = known.states.take(rows).to_pylist()  # None: not known
    is_stored = pc.is_in(keys, value_set=known.stored).to_pylist()
    is_other = [
        state is not None and state != state_of(c, veil)
        for c, state in zip(placed, before, strict=True)
    ]
    here = pa.concat_arrays([keys, odd_keys])
    lost = known.tracked.filter(pc.invert(pc.is_in(known.tracked, value_set=here)))
    covers = [os.path.abspath(s) for s in sources]
    gone = [key for key in _pairs(lost) if numbers.is_looked_at(key, covers)]
    is_new, odd_is_new = (
        pc.invert(pc.is_in(some, value_set=known.every)).to_pylist() for some in (keys, odd_keys)
    )
    if len(known.seen):  # else nobody knows what has changed
        for k, state in enumerate(before):  # what could not be listed was not seen either
            is_new[k] |= not is_stored[k] and (is_other[k] or state is None)
    return Looked(
        roots=tuple(numbers.roots),
        candidates=tuple(placed),
        new=tuple(compress(placed, is_new)),
        unlisted=pa.Table.from_pylist(list(compress(odd, odd_is_new)), unlisted.schema),
        changed=tuple(
            os.path.join(numbers.roots[c.root], c.path)
            for c, other, stored in zip(placed, is_other, is_stored, strict=True)
            if other and stored
        ),
        vanished=tuple(map(numbers.name, gone)),
        everywhere=len(gone) == len(lost),
        alike=tuple(_alike(known, numbers, attributes, first, list(compress(placed, is_new)))),
    )


def tell_alike(cache: Path, looked: Looked, veil: Veil | None) -> None:
    """Say which new folders look like those that the cache has: each file would be read again.

    Raises CacheError if such a folder is there no more: then it has moved.
    """
    for alike in looked.alike:
        files = f"{counting(alike.files, 'file there is as one', _ALIKE)} that the cache has"
        if veil is None and not os.path.isdir(alike.known):
            raise CacheError(
                f"{alike.folder}: {files} from {alike.known}, which is not there any more; give "
                f"--moved {alike.known}={alike.folder}"
            )
        known = "one of its folders" if veil else alike.known
        _log.warning(
            "%s: %s from %s, by path, size and time; each is read again, to be compared. If that "
            "folder has moved, stop this and give --moved OLD=NEW",
            cache if veil else alike.folder, files, known,
        )  # fmt: skip


def awaited(
    cache: Path, attributes: dict[str, Any], looked: Looked, planned: Plan, veil: Veil | None
) -> list[Candidate]:
    """Files of masks that lay on no image, and of whose patients the plan adds images.

    Nothing of them is stored; of masks some of whose frames are, the rest stays in failures/.
    """
    images = planned.files.filter(pc.equal(planned.files["kind"], "image"))
    if not images.num_rows:
        return []
    columns = ["root", "path", "frame", "stage", "reason", "patient"]
    table = read_table(cache, attributes, "failures", columns)
    whole = pc.and_(table["frame"].is_null(), pc.equal(table["stage"], "plan"))
    lost = pc.and_(whole, pc.match_substring(table["reason"], NOWHERE).fill_null(False))
    table = table.filter(
        pc.and_(lost, pc.is_in(table["patient"], value_set=images["patient"].unique()))
    )
    if not table.num_rows:
        return []
    keys = file_keys(table["root"], table["path"]).unique()
    stored = read_table(cache, attributes, "frames", ["root", "path"])
    there = file_keys(stored["root"], stored["path"])
    wanted = set(keys.filter(pc.invert(pc.is_in(keys, value_set=there))).to_pylist())
    plain = replace(veil, seen=None) if veil else None
    new = {(c.root, c.path) for c in looked.new}
    return [
        c for c in looked.candidates
        if (c.root, c.path) not in new
        and f"{c.root}/{plain.hashed('path', c.path) if plain else c.path}" in wanted
    ]  # fmt: skip


def _alike(
    known: _Known, numbers: _Numbers, attributes: dict[str, Any], first: int, new: list[Candidate]
) -> Iterator[Alike]:
    """The folders from number `first` on, most of whose new files another folder has."""
    for number in range(first, len(numbers.roots)):
        own = [c for c in new if c.root == number]
        states = pa.array([state_of(c, numbers.veil) for c in own], pa.binary(16))
        names = pa.array([numbers.named(c.path, "path") for c in own], pa.string())
        for source in attributes["sources"]:
            keys = file_keys(pa.array([source["root"]] * len(own), pa.int16()), names)
            said = known.states.take(pc.index_in(keys, value_set=known.seen))
            same = pc.sum(pc.equal(said, states)).as_py() or 0
            if 2 * same > len(own):
                yield Alike(numbers.roots[number], str(source["path"]), same)


def _pairs(keys: pa.Array) -> list[Key]:
    """(root, path) of `file_keys`, sorted."""
    parts = (key.partition("/") for key in keys.to_pylist())
    return sorted((int(root), path) for root, _, path in parts)


@dataclass(frozen=True)
class _Known:
    """The files that a cache knows, as `file_keys`."""

    every: pa.Array
    """those, and all that failures/ names"""
    stored: pa.Array
    """those that frames/ or contours/ names"""
    seen: pa.Array
    """those of which is known what they were like"""
    states: pa.Array
    """and that: (n,) 16 bytes each"""
    tracked: pa.Array
    """those that are missed when they are gone: what is stored, and what was seen"""

    @classmethod
    def of(cls, cache: Path, attributes: dict[str, Any]) -> _Known:
        stored, drawn, failed = (
            file_keys(table["root"], table["path"]).unique()
            for kind in ("frames", CONTOURS, "failures")
            for table in [read_table(cache, attributes, kind, ["root", "path"])]
        )
        stored = pa.concat_arrays([stored, drawn]).unique()
        every = pa.concat_arrays([stored, failed])
        table = seen.read(cache)
        if table is None:
            table = seen.TABLE.empty_table()
        keys, states = file_keys(table["root"], table["path"]), table["state"].combine_chunks()
        here = pc.is_in(keys, value_set=every)
        keys, states = keys.filter(here), states.filter(here)
        return cls(every, stored, keys, states, pa.concat_arrays([stored, keys]).unique())


_UNASKED = object()


class _Numbers:
    """The numbers of source folders: those of the cache, and new ones."""

    def __init__(
        self, cache: Path, attributes: dict[str, Any], veil: Veil | None, moved: Mapping[str, str]
    ) -> None:
        said = {int(s["root"]): str(s["path"]) for s in attributes["sources"]}
        self.roots = [said.get(k, "") for k in range(max(said, default=-1) + 1)]
        self.veil = veil
        self._of = {path: root for root, path in said.items()}
        for old, new in moved.items():
            here, there = self.named(os.path.abspath(old)), self.named(os.path.abspath(new))
            if here not in self._of or there in self._of:
                what = "is one already" if here in self._of else "was none"
                raise CacheError(
                    f"{cache}: {new if here in self._of else old} {what} of its source folders: "
                    f"{', '.join(said.values())}; give --moved OLD=NEW with one of them as OLD"
                )
            root = self._of[there] = self._of.pop(here)
            self.roots[root] = os.path.abspath(new)
        self._folders: dict[tuple[str, str], Any] = {}
        self._looked_at: dict[int, list[str] | None] = {}  # None: all of a folder

    def place(self, folder: str, path: str) -> Key:
        """(number, path below that folder) of a file by the folder that it was found in.

        The folder of the cache that is the nearest one above it; else `folder`, which is new then.
        """
        parent, _, name = path.rpartition("/")
        found = self._folders.get((folder, parent), _UNASKED)
        if found is _UNASKED:
            found = self._folders[folder, parent] = self._nearest(
                os.path.join(folder, parent) if parent else folder
            )
        if found is None:
            root = self._of[self.named(folder)] = len(self.roots)
            self.roots.append(folder)
            self._folders.clear()
            return root, path
        root, below = found
        return root, f"{below}{name}"

    def placed(self, folder: str, candidate: Candidate) -> Candidate:
        """The candidate as the cache would name it."""
        root, path = self.place(folder, candidate.path)
        if (root, path) == (candidate.root, candidate.path):
            return candidate
        return replace(candidate, root=root, path=path)

    def _nearest(self, folder: str) -> tuple[int, str] | None:
        """(number of the nearest folder that has one, path from there, with / behind)."""
        below = ""
        while True:
            root = self._of.get(self.named(folder))
            if root is not None:
                self.roots[root] = folder  # of a de-identified cache, whose hash was there
                return root, below
            above = os.path.dirname(folder)
            if above == folder:
                return None
            below, folder = f"{os.path.basename(folder)}/{below}", above

    def named(self, text: str, domain: str = "source") -> str:
        """A folder, or a file below one, as the cache has it."""
        return self.veil.hashed(domain, text) if self.veil else text

    def is_looked_at(self, key: Key, sources: Sequence[str]) -> bool:
        """Whether a file lies below one of the sources, or is one."""
        root = key[0]
        if root not in self._looked_at:
            own = self.roots[root].rstrip(os.sep) + os.sep
            below = {s: s.rstrip(os.sep) + os.sep for s in sources}
            if any(own.startswith(b) and os.path.isdir(s) for s, b in below.items()):
                self._looked_at[root] = None
            else:
                self._looked_at[root] = [b for b in below.values() if b.startswith(own)]
        inside = self._looked_at[root]
        if inside is None:
            return True
        name = f"{self.name(key)}{os.sep}"
        return any(name.startswith((b, f"{b.rstrip(os.sep)}{SEPARATOR}")) for b in inside)

    def name(self, key: Key) -> str:
        """Path of a file, for a report."""
        return os.path.join(self.roots[key[0]], key[1])
