"""frames/, failures/ and shards/: their bytes, and what they say of the arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dicom2cache.arrow import ints
from dicom2cache.errors import counting
from dicom2cache.records import ArraySpec
from dicom2cache.running.job import is_growing
from dicom2cache.running.verify.findings import Finding, Kind, SourceFrame, in_place_of, of_error
from dicom2cache.store import seen
from dicom2cache.store.committed import as_in_format, read_table, signed_attributes
from dicom2cache.store.digests import table_digests
from dicom2cache.store.layout import ROOT, SEEN, TIMES, shortened, spare_path
from dicom2cache.store.root import CONTOURS, KINDS
from dicom2cache.store.spare import entries_of, times_of

Ints = NDArray[np.int64]
_BLOCK = 1 << 20


def of_files(cache: Path, attributes: dict[str, Any]) -> Iterator[Finding]:
    """Tables that are not there, or not of the size and digest in the root."""
    for kind in (*KINDS, CONTOURS):
        for entry in attributes["tables"].get(kind, ()):
            found = of_file(cache, entry) or _of_columns(cache, entry)
            if found is not None:
                yield found


def _of_columns(cache: Path, entry: dict[str, Any]) -> Finding | None:
    """What is wrong with the digests of the columns of a table whose bytes are right."""
    if not {"footer", "columns"} & entry.keys():  # older caches, and other tables
        return None
    with as_in_format(cache / entry["path"]):
        seen = table_digests(cache / entry["path"])
    if (entry.get("footer"), entry.get("columns")) == (seen.footer, seen.columns):
        return None
    what = f"{ROOT} has other digests of its columns than it has"
    return Finding(cache, entry["path"], "contents", what)


def of_spare(cache: Path, attributes: dict[str, Any], root: bytes) -> Iterator[Finding]:
    """Second copies that are not there, or not the bytes of the first; older caches have none."""
    if "identity" not in attributes:
        return
    whole = {"bytes": len(root), "sha256": hashlib.sha256(root).hexdigest()}
    growing = is_growing(cache, attributes)
    for entry in ({"path": ROOT, **whole}, *entries_of(attributes)):
        name = spare_path(entry["path"])
        found = of_file(cache, {**entry, "path": name}, "spare")
        if found is not None and not (growing and _is_later(cache / name, entry, attributes)):
            yield found
    for name, read_it in ((TIMES, times_of), (SEEN, seen.read)):
        if (found := in_place_of(cache, name)) is not None:
            yield found
        elif (cache / name).exists() and read_it(cache) is None:  # repair cannot make it again
            yield Finding(cache, name, "spare", "not as its SHA-256 says")


def _is_later(path: Path, entry: Mapping[str, Any], attributes: dict[str, Any]) -> bool:
    """Whether a second copy is that of the next generation, whose root comes last."""
    try:
        data = path.read_bytes()
    except OSError:
        return False
    if entry["path"] == ROOT:
        found = signed_attributes(data)
        return found is not None and found["generation"] == attributes["generation"] + 1
    slots = {a["metadata"]["path"]: a["slots"] for a in attributes["arrays"]}.get(entry["path"])
    if slots is None:
        return False
    return hashlib.sha256(shortened(data, slots)).hexdigest() == str(entry["sha256"])


def of_file(cache: Path, entry: dict[str, Any], kind: Kind = "table") -> Finding | None:
    """What is wrong with a table, or a second copy, by its file entry."""
    name = entry["path"]
    if (found := in_place_of(cache, name)) is not None:
        return found
    digest, size = hashlib.sha256(), 0
    try:
        with open(cache / name, "rb") as file:  # a plain one, as seen above
            while block := file.read(_BLOCK):
                digest.update(block)
                size += len(block)
                if size > entry["bytes"]:
                    break
    except OSError as e:
        return of_error(cache, name, kind, e)
    if size != entry["bytes"]:
        size = (cache / name).stat().st_size
        what = f"its SHA-256 is not the one in {ROOT} ({size} bytes, {entry['bytes']} expected)"
        return Finding(cache, name, kind, what)
    if digest.hexdigest() != entry["sha256"]:
        return Finding(cache, name, kind, f"its SHA-256 is not the one in {ROOT}")
    return None


@dataclass(frozen=True)
class Said:
    """What the tables of a cache say; n frames by sample index, m shards."""

    cache: Path
    attributes: dict[str, Any]
    array: Ints
    """(n,) as are `row`, `crc32c`, `height`, `width`"""
    row: Ints
    crc32c: Ints
    height: Ints
    width: Ints
    shards: dict[str, Ints]
    """(m,) each column of shards/, -1 for null"""

    @cached_property
    def _sources(self) -> pa.Table:
        columns = ["root", "path", "frame", "part_of_frame"]
        return read_table(self.cache, self.attributes, "frames", columns)

    def sources(self, frames: Any) -> tuple[SourceFrame, ...]:
        """Where frames came from, by their sample indices."""
        folders = {s["root"]: s["path"] for s in self.attributes["sources"]}
        return tuple(
            SourceFrame(
                folders.get(r["root"], ""), r["root"], r["path"] or "", r["frame"],
                r.get("part_of_frame") or 0,
            )
            for r in self._sources.take(pa.array(frames)).to_pylist()
        )  # fmt: skip


def read(cache: Path, attributes: dict[str, Any]) -> Said:
    """The tables that say what the shards should be. Raises CacheError for one that is none."""
    columns = ["array", "row", "crc32c", "height", "width"]
    frames = read_table(cache, attributes, "frames", columns)
    for kind, column in (("failures", "frame"), (CONTOURS, "structure")):
        read_table(cache, attributes, kind, [column])
    shards = read_table(cache, attributes, "shards")
    array, row, crc, height, width = (ints(frames[c], -1) for c in columns)
    named = {name: ints(shards[name], -1) for name in shards.column_names}
    return Said(cache, attributes, array, row, crc, height, width, named)


def contradictions(
    cache: Path, attributes: dict[str, Any], specs: list[ArraySpec], said: Said
) -> Iterator[Finding]:
    """What the tables say that cannot be."""
    known = np.arange(len(specs))
    for table, arrays in (("frames", said.array), ("shards", said.shards["array"])):
        if not np.isin(arrays, known).all():
            yield Finding(cache, table, "contents", f"names an array that is not in {ROOT}")
    for number, spec in enumerate(specs):
        anew = bool(attributes.get("numbering"))
        what = _misplaced(number, spec, attributes["arrays"][number]["frames"], said, anew)
        if what is not None:
            yield Finding(cache, spec.name, "contents", what, number)


def _misplaced(number: int, spec: ArraySpec, frames: int, said: Said, anew: bool) -> str | None:
    mine = np.flatnonzero(said.array == number)
    rows = said.row[mine]
    if len(rows) != frames:
        return f"frames/ has {counting(len(rows), 'frame')} of it, {ROOT} {frames}"
    if (np.diff(np.sort(rows) if anew else rows) <= 0).any():
        return f"its rows in frames/ are {'there twice' if anew else 'not in order'}"
    for side, name in enumerate(("height", "width")):
        sizes = getattr(said, name)[mine]
        if not ((sizes >= 1) & (sizes <= spec.slot[side])).all():
            return f"frames/ has a {name} of it that does not fit into a slot of {spec.slot}"
    own = np.flatnonzero(said.shards["array"] == number)
    own = own[np.argsort(said.shards["shard"][own], kind="stable")]
    shard, slots = said.shards["shard"][own], said.shards["slots"][own]
    if (np.diff(shard) == 0).any():
        return "shards/ names one of its shards twice"
    starts = shard * spec.frames_per_shard
    fits = (shard >= 0) & (slots > 0) & (slots <= spec.frames_per_shard)
    if not (fits & (starts + slots <= spec.slots)).all():
        return f"shards/ has slots of it that are not among its {spec.slots}"
    place = np.searchsorted(starts, rows, side="right") - 1
    lost = rows[(place < 0) | (rows >= np.r_[starts + slots, 0][place])]
    return f"row {lost[0]} is in frames/, and in no shard of shards/" if len(lost) else None
