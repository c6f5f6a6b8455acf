"""Root metadata to a typed description; refuses what it does not know.

The contract is FORMAT.md of the converter; nothing is shared with it but the files.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from trainer_adapter.errors import CacheError, DamagedError, FormatError, NotACacheError
from trainer_adapter.format.files import NAME, REMEDY, below, opened, read_into
from trainer_adapter.format.keywords import alike
from trainer_adapter.format.parquet import Table
from trainer_adapter.format.types import NEVER_NULL, fitting

VERSION = 1
_ROOT = "zarr.json"
_MOST_ROOT = 256 << 20
"""bytes of zarr.json: a generation adds about 20 KB to it, an array about 2"""
_MOST = 1 << 40
"""slots of an array, pixels on a side, bytes of a slot: beyond it NumPy's integers overflow"""
_CODECS = {"none", "lz4", "zstd"}
_DTYPES = {"uint8", "int16", "uint16", "int32", "float32", "float64"}
_KINDS = ("frames", "failures", "shards")


def other_built(path: Path) -> DamagedError:
    """What is to be raised where the cache at `path` is no longer the one that was opened."""
    return DamagedError(
        f"{path / _ROOT}: another cache was built here since this one was opened; open it again"
    )


def numbered_anew(path: Path, was: int, now: int) -> DamagedError:
    """What is to be raised where files of an earlier numbering are gone."""
    return DamagedError(
        f"{path / _ROOT}: is of numbering {now}, and the cache was opened in numbering {was}: "
        "frames were removed from it or restacked, and the old ones purged; open it again (sample "
        "indices are others)"
    )


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


@dataclass(frozen=True)
class Root:
    """What the root metadata says."""

    path: Path
    arrays: tuple[Array, ...]
    attributes: dict[str, Any]
    """all of it, as in FORMAT.md"""

    def read(self, kind: str, columns: list[str] | None = None) -> pa.Table:
        """Columns of the tables of one kind, all generations; null where one has no such column.

        Raises KeyError if none has it, DamagedError if a table is not the one that the root names,
        or cannot be read.
        """
        tables = self._tables(kind, columns)
        known = dict.fromkeys(name for table in tables for name in table.names)
        unknown = [c for c in columns or [] if c not in known]
        for name in (c for c in NEVER_NULL[kind] if c not in known):
            if columns is None or name in columns:
                raise DamagedError(f"{self.path / kind}: has no column {name}; {REMEDY}")
        if unknown:
            raise KeyError(
                f"{self.path / kind} has no column {', '.join(unknown)}; "
                f"{alike(unknown[0], known)}it has {', '.join(known)}"
            )
        try:
            parts = [table.read() for table in tables]
            whole = pa.concat_tables(parts, promote_options="permissive")
            whole = whole if columns is None else whole.select(columns)
        except pa.ArrowException as e:
            raise DamagedError(f"{self.path / kind}: its tables do not fit: {e}; {REMEDY}") from e
        return fitting(whole, kind, self.path / kind)

    def batches(self, kind: str, columns: list[str]) -> Iterator[pa.Table]:
        """The same, a row group at a time; a column that a generation lacks is left out there."""
        for table in self._tables(kind, columns):
            for batch in table.batches():
                yield fitting(batch, kind, self.path / kind)

    def _tables(self, kind: str, columns: list[str] | None) -> list[Table]:
        try:
            return [Table(self.path, entry, columns) for entry in self.attributes["tables"][kind]]
        except DamagedError as e:
            why = self.why_gone()
            if why is not None:
                raise why from e
            raise

    @property
    def numbering(self) -> int:
        """Which numbering of the cache its sample indices are of, from 0."""
        return int(self.attributes.get("numbering", 0))

    @cached_property
    def origin(self) -> str:
        """What all generations and numberings of a cache have in common."""
        return str(self.attributes.get("origin") or self.first(1).digest)

    def is_still(self, now: Root) -> bool:
        """Whether `now` is this cache, with later generations or not."""
        # A later generation adds tables behind those that are known.
        return now.numbering == self.numbering and now.first(self.generations).digest == self.digest

    def goes_on(self, now: Root) -> bool:
        """Whether `now` is this cache in a later numbering."""
        return now.numbering > self.numbering and now.origin == self.origin

    def why_gone(self) -> DamagedError | None:
        """Why files of this root may be gone: another cache, or a later numbering, is there."""
        try:
            now = read_root(self.path)
        except CacheError:
            return None
        if self.is_still(now):
            return None
        if self.goes_on(now):
            return numbered_anew(self.path, self.numbering, now.numbering)
        return other_built(self.path)

    @cached_property
    def sources(self) -> dict[int, str]:
        """{number: folder} that `root` in frames/ and failures/ names.

        Raises DamagedError if frames/ has a number that is not there.
        """
        folders = {s["root"]: s["path"] for s in self.attributes.get("sources", [])}
        for number in self.read("frames", ["root"])["root"].unique().to_pylist():
            if number not in folders:
                raise DamagedError(
                    f"{self.path / _ROOT}: has no source folder {number}, which frames/ names; "
                    f"{REMEDY}"
                )
        return folders

    def since(self) -> tuple[int, int]:
        """(frames that were added since this root was read, the numbering that the cache has now).

        None were added, by these numbers, if it is another numbering or another cache.
        """
        try:
            now = read_root(self.path)
        except (CacheError, OSError):  # who reads frames says so
            return 0, self.numbering
        if not self.is_still(now):
            return 0, now.numbering if self.goes_on(now) else self.numbering
        added = now.attributes["tables"]["frames"][self.generations :]
        return sum(int(e["rows"]) for e in added), self.numbering

    def first(self, generations: int) -> Root:
        """The cache as it was when it had so many generations: later ones only add to it."""
        if generations >= self.generations:
            return self
        tables = {kind: of[:generations] for kind, of in self.attributes["tables"].items()}
        about = {**self.attributes, "tables": tables}
        if type(newest := about.get("generation")) is int:
            about["generation"] = newest - self.generations + generations
        return replace(self, attributes={**about, "sha256": _sha256(about)})

    @property
    def generations(self) -> int:
        """How many times the cache was added to, and once."""
        return len(self.attributes["tables"]["frames"])

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what says which frames the cache has and where: what was built by itself."""
        tables = self.attributes["tables"]
        text = json.dumps([tables["frames"], tables["shards"]], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def known_root(path: Path, generations: int, digest: str, numbering: int) -> Root:
    """The root as it was when the cache had so many generations in that numbering.

    Raises DamagedError if it is another cache, or what is left of that numbering was purged.
    """
    now = read_root(path)
    if now.numbering > numbering:
        try:
            now = read_root(path, f"numberings/{numbering}.json")
        except CacheError:
            raise numbered_anew(path, numbering, now.numbering) from None
    found = now.first(generations)
    if found.digest != digest:
        raise other_built(path)
    return found


def read_root(path: Path, name: str = _ROOT) -> Root:
    """The root metadata of the cache at `path`; `name`: of the file that has them.

    Raises NotACacheError, FormatError, or DamagedError if it was edited.
    """
    file = path / name
    data = _bytes_of(path, name)
    try:
        about = json.loads(data)["attributes"]["dicom2cache"]
    # RecursionError: brackets within brackets.
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise NotACacheError(f"{file}: not the metadata of a cache of dicom2cache") from e
    if not isinstance(about, dict):
        raise NotACacheError(f"{file}: not the metadata of a cache of dicom2cache")
    version = about.get("format")
    if type(version) is not int or version != VERSION:
        raise FormatError(
            f"{file}: format {version!r}, this reader knows {VERSION}; install a newer "
            "trainer_adapter"
        )
    try:
        digest = _sha256(about)
    except (ValueError, RecursionError) as e:
        raise DamagedError(f"{file}: not what FORMAT.md says ({e}); {REMEDY}") from e
    if digest != about.get("sha256"):
        raise DamagedError(f"{file}: its SHA-256 does not match, it was edited; {REMEDY}")
    return Root(path, _Checked(file, about).arrays(), about)


def _bytes_of(path: Path, name: str) -> bytes:
    """The bytes of a root. Raises NotACacheError if there is none, DamagedError as `opened`."""
    file = path / name
    try:
        os.lstat(file)
    except (FileNotFoundError, NotADirectoryError):
        if (path / "build").is_dir():
            raise NotACacheError(
                f"{path}: not finished yet; run `dicom2cache build` again, or "
                "`dicom2cache convert` and `dicom2cache commit`"
            ) from None
        raise NotACacheError(f"{path}: no cache here; make one with `dicom2cache build`") from None
    except OSError as e:
        raise NotACacheError(f"{file}: cannot be seen: {e.strerror}") from e
    with opened(path, name) as descriptor:
        size = os.fstat(descriptor).st_size
        if size > _MOST_ROOT:
            raise DamagedError(f"{file}: {size} bytes, more than metadata can have; {REMEDY}")
        data = bytearray(size)
        read_into(descriptor, memoryview(data), 0, file)
    return bytes(data)


def _sha256(about: dict[str, Any]) -> str:
    """The digest that the root's attributes are to have (FORMAT.md)."""
    plain = {k: v for k, v in about.items() if k != "sha256"}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def root_document(root: Root) -> bytes:
    """The zarr.json of a cache that has no arrays of its own beside it, but for this reader."""
    about = {"dicom2cache": root.attributes}
    return json.dumps({"zarr_format": 3, "node_type": "group", "attributes": about}).encode()


class _Checked:
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
        return found

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
