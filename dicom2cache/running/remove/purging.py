"""Deletes what no table of a cache names any more."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dicom2cache.errors import Unfinished
from dicom2cache.privacy.mapping import read_mapping, write_mapping
from dicom2cache.running import remains
from dicom2cache.running.job import build_folder, update_of
from dicom2cache.running.remove.unnamed import unnamed_files
from dicom2cache.schema import CONTOURS_TABLE
from dicom2cache.store import names, root
from dicom2cache.store.committed import read_table
from dicom2cache.store.durable import sync_folder
from dicom2cache.store.layout import NUMBERINGS
from dicom2cache.store.root import CONTOURS


@dataclass(frozen=True)
class Purged:
    """What was deleted."""

    files: int
    bytes: int
    names: int
    """rows of the mapping that are gone"""


def purge(cache: Path, mapping: Path | None) -> Purged:
    """Delete it, and take out of `mapping` what hashes stand for that the cache has no more.

    Whoever has an earlier numbering open cannot go on with it then. Raises Unfinished while frames
    are added or removed, OSError.
    """
    names.refuse_links(cache)
    attributes = root.attributes(cache)
    remains.tidy(cache)
    planning = any(map(remains.is_planning, build_folder(cache).glob("*")))
    if planning or update_of(cache) is not None:
        raise Unfinished(
            f"{cache}: frames are being added to it or removed; end that first, by the same "
            f"command or `dicom2cache commit {cache}`"
        )
    count = size = 0
    for folder, inside in groupby(unnamed_files(cache, attributes), os.path.dirname):
        for name in inside:
            with suppress(FileNotFoundError):  # another process purges, too
                size += os.lstat(cache / name).st_size
                os.unlink(cache / name)
                count += 1
        sync_folder(cache / folder)
    with suppress(OSError):  # not empty
        (cache / NUMBERINGS).rmdir()
        sync_folder(cache)
    return Purged(count, size, 0 if mapping is None else _without(mapping, cache, attributes))


def _without(mapping: Path, cache: Path, attributes: dict[str, Any]) -> int:
    """Take out of a mapping what the cache has no more; how many rows."""
    said = read_mapping(mapping)
    known = set(_hashes(cache, attributes))
    kept = {key: original for key, original in said.items() if key[1] in known}
    if len(kept) < len(said):
        write_mapping(mapping, kept)
    return len(said) - len(kept)


def _hashes(cache: Path, attributes: dict[str, Any]) -> Iterator[str]:
    """All texts of the cache that may be hashes."""
    yield from (s["path"] for s in attributes["sources"])
    for kind in ("frames", "failures", CONTOURS):
        texts = [f.name for f in CONTOURS_TABLE if f.type == pa.string()]
        table = read_table(cache, attributes, kind, texts if kind == CONTOURS else None)
        for column in table.columns:
            if str(column.type) == "string":
                yield from pc.drop_null(column.unique()).to_pylist()
