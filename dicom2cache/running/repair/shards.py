"""One shard: which of its frames are whole, and the shard written anew.

Whole frames are copied, the others are made again from their sources. The new file lies in build/
until it is durable and has the size and the index that shards/ says; then it takes the old one's
name, so that whoever has the old one open keeps it, and nobody ever sees half of one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dicom2cache.errors import CacheError, on_path
from dicom2cache.recipes.recipe import Recipe
from dicom2cache.running import remains
from dicom2cache.running.attempts import abandoned, attempt_name
from dicom2cache.running.originals import Originals
from dicom2cache.running.repair.again import Again, again
from dicom2cache.running.repair.state import REPLACED, Cache, Ints, State, Told, opened
from dicom2cache.sources.system import PLAIN
from dicom2cache.store.committed import whole_root
from dicom2cache.store.compression import pack, unpack
from dicom2cache.store.durable import sync_folder
from dicom2cache.store.shards import Chunk, ShardWriter, extended


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
        descriptor = os.open(path, PLAIN)
    except PermissionError:
        raise
    except OSError:
        yield None
        return
    try:
        yield descriptor if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    finally:
        os.close(descriptor)


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
    with on_path(told.path), ShardWriter(attempt, told.spec) as writer:
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
                chunks = extended(chunks, data) if told.chunks_crc32c else 0
                writer.frame(chunk)
        unchanged = state.chunks_right and state.is_empty_between()
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
    if not state.is_right(k, data):
        return None
    if repack:
        return Chunk(pack(unpack(data, state.told.spec), state.told.spec), check)
    return Chunk(data, check)


def _attempt(cache: Path, name: str) -> Path:
    """A new name for an attempt at a shard; those of processes that died are removed."""
    folder = remains.attempts_at_repair(cache)
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
    now = whole_root(cache.path) or whole_root(cache.path, spare=True)
    if now is None or now["sha256"] != cache.attributes["sha256"]:
        attempt.unlink(missing_ok=True)
        raise CacheError(REPLACED.format(cache.path))
    shard.parent.mkdir(exist_ok=True)
    try:
        os.replace(attempt, shard)
    except FileNotFoundError:
        raise CacheError(REPLACED.format(cache.path)) from None
    sync_folder(shard.parent)
