"""What the tables say of a shard, and what of its file is as they say."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dicom2cache.arrow import ints
from dicom2cache.errors import CacheError
from dicom2cache.records import ArraySpec
from dicom2cache.running.repair.again import COLUMNS
from dicom2cache.sources.system import pread
from dicom2cache.store.committed import read_table, spec_of, whole_root
from dicom2cache.store.compression import CHUNK_HEADER, chunk_bytes, unpack
from dicom2cache.store.layout import MISSING, shard_path
from dicom2cache.store.names import below
from dicom2cache.store.shards import crc32c, extended, filled_gap

REPLACED = "{}: another process has replaced the cache; run the same command again"
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Told:
    """What the tables say of one shard."""

    path: Path
    spec: ArraySpec
    bytes: int
    index_crc32c: int
    count: int
    """slots"""
    chunks_crc32c: int | None
    """of all chunks of a compressed shard, one after another"""
    slots: Ints
    """that hold a frame"""
    checks: Ints
    """CRC-32C of each of these frames"""
    samples: Ints
    """row of frames/ of each"""


@dataclass(frozen=True)
class Cache:
    """What a process needs of the cache that it mends."""

    path: Path
    attributes: dict[str, Any]
    frames: pa.Table
    """array, row, crc32c of all frames"""
    shards: list[dict[str, Any]]

    def told(self, number: int, shard: int) -> Told:
        """What the tables say of a shard of array `number`."""
        spec = spec_of(self.attributes["arrays"][number])
        (about,) = [s for s in self.shards if (s["array"], s["shard"]) == (number, shard)]
        start = shard * spec.frames_per_shard
        row = ints(self.frames["row"], -1)
        mine = np.flatnonzero(
            (ints(self.frames["array"], -1) == number)
            & (row >= start)
            & (row < start + about["slots"])
        )
        mine = mine[np.argsort(row[mine], kind="stable")]
        folder, _, name = shard_path(spec, shard).partition("/")
        path = below(self.path, folder, self.path / "shards") / name  # a link there is replaced
        return Told(
            path, spec, about["bytes"], about["index_crc32c"], about["slots"],
            about.get("chunks_crc32c"), row[mine] - start,
            ints(self.frames["crc32c"], -1)[mine], mine,
        )  # fmt: skip

    def sources(self, samples: Ints) -> list[dict[str, Any]]:
        """Rows of frames/ (COLUMNS)."""
        rows: list[dict[str, Any]] = (
            _sources(self.path, self.attributes["sha256"]).take(pa.array(samples)).to_pylist()
        )
        return rows


@lru_cache(maxsize=1)
def opened(path: Path, sha256: str) -> Cache:
    """The cache whose root, or its second copy, has that digest; its tables must be whole."""
    for spare in (False, True):
        attributes = whole_root(path, spare)
        if attributes is not None and attributes["sha256"] == sha256:
            frames = read_table(path, attributes, "frames", ["array", "row", "crc32c"])
            shards = read_table(path, attributes, "shards").to_pylist()
            return Cache(path, attributes, frames, shards)
    raise CacheError(REPLACED.format(path))


@lru_cache(maxsize=1)
def _sources(path: Path, sha256: str) -> pa.Table:
    return read_table(path, opened(path, sha256).attributes, "frames", COLUMNS)


class State:
    """What is whole of a shard file."""

    def __init__(self, told: Told, file: int | None) -> None:
        self.told, self.file = told, file
        self.served = False
        """size and index are right: readers take the file, and its damaged frames, for whole"""
        self.good = np.zeros(len(told.slots), bool)
        """of the frames, in order"""
        self.places = self._places()
        """(n, 2) offset and length of each frame's chunk; length 0 where that is not known"""
        chunks = 0
        for k in range(len(told.slots)):
            data = self.chunk(k)
            chunks = extended(chunks, data)
            self.good[k] = self.is_right(k, data)
        self.chunks_right = told.chunks_crc32c in (None, chunks)
        """a chunk may differ from what was written and still hold the same frame"""
        self.whole = bool(
            self.served and self.good.all() and self.chunks_right and self.is_empty_between()
        )

    def chunk(self, k: int) -> bytes:
        """The bytes of frame k's chunk, as far as they are there."""
        offset, length = self.places[k].tolist()
        return self._read(offset, length)

    def _read(self, offset: int, length: int) -> bytes:
        """Bytes of the file; fewer at its end, and where the disk cannot read it."""
        parts = []
        while self.file is not None and length > 0:
            try:
                part = pread(self.file, min(length, 1 << 30), offset)
            except OSError as e:
                if e.errno != errno.EIO:
                    raise
                break
            if not part:
                break
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return b"".join(parts)

    def is_right(self, k: int, data: bytes) -> bool:
        """Whether these bytes are the chunk of frame k."""
        spec = self.told.spec
        if not data or len(data) != self.places[k, 1]:
            return False
        if spec.codec == "none":
            return bool(crc32c(data) == self.told.checks[k])
        try:
            return bool(crc32c(unpack(data, spec)) == self.told.checks[k])
        except ValueError:
            return False

    def _places(self) -> Ints:
        told, spec = self.told, self.told.spec
        places = np.zeros((len(told.slots), 2), np.int64)
        if self.file is None:
            return places
        size = 16 * spec.frames_per_shard + 4
        tail = self._read(told.bytes - size, size) if told.bytes >= size else b""
        index = tail[:-4]
        if len(tail) == size and crc32c(index) == told.index_crc32c:
            entries = np.frombuffer(index, "<u8").reshape(-1, 2)[told.slots]
            if (entries != MISSING).all():
                stored = int.from_bytes(tail[-4:], "little")
                self.served = (os.fstat(self.file).st_size, stored) == (
                    told.bytes, told.index_crc32c,
                )  # fmt: skip
                return entries.astype(np.int64)
        if spec.codec == "none":
            places[:, 0], places[:, 1] = told.slots * spec.slot_bytes, spec.slot_bytes
            return places
        at = 0  # without its index: each chunk begins with its length
        for k in range(len(told.slots)):
            length = chunk_bytes(self._read(at, CHUNK_HEADER), spec)
            if length is None or length > spec.slot_bytes + CHUNK_HEADER:
                break
            places[k] = at, length
            at += length
        return places

    def is_empty_between(self) -> bool:
        """Whether slots without a frame hold zeros, where bytes are kept for them."""
        told = self.told
        if self.file is None or told.spec.codec != "none":
            return True
        try:
            return filled_gap(self.file, told.spec, told.count, told.slots) is None
        except OSError as e:
            if e.errno != errno.EIO:
                raise
            return False
