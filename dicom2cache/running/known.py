"""Which files a cache knows, and how they are by now: new, changed, gone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from dicom2cache.privacy.veil import Veil
from dicom2cache.records import Candidate
from dicom2cache.running.remove.withheld import Withheld
from dicom2cache.store import seen
from dicom2cache.store.committed import read_table

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
    """those that the cache does not know"""
    unlisted: pa.Table
    """REJECTS of what is new and could not be listed"""
    changed: tuple[str, ...]
    """paths of files that the cache knows, and whose size or modification time is another"""
    vanished: tuple[str, ...]
    """of a de-identified cache the hashes"""
    everywhere: bool
    """whether all that the cache knows was looked at"""
    withheld: int = 0
    """new files that were removed from the cache, and stay out"""


def state_of(candidate: Candidate, veil: Veil | None) -> bytes:
    """A digest of size and modification time, 16 bytes; keyed under a veil."""
    said = f"{candidate.size} {candidate.mtime_ns}"
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
) -> Looked:
    """What `scan` found of the sources, by what a committed cache knows."""
    veil = replace(veil, seen=None) if veil else None
    folders, candidates, unlisted = scanned
    known, states = _known(cache, attributes)
    numbers = _Numbers(attributes, veil)
    placed = [
        replace(c, root=root, path=path)
        for c in candidates
        for root, path in [numbers.place(folders[c.root], c.path)]
    ]
    placed.sort(key=lambda c: (c.root, c.path))
    names = [veil.hashed("path", c.path) if veil else c.path for c in placed]
    keys = [(c.root, name) for c, name in zip(placed, names, strict=True)]
    odd = unlisted.to_pylist()
    for row in odd:
        row["root"], row["path"] = numbers.place(folders[row["root"]], row["path"])
    odd_keys = [(r["root"], veil.hashed("path", r["path"]) if veil else r["path"]) for r in odd]
    here = set(keys) | set(odd_keys)
    changed = [
        os.path.join(numbers.roots[c.root], c.path)
        for c, key in zip(placed, keys, strict=True)
        if key in states and states[key] not in (None, state_of(c, veil))
    ]
    covers = [os.path.abspath(s) for s in sources]
    covered = {root: numbers.covered(root, covers) for root in {root for root, _ in states}}
    gone = sorted(
        key for key in states
        if key not in here and (covered[key[0]] or numbers.is_in(key, covers))
    )  # fmt: skip
    return Looked(
        roots=tuple(numbers.roots),
        candidates=tuple(placed),
        new=tuple(c for c, key in zip(placed, keys, strict=True) if key not in known),
        unlisted=pa.Table.from_pylist(
            [row for row, key in zip(odd, odd_keys, strict=True) if key not in known],
            unlisted.schema,
        ),
        changed=tuple(changed),
        vanished=tuple(numbers.name(key) for key in gone),
        everywhere=not (states.keys() - here - set(gone)),
    )


def _known(cache: Path, attributes: dict[str, Any]) -> tuple[set[Key], dict[Key, bytes | None]]:
    """(all files that frames/ or failures/ name, {file: its state when it was seen}).

    Where that is not known, the state is None, and only what is stored is there.
    """
    tables = {
        kind: read_table(cache, attributes, kind, ["root", "path"])
        .group_by(["root", "path"])
        .aggregate([])
        for kind in ("frames", "failures")
    }
    stored, failed = (_keys(tables[kind]) for kind in ("frames", "failures"))
    table = seen.read(cache)
    known = set(stored) | set(failed)
    states: dict[Key, bytes | None] = dict.fromkeys(stored)
    if table is not None:
        said = zip(_keys(table), table["state"].to_pylist(), strict=True)
        states |= {key: state for key, state in said if key in known}
    return known, states


def _keys(table: pa.Table) -> list[Key]:
    return list(zip(table["root"].to_pylist(), table["path"].to_pylist(), strict=True))


class _Numbers:
    """The numbers of source folders: those of the cache, and new ones."""

    def __init__(self, attributes: dict[str, Any], veil: Veil | None) -> None:
        said = {int(s["root"]): str(s["path"]) for s in attributes["sources"]}
        self.roots = [said.get(k, "") for k in range(max(said, default=-1) + 1)]
        self._veil = veil
        self._of = {path: root for root, path in said.items()}
        self._folders: dict[str, tuple[int, str] | None] = {}

    def place(self, folder: str, path: str) -> Key:
        """(number, path below that folder) of a file by the folder that it was found in.

        The folder of the cache that is the nearest one above it; else `folder`, which is new then.
        """
        parent = os.path.dirname(os.path.join(folder, path))
        if parent not in self._folders:
            self._folders[parent] = self._nearest(parent)
        found = self._folders[parent]
        if found is None:
            root = self._of[self._named(folder)] = len(self.roots)
            self.roots.append(folder)
            self._folders.clear()
            return root, path
        root, below = found
        return root, f"{below}{os.path.basename(path)}"

    def _nearest(self, folder: str) -> tuple[int, str] | None:
        """(number of the nearest folder that has one, path from there, with / behind)."""
        below = ""
        while True:
            root = self._of.get(self._named(folder))
            if root is not None:
                self.roots[root] = folder  # of a de-identified cache, whose hash was there
                return root, below
            above = os.path.dirname(folder)
            if above == folder:
                return None
            below, folder = f"{os.path.basename(folder)}/{below}", above

    def _named(self, folder: str) -> str:
        return self._veil.hashed("source", folder) if self._veil else folder

    def covered(self, root: int, sources: Sequence[str]) -> bool:
        """Whether all below the folder of this number was looked at."""
        own = self.roots[root].rstrip(os.sep) + os.sep
        return any(os.path.isdir(s) and own.startswith(s.rstrip(os.sep) + os.sep) for s in sources)

    def is_in(self, key: Key, sources: Sequence[str]) -> bool:
        """Whether a file lies below one of the sources, or is one."""
        own = self.name(key)
        return any(own == s or own.startswith(s.rstrip(os.sep) + os.sep) for s in sources)

    def name(self, key: Key) -> str:
        """Path of a file, for a report."""
        return os.path.join(self.roots[key[0]], key[1])
