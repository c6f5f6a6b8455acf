"""Shards of a part in the whole: the same file under a second name, a copy, or with fewer frames.

A shard is never changed: where frames of it are not stored in the whole, a new one is written.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom2cache.errors import CacheError
from dicom2cache.records import ArraySpec
from dicom2cache.sources.system import link_itself
from dicom2cache.store.names import open_below
from dicom2cache.store.shards import Chunk, ShardWriter, read_index


def link(source: Path, target: Path) -> None:
    """Give a shard a second name. Raises CacheError, with the remedy, where that is impossible."""
    try:
        link_itself(source, target)
    except OSError as e:
        if isinstance(e, FileNotFoundError):
            raise
        raise CacheError(
            f"{source}: cannot have a second name at {target} ({e.strerror}); give --copy, which "
            "takes room for all shards"
        ) from e


def copy(source: Path, target: Path) -> None:
    """Copy a shard, durably."""
    try:
        shutil.copyfile(source, target, follow_symlinks=False)
        with open(target, "rb+") as file:
            os.fsync(file.fileno())
    except OSError as e:
        e.filename = e.filename or os.fspath(target)
        raise


def without(
    cache: Path, name: str, target: Path, spec: ArraySpec, slots: int, kept: NDArray[np.int64]
) -> tuple[int, int, int | None]:
    """Write a shard that has only the `kept` slots of another, durably, their bytes as they are.

    (size in bytes, CRC-32C of its index, of its compressed chunks). The other slots are as those of
    frames that failed.
    """
    stays = np.zeros(slots, bool)
    stays[kept] = True
    with open_below(cache, name, cache) as file, ShardWriter(target, spec) as writer:
        index, _, _ = read_index(file, spec)
        for slot in range(slots):
            if not stays[slot]:
                writer.missing()
                continue
            offset, length = index[slot].tolist()
            file.seek(offset)
            data = file.read(length)
            if len(data) != length:
                raise CacheError(f"{cache / name}: too short; run `dicom2cache repair {cache}`")
            writer.frame(Chunk(data, 0))
        size, index_crc32c = writer.finish()
    return size, index_crc32c, writer.chunks_crc32c
