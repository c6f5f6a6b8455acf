"""Shard file and index to a read-only map, checked at first touch."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from trainer_adapter.errors import DamagedError
from trainer_adapter.format import REMEDY, Array, Root

_MISSING = (1 << 64) - 1
# A process may have 65,530 maps (vm.max_map_count) and has others too.
_MOST_MAPS = 16384


class Facts(NamedTuple):
    """What shards/ states of one shard."""

    bytes: int
    index_crc32c: int
    frames: int
    slots: int


class ShardStore:
    """Maps shards when they are first touched; safe in threads and after fork.

    A map holds no file descriptor: pyarrow closes it, and the mapping lives while a view does.
    Pickles as its path: another process maps for itself.
    """

    def __init__(self, root: Root) -> None:
        self.root = root
        self._fresh()

    def _fresh(self) -> None:
        self._lock, self._process = threading.Lock(), os.getpid()
        self._maps: OrderedDict[tuple[int, int], NDArray[Any]] = OrderedDict()
        self._facts: dict[tuple[int, int], Facts] | None = None

    def __getstate__(self) -> Root:
        return self.root

    def __setstate__(self, root: Root) -> None:
        self.root = root
        self._fresh()

    def slots(self, array: int, shard: int) -> NDArray[Any]:
        """The shard's slots, (slots, H, W[, C]) read-only view of the map.

        Raises DamagedError, naming the file, if it is not what the metadata says.
        """
        key = (array, shard)
        found = self._maps.get(key)
        if found is not None:
            return found
        if self._process != os.getpid():  # a fork may have copied a lock that a thread held
            self._lock, self._process = threading.Lock(), os.getpid()
        with self._lock:
            if key not in self._maps:
                self._maps[key] = self._map(array, shard)
                while len(self._maps) > _MOST_MAPS:
                    self._maps.popitem(last=False)  # views that are out keep theirs
            return self._maps[key]

    def _shard_facts(self) -> dict[tuple[int, int], Facts]:
        if self._facts is None:
            table = self.root.read("shards")
            columns = ("array", "shard", *Facts._fields)
            rows = zip(*(table[c].to_pylist() for c in columns), strict=True)
            self._facts = {(r[0], r[1]): Facts(*r[2:]) for r in rows}
        return self._facts

    def place(self, array: int, shard: int) -> tuple[Path, Facts]:
        """The shard's file and what shards/ states of it. Raises DamagedError if nothing."""
        path = self.root.path / self.root.arrays[array].shard_name(shard)
        facts = self._shard_facts().get((array, shard))
        if facts is None:
            raise DamagedError(f"{path}: not in shards/; {REMEDY}")
        return path, facts

    def _map(self, array: int, shard: int) -> NDArray[Any]:
        path, facts = self.place(array, shard)
        try:
            with pa.memory_map(str(path)) as file:
                buffer = file.read_buffer()
        except FileNotFoundError:
            raise DamagedError(f"{path}: missing; {REMEDY}") from None
        spec, raw = self.root.arrays[array], np.frombuffer(buffer, np.uint8)
        data = facts.slots * spec.slot_bytes
        check_shard(path, spec, facts, raw.size, raw[data:])
        return raw[:data].view(spec.dtype).reshape(facts.slots, *spec.slot)


def check_shard(path: Path, spec: Array, facts: Facts, size: int, tail: NDArray[np.uint8]) -> None:
    """Hold a shard's size and index (`tail`, what follows its slots) to what shards/ states.

    Raises DamagedError, naming the file.
    """
    data, per_shard = facts.slots * spec.slot_bytes, spec.frames_per_shard
    if size != facts.bytes or size != data + 16 * per_shard + 4:
        raise DamagedError(f"{path}: {size} bytes, {facts.bytes} expected; {REMEDY}")
    index, stated = tail[:-4], int.from_bytes(tail[-4:].tobytes(), "little")
    if stated != facts.index_crc32c or google_crc32c.value(index.tobytes()) != stated:
        raise DamagedError(f"{path}: the CRC-32C of its index does not match; {REMEDY}")
    entries = np.frombuffer(index.tobytes(), "<u8").reshape(-1, 2)
    used = entries[:, 0] != _MISSING
    place = np.flatnonzero(used)
    dense = (entries[used, 0] == place * spec.slot_bytes).all()
    if not dense or (entries[used, 1] != spec.slot_bytes).any() or len(place) != facts.frames:
        raise DamagedError(f"{path}: its index is not that of an uncompressed shard; {REMEDY}")
    if len(place) and place[-1] >= facts.slots:
        raise DamagedError(f"{path}: its index points beyond its data; {REMEDY}")
