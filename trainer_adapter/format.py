"""Root metadata and frames table to a typed description; refuses what it does not know.

The contract is FORMAT.md of the converter; nothing is shared with it but the files.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from trainer_adapter.errors import DamagedError, FormatError, NotACacheError

VERSION = 1
REMEDY = "run `dicom2cache verify` on it, then copy the cache again or build it again"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")
"""of a file or folder: no separator, no dot first"""
_MOST = 1 << 40
"""slots of an array, or pixels on a side: beyond it NumPy's integers overflow"""
_CODECS = {"none", "lz4", "zstd"}
_DTYPES = {"uint8", "int16", "uint16", "int32", "float32", "float64"}


def other_built(path: Path) -> DamagedError:
    """What is to be raised where the cache at `path` is no longer the one that was opened."""
    return DamagedError(
        f"{path / 'zarr.json'}: another cache was built here since this one was opened; open it "
        "again"
    )


def below(cache: Path, path: object) -> Path:
    """The file of a cache that its metadata name by `path`, such as frames/0.parquet.

    Raises DamagedError if that could lead out of the cache (a separator too many, a dot first, a
    link on the way), or is a folder, a pipe or the like: opening one could wait for ever.
    """
    parts = path.split("/") if isinstance(path, str) else [path]
    found = cache
    for k, part in enumerate(parts):
        if not isinstance(part, str) or not _NAME.fullmatch(part):
            raise DamagedError(
                f"{cache}: its metadata name {path!r}, which is no file of a cache; {REMEDY}"
            )
        found = found / part
        try:
            mode = os.lstat(found).st_mode
        except OSError:
            continue  # whoever opens it says so
        if not (stat.S_ISREG(mode) if k == len(parts) - 1 else stat.S_ISDIR(mode)):
            raise DamagedError(
                f"{found}: not a plain {'file' if k == len(parts) - 1 else 'folder'}, but a link, "
                f"or something else; {REMEDY}"
            )
    return found


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
        return int(np.prod(self.slot, dtype=np.int64)) * self.dtype.itemsize

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

    def tables(self, kind: str) -> list[Path]:
        """The Parquet files of one kind, all generations in order.

        Raises DamagedError if one is missing or has another size than it should.
        """
        paths = []
        for entry in self.attributes["tables"][kind]:
            path = below(self.path, entry["path"])
            try:
                size = path.stat().st_size
            except FileNotFoundError:
                raise DamagedError(f"{path}: missing; {REMEDY}") from None
            if size != entry["bytes"]:
                raise DamagedError(f"{path}: {size} bytes, {entry['bytes']} expected; {REMEDY}")
            paths.append(path)
        return paths

    def read(self, kind: str, columns: list[str] | None = None) -> pa.Table:
        """Columns of the tables of one kind, all generations; null where one has no such column.

        Raises KeyError if none has it, DamagedError if a table cannot be read.
        """
        parts, known = [], dict[str, None]()
        for path in self.tables(kind):
            try:
                with pq.ParquetFile(path) as file:
                    here = file.schema_arrow.names
                    wanted = None if columns is None else [c for c in columns if c in here]
                    parts.append(_undictionaried(file.read(columns=wanted, use_threads=True)))
            except (pa.ArrowInvalid, OSError) as e:
                raise DamagedError(f"{path}: cannot be read: {e}; {REMEDY}") from e
            known |= dict.fromkeys(here)
        unknown = [c for c in columns or [] if c not in known]
        if unknown:
            raise KeyError(
                f"{self.path / kind} has no column {', '.join(unknown)}; it has {', '.join(known)}"
            )
        try:
            whole = pa.concat_tables(parts, promote_options="permissive")
        except pa.ArrowTypeError as e:
            raise DamagedError(f"{self.path / kind}: its tables do not fit: {e}; {REMEDY}") from e
        return whole if columns is None else whole.select(columns)

    def first(self, generations: int) -> Root:
        """The cache as it was when it had so many generations: later ones only add to it."""
        if generations >= self.generations:
            return self
        tables = {kind: of[:generations] for kind, of in self.attributes["tables"].items()}
        about = {**self.attributes, "tables": tables}
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


def _undictionaried(table: pa.Table) -> pa.Table:
    """Text as text: a writer may encode it by dictionaries, another one for each generation."""
    for k, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            kind = field.type.value_type
            table = table.set_column(k, pa.field(field.name, kind), table[k].cast(kind))
    return table


def read_twins(root: Root) -> pa.Table:
    """Files that are not stored since others are the same: root, path, same_root, same_path.

    Empty for caches that do not say which others.
    """
    columns = ["root", "path", "same_root", "same_path"]
    try:
        table = root.read("failures", [*columns, "outcome"])
    except KeyError:
        table = root.read("failures", ["root", "path"]).slice(0, 0)
        for name, other in (("same_root", "root"), ("same_path", "path")):
            table = table.append_column(name, table[other])
        return table
    held = pc.and_(pc.equal(table["outcome"], "duplicate"), pc.is_valid(table["same_path"]))
    return table.filter(held).select(columns)


@dataclass(frozen=True)
class Places:
    """Where each frame lies, n frames, (n,) each: what a reader needs before the first access."""

    array: NDArray[np.int16]
    row: NDArray[np.int64]
    height: NDArray[np.int32]
    width: NDArray[np.int32]

    order: NDArray[np.int64] | None
    """(n,) sample indices by array and row; None where samples lie so, as of one generation"""
    ends: NDArray[np.int64]
    """(arrays + 1,) where each array begins in that order, and the end"""

    @cached_property
    def _rows(self) -> NDArray[np.int64]:
        return self.row if self.order is None else self.row[self.order]

    def of_array(self, array: int) -> slice | NDArray[np.int64]:
        """The samples of an array, by row."""
        mine = slice(int(self.ends[array]), int(self.ends[array + 1]))
        return mine if self.order is None else self.order[mine]

    def between(self, array: int, first: int, last: int) -> NDArray[np.int64]:
        """Sample indices of the frames in rows `first` to `last` - 1 of an array, by row."""
        start, stop = self.ends[array : array + 2]
        low, high = np.searchsorted(self._rows[start:stop], [first, last])
        mine = np.arange(start + low, start + high)
        return mine if self.order is None else self.order[mine]


def read_root(path: Path) -> Root:
    """The root metadata of the cache at `path`.

    Raises NotACacheError, FormatError, or DamagedError if it was edited.
    """
    file = path / "zarr.json"
    try:
        document = json.loads(file.read_bytes())
        about = document["attributes"]["dicom2cache"]
    except (FileNotFoundError, NotADirectoryError):
        if (path / "build").is_dir():
            raise NotACacheError(
                f"{path}: not finished yet; run `dicom2cache build` again, or "
                "`dicom2cache convert` and `dicom2cache commit`"
            ) from None
        raise NotACacheError(f"{path}: no cache here; make one with `dicom2cache build`") from None
    except (ValueError, KeyError, TypeError) as e:
        raise NotACacheError(f"{file}: not the metadata of a cache of dicom2cache") from e
    if not isinstance(about, dict):
        raise NotACacheError(f"{file}: not the metadata of a cache of dicom2cache")
    version = about.get("format")
    if version != VERSION:
        raise FormatError(
            f"{file}: format {version!r}, this reader knows {VERSION}; install a newer "
            "trainer_adapter"
        )
    if _sha256(about) != about.get("sha256"):
        raise DamagedError(f"{file}: its SHA-256 does not match, it was edited; {REMEDY}")
    try:
        arrays = tuple(_array(file, a) for a in about["arrays"])
        for kind in ("frames", "failures", "shards"):
            for entry in about["tables"][kind]:
                below(path, entry["path"])
                if not isinstance(entry["bytes"], int):
                    raise TypeError("bytes")
    except (FormatError, DamagedError):
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as e:
        why = f"{type(e).__name__}: {e}"
        raise DamagedError(f"{file}: not what FORMAT.md says ({why}); {REMEDY}") from e
    return Root(path, arrays, about)


def _sha256(about: dict[str, Any]) -> str:
    """The digest that the root's attributes are to have (FORMAT.md)."""
    plain = {k: v for k, v in about.items() if k != "sha256"}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def root_document(root: Root) -> bytes:
    """The zarr.json of a cache that has no arrays of its own beside it, but for this reader."""
    about = {"dicom2cache": root.attributes}
    return json.dumps({"zarr_format": 3, "node_type": "group", "attributes": about}).encode()


def _array(file: Path, about: dict[str, Any]) -> Array:
    slot = tuple(int(n) for n in about["slot"])
    codec = about["codec"]
    if about["dtype"] not in _DTYPES or len(slot) not in (2, 3) or codec not in _CODECS:
        raise FormatError(
            f"{file}: array {about['name']} has dtype {about['dtype']}, slot {slot}, codec "
            f"{codec}, which this reader does not know; install a newer trainer_adapter"
        )
    dtype = np.dtype(about["dtype"]).newbyteorder("<")
    numbers = (*slot, about["slots"], about["frames_per_shard"])
    if not _NAME.fullmatch(about["name"]) or not all(0 < n <= _MOST for n in numbers):
        raise DamagedError(
            f"{file}: array {about['name']!r} of {about['slots']} slots {slot} in shards of "
            f"{about['frames_per_shard']} is none of a cache; {REMEDY}"
        )
    return Array(about["name"], dtype, slot, int(numbers[-2]), int(numbers[-1]), codec)


def read_places(root: Root) -> Places:
    """Array, row and size of every frame, checked against the arrays.

    Raises DamagedError if a row is out of bounds, or within its array out of order, or a frame
    exceeds its slot.
    """
    names = ["array", "row", "height", "width"]
    table = root.read("frames", names)
    where = root.path / "frames"
    if any(table[name].null_count for name in names):
        raise DamagedError(f"{where}: {', '.join(names)} must not be null; {REMEDY}")
    array, row, height, width = (table[name].to_numpy() for name in names)
    if len(array) and not 0 <= array.min() <= array.max() < len(root.arrays):
        raise DamagedError(f"{where}: names an array that is not in zarr.json; {REMEDY}")
    # A later generation begins with the first array again.
    order = None if (array[1:] >= array[:-1]).all() else np.argsort(array, kind="stable")
    ends = np.cumsum([0, *np.bincount(array, minlength=len(root.arrays))])
    places = Places(array, row, height, width, order, ends)
    for number, spec in enumerate(root.arrays):
        mine = places.of_array(number)
        row, height, width = (c[mine] for c in (places.row, places.height, places.width))
        if not len(row):
            continue
        if (np.diff(row) <= 0).any():
            raise DamagedError(f"{where}: rows are not in order; {REMEDY}")
        if row[0] < 0 or row[-1] >= spec.slots:
            raise DamagedError(f"{where}: a row is outside of {spec.name}; {REMEDY}")
        too_large = height.max() > spec.slot[0] or width.max() > spec.slot[1]
        if too_large or min(height.min(), width.min()) < 1:
            raise DamagedError(f"{where}: a frame does not fit the slots of {spec.name}; {REMEDY}")
    return places
