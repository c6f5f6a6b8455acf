"""Shard file and index to a read-only map, of slots or of chunks, checked at first touch."""

from __future__ import annotations

import math
import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from trainer_adapter.errors import DamagedError
from trainer_adapter.format import system
from trainer_adapter.format.checksum import crc32c
from trainer_adapter.format.files import REMEDY, below, opened, read_into
from trainer_adapter.format.members import Array
from trainer_adapter.format.places import Places, read_places
from trainer_adapter.format.root import Root, other_built, read_root
from trainer_adapter.reading.checks import Checks, Key, Stamp
from trainer_adapter.reading.chunks import MOST_OVERHEAD, Chunk, scratch_slot
from trainer_adapter.reading.mounts import is_remote
from trainer_adapter.reading.ranges import Range, Released, reserve

# A process may have 65,530 maps (vm.max_map_count) and has others too; what lies between two shards
# that are mapped in their range counts as one.
_MOST_MAPS = 16384
_LOOK = 1.0
"""seconds between two looks at the size of a mapped file on a network"""


class Facts(NamedTuple):
    """What shards/ states of one shard."""

    bytes: int
    index_crc32c: int
    frames: int
    slots: int


@dataclass(frozen=True)
class Packed:
    """A shard of compressed frames."""

    path: Path
    data: NDArray[np.uint8]
    """its bytes, a map"""
    index: NDArray[np.int64]
    """(frames_per_shard, 2): offset and length of each slot's chunk; -1: no frame there"""

    def chunk(self, slot: int) -> Chunk:
        """The chunk of a slot. Raises DamagedError if it has none."""
        offset, length = span_of(self.path, self.index, slot)
        return Chunk(self.data[offset : offset + length], self.path, slot)


def span_of(path: Path, index: NDArray[np.int64], slot: int) -> tuple[int, int]:
    """(offset, length) of a slot's bytes in its shard. Raises DamagedError if it has none."""
    offset, length = index[slot].tolist()
    if offset < 0:
        raise DamagedError(f"{path}: has no frame in slot {slot}, and frames/ has one; {REMEDY}")
    return offset, length


class ShardStore:
    """Maps shards when they are first touched; safe in threads and after fork.

    Where it can be, a shard of an uncompressed array is mapped in its place in one range of
    addresses (ranges.py). A map holds no file descriptor, and lives while a view of it does.
    Pickles as its root: another process maps for itself. At first touch a shard's size, index and
    the first frame that is asked for are checked, and as many more as `check` says (checks.py).
    """

    def __init__(self, root: Root, places: Places | None = None, check: str = "never") -> None:
        self.root, self._places = root, places
        self.checks = Checks(root, self._known_places, check)
        self._lock, self._process = threading.Lock(), os.getpid()
        self._maps: OrderedDict[Key, Any] = OrderedDict()
        self._new: dict[Key, Any] = {}
        """maps of which no frame was checked yet"""
        self._ranges: dict[int, Range | None] = {}
        """{array: its addresses, if it has one range of them}"""
        self._together: dict[int, tuple[NDArray[Any], dict[int, NDArray[Any]]]] = {}
        """{array: all of its rows, the slots of shards that were read of them}"""
        self._released: Released = deque()
        self._facts: dict[Key, Facts] | None = None
        self._stamp: tuple[int, ...] | None = None
        # Beyond the end of a file that shrank, a map ends the process (SIGBUS). On a local disk
        # nothing shrinks a published shard; on a network a server that lost bytes may.
        self._looked: dict[Key, float] | None = {} if is_remote(self.root.path) else None
        self._watchful = self._looked is not None or self.checks.how != "never"

    def __reduce__(self) -> tuple[Any, ...]:
        return ShardStore, (self.root, None, self.checks.how)

    def slots(self, array: int, shard: int, slot: int) -> NDArray[Any]:
        """The slots of an uncompressed shard, (slots, H, W[, C]) read-only view of the map.

        For the frame in `slot`, which is checked if that is due. Raises DamagedError, naming the
        file, if it is not what the metadata says.
        """
        found: NDArray[Any] | None = self._maps.get((array, shard))
        return self._touched(array, shard, slot) if found is None or self._watchful else found

    def held(self, array: int, shards: list[int], slots: list[int]) -> dict[int, NDArray[Any]]:
        """{shard: its slots} for the frames in `slots` of `shards`, as `slots` gives them."""
        if not self._watchful:
            found: Any = {shard: self._maps.get((array, shard)) for shard in set(shards)}
            if all(one is not None for one in found.values()):
                return dict(found)
        return {s: self.slots(array, s, k) for s, k in zip(shards, slots, strict=True)}

    def together(
        self, array: int, shards: list[int], slots: list[int]
    ) -> tuple[NDArray[Any] | None, dict[int, NDArray[Any]]]:
        """(all rows of the array, if its shards lie in their places, else None; `held` of these).

        Of the rows only those of shards that are held may be touched.
        """
        known = self._together.get(array)
        if known is not None and not self._watchful and known[1].keys() >= set(shards):
            return known
        held = self.held(array, shards, slots)
        place, slots_in = self._ranges.get(array), self.root.arrays[array].slots
        if place is None or not all(map(place.has, held.values())):
            return None, held
        known = None if self._watchful else self._together.get(array)  # evicted meanwhile?
        if known is None:
            known = place.rows(0, slots_in, held), held
        if not self._watchful:
            known[1].update(held)  # which the rows keep
            self._together[array] = known
        return known

    def packed(self, array: int, shard: int, slot: int) -> Packed:
        """A compressed shard, for the frame in `slot`. Raises DamagedError as `slots` does."""
        found: Packed | None = self._maps.get((array, shard))
        return self._touched(array, shard, slot) if found is None or self._watchful else found

    def mapped(self, array: int, shard: int) -> NDArray[Any] | Packed:
        """The same, without a look at any frame: for whoever wants to know where they lie."""
        found: NDArray[Any] | Packed | None = self._maps.get((array, shard))
        return self._mapped((array, shard)) if found is None else found

    def stretch(self, array: int, first: int, count: int) -> NDArray[Any] | None:
        """Rows `first` to `first + count - 1` of an uncompressed array, checked as frames are.

        Each is to hold a frame. None where they do not lie one behind the other in memory.
        """
        size = self.root.arrays[array].frames_per_shard
        start = first % size
        known = None if self._watchful else self._maps.get((array, first // size))
        if known is not None and start + count <= size:
            within: NDArray[Any] = known[start : start + count]
            return within
        end, held, row = first + count, [], first
        while row < end:
            shard, slot = divmod(row, size)
            held.append(self.slots(array, shard, slot))
            row = (shard + 1) * size if self.checks.how == "never" else row + 1
        if start + count <= size:
            return held[0][start : start + count]
        return self.rows(array, first, count, held)

    def rows(
        self, array: int, first: int, count: int, held: Sequence[NDArray[Any]]
    ) -> NDArray[Any] | None:
        """Rows of an array whose shards lie in their places, (count, H, W[, C]) read-only.

        `held` has the slots of the shards that are to be read, as `slots` gave them: they stay for
        as long as the rows do, and others must not be touched. None where one is elsewhere.
        """
        place = self._ranges.get(array)
        if place is None or not all(map(place.has, held)):
            return None
        return place.rows(first, count, held)

    def _touched(self, array: int, shard: int, slot: int) -> Any:
        key = (array, shard)
        if self._looked is not None:
            self._look(key)
        found = self._mapped(key)
        if self.checks.due(key, slot):  # without the lock: the frame may come from far away
            spec, path = self.root.arrays[array], self.place(array, shard)[0]
            plain = spec.codec == "none"
            pixels = found[slot] if plain else scratch_slot(found.chunk(slot), spec)
            try:
                self.checks.hold(key, slot, pixels, path)
            except DamagedError:
                with self._lock:  # a shard that was mended since is mapped anew
                    self._new.pop(key, None)
                    self._maps.pop(key, None)
                raise
        if key not in self._maps:
            with self._lock:
                self._maps[key] = self._new.pop(key, found)
                while len(self._maps) > _MOST_MAPS:
                    self._together.clear()
                    self._maps.popitem(last=False)  # views that are out keep theirs
                self._release()
        return found

    def _mapped(self, key: Key) -> Any:
        if self._process != os.getpid():  # a fork may have copied a lock that a thread held
            self._lock, self._process = threading.Lock(), os.getpid()
        with self._lock:
            found = self._maps.get(key)
            if found is None:
                found = self._new.get(key)
            if found is None:
                found = self._new[key] = self._map(*key)
            return found

    def _look(self, key: Key) -> None:
        """Look at the file of a map again, once a second: what is new there is mapped anew."""
        assert self._looked is not None
        now = time.monotonic()
        if key not in self._maps or now - self._looked.get(key, -math.inf) < _LOOK:
            return
        self._looked[key] = now
        path, facts = self.place(*key)
        with opened(self.root.path, self.root.arrays[key[0]].shard_name(key[1])) as file:
            status = os.fstat(file)
        if status.st_size != facts.bytes:
            raise _wrong_size(path, status.st_size, facts)
        if self.checks.replaced(key, _stamp_of(status)):
            with self._lock:
                self._maps.pop(key, None)

    def _shard_facts(self) -> dict[Key, Facts]:
        if self._facts is None:
            columns = ["array", "shard", *Facts._fields]
            table = self.root.read("shards", columns)
            rows = zip(*(table[c].to_pylist() for c in columns), strict=True)
            facts = {(r[0], r[1]): Facts(*r[2:]) for r in rows}
            if len(facts) != table.num_rows:
                raise DamagedError(f"{self.root.path / 'shards'}: names a shard twice; {REMEDY}")
            self._facts = facts
        return self._facts

    def frames(self, array: int, shard: int) -> NDArray[np.int64]:
        """Sample indices of the frames of a shard, by slot."""
        size = self.root.arrays[array].frames_per_shard
        return self._known_places().between(array, shard * size, (shard + 1) * size)

    def _known_places(self) -> Places:
        if self._places is None:
            self._places = read_places(self.root)
        return self._places

    def checked(
        self, array: int, shard: int, size: int, tail: NDArray[np.uint8]
    ) -> NDArray[np.int64]:
        """The index of a shard of `size` bytes, out of `tail`, its last ones, as check_shard does.

        Raises DamagedError too if frames/ has a frame where an uncompressed shard has none: what is
        read of one is not looked up in the index again.
        """
        (path, facts), spec = self.place(array, shard), self.root.arrays[array]
        index = check_shard(path, spec, facts, size, tail)
        if spec.codec == "none":
            rows = self._known_places().row[self.frames(array, shard)]
            slots = rows - shard * spec.frames_per_shard
            for slot in slots[index[slots, 0] < 0].tolist():
                span_of(path, index, slot)
        return index

    def place(self, array: int, shard: int) -> tuple[Path, Facts]:
        """The shard's file and what shards/ states of it. Raises DamagedError if nothing."""
        path = below(self.root.path, self.root.arrays[array].shard_name(shard))
        facts = self._shard_facts().get((array, shard))
        if facts is None:
            raise DamagedError(f"{path}: not in shards/; {REMEDY}")
        return path, facts

    def check_current(self) -> None:
        """Raises DamagedError if another cache was built at this path since it was opened.

        Its shards may have the same sizes and indexes, and hold other frames. Of a later numbering
        all shards that are still there are what they were.
        """
        file = self.root.path / "zarr.json"
        try:
            status = os.stat(file)
        except FileNotFoundError:
            raise DamagedError(f"{file}: gone since the cache was opened; open it again") from None
        stamp = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
        if stamp != self._stamp:
            now = read_root(self.root.path)
            if not self.root.is_still(now) and not self.root.goes_on(now):
                raise other_built(self.root.path)
            self._stamp = stamp

    def _map(self, array: int, shard: int) -> NDArray[Any] | Packed:
        self.check_current()
        path, facts = self.place(array, shard)
        spec = self.root.arrays[array]
        if array not in self._ranges:
            self._ranges[array] = reserve(spec)
        place = self._ranges[array]
        self._release()
        with self.opened(array, shard) as file:
            if place is not None:
                tail = np.empty(min(facts.bytes, index_bytes(spec)), np.uint8)
                read_into(file, tail.data, facts.bytes - len(tail), path)
                self.checked(array, shard, facts.bytes, tail)
                stamp = self.checks.stamp((array, shard))
                slots = place.map(file, shard, facts.slots, stamp, self._released)
                if slots is not None:
                    return slots
            try:
                # By its descriptor, since the name may be another file's by now.
                with pa.memory_map(
                    f"/dev/fd/{file}" if system.BY_DESCRIPTOR else str(path)
                ) as source:
                    raw = np.frombuffer(source.read_buffer(), np.uint8)
            except OSError as e:
                raise DamagedError(f"{path}: cannot be mapped: {e}; {REMEDY}") from e
        index = self.checked(array, shard, raw.size, raw[-index_bytes(spec) :])
        if spec.codec != "none":
            return Packed(path, raw, index)
        data = facts.slots * spec.slot_bytes
        return raw[:data].view(spec.dtype).reshape(facts.slots, *spec.slot)

    def _release(self) -> None:
        """Unmap what nobody holds any more."""
        while self._released:
            place, shard, which = self._released.popleft()
            place.release(shard, which)

    @contextmanager
    def opened(self, array: int, shard: int) -> Iterator[int]:
        """A descriptor of a shard of the right size, while the context lasts.

        Raises DamagedError for another size, and for what is no plain file.
        """
        path, facts = self.place(array, shard)
        with ExitStack() as stack:
            try:
                name = self.root.arrays[array].shard_name(shard)
                file = stack.enter_context(opened(self.root.path, name))
            except DamagedError as e:
                raise self.root.why_gone() or e from e
            status = os.fstat(file)
            if status.st_size != facts.bytes:
                raise _wrong_size(path, status.st_size, facts)
            self.checks.open((array, shard), _stamp_of(status))
            yield file


def _stamp_of(status: os.stat_result) -> Stamp:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _wrong_size(path: Path, size: int, facts: Facts) -> DamagedError:
    return DamagedError(f"{path}: {size} bytes, {facts.bytes} expected; {REMEDY}")


def index_bytes(spec: Array) -> int:
    """Size of a shard's index with its checksum: the end of the file."""
    return 16 * spec.frames_per_shard + 4


def check_shard(
    path: Path, spec: Array, facts: Facts, size: int, tail: NDArray[np.uint8]
) -> NDArray[np.int64]:
    """Hold a shard's size and index (`tail`, its last bytes) to what shards/ states.

    The index, (frames_per_shard, 2) offset and length, -1 where there is no frame. Raises
    DamagedError, naming the file.
    """
    data = size - index_bytes(spec)
    plain = spec.codec == "none"
    if size != facts.bytes or data < 0 or (plain and data != facts.slots * spec.slot_bytes):
        raise _wrong_size(path, size, facts)
    raw, stated = tail[:-4].tobytes(), int.from_bytes(tail[-4:].tobytes(), "little")
    if stated != facts.index_crc32c or crc32c(raw) != stated:
        raise DamagedError(f"{path}: the CRC-32C of its index does not match; {REMEDY}")
    index: NDArray[np.int64] = np.frombuffer(raw, "<i8").reshape(-1, 2)
    used = np.flatnonzero(index[:, 0] != -1)
    offset, length = index[used].T
    if plain:
        fits = (offset == used * spec.slot_bytes).all() and (length == spec.slot_bytes).all()
    else:  # one after another, without gaps: so none overlaps, and none is outside
        fits = ((length > 0) & (length <= spec.slot_bytes + MOST_OVERHEAD)).all()
        fits = fits and (offset == np.cumsum(length) - length).all() and length.sum() == data
    if not fits or len(used) != facts.frames:
        raise DamagedError(f"{path}: its index is not that of such a shard; {REMEDY}")
    if len(used) and used[-1] >= facts.slots:
        raise DamagedError(f"{path}: its index points beyond its data; {REMEDY}")
    return index
