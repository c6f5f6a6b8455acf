"""Paths to sorted candidate files: every file below the sources, whatever its name."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from dicom2cache.errors import FrameError, SourceError, is_environment
from dicom2cache.records import Candidate
from dicom2cache.schema import REJECTS
from dicom2cache.sources import dicomdir
from dicom2cache.sources.archives.kinds import Found
from dicom2cache.sources.archives.listed import MOST_MEMBERS, is_archive, look
from dicom2cache.sources.place import SEPARATOR

_AT_ONCE = 16
"""folders that are listed at once: a server answers many as soon as one"""


def scan(
    sources: Sequence[str | os.PathLike[str]],
    skip: Path,
    found: Callable[[int], None] = lambda count: None,
    most_members: int = MOST_MEMBERS,
) -> tuple[list[str], list[Candidate], pa.Table]:
    """(folders, candidates by folder and path, REJECTS of what could not be listed).

    A source is a folder, taken with all below it, or a file; of a DICOMDIR those that it names. Of
    an archive each member is a candidate, `most_members` at most. The folders are absolute, sorted,
    and none lies in another; so neither order nor overlap of the sources changes the result.
    Links are followed, but not into a folder's own parents. `skip` (the cache) is left out, and any
    other cache too, by name. What is no file, such as a FIFO, is never opened. `found` is told how
    many entries a folder has, for progress. Raises SourceError naming a source that does not exist.
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
    skipped = _identity(skip) if os.path.exists(skip) else None
    threads = ThreadPoolExecutor(_AT_ONCE, "listing")
    try:
        for root in roots:
            above = root.rstrip(os.sep) + os.sep
            for entry in _walk(root, skipped, threads, found):
                relative = "." if entry.path == root else entry.path.removeprefix(above)
                _add(candidates, rejects, number[root], relative, entry, most_members)
    finally:
        threads.shutdown(cancel_futures=True)
    taken = set[str]()
    for path in lone:
        root = os.path.dirname(path)
        for entry in _named(path, single[path]):
            if entry.path not in taken:
                taken.add(entry.path)
                relative = os.path.relpath(entry.path, root)
                _add(candidates, rejects, number[root], relative, entry, most_members)
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
            if any(
                (name == "plan.json" and b'"identity"' in _head(os.path.join(build, name)))
                or (_STATE.fullmatch(name) and os.path.isdir(os.path.join(build, name, "attempts")))
                for name in os.listdir(build)
            ):
                return True
        if ".spare" in inside:  # of one whose root is lost
            return _holds(os.path.join(folder, ".spare", "root.json"))
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


@dataclass(frozen=True)
class _Entry:
    """A file, or a folder that is not followed."""

    path: str
    problem: str | None
    """why it is no candidate"""
    status: os.stat_result | None = None


_NOWHERE = (-1, -1)


@dataclass(frozen=True)
class _Listed:
    """What is in a folder, by name."""

    files: list[_Entry]
    folders: list[tuple[str, bool]]
    """(path, whether that is a link)"""
    here: tuple[int, int] = _NOWHERE
    """which folder it is"""
    problem: str | None = None
    """why it is not followed"""


def _walk(
    top: str,
    skipped: tuple[int, int] | None,
    threads: ThreadPoolExecutor,
    found: Callable[[int], None],
) -> Iterator[_Entry]:
    """Every file below; iterative, since folders may be deep.

    Folders are listed by `threads` as soon as they are known, and taken in the order in which one
    thread would; those behind links not before their turn, since few of them may be wanted.
    """
    stack: list[tuple[str, frozenset[tuple[int, int]], bool, Future[_Listed] | None]]
    stack = [(top, frozenset(), False, None)]
    by_links: Counter[tuple[int, int]] = Counter()
    while stack:
        current, parents, linked, begun = stack.pop()
        try:
            early = begun.result() if begun else None
            here = early.here if early else _identity(current)
        except OSError as e:
            yield _Entry(current, _not_listed(e))
            continue
        if here == skipped or here in parents:
            continue  # the cache, or a link to one of its own parents
        by_links[here] += linked
        if linked and by_links[here] > _MOST_PATHS:
            said = f"not followed: {_MOST_PATHS} other links led to this folder already"
            yield _Entry(current, said)
            continue
        listed = early or _list(current)
        if listed.problem is not None:
            yield _Entry(current, listed.problem)
            continue
        found(len(listed.files) + len(listed.folders))
        yield from listed.files
        above = parents | {here}
        for path, is_link in listed.folders:
            behind = linked or is_link
            stack.append((path, above, behind, None if behind else threads.submit(_list, path)))


def _list(folder: str) -> _Listed:
    """What is in a folder. Raises OSError where the machine is to blame."""
    here = _NOWHERE
    try:
        here = _identity(folder)
        with os.scandir(folder) as entries:
            inside = sorted(entries, key=lambda entry: entry.name)
    except OSError as e:
        return _Listed([], [], here, _not_listed(e))
    if _is_cache(folder, {entry.name for entry in inside}):
        return _Listed([], [], here, CACHE)
    files, folders = [], []
    for entry in inside:
        problem = None
        try:
            if entry.is_dir():
                folders.append((entry.path, entry.is_symlink()))
                continue
            if not entry.is_file():
                nowhere = entry.is_symlink() and not os.path.exists(entry.path)
                problem = "the link leads nowhere" if nowhere else _odd(entry.stat().st_mode)
        except OSError as e:
            problem = f"cannot look at it: {e.strerror}"
        files.append(_file(entry.path, problem))
    return _Listed(files, folders, here)


def _identity(folder: str | os.PathLike[str]) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _not_listed(error: OSError) -> str:
    if is_environment(error):
        raise error
    return f"cannot list the folder: {error.strerror}"


def _file(path: str, problem: str | None) -> _Entry:
    """A file with its size and time, unless it has a problem. Raises as `_list`."""
    if problem is not None:
        return _Entry(path, problem)
    try:
        return _Entry(path, None, os.stat(path))
    except OSError as e:
        if is_environment(e):
            raise
        return _Entry(path, f"cannot look at it: {e.strerror}")


def _named(path: str, problem: str | None) -> list[_Entry]:
    """What a source that is a file stands for: itself, or what a DICOMDIR names."""
    itself = _file(path, problem)
    if problem is not None or not dicomdir.is_dicomdir(path):
        return [itself]
    try:
        named = dicomdir.files(path)
    except FrameError as e:
        return [_Entry(path, f"{e}; give its folder as a source, all in it is looked at then")]
    folder = os.path.dirname(path)
    return [_file(os.path.join(folder, name), why) for name, why in named]


def _add(
    candidates: list[Candidate],
    rejects: list[dict[str, Any]],
    root: int,
    relative: str,
    entry: _Entry,
    most_members: int,
) -> None:
    if entry.status is not None and is_archive(entry.path):
        inside = look(entry.path, entry.status, most_members)
        if inside is not None:
            for one in inside:
                path = f"{relative}{SEPARATOR}{one.name}" if one.name else relative
                _add_one(candidates, rejects, root, path, entry, one)
            return
    _add_one(candidates, rejects, root, relative, entry)


def _add_one(
    candidates: list[Candidate],
    rejects: list[dict[str, Any]],
    root: int,
    relative: str,
    entry: _Entry,
    inside: Found | None = None,
) -> None:
    shown, problem, status = relative.replace(os.sep, "/"), entry.problem, entry.status
    outcome = "excluded" if problem == CACHE else "failed"
    if inside is not None and inside.problem is not None:
        problem, outcome, status = inside.problem, inside.outcome, None
    if status is not None:
        try:
            shown.encode()
            size, mtime, inode = status.st_size, status.st_mtime_ns, status.st_ino
            if inside is None:
                candidates.append(Candidate(root, shown, size, mtime, inode))
            elif inside.member is not None:
                at = inside.member.offset
                candidates.append(Candidate(root, shown, inside.size, mtime, at, inside.member))
            return
        except UnicodeEncodeError:
            problem = "the file name is not UTF-8; rename it"
    shown = shown.encode("utf-8", "backslashreplace").decode()
    rejects.append(
        {"root": root, "path": shown, "outcome": outcome, "stage": "scan", "reason": problem}
    )
