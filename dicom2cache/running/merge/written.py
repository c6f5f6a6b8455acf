"""The tables, shards and root of a merged cache, in a folder of its own.

Each generation of each part is one of the whole, in order: so rows are in the order that they are
in, and a sample index of the first part stays what it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dicom2cache.arrow import ints
from dicom2cache.errors import CacheError, on_path
from dicom2cache.privacy.veil import KEY
from dicom2cache.running import contours
from dicom2cache.running.entries import ParquetFile, array_entry
from dicom2cache.running.merge import files
from dicom2cache.running.merge.copies import Copies, find
from dicom2cache.running.merge.drawn import Drawn
from dicom2cache.running.merge.numbers import Numbers, joined
from dicom2cache.running.merge.parts import Part, identity_of, removed_of
from dicom2cache.running.remove.withheld import KIND
from dicom2cache.running.tables import Totals, in_order
from dicom2cache.schema import REJECTS, REMOVED, WHOSE
from dicom2cache.store import seen, spare
from dicom2cache.store.committed import read_entry, read_table
from dicom2cache.store.durable import sync_folder, write_durably
from dicom2cache.store.layout import ROOT, lengthened, root_metadata, shard_path
from dicom2cache.store.root import KINDS

Place = Callable[[Path, Path], None]
"""puts a shard at another path"""
_MOST = 1 << 15
"""of what is counted in int16"""


class Whole:
    """The new cache, in a folder that nobody reads yet."""

    def __init__(self, parts: Sequence[Part], new: Path, place: Place) -> None:
        self.parts, self.new, self.place = parts, new, place
        self.scratch = new / "build"
        self.copies: Copies = find(parts)
        columns = ["array", "row", "stack"]
        tables = [read_table(p.cache, p.attributes, "frames", columns) for p in parts]
        self.array, self.row, self.stack = (
            [ints(table[name], 0) for table in tables] for name in columns
        )
        stored = [
            np.bincount(array[kept], minlength=len(part.specs))
            for part, array, kept in zip(parts, self.array, self.copies.stored, strict=True)
        ]
        said = [part.specs for part in parts], [part.metadata for part in parts]
        self.numbers: Numbers = joined(*said, stored)
        tops = [int(stack.max(initial=-1)) + 1 for stack in self.stack]
        self.first_stack = np.cumsum([0, *tops])
        roots = [[s["root"] for s in part.attributes["sources"]] for part in parts]
        self.first_root = np.cumsum([0, *map(len, roots)])
        self.root_of = [
            _renumbered(mine, int(first))
            for mine, first in zip(roots, self.first_root[:-1], strict=True)
        ]
        for what, many in (("sources", self.first_root[-1]), ("arrays", len(self.numbers.arrays))):
            if many > _MOST:
                raise CacheError(f"{many} {what} in all; a cache has {_MOST} at most")
        self.totals = [Totals() for _ in self.numbers.arrays]
        self.tables: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
        self.failed = self._failed()
        self.removed = removed_of(parts)
        self.drawn = Drawn(parts)

    def write(self) -> None:
        """All of it, durably, the root last."""
        more = [KIND] if self.removed.num_rows else []
        for folder in ("build", *KINDS, *more, *(spec.name for spec in self.numbers.arrays)):
            (self.new / folder).mkdir()
        for kind in more:
            self.tables[kind] = []
            with self._table(kind, REMOVED) as out:
                out.write(self.removed)
            self.tables[kind].append(out.entry(self.new))
        for k, part in enumerate(self.parts):
            start = 0
            for generation, entry in enumerate(part.attributes["tables"]["frames"]):
                self._frames(k, entry, start)
                tables = part.attributes["tables"]
                self._shards(k, tables["shards"][generation])
                self._failures(k, tables["failures"][generation], start, start + entry["rows"])
                self._contours(k, tables["failures"][generation]["path"])
                start += entry["rows"]
        metadata = {}
        for spec, without in zip(self.numbers.arrays, self.numbers.metadata, strict=True):
            data = metadata[spec.name] = lengthened(without, spec.slots)
            write_durably(self.new / spec.name / ROOT, data, self.scratch)  # its shards' names, too
        attributes = self._attributes(metadata)
        data = root_metadata(attributes, metadata)
        spare.keep(self.new, attributes, data, "", self._seen(), self.scratch)
        write_durably(self.new / ROOT, data, self.scratch)
        self.scratch.rmdir()
        sync_folder(self.new)

    def _table(self, kind: str, schema: pa.Schema) -> ParquetFile:
        return ParquetFile(
            self.new / kind / f"{len(self.tables[kind])}.parquet", schema, self.scratch
        )

    def _frames(self, k: int, entry: dict[str, Any], start: int) -> None:
        """One generation of frames/: other numbers, without what is stored already."""
        rows = slice(start, start + entry["rows"])
        number = self.numbers.number[k][self.array[k]][rows]
        path = self.parts[k].cache / entry["path"]
        with (
            on_path(path),
            pq.ParquetFile(path) as file,
            self._table("frames", file.schema_arrow) as out,
        ):
            for some, at in _in_order(file, number):
                kept = self._renumbered(k, some, start + at)
                out.write(kept)
                for n, mine in _by_array(kept):
                    self.totals[n].add(mine, self.numbers.arrays[n].slot[2:])
        self.tables["frames"].append(out.entry(self.new))

    def _renumbered(self, k: int, some: pa.Table, start: int) -> pa.Table:
        rows = slice(start, start + some.num_rows)
        array, kept = self.array[k][rows], self.copies.stored[k][rows]
        per_shard = np.array([s.frames_per_shard for s in self.parts[k].specs])
        first = self.numbers.first[k] * per_shard
        stack = int(self.first_stack[k])
        new: dict[str, Any] = {
            "array": self.numbers.number[k][array],
            "row": self.row[k][rows] + first[array],
            "root": self.root_of[k][ints(some["root"], 0)],
            "stack": self.stack[k][rows] + stack,
            "stack_of": pc.add(some["stack_of"], stack)
            if "stack_of" in some.schema.names
            else None,
        }
        if self.copies.marked[k][rows].any():
            new["flags"] = _flagged(some["flags"], self.copies.marked[k][rows])
        for name, column in new.items():
            if column is not None:
                place, field = some.schema.get_field_index(name), some.schema.field(name)
                column = (
                    column if isinstance(column, pa.ChunkedArray | pa.Array) else pa.array(column)
                )
                some = some.set_column(place, field, column.cast(field.type))
        return some if kept.all() else some.filter(pa.array(kept))

    def _shards(self, k: int, entry: dict[str, Any]) -> None:
        """One generation of shards/, and the shards themselves."""
        part = self.parts[k]
        table = read_entry(part.cache, entry, "shards")
        rows = []
        for about in table.to_pylist():
            spec, number = part.specs[about["array"]], int(self.numbers.number[k][about["array"]])
            if number < 0:
                continue
            mine = self._slots_of(k, about["array"], about["shard"], spec.frames_per_shard)
            kept = mine[self.copies.stored[k][mine]]
            source, shard = shard_path(spec, about["shard"]), about["shard"]
            new = {
                **about,
                "array": number,
                "shard": shard + int(self.numbers.first[k][about["array"]]),
            }
            path = self.new / shard_path(self.numbers.arrays[number], new["shard"])
            if len(kept) == len(mine):
                self.place(part.cache / source, path)
            elif not len(kept):
                continue
            else:
                slots = self.row[k][kept] - shard * spec.frames_per_shard
                said = files.without(part.cache, source, path, spec, about["slots"], slots)
                new |= dict(zip(("bytes", "index_crc32c", "chunks_crc32c"), said, strict=True))
                new["frames"] = len(kept)
            rows.append(new)
        rows.sort(key=lambda row: (row["array"], row["shard"]))
        with self._table("shards", table.schema) as out:
            out.write(pa.Table.from_pylist(rows, table.schema))
        self.tables["shards"].append(out.entry(self.new))

    def _slots_of(self, k: int, array: int, shard: int, per_shard: int) -> NDArray[np.int64]:
        """Rows of frames/ of a part that lie in one of its shards."""
        mine = self._of_array(k, array)
        start = shard * per_shard
        part = slice(*np.searchsorted(self.row[k][mine], [start, start + per_shard]))
        return mine[part]

    def _of_array(self, k: int, array: int) -> NDArray[np.int64]:
        if (k, array) != self._known[0]:
            mine = np.flatnonzero(self.array[k] == array)
            self._known = (k, array), mine[np.argsort(self.row[k][mine], kind="stable")]
        return self._known[1]

    _known: tuple[tuple[int, int], NDArray[np.int64]] = ((-1, -1), np.empty(0, np.int64))

    def _failed(self) -> pa.Table:
        """Rows of failures/ for the files that are stored already, with their `part` and `row`."""
        copies = self.copies.files
        rows: dict[str, Any] = {
            field.name: pa.nulls(copies.num_rows, field.type) for field in REJECTS
        }
        for part, root in (("part", "root"), ("same_part", "same_root")):
            parts, roots = ints(copies[part], 0), ints(copies[root], 0)
            new = np.zeros(copies.num_rows, np.int16)
            for k in range(len(self.parts)):
                mine = parts == k
                new[mine] = self.root_of[k][roots[mine]]
            rows[root] = pa.array(new)
        for name in ("path", "same_path", "same_frame"):
            rows[name] = copies[name]
        rows |= self._whose()
        rows["outcome"], rows["stage"] = (
            pa.array([text] * copies.num_rows, pa.string()) for text in ("duplicate", "plan")
        )
        veiled = self.parts[0].attributes.get(KEY) is not None
        shown = pa.scalar("...") if veiled else copies["same_path"]
        source = pc.cast(rows["same_root"], pa.string())
        reason = (
            pc.binary_join_element_wise(
                "duplicate of ",
                shown,
                " of source ",
                source,
                ": same SOP Instance UID, same pixels",
                "",
            )
            if copies.num_rows
            else pa.array([], pa.string())
        )
        rows["reason"] = reason
        found = pa.table(rows, REJECTS)
        return found.append_column("part", copies["part"]).append_column("in_part", copies["row"])

    def _whose(self) -> dict[str, Any]:
        """Whose the files are that are stored already."""
        part, row = (ints(self.copies.files[name], 0) for name in ("part", "row"))
        found: list[pa.Table] = []
        for k, p in enumerate(self.parts if len(part) else ()):
            mine = pa.array(row[part == k])  # they follow one another by part
            found.append(read_table(p.cache, p.attributes, "frames", list(WHOSE)).take(mine))
        whole = pa.concat_tables(found) if found else REJECTS.empty_table()
        return {name: whole[name].cast(pa.string()) for name in WHOSE}

    def _failures(self, k: int, entry: dict[str, Any], start: int, stop: int) -> None:
        """One generation of failures/, with what of it is stored already."""
        old = read_entry(self.parts[k].cache, entry, "failures")
        for root in ("root", "same_root"):
            if root in old.schema.names:
                place, field = old.schema.get_field_index(root), old.schema.field(root)
                said = ints(old[root], -1)
                new = np.where(said < 0, 0, self.root_of[k][np.maximum(said, 0)])
                column = pa.array(new.astype(np.int16), mask=said < 0)
                old = old.set_column(place, field, column)
        old = self._kept_now(old)
        mine, row = ints(self.failed["part"], 0) == k, ints(self.failed["in_part"], 0)
        some = self.failed.filter(pa.array(mine & (row >= start) & (row < stop)))
        some = some.select(REJECTS.names)
        twice = self.drawn.rejects(k, entry["path"], self.root_of)
        whole = in_order(pa.concat_tables([old, some, twice], promote_options="permissive"))
        with self._table("failures", whole.schema) as out:
            out.write(whole)
        self.tables["failures"].append(out.entry(self.new))

    def _contours(self, k: int, failures: str) -> None:
        """Those of one generation, under the number that its failures/ now has."""
        name = Path(self.tables["failures"][-1]["path"]).name
        rows = self.drawn.kept(k, failures, self.root_of)
        own = contours.write(self.new, name, rows, self.scratch)
        if own:
            self.tables[contours.KIND] = [*self.tables.get(contours.KIND, ()), *own]

    def _kept_now(self, rows: pa.Table) -> pa.Table:
        """What a duplicate is said to be one of may be stored no more: then what is kept for it."""
        if not self.failed.num_rows or "same_path" not in rows.schema.names:
            return rows
        gone = _key(self.failed["root"], self.failed["path"])
        place = pc.index_in(_key(rows["same_root"], rows["same_path"]), value_set=gone)
        moved = place.is_valid()
        for name in ("same_root", "same_path"):
            new = pc.if_else(moved, self.failed[name].combine_chunks().take(place), rows[name])
            number = rows.schema.get_field_index(name)
            rows = rows.set_column(number, rows.schema.field(number), new)
        return rows

    def _seen(self) -> pa.Table | None:
        """What the sources of all parts were like; None if that is not known of one."""
        found = []
        for part, root_of in zip(self.parts, self.root_of, strict=True):
            table = seen.read(part.cache)
            if table is None:
                return None
            new = pa.array(root_of[ints(table["root"], 0)], pa.int16())
            found.append(table.set_column(0, "root", new))
        return pa.concat_tables(found)

    def _attributes(self, metadata: dict[str, bytes]) -> dict[str, Any]:
        first = {k: v for k, v in self.parts[0].attributes.items() if k not in ("sha256", "origin")}
        arrays = [
            array_entry(spec, total, metadata[spec.name])
            for spec, total in zip(self.numbers.arrays, self.totals, strict=True)
        ]
        paths = [s["path"] for part in self.parts for s in part.attributes["sources"]]
        return {
            **first,
            "generation": len(self.tables["frames"]) - 1,
            "identity": identity_of(self.parts),
            "arrays": arrays,
            "tables": self.tables,
            "sources": [{"root": k, "path": path} for k, path in enumerate(paths)],
            "counts": self._counts(),
        }

    def _counts(self) -> dict[str, int]:
        every = [part.attributes["counts"] for part in self.parts]
        counts = {name: sum(c.get(name, 0) for c in every) for name in every[0]}
        copies = self.copies.files.num_rows + self.drawn.count
        counts["files_stored"] -= copies
        counts["files_duplicate"] += copies
        counts["frames_stored"] = sum(total.frames for total in self.totals)
        return counts


def _renumbered(roots: Sequence[int], first: int) -> NDArray[np.int64]:
    """New number of each root, by its old one."""
    new = np.zeros(max(roots, default=0) + 1, np.int64)
    new[list(roots)] = first + np.arange(len(roots))
    return new


def _in_order(file: Any, number: NDArray[np.int64]) -> Iterator[tuple[pa.Table, int]]:
    """(rows, the first one's number) of a table of one generation, arrays in their new order."""
    edges = np.r_[0, np.flatnonzero(np.diff(number)) + 1, len(number)]
    blocks = [(int(number[a]), a, b) for a, b in pairwise(edges.tolist()) if a < b]
    if [n for n, _, _ in blocks] == sorted(n for n, _, _ in blocks):
        blocks = [(0, 0, len(number))]
    groups = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
    starts = np.cumsum([0, *groups]).tolist()
    for _, a, b in sorted(blocks):
        for g, start in enumerate(starts[:-1]):
            low, high = max(a, start), min(b, starts[g + 1])
            if low < high:
                table = file.read_row_group(g, use_threads=False)
                yield table.slice(low - start, high - low), low


def _by_array(rows: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """(number of an array, its rows), one after another."""
    numbers, starts = np.unique(ints(rows["array"], 0), return_index=True)
    edges = pairwise([*starts.tolist(), rows.num_rows])  # none of an empty table
    for n, (start, stop) in zip(numbers.tolist(), edges, strict=True):
        yield n, rows.slice(start, stop - start)


def _key(root: Any, path: Any) -> Any:
    """One text for root and path."""
    plain = path.combine_chunks() if isinstance(path, pa.ChunkedArray) else path
    root = root.combine_chunks() if isinstance(root, pa.ChunkedArray) else root
    return pc.binary_join_element_wise(pc.cast(root, pa.string()), plain.cast(pa.string()), "/")


def _flagged(flags: Any, marked: NDArray[np.bool_]) -> Any:
    """The lists, with `sop-uid-repeated` in those that are marked."""
    lists = flags.combine_chunks() if isinstance(flags, pa.ChunkedArray) else flags
    rows = np.flatnonzero(marked)
    old = lists.take(pa.array(rows)).to_pylist()
    new = [said if _REPEATED in (said or ()) else [*(said or ()), _REPEATED] for said in old]
    taken = np.arange(len(lists))
    taken[rows] = len(lists) + np.arange(len(rows))
    return pa.concat_arrays([lists, pa.array(new, lists.type)]).take(pa.array(taken))


_REPEATED = "sop-uid-repeated"
