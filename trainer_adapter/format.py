"""Root metadata and frames table to a typed description; refuses what it does not know.

The contract is FORMAT.md of the converter; nothing is shared with it but the files.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from trainer_adapter.errors import DamagedError, FormatError, NotACacheError

VERSION = 1
REMEDY = "run `dicom2cache verify` on it, then copy the cache again or build it again"
_CODECS = {"none", "lz4", "zstd"}
_DTYPES = {"uint8", "int16", "uint16", "int32", "float32", "float64"}


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
            path = self.path / entry["path"]
            try:
                size = path.stat().st_size
            except FileNotFoundError:
                raise DamagedError(f"{path}: missing; {REMEDY}") from None
            if size != entry["bytes"]:
                raise DamagedError(f"{path}: {size} bytes, {entry['bytes']} expected; {REMEDY}")
            paths.append(path)
        return paths

    def read(self, kind: str, columns: list[str] | None = None) -> pa.Table:
        """Columns of the tables of one kind, concatenated."""
        parts = []
        for path in self.tables(kind):
            try:
                with pq.ParquetFile(path) as file:
                    known = file.schema_arrow.names
                    unknown = [c for c in columns or [] if c not in known]
                    if unknown:
                        raise KeyError(
                            f"{path} has no column {', '.join(unknown)}; it has {', '.join(known)}"
                        )
                    parts.append(file.read(columns=columns, use_threads=True))
            except (pa.ArrowInvalid, OSError) as e:
                raise DamagedError(f"{path}: cannot be read: {e}; {REMEDY}") from e
        return pa.concat_tables(parts)


@dataclass(frozen=True)
class Places:
    """Where each frame lies, n frames: what a reader needs before the first access."""

    array: NDArray[np.int16]
    row: NDArray[np.int64]
    height: NDArray[np.int32]
    width: NDArray[np.int32]


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
    version = about.get("format")
    if version != VERSION:
        raise FormatError(
            f"{file}: format {version!r}, this reader knows {VERSION}; install a newer "
            "trainer_adapter"
        )
    plain = {k: v for k, v in about.items() if k != "sha256"}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    if hashlib.sha256(text.encode()).hexdigest() != about.get("sha256"):
        raise DamagedError(f"{file}: its SHA-256 does not match, it was edited; {REMEDY}")
    return Root(path, tuple(_array(file, a) for a in about["arrays"]), about)


def _array(file: Path, about: dict[str, Any]) -> Array:
    slot = tuple(int(n) for n in about["slot"])
    codec = about["codec"]
    if about["dtype"] not in _DTYPES or len(slot) not in (2, 3) or codec not in _CODECS:
        raise FormatError(
            f"{file}: array {about['name']} has dtype {about['dtype']}, slot {slot}, codec "
            f"{codec}, which this reader does not know; install a newer trainer_adapter"
        )
    dtype = np.dtype(about["dtype"]).newbyteorder("<")
    return Array(about["name"], dtype, slot, about["slots"], about["frames_per_shard"], codec)


def read_places(root: Root) -> Places:
    """Array, row and size of every frame, checked against the arrays.

    Raises DamagedError if a row is out of bounds or out of order, or a frame exceeds its slot.
    """
    table = root.read("frames", ["array", "row", "height", "width"])
    places = Places(*(table[name].to_numpy() for name in table.column_names))
    where = root.path / "frames"
    array, row = places.array, places.row
    if len(array) and not 0 <= array.min() <= array.max() < len(root.arrays):
        raise DamagedError(f"{where}: names an array that is not in zarr.json; {REMEDY}")
    step, same = np.diff(row), array[1:] == array[:-1]
    if (step[same] <= 0).any() or (array[1:] < array[:-1]).any():
        raise DamagedError(f"{where}: rows are not in order; {REMEDY}")
    for number, spec in enumerate(root.arrays):
        first, last = np.searchsorted(array, [number, number + 1])
        if first == last:
            continue
        mine = slice(first, last)
        if row[first] < 0 or row[last - 1] >= spec.slots:
            raise DamagedError(f"{where}: a row is outside of {spec.name}; {REMEDY}")
        height, width = places.height[mine], places.width[mine]
        too_large = height.max() > spec.slot[0] or width.max() > spec.slot[1]
        if too_large or min(height.min(), width.min()) < 1:
            raise DamagedError(f"{where}: a frame does not fit the slots of {spec.name}; {REMEDY}")
    return places
