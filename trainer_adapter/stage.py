"""Copies of shards on storage of the node: whole or absent, checked, shared by its processes."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from trainer_adapter.cache import Cache
from trainer_adapter.errors import DamagedError, StageError
from trainer_adapter.format import system
from trainer_adapter.format.checksum import crc32c
from trainer_adapter.format.files import REMEDY, opened
from trainer_adapter.format.root import root_document
from trainer_adapter.reading.chunks import Chunk, scratch_slot
from trainer_adapter.reading.opened import open_core
from trainer_adapter.reading.shards import index_bytes, span_of

_BLOCK = 8 << 20


def staged(cache: Cache, folder: str | os.PathLike[str]) -> Cache:
    """The same frames, read from copies of their shards under `folder`; missing ones are made.

    The copies are a folder named by the cache's SHA-256, which later runs find, also those of
    users who may only read it. Processes of a node share the work, each shard copied by one. Every
    frame's CRC-32C is checked on the way. Raises StageError if there is no room for them, or no
    permission, DamagedError if the source is damaged.
    """
    root = cache.core.root
    target = Path(folder).expanduser().absolute() / str(root.attributes["sha256"])[:32]
    needed = _needed(cache)
    ready = (target / "zarr.json").exists()
    todo = [key for key in needed if not (target / _name(cache, key)).exists()]
    if todo or not ready:
        try:
            target.mkdir(parents=True, exist_ok=True)
            with _locked(target / ".lock"):
                cache.core.store.check_current()
                _tables(cache, target)
                _check_room(cache, target, needed)
        except (DamagedError, StageError):
            raise
        except OSError as e:
            raise StageError(f"{target}: {e.strerror or e}; stage in a folder of your own") from e
        for wait in (False, True):  # first what nobody else is copying
            for key in todo:
                _copy(cache, key, target, wait)
    core = open_core(target, cache.core.store.checks.how)
    if core.root.digest != root.digest:
        raise StageError(f"{target}: holds another cache; stage in a folder of your own")
    return Cache(core, cache.indices)


def _needed(cache: Cache) -> list[tuple[int, int]]:
    """(array, shard) of the frames of a selection, in order."""
    places, frames = cache.core.places, cache.indices
    array = places.array[frames].astype(np.int64)
    pairs = np.unique(array << 32 | places.row[frames] // cache.core.per_shard[array])
    return [(int(p) >> 32, int(p) & 0xFFFFFFFF) for p in pairs]


def _name(cache: Cache, key: tuple[int, int]) -> str:
    return cache.arrays[key[0]].shard_name(key[1])


@contextmanager
def _locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold the lock file, which the kernel takes back when its process dies; False if taken."""
    with path.open("w") as file:
        try:
            system.lock(file.fileno(), wait)
        except BlockingIOError:
            yield False
            return
        yield True


def _part(copy: Path) -> Path:
    """What a copy is called until it is whole; where nothing locks it, each has its own."""
    own = "" if system.HAS_LOCKS else f".{secrets.token_hex(8)}"
    return copy.with_name(f"{copy.name}{own}.part")


def _tables(cache: Cache, target: Path) -> None:
    """The cache's tables and root, by whoever comes first and holds the lock; the root last.

    The root is that of the opened cache: a later generation may have replaced the file.
    """
    tables = cache.core.root.attributes["tables"]
    entries = {entry["path"]: entry for kind in tables.values() for entry in kind}
    for name in [*entries, "zarr.json"]:
        copy = target / name
        if not copy.exists():
            copy.parent.mkdir(exist_ok=True)
            part = _part(copy)
            if name == "zarr.json":
                part.write_bytes(root_document(cache.core.root))
            else:
                _copy_table(cache.path, entries[name], part)
            os.replace(part, copy)


def _copy_table(cache: Path, entry: dict[str, Any], part: Path) -> None:
    """A table to `part`. Raises DamagedError if it is not the one that the root names."""
    digest = hashlib.sha256()
    with opened(cache, entry["path"]) as descriptor, part.open("wb") as out:
        while block := os.read(descriptor, _BLOCK):
            digest.update(block)
            out.write(block)
    if digest.hexdigest() != entry["sha256"]:
        raise DamagedError(
            f"{cache / entry['path']}: its SHA-256 is not the one in zarr.json; {REMEDY}"
        )


def _check_room(cache: Cache, target: Path, needed: list[tuple[int, int]]) -> None:
    """Raises StageError if what is still to copy does not fit."""
    missing = 0
    for key in needed:
        copy = target / _name(cache, key)
        if not copy.exists():
            missing += cache.core.store.place(*key)[1].bytes
            with suppress(FileNotFoundError):  # whole by now
                missing -= _part(copy).stat().st_size  # another is at it
    free = shutil.disk_usage(target).free
    if missing > free:
        raise StageError(
            f"{target}: {missing:,} bytes of shards are to be copied, {free:,} are free; select "
            "fewer frames, or stage elsewhere"
        )


def _copy(cache: Cache, key: tuple[int, int], target: Path, wait: bool) -> None:
    """One shard, unless another process has it or, not to `wait` for, is at it."""
    copy = target / _name(cache, key)
    if copy.exists():
        return
    try:
        copy.parent.mkdir(exist_ok=True)
    except OSError as e:
        raise StageError(f"{copy.parent}: {e.strerror}; stage in a folder of your own") from e
    with _locked(copy.with_name(copy.name + ".lock"), wait) as mine:
        if not mine or copy.exists():
            return
        part = _part(copy)
        path, facts = cache.core.store.place(*key)
        with cache.core.store.opened(*key) as descriptor:
            try:
                with os.fdopen(os.dup(descriptor), "rb") as source, part.open("wb") as out:
                    shutil.copyfileobj(source, out, _BLOCK)
                    out.flush()
                    os.fsync(out.fileno())
            except OSError as e:
                part.unlink(missing_ok=True)
                raise StageError(
                    f"{part}: {e.strerror} while {facts.bytes:,} bytes were copied"
                ) from e
        try:
            _check(cache, key, path, part)
        except DamagedError:
            part.unlink()
            raise
        os.replace(part, copy)


def _check(cache: Cache, key: tuple[int, int], path: Path, part: Path) -> None:
    """Hold a copy to the CRC-32C of each of its frames. Raises DamagedError."""
    array, shard = key
    spec, store = cache.arrays[array], cache.core.store
    mine = store.frames(array, shard)
    slots = cache.core.places.row[mine] - shard * spec.frames_per_shard
    crcs = pc.take(Cache(cache.core, None).column("crc32c"), mine).to_pylist()
    size = part.stat().st_size
    with part.open("rb") as file:
        file.seek(max(0, size - index_bytes(spec)))
        index = store.checked(array, shard, size, np.frombuffer(file.read(), np.uint8))
        for sample, slot, crc in zip(mine.tolist(), slots.tolist(), crcs, strict=True):
            offset, length = span_of(path, index, slot)
            file.seek(offset)
            data: Any = file.read(length)
            if spec.codec != "none":
                data = scratch_slot(Chunk(np.frombuffer(data, np.uint8), path, slot), spec)
            if crc32c(data) != crc:
                raise DamagedError(f"{path}: frame {sample} has another CRC-32C; {REMEDY}")
