"""Root metadata to a typed description; refuses what it does not know.

The contract is FORMAT.md of the converter; nothing is shared with it but the files.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from trainer_adapter.errors import CacheError, DamagedError, FormatError, NotACacheError
from trainer_adapter.format.files import REMEDY, opened, read_into
from trainer_adapter.format.keywords import alike
from trainer_adapter.format.members import CONTOURS, Array, Checked
from trainer_adapter.format.parquet import Table
from trainer_adapter.format.types import NEVER_NULL, fitting

VERSION = 1
_ROOT = "zarr.json"
_MOST_ROOT = 256 << 20
"""bytes of zarr.json: a generation adds about 20 KB to it, an array about 2"""


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
        found = fitting(whole, kind, self.path / kind)
        del parts, whole
        # What decoding took: of a million frames dozens of MiB, which Arrow would keep for later.
        pa.default_memory_pool().release_unused()
        return found

    def batches(self, kind: str, columns: list[str]) -> Iterator[pa.Table]:
        """The same, a row group at a time; a column that a generation lacks is left out there."""
        for table in self._tables(kind, columns):
            for batch in table.batches():
                yield fitting(batch, kind, self.path / kind)

    def _tables(self, kind: str, columns: list[str] | None) -> list[Table]:
        try:
            entries = self.attributes["tables"].get(kind, ())  # of contours there may be none
            return [Table(self.path, entry, columns) for entry in entries]
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

    def contours(self, columns: list[str] | None) -> pa.Table | None:
        """contours/; None if there are none. Raises as `read`."""
        return self.read(CONTOURS, columns) if self.attributes["tables"].get(CONTOURS) else None

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
        if CONTOURS in tables:  # only some generations have any
            names = {entry["path"].rpartition("/")[2] for entry in tables["frames"]}
            every = self.attributes["tables"][CONTOURS]
            tables[CONTOURS] = [e for e in every if e["path"].rpartition("/")[2] in names]
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
    return Root(path, Checked(file, about).arrays(), about)


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
