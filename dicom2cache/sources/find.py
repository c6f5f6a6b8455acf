"""Paths to sorted candidate files: every file below the sources, whatever its name."""

from __future__ import annotations

import os
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
    Links are followed, but not into a folder's own parents. `skip` (the cache) is left out. Raises
    SourceError naming a source that does not exist.
    """
    folders: set[str] = set()
    single: set[str] = set()
    for source in sources:
        path = os.path.abspath(source)
        if os.path.isdir(path):
            folders.add(path)
        elif os.path.exists(path):
            single.add(path)
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
        _add(candidates, rejects, number[root], os.path.basename(path), path, None)
    candidates.sort(key=lambda c: (c.root, c.path))
    rejects.sort(key=lambda r: (r["root"], r["path"]))
    return all_roots, candidates, pa.Table.from_pylist(rejects, REJECTS)


def _inside(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip(os.sep) + os.sep)


def _walk(folder: str, skipped: str) -> Iterator[tuple[str, str | None]]:
    """(path, problem or None) of every file below; iterative, since folders may be deep."""
    stack: list[tuple[str, frozenset[tuple[int, int]]]] = [(folder, frozenset())]
    while stack:
        current, parents = stack.pop()
        if os.path.realpath(current) == skipped:
            continue
        try:
            status = os.stat(current)
            here = (status.st_dev, status.st_ino)
            if here in parents:
                continue  # a link to one of its own parents
            with os.scandir(current) as entries:
                found = list(entries)
        except OSError as e:
            if is_environment(e):
                raise
            yield current, f"cannot list the folder: {e.strerror}"
            continue
        for entry in found:
            try:
                if entry.is_dir():
                    stack.append((entry.path, parents | {here}))
                elif entry.is_file():
                    yield entry.path, None
                elif entry.is_symlink():
                    yield entry.path, "the link leads nowhere"
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
    rejects.append(
        {"root": root, "path": shown, "outcome": "failed", "stage": "scan", "reason": problem}
    )
