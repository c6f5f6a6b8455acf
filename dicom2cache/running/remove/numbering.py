"""A new numbering of a cache: what the commit of a plan that leaves frames out has to write."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dicom2cache.arrow import ints
from dicom2cache.errors import CacheError, counting
from dicom2cache.running.contours import stored
from dicom2cache.running.entries import ParquetFile
from dicom2cache.running.job import Job
from dicom2cache.running.remove import kept
from dicom2cache.running.remove.withheld import KIND
from dicom2cache.schema import CONTOURS_TABLE, REMOVED
from dicom2cache.store.committed import read_table, void_failures
from dicom2cache.store.durable import make_folder, write_durably
from dicom2cache.store.layout import ROOT, numbering_path
from dicom2cache.store.root import CONTOURS


class Kept:
    """What of a committed cache stays in the numbering that a plan begins."""

    def __init__(self, job: Job, before: dict[str, Any]) -> None:
        """`before`: the attributes of the root that the plan is for."""
        assert job.gone is not None
        self._job, self._before = job, before
        self._stays = {
            kind: _without(sum(e["rows"] for e in before["tables"].get(kind, ())), job.gone, kind)
            for kind in ("frames", "failures", CONTOURS)
        }
        known = job.plan.arrays[: len(before["arrays"])]
        behind = [spec.first + spec.shards for spec in known]
        self.places = kept.Places(job.cache, before, self._stays["frames"], behind)
        self.schema = kept.schema_of(job.cache, before)

    def frames(self) -> Iterator[pa.Table]:
        """Rows of frames/, in their order."""
        heads = kept.heads(self._job.cache, self._before, self._stays["frames"])
        if heads is not None:
            heads = heads.filter(pa.array(self._stays["frames"]))
        start = 0
        for table in kept.kept_frames(self._job.cache, self._before, self.places, self.schema):
            if heads is not None:
                place = table.schema.get_field_index("stack_of")
                mine = heads.slice(start, table.num_rows)
                table = table.set_column(place, table.schema.field(place), mine)
            start += table.num_rows
            yield table

    def shards(self, scratch: Path) -> list[dict[str, Any]]:
        """Rows of shards/; those that are new are written."""
        return kept.kept_shards(self._job.cache, self._before, self.places, scratch)

    def failures(self) -> pa.Table:
        """Rows of failures/; void ones go."""
        table = read_table(self._job.cache, self._before, "failures")
        void = void_failures(self._job.cache, self._before)
        return table.filter(pa.array(self._stays["failures"] & ~void))

    def contours(self) -> Iterator[pa.Table]:
        """Rows of contours/, a row group at a time."""
        start = 0
        for entry in self._before["tables"].get(CONTOURS, ()):
            for table in stored(self._job.cache, entry):
                stays = self._stays[CONTOURS][start : start + table.num_rows]
                start += table.num_rows
                yield kept.conformed(table.filter(pa.array(stays)), CONTOURS_TABLE)

    def removed(self, name: str, scratch: Path) -> dict[str, Any]:
        """The file entry of removed/, which is written."""
        make_folder(self._job.cache / KIND)
        with ParquetFile(self._job.cache / KIND / name, REMOVED, scratch) as out:
            out.write(self._job.removed)
        return out.entry(self._job.cache)

    def attributes(self, new: dict[str, Any]) -> dict[str, Any]:
        """Members of the root that are of this numbering, `new` being the others."""
        cache = self._job.cache
        frames = read_table(cache, new, "frames", ["root", "path"])
        failures = read_table(cache, new, "failures")
        drawn = read_table(cache, new, CONTOURS, ["root", "path"])
        used = {
            root
            for table, name in (
                (frames, "root"), (drawn, "root"), (failures, "root"), (failures, "same_root"),
            )
            if name in table.column_names
            for root in table[name].unique().to_pylist()
        }  # fmt: skip
        return {
            "numbering": self._before.get("numbering", 0) + 1,
            "origin": self._before.get("origin") or origin_of(self._before),
            "counts": kept.counts_of(frames, failures, drawn),
            "sources": [s for s in new["sources"] if s["root"] in used],
        }

    def seen(self, new: dict[str, Any], table: pa.Table) -> pa.Table:
        """Rows of store.seen for files that the new tables name."""
        tables = (
            read_table(self._job.cache, new, kind, ["root", "path"])
            for kind in ("frames", "failures", CONTOURS)
        )
        known = pa.concat_tables(tables).group_by(["root", "path"]).aggregate([])
        table = table.join(known, keys=["root", "path"], join_type="left semi")
        return table.sort_by([("root", "ascending"), ("path", "ascending")])

    def keep_root(self, scratch: Path) -> None:
        """Keep the root of the numbering that ends, for processes that are handed it on."""
        cache = self._job.cache
        path = cache / numbering_path(self._before.get("numbering", 0))
        make_folder(path.parent)
        write_durably(path, (cache / ROOT).read_bytes(), scratch)


def _without(count: int, gone: pa.Table, kind: str) -> Any:
    """(count,) bool: the rows that stay."""
    stays = np.ones(count, bool)
    rows = ints(gone.filter(pc.equal(gone["kind"], kind))["row"], -1)
    if len(rows) and not 0 <= rows.min() <= rows.max() < count:
        raise CacheError(
            f"the plan leaves out row {rows.max() if rows.min() >= 0 else rows.min()} of {kind}/, "
            f"which the cache has not ({counting(count, 'row')}); it was edited, run the same "
            "command again"
        )
    stays[rows] = False
    return stays


def origin_of(attributes: dict[str, Any]) -> str:
    """What tells a cache from others in all its numberings (FORMAT.md): SHA-256 of the file entries
    of its first generation."""
    first = [attributes["tables"][kind][:1] for kind in ("frames", "shards")]
    return hashlib.sha256(json.dumps(first, sort_keys=True).encode()).hexdigest()
