"""Shards: their size, their index, and every byte of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from dicom2cache.records import ArraySpec
from dicom2cache.running.verify.findings import (
    Finding,
    Kind,
    damaged_slots,
    in_place_of,
    of_error,
)
from dicom2cache.running.verify.tables import Ints, Said
from dicom2cache.store import names
from dicom2cache.store.compression import CHUNK_HEADER, unpack
from dicom2cache.store.layout import MISSING, shard_path
from dicom2cache.store.shards import crc32c, extended, filled_gap, read_index

_BLOCK = 1 << 22


def of_array(
    cache: Path, number: int, spec: ArraySpec, said: Said, quick: bool
) -> Iterator[Finding]:
    """What is wrong with the shards of an array, in order."""
    mine = np.flatnonzero(said.array == number)
    mine = mine[np.argsort(said.row[mine], kind="stable")]  # what was moved lies behind the rest
    rows = said.row[mine]
    for k in np.flatnonzero(said.shards["array"] == number).tolist():
        about = {name: int(column[k]) for name, column in said.shards.items()}
        start = about["shard"] * spec.frames_per_shard
        part = slice(*np.searchsorted(rows, [start, start + spec.frames_per_shard]))
        found = _Shard(cache, number, spec, about, rows[part] - start, mine[part], said)
        if (finding := found.check(quick)) is not None:
            yield finding


class _Shard:
    """A shard file, and what the tables say of it."""

    def __init__(
        self, cache: Path, number: int, spec: ArraySpec, about: dict[str, int], slots: Ints,
        frames: Ints, said: Said,
    ) -> None:  # fmt: skip
        self.cache, self.number, self.spec, self.about = cache, number, spec, about
        self.slots, self.frames, self.said = slots, frames, said
        self.name = shard_path(spec, about["shard"])

    def check(self, quick: bool) -> Finding | None:
        """What is wrong with it: all that is lost in one finding."""
        if (found := in_place_of(self.cache, self.name)) is not None:
            return self._lost(found.what, found.kind)
        try:
            with names.open_below(self.cache, self.name, "shards/") as file:
                what = self._unlike(file)
                if what is None and not quick:
                    return self._damaged(file)
        except OSError as e:
            found = of_error(self.cache, self.name, "shard", e)
            return self._lost(found.what, found.kind, found.remedy)
        return None if what is None else self._lost(what)

    def _lost(self, what: str, kind: Kind = "shard", remedy: str = "") -> Finding:
        return self._finding(what, kind, np.arange(len(self.slots)), remedy)

    def _finding(
        self, what: str, kind: Kind, which: Sequence[int] | Ints, remedy: str = ""
    ) -> Finding:
        slots = tuple(self.slots[which].tolist())
        frames = self.said.sources(self.frames[which])
        shard = self.about["shard"]
        return Finding(
            self.cache, self.name, kind, what, self.number, shard, slots, frames, remedy
        )  # fmt: skip

    def _unlike(self, file: BinaryIO) -> str | None:
        """What its size or index are that they should not be."""
        size = os.fstat(file.fileno()).st_size
        if size != self.about["bytes"]:
            return f"{size} bytes, {self.about['bytes']} expected"
        try:
            index, self.data_bytes, whole = read_index(file, self.spec)
        except ValueError as e:
            return str(e)
        if not whole or crc32c(index.tobytes()) != self.about["index_crc32c"]:
            return "the CRC-32C of its index does not match"
        self.index = index
        fits = len(self.slots) == self.about["frames"] and self._is_index(index)
        return None if fits else "its index does not match frames/"

    def _is_index(self, index: NDArray[np.uint64]) -> bool:
        """Whether the index has these frames and no other, as FORMAT.md says."""
        spec, slots = self.spec, self.slots
        expected = np.full_like(index, MISSING)
        if spec.codec == "none":
            expected[slots, 0], expected[slots, 1] = slots * spec.slot_bytes, spec.slot_bytes
            end = self.about["slots"] * spec.slot_bytes
        else:  # one after another, without gaps
            lengths = np.minimum(index[slots, 1], spec.slot_bytes + CHUNK_HEADER)
            ends = np.cumsum(lengths)
            expected[slots, 0], expected[slots, 1] = ends - lengths, lengths
            end = int(ends[-1]) if len(ends) else 0
        return end == self.data_bytes and bool((index == expected).all())

    def _damaged(self, file: BinaryIO) -> Finding | None:
        """What of its bytes is not what was written."""
        reasons, whole = {}, 0
        for k, slot in enumerate(self.slots.tolist()):
            offset, length = self.index[slot].tolist()
            check = int(self.said.crc32c[self.frames[k]])
            file.seek(offset)
            if self.spec.codec == "none":
                seen = _crc32c_of(file, length)
            else:
                chunk = file.read(length)
                whole = extended(whole, chunk)
                try:
                    seen = crc32c(unpack(chunk, self.spec))
                except ValueError as e:
                    reasons[k] = str(e)
                    continue
            if seen != check:
                reasons[k] = "CRC-32C"
        if reasons:
            told = {int(self.slots[k]): why for k, why in reasons.items()}
            return self._finding(damaged_slots(told), "slots", list(reasons))
        what = self._between(file) if self.spec.codec == "none" else self._other_chunks(whole)
        return None if what is None else self._finding(what, "shard", [])

    def _between(self, file: BinaryIO) -> str | None:
        """What slots without a frame hold, where that is not zero."""
        slot = filled_gap(file.fileno(), self.spec, self.about["slots"], self.slots)
        if slot is None:
            return None
        return f"slot {slot} holds no frame, and not only zeros; no frame is lost"

    def _other_chunks(self, seen: int) -> str | None:
        check = self.about.get("chunks_crc32c", -1)  # not in older caches
        if check in (-1, seen):
            return None
        return "its chunks are not those that were written (CRC-32C); no frame is lost yet"


def _crc32c_of(file: BinaryIO, length: int) -> int:
    """CRC-32C of the next `length` bytes, in blocks: a slot may be larger than memory."""
    crc = 0
    while length > 0 and (block := file.read(min(length, _BLOCK))):
        crc = extended(crc, block)
        length -= len(block)
    return crc
