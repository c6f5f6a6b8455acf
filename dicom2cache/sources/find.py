"""Paths to sorted candidate files: every file below the sources, whatever its name."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from dicom2cache.errors import SourceError, is_environment
from dicom2cache.records import Candidate
from dicom2cache.schema import REJECTS


def scan(
    sources: Sequence[str | os.PathLike[str]], skip: Path
) -> tuple[list[str], list[Candidate], pa.Table]:
    """(folders, candidates by folder and path, REJECTS of what could not be listed).

    A source is a folder, taken with all below it, or a file. The folders are absolute, sorted, and
    none lies in another; so neither the order nor an overlap of the sources changes the result.
    Links are followed, but not into a folder's own parents. `skip` (the cache) is left out, and any
    other cache too, by name. What is no file, such as a FIFO, is never opened. Raises SourceError
    naming a source that does not exist.
    """
    folders: set[str] = set()
    single: dict[str, str | None] = {}
    for source in sources:
        path = os.path.abspath(source)
        if os.path.isdir(path):
            folders.add(path)
        elif os.path.exists(path):
            single[path] = _odd(os.stat(path).st_mode)
        else:
            raise SourceError(f"{source}: no such file or folder")
    roots = sorted(f for f in folders if not any(_inside(f, g) for g in folders if g != f))
    lone = sorted(f for f in single if not any(_inside(f, r) for r in roots))
    all_roots = sorted({*roots, *(os.path.dirname(f) for f in lone)})
    number = {root: k for k, root in enumerate(all_roots)}
    candidates: list[Candidate] = []
    rejects: list[dict[str, Any]] = []
    skipped = os.path.realpath(skip)
    for root in roots:
        above = root.rstrip(os.sep) + os.sep
        for path, problem in _walk(root, skipped):
            relative = "." if path == root else path.removeprefix(above)
            _add(candidates, rejects, number[root], relative, path, problem)
    for path in lone:
        root = os.path.dirname(path)
        _add(candidates, rejects, number[root], os.path.basename(path), path, single[path])
    candidates.sort(key=lambda c: (c.root, c.path))
    rejects.sort(key=lambda r: (r["root"], r["path"]))
    return all_roots, candidates, pa.Table.from_pylist(rejects, REJECTS)


def _inside(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip(os.sep) + os.sep)


_ODD = (
    (stat.S_ISFIFO, "a FIFO (named pipe)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def _odd(mode: int) -> str | None:
    """Why what has this mode, and is no folder, is not opened; None for a file."""
    if stat.S_ISREG(mode):
        return None
    kind = next((words for holds, words in _ODD if holds(mode)), "neither a file nor a folder")
    return f"{kind}: it is not opened, since a read may never end; remove it from the sources"


CACHE = "a cache of dicom2cache: it is no source; give the files that it was made from"
"""the reason of another cache below the sources"""
_OURS = re.compile(rb'"dicom2cache"\s*:')
_STATE = re.compile(r"(removed-)?[0-9a-f]{16}")
_HEAD = 4096
"""bytes of a zarr.json that say whose it is"""


def _is_cache(folder: str, inside: set[str]) -> bool:
    """Whether a folder that has these names is a cache, or was to become one."""
    try:
        if "zarr.json" in inside and _holds(os.path.join(folder, "zarr.json")):
            return True
        if "build" in inside:
            build = os.path.join(folder, "build")
            return any(
                (name == "plan.json" and b'"identity"' in _head(os.path.join(build, name)))
                or (_STATE.fullmatch(name) and os.path.isdir(os.path.join(build, name, "attempts")))
                for name in os.listdir(build)
            )
    except OSError:
        pass  # nothing that we could have made
    return False


def _holds(path: str) -> bool:
    return _OURS.search(_head(path)) is not None


def _head(path: str) -> bytes:
    if not stat.S_ISREG(os.stat(path).st_mode):
        return b""
    with open(path, "rb") as file:
        return file.read(_HEAD)


_MOST_PATHS = 16
"""by links to one folder that are taken: n folders that link to each other have n! paths"""


def _walk(folder: str, skipped: str) -> Iterator[tuple[str, str | None]]:
    """(path, problem or None) of every file below; iterative, since folders may be deep."""
    stack: list[tuple[str, frozenset[tuple[int, int]], bool]] = [(folder, frozenset(), False)]
    by_links: Counter[tuple[int, int]] = Counter()
    while stack:
        current, parents, linked = stack.pop()
        if os.path.realpath(current) == skipped:
            continue
        try:
            status = os.stat(current)
            here = (status.st_dev, status.st_ino)
            if here in parents:
                continue  # a link to one of its own parents
            by_links[here] += linked
            if linked and by_links[here] > _MOST_PATHS:
                yield current, f"not followed: {_MOST_PATHS} other links led to this folder already"
                continue
            with os.scandir(current) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as e:
            if is_environment(e):
                raise
            yield current, f"cannot list the folder: {e.strerror}"
            continue
        if _is_cache(current, {entry.name for entry in found}):
            yield current, CACHE
            continue
        for entry in found:
            try:
                if entry.is_dir():
                    stack.append((entry.path, parents | {here}, linked or entry.is_symlink()))
                elif entry.is_file():
                    yield entry.path, None
                elif entry.is_symlink() and not os.path.exists(entry.path):
                    yield entry.path, "the link leads nowhere"
                else:
                    yield entry.path, _odd(entry.stat().st_mode)
            except OSError as e:
                yield entry.path, f"cannot look at it: {e.strerror}"


def _add(
    candidates: list[Candidate],
    rejects: list[dict[str, Any]],
    root: int,
    relative: str,
    path: str,
    problem: str | None,
) -> None:
    shown = relative.replace(os.sep, "/")
    if problem is None:
        try:
            shown.encode()
            status = os.stat(path)
            size, mtime, inode = status.st_size, status.st_mtime_ns, status.st_ino
            candidates.append(Candidate(root, shown, size, mtime, inode))
            return
        except UnicodeEncodeError:
            problem = "the file name is not UTF-8; rename it"
        except OSError as e:
            if is_environment(e):
                raise
            problem = f"cannot look at it: {e.strerror}"
    shown = shown.encode("utf-8", "backslashreplace").decode()
    outcome = "excluded" if problem == CACHE else "failed"
    rejects.append(
        {"root": root, "path": shown, "outcome": outcome, "stage": "scan", "reason": problem}
    )
