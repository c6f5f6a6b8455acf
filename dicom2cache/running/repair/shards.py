"""One shard: which of its frames are whole, and the shard written anew.

Whole frames are copied, the others are made again from their sources. The new file lies in build/
until it is durable and has the size and the index that shards/ says; then it takes the old one's
name, so that whoever has the old one open keeps it, and nobody ever sees half of one.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dicom2cache.arrow import ints
from dicom2cache.errors import CacheError
from dicom2cache.recipes.recipe import Recipe
from dicom2cache.records import ArraySpec
from dicom2cache.running import job
from dicom2cache.running.attempts import abandoned, attempt_name
from dicom2cache.running.repair.again import COLUMNS, Again, Originals, again
from dicom2cache.store.committed import read_table, spec_of, whole_root
from dicom2cache.store.compression import CHUNK_HEADER, chunk_bytes, pack, unpack
from dicom2cache.store.durable import sync_folder
from dicom2cache.store.layout import MISSING, shard_path
from dicom2cache.store.names import below
from dicom2cache.store.shards import Chunk, ShardWriter, crc32c

_BLOCK = 1 << 22
_REPLACED = "{}: another process has replaced the cache; run the same command again"
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Mended:
    """What became of a shard."""

    name: str
    """its path below the cache"""
    frames: int
    mended: int = 0
    """frames that were damaged and are whole now"""
    written: bool = False
    """there is a new file"""
    lost: tuple[str, ...] = ()
    """frames that are still damaged: source file, frame and why they could not be made again"""
    why: str = ""
    """why the shard stays as it is, where no frame is to blame"""


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
        folder, _, name = shard_path(spec, shard).partition("/")
        path = below(self.path, folder, self.path / "shards") / name  # a link there is replaced
        return Told(
            path, spec, about["bytes"], about["index_crc32c"], about["slots"],
            about.get("crc32c"), row[mine] - start, ints(self.frames["crc32c"], -1)[mine], mine,
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
    raise CacheError(_REPLACED.format(path))


@lru_cache(maxsize=1)
def _sources(path: Path, sha256: str) -> pa.Table:
    return read_table(path, opened(path, sha256).attributes, "frames", COLUMNS)


def mend(
    path: str,
    sha256: str,
    number: int,
    shard: int,
    originals: Originals,
    isolated: bool = False,
) -> Mended:
    """Mend a shard of array `number` of the cache whose root has that digest, if it is damaged.

    `isolated`: a child process decodes. Raises OSError, naming the file, if it cannot be written.
    """
    cache = opened(Path(path), sha256)
    told = cache.told(number, shard)
    name = told.path.relative_to(cache.path).as_posix()
    try:
        with _file(told.path) as file:
            state = State(told, file)
            if state.whole:
                return Mended(name, len(told.slots))
            return _mend(cache, told, name, state, originals, isolated)
    except PermissionError as e:
        if e.filename is not None and os.fspath(e.filename) != os.fspath(told.path):
            raise
        return Mended(name, len(told.slots), why=f"cannot be read ({e.strerror}): give it back")


@contextmanager
def _file(path: Path) -> Iterator[int | None]:
    """The descriptor of a file; None of what is not there, or is no plain file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        raise
    except OSError:
        yield None
        return
    try:
        yield descriptor if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    finally:
        os.close(descriptor)


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
            chunks = google_crc32c.extend(chunks, data)
            self.good[k] = self._is_right(k, data)
        self.chunks_right = told.chunks_crc32c in (None, chunks)
        """a chunk may differ from what was written and still hold the same frame"""
        self.whole = bool(
            self.served and self.good.all() and self.chunks_right and self._is_empty_between()
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
                part = os.pread(self.file, min(length, 1 << 30), offset)
            except OSError as e:
                if e.errno != errno.EIO:
                    raise
                break
            if not part:
                break
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return b"".join(parts)

    def _is_right(self, k: int, data: bytes) -> bool:
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

    def _is_empty_between(self) -> bool:
        """Whether slots without a frame hold zeros, where bytes are kept for them."""
        told, size = self.told, self.told.spec.slot_bytes
        if told.spec.codec != "none":
            return True
        for slot in np.setdiff1d(np.arange(told.count), told.slots).tolist():
            at, end = slot * size, (slot + 1) * size
            while at < end:
                at = min(end, _next_data(self.file, at))
                block = self._read(at, min(_BLOCK, end - at))
                if block.strip(b"\0"):
                    return False
                at += max(1, len(block))
        return True


def _next_data(file: int | None, at: int) -> int:
    """Where the file has data from `at` on, if its file system tells holes apart."""
    try:
        return at if file is None else os.lseek(file, at, os.SEEK_DATA)
    except OSError as e:
        return 1 << 62 if e.errno == errno.ENXIO else at


def _mend(
    cache: Cache, told: Told, name: str, state: State, originals: Originals, isolated: bool
) -> Mended:
    bad = np.flatnonzero(~state.good)
    recipe = Recipe.from_dict(cache.attributes["recipe"])
    rows = cache.sources(told.samples[bad])
    with again(rows, originals, recipe, isolated) as made:
        for repack in (False, True):
            attempt = _attempt(cache.path, name)
            found = _write(told, state, made, bad, attempt, repack)
            if isinstance(found, Mended):
                return _named(found, name, told)
            (size, index_crc32c, chunks), lost = found
            right = (size, index_crc32c) == (told.bytes, told.index_crc32c)
            if right and (lost or told.chunks_crc32c in (None, chunks)):
                break
            attempt.unlink(missing_ok=True)
            if told.spec.codec == "none" or repack or lost:
                why = (
                    "made again it has another size or index than shards/ says: it was compressed "
                    "by other versions"
                )
                return Mended(name, len(told.slots), why=why)
    try:
        _publish(cache, attempt, told.path)
    except IsADirectoryError:
        attempt.unlink(missing_ok=True)
        return Mended(name, len(told.slots), why="a folder is in its place; move it away")
    return Mended(name, len(told.slots), len(bad) - len(lost), True, tuple(lost))


def _named(found: Mended, name: str, told: Told) -> Mended:
    return Mended(name, len(told.slots), lost=found.lost, why=found.why)


Written = tuple[tuple[int, int, int], list[str]]


def _write(
    told: Told, state: State, made: Again, bad: Ints, attempt: Path, repack: bool
) -> Written | Mended:
    """((size, CRC-32C of its index, of its chunks), frames still lost) of the shard at `attempt`.

    Or why there is none: readers refuse the old file as a whole, or know which of its frames are
    damaged; neither shall change to less.
    """
    place = {int(k): j for j, k in enumerate(bad)}
    at = {int(slot): k for k, slot in enumerate(told.slots)}
    lost: list[str] = []
    chunks = 0
    with _naming(told.path), ShardWriter(attempt, told.spec) as writer:
        for slot in range(told.count):
            k = at.get(slot)
            if k is None:
                writer.missing()
                continue
            chunk = _copied(state, k, repack) if k not in place else None
            if k in place:
                new = made.make(place[k], told.spec, int(told.checks[k]), writer.room())
                if isinstance(new, str):
                    lost.append(f"{made.names[place[k]]}, frame {_frame(made, place[k])}: {new}")
                    if state.served:
                        chunk = Chunk(state.chunk(k), 0)
                else:
                    chunk = new
            if chunk is None:
                if k in place:
                    continue  # on to the others, so that all are named
                return Mended("", 0, why="it changes while it is read; run the same command again")
            if not lost or state.served:
                data = memoryview(chunk.data).cast("B")  # type: ignore[arg-type]
                chunks = google_crc32c.extend(chunks, bytes(data)) if told.chunks_crc32c else 0
                writer.frame(chunk)
        unchanged = state.chunks_right and state._is_empty_between()
        if lost and (not state.served or (len(lost) == len(bad) and unchanged)):
            return Mended("", 0, lost=tuple(lost))
        size, index_crc32c = writer.finish()
    return (size, index_crc32c, chunks), lost


def _frame(made: Again, k: int) -> str:
    number, part = made.numbers[k]
    return f"{number}, part {part}" if part else str(number)


def _copied(state: State, k: int, repack: bool) -> Chunk | None:
    """The chunk of a whole frame, read again and held to its checksum again."""
    data, check = state.chunk(k), int(state.told.checks[k])
    if not state._is_right(k, data):
        return None
    if repack:
        return Chunk(pack(unpack(data, state.told.spec), state.told.spec), check)
    return Chunk(data, check)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors of the file that is written name the one that it is to become."""
    try:
        yield
    except OSError as e:
        if e.filename is None:
            e.filename = os.fspath(path)
        raise


def _attempt(cache: Path, name: str) -> Path:
    """A new name for an attempt at a shard; those of processes that died are removed."""
    folder = job.attempts_at_repair(cache)
    own = name.replace("/", ".")
    with suppress(FileNotFoundError):
        for path in folder.glob(f"{own}.*"):
            if abandoned(path.name):
                path.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder / attempt_name(own)


def _publish(cache: Cache, attempt: Path, shard: Path) -> None:
    """Give an attempt the shard's name, if the cache is still the one that it was made for.

    Whoever replaces the cache removes its root first, and then attempts like this one.
    """
    sha256 = cache.attributes["sha256"]
    if sha256 not in _signatures(cache.path):
        attempt.unlink(missing_ok=True)
        raise CacheError(_REPLACED.format(cache.path))
    shard.parent.mkdir(exist_ok=True)
    try:
        os.replace(attempt, shard)
    except FileNotFoundError:
        raise CacheError(_REPLACED.format(cache.path)) from None
    sync_folder(shard.parent)


def _signatures(cache: Path) -> set[str]:
    """Digests of the root, or where it is lost or damaged of its second copy."""
    for spare in (False, True):
        found = whole_root(cache, spare)
        if found is not None:
            return {found["sha256"]}
    return set()
