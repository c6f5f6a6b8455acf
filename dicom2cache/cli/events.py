"""What a command came to, as events for machines: docs/convert.md lists them and their fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dicom2cache.arrow import ints
from dicom2cache.cli.reporting.unstored import grouped
from dicom2cache.cli.voice import Event
from dicom2cache.planning.foreseen import foreseen
from dicom2cache.privacy.veil import Veil
from dicom2cache.store.committed import as_in_format, read_table, void_failures

if TYPE_CHECKING:
    from dicom2cache.running.compare import Difference
    from dicom2cache.running.growing import Updated
    from dicom2cache.running.job import Job
    from dicom2cache.running.repair.whole import Repaired
    from dicom2cache.running.verify.findings import Finding


def of_plan(job: Job, veil: Veil | None = None) -> Iterator[Event]:
    """`plan`, then `note` and `unstored` for each of those."""
    plan = job.plan
    arrays = [
        {"name": s.name, "dtype": s.dtype, "slot": list(s.slot), "frames": s.slots,
         "shards": s.shards, "bytes": s.slots * s.slot_bytes}
        for s in plan.arrays if s.slots
    ]  # fmt: skip
    yield {
        "event": "plan", "cache": str(job.cache), "frames": plan.frames.num_rows,
        "files": plan.files.num_rows, "shards": sum(a["shards"] for a in arrays),
        "bytes": sum(a["bytes"] for a in arrays), "wasted_bytes": plan.wasted_bytes,
        "contours": plan.contours.num_rows, "arrays": arrays,
    }  # fmt: skip
    for note in foreseen(plan.files, job.recipe, job.onto is not None):
        yield {"event": "note", "message": note}
    yield from unstored(veil.failures(plan.rejects) if veil else plan.rejects)


def of_cache(cache: Path, about: dict[str, Any]) -> Iterator[Event]:
    """`cache`, then `unstored` for each reason."""
    with as_in_format(cache):
        shards = read_table(cache, about, "shards", ["array", "bytes"])
        array, count = ints(shards["array"], 0), ints(shards["bytes"], 0)
        arrays = [
            {"name": a["name"], "dtype": a["dtype"], "slot": a["slot"], "codec": a["codec"],
             "frames": a["frames"], "shards": int((array == k).sum()),
             "bytes": int(count[array == k].sum())}
            for k, a in enumerate(about["arrays"])
        ]  # fmt: skip
        yield {
            "event": "cache", "cache": str(cache), "generation": about["generation"],
            "numbering": about.get("numbering", 0), **about["counts"],
            "bytes": int(count.sum()), "arrays": arrays,
        }  # fmt: skip
        void = void_failures(cache, about)
        yield from unstored(read_table(cache, about, "failures").filter(pa.array(~void)))


def of_update(cache: Path, done: Updated) -> Iterator[Event]:
    """`updated`, then `changed` and `gone` for each such file, `unstored` for each reason."""
    yield {
        "event": "updated", "cache": str(cache), "added": done.added, "counts": done.counts,
        "withheld": done.withheld, "restacked": done.restacked,
        "torn": [{"series": name, "files": files} for name, files in done.torn],
    }  # fmt: skip
    for event, paths in (("changed", done.changed), ("gone", done.vanished)):
        for path in paths:
            yield {"event": event, "path": path}
    yield from unstored(done.rejects)


def unstored(rejects: pa.Table) -> Iterator[Event]:
    """An event for each reason, failures first."""
    for g in grouped(rejects):
        yield {
            "event": "unstored", "outcome": g.outcome, "stage": g.stage, "reason": g.reason,
            "rows": g.rows, "files": g.files, "suffixes": dict(g.suffixes),
            "example": {"path": g.path, "frame": g.frame, "reason": g.said}, "remedy": g.remedy,
        }  # fmt: skip


def of_findings(found: Sequence[Finding]) -> Iterator[Event]:
    """`finding` for each."""
    for one in found:
        yield {
            "event": "finding", "path": str(one.path), "kind": one.kind, "message": str(one),
            "array": one.array, "shard": one.shard, "slots": list(one.slots),
            "frames": [f._asdict() for f in one.frames],
        }  # fmt: skip


def of_repair(done: Repaired, left: Sequence[str]) -> Iterator[Event]:
    """`restored` for each file, `mended` for each shard, `finding` for what is still wrong."""
    for name in done.restored:
        yield {"event": "restored", "path": name}
    for shard in done.shards:
        yield {"event": "mended", **dataclasses.asdict(shard)}
    for message in left:
        yield {"event": "finding", "message": message}


def of_differences(differences: Iterable[Difference]) -> Iterator[Event]:
    """`differs` for each frame."""
    for one in differences:
        yield {"event": "differs", **dataclasses.asdict(one)}


def of_record(event: str, cache: Path, done: Any, **more: Any) -> Iterator[Event]:
    """One event with the fields of a record."""
    yield {"event": event, "cache": str(cache), **more, **dataclasses.asdict(done)}
