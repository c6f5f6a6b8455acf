"""What earlier numberings of a cache had, and no table names any more: it waits to be purged."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from dicom2cache.running.remove.withheld import KIND
from dicom2cache.store.committed import read_table, spec_of
from dicom2cache.store.layout import NUMBERINGS, SPARE, shard_path, spare_paths
from dicom2cache.store.root import CONTOURS, KINDS

_SHARD = re.compile(r"c\.(0|[1-9][0-9]*)(\.0){2,3}")
_TABLE = re.compile(r"(0|[1-9][0-9]*)\.(parquet|json)")
_COPY = re.compile(r"(frames|failures|shards|removed|contours)\.(0|[1-9][0-9]*)\.parquet")


def unnamed_files(cache: Path, attributes: dict[str, Any]) -> list[str]:
    """Paths, below the cache, of files that an earlier numbering had and this one has not.

    Only numbers that are taken: what is behind the end of an array, or of a later generation, is of
    a run that appends. The roots by which an earlier numbering can be opened come first.
    """
    if not attributes.get("numbering"):
        return []
    return list(_unnamed(cache, attributes))


def _unnamed(cache: Path, attributes: dict[str, Any]) -> Iterator[str]:
    named = {e["path"] for entries in attributes["tables"].values() for e in entries}
    named |= spare_paths(attributes)
    generation = attributes["generation"]
    for name, number in _numbered(cache, NUMBERINGS, _TABLE):
        if number < attributes["numbering"]:
            yield name
    specs = [spec_of(about) for about in attributes["arrays"]]
    shards = read_table(cache, attributes, "shards", ["array", "shard"]).to_pylist()
    named |= {shard_path(specs[row["array"]], row["shard"]) for row in shards}
    for spec in specs:
        for name, number in _numbered(cache, spec.name, _SHARD):
            if name not in named and number * spec.frames_per_shard < spec.slots:
                yield name
    for kind in (*KINDS, KIND, CONTOURS):
        for name, number in _numbered(cache, kind, _TABLE):
            if name not in named and number <= generation:
                yield name
    for name, number in _numbered(cache, SPARE, _COPY, 2):
        if name not in named and number <= generation:
            yield name


def _numbered(
    cache: Path, folder: str, pattern: re.Pattern[str], group: int = 1
) -> Iterator[tuple[str, int]]:
    """(path below the cache, number) of the plain files in a folder that are named so."""
    path = cache / folder
    if path.is_symlink():
        return
    try:
        with os.scandir(path) as inside:
            found = sorted(e.name for e in inside if e.is_file(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in found:
        said = pattern.fullmatch(name)
        if said is not None:
            yield f"{folder}/{name}", int(said[group])


def waiting(cache: Path, attributes: dict[str, Any]) -> tuple[int, int]:
    """(files, bytes) that a purge would delete."""
    found = unnamed_files(cache, attributes)
    size = 0
    for name in found:
        with suppress(OSError):
            size += os.lstat(cache / name).st_size
    return len(found), size
