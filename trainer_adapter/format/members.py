"""Members of the root metadata that are used: of the types and ranges that FORMAT.md says."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from trainer_adapter.errors import DamagedError, FormatError
from trainer_adapter.format.files import NAME, REMEDY, below

_MOST = 1 << 40
"""slots of an array, pixels on a side, bytes of a slot: beyond it NumPy's integers overflow"""
_CODECS = {"none", "lz4", "zstd"}
_DTYPES = {"uint8", "int16", "uint16", "int32", "float32", "float64"}
_KINDS = ("frames", "failures", "shards")
CONTOURS = "contours"
"""the kind of tables that a cache need not have, and not in each generation"""


@dataclass(frozen=True)
class Array:
    """One Zarr array: all frames of one dtype and slot shape."""

    name: str
    """its folder"""
    dtype: np.dtype[Any]
    slot: tuple[int, ...]
    """(H, W) or (H, W, C)"""
    slots: int
    """length of its first axis"""
    frames_per_shard: int
    codec: str
    """`none`, `lz4` or `zstd`"""

    @cached_property
    def slot_bytes(self) -> int:
        """Size of a slot in bytes."""
        return math.prod(self.slot) * self.dtype.itemsize

    def shard_name(self, shard: int) -> str:
        """Path of a shard below the cache."""
        return f"{self.name}/c.{shard}" + ".0" * len(self.slot)


class Checked:
    """Members of the root that are what FORMAT.md says, as far as this package looks at them.

    A matching digest only says that nothing was damaged since somebody wrote it.
    """

    def __init__(self, file: Path, about: dict[str, Any]) -> None:
        self._file = file
        self._about = about

    def arrays(self) -> tuple[Array, ...]:
        """The arrays, once all else is seen to be right. Raises FormatError, DamagedError."""
        about = self._about
        for kind, entries in self._tables().items():
            for k, entry in enumerate(entries):
                self._entry(entry, f"tables.{kind}[{k}]")
        for k, source in enumerate(self._list(about.get("sources", []), "sources")):
            where = f"sources[{k}]"
            self._object(source, where)
            self._number(source.get("root"), 0, 1 << 15, f"{where}.root")
            self._path(source.get("path"), f"{where}.path")
        for name in ("software", "recipe"):
            self._object(about.get(name, {}), name)
        self._number(about.get("numbering", 0), 0, 1 << 30, "numbering")
        self._text(about.get("origin", ""), "origin")
        listed = self._list(about.get("arrays"), "arrays")
        arrays = tuple(self._array(a, f"arrays[{k}]") for k, a in enumerate(listed))
        if len({a.name for a in arrays}) < len(arrays):
            raise self._damaged("arrays", [a.name for a in arrays][:5], "names that differ")
        return arrays

    def _tables(self) -> dict[str, Any]:
        tables = self._object(self._about.get("tables"), "tables")
        found = {kind: self._list(tables.get(kind), f"tables.{kind}") for kind in _KINDS}
        counts = {kind: len(of) for kind, of in found.items()}
        if len(set(counts.values())) > 1 or not counts["frames"]:
            raise self._damaged("tables", counts, "as many of each kind, from 1")
        drawn = self._list(tables.get(CONTOURS, []), f"tables.{CONTOURS}")
        return {**found, CONTOURS: drawn}

    def _entry(self, entry: Any, where: str) -> None:
        self._object(entry, where)
        below(self._file.parent, entry.get("path"))
        self._number(entry.get("bytes"), 0, 1 << 62, f"{where}.bytes")
        self._number(entry.get("rows", 0), 0, _MOST, f"{where}.rows")
        self._text(entry.get("sha256"), f"{where}.sha256")
        if "columns" in entry:
            self._text(entry.get("footer"), f"{where}.footer")
            for name, digest in self._object(entry["columns"], f"{where}.columns").items():
                self._text(digest, f"{where}.columns.{name}")

    def _array(self, about: Any, where: str) -> Array:
        self._object(about, where)
        name, kind, codec = (self._text(about.get(k), f"{where}.{k}") for k in _OF_ARRAY)
        slot = tuple(
            self._number(n, 1, _MOST, f"{where}.slot")
            for n in self._list(about.get("slot"), f"{where}.slot")
        )
        slots, per_shard = (
            self._number(about.get(k), 1, _MOST, f"{where}.{k}")
            for k in ("slots", "frames_per_shard")
        )
        if kind not in _DTYPES or len(slot) not in (2, 3) or codec not in _CODECS:
            raise FormatError(
                f"{self._file}: array {name} has dtype {kind}, slot {slot}, codec {codec}, which "
                "this reader does not know; install a newer trainer_adapter"
            )
        array = Array(name, np.dtype(kind).newbyteorder("<"), slot, slots, per_shard, codec)
        most = _MOST if codec == "none" else (1 << 31) - 1  # what Blosc can hold
        if not NAME.fullmatch(name) or array.slot_bytes > most:
            raise self._damaged(where, f"{name!r} of {slot} {kind}", "an array of a cache")
        return array

    def _damaged(self, where: str, value: object, legal: str) -> DamagedError:
        shown = repr(value)
        shown = shown if len(shown) <= 100 else f"{shown[:100]}..."
        return DamagedError(f"{self._file}: {where} is {shown}; legal: {legal}; {REMEDY}")

    def _object(self, value: Any, where: str) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        raise self._damaged(where, value, "an object")

    def _list(self, value: Any, where: str) -> list[Any]:
        if isinstance(value, list):
            return value
        raise self._damaged(where, value, "a list")

    def _text(self, value: Any, where: str) -> str:
        if isinstance(value, str):
            return value
        raise self._damaged(where, value, "text")

    def _path(self, value: Any, where: str) -> None:
        try:
            legal = b"\0" not in os.fsencode(self._text(value, where))
        except UnicodeEncodeError:
            legal = False
        if not legal:
            raise self._damaged(where, value, "a path")

    def _number(self, value: Any, low: int, high: int, where: str) -> int:
        if type(value) is int and low <= value <= high:  # True is an int, too
            return value
        raise self._damaged(where, value, f"a whole number from {low} to {high}")


_OF_ARRAY = ("name", "dtype", "codec")
