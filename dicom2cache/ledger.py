"""Plan and receipts on disk: what is to be done, and what is done.

What a shard task did is in its receipt, and only there: local processes, Dask and Slurm arrays
behave alike. An attempt is written under build/attempts with a nonce; `link()`, which never
replaces, publishes its receipt and so decides between several attempts without a lock server; the
winner, or whoever comes by later, renames the shard into place.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from dicom2cache.errors import Unfinished
from dicom2cache.layout import shard_path
from dicom2cache.plan import tasks
from dicom2cache.recipe import Recipe
from dicom2cache.records import ArraySpec, Plan, ShardTask
from dicom2cache.shards import give_name, sync_folder, write_durably

RESULTS = pa.schema(
    [
        ("reason", pa.string()),  # null: stored
        ("codec", pa.string()),
        ("crc32c", pa.uint32()),
        ("padding_fraction", pa.float32()),
        ("window_low", pa.float64()),
        ("window_high", pa.float64()),
        *((name, pa.float64()) for name in ("min", "max", "mean", "std")),
        *((name, pa.float64()) for name in ("p0_5", "p1", "p50", "p99", "p99_5")),
        ("flags", pa.list_(pa.string())),
    ]
)
"""one row for each slot of a shard, in order"""


@dataclass(frozen=True)
class Job:
    """A plan on disk, with what surrounds it."""

    cache: Path
    identity: str
    """digest of recipe, sources and versions"""
    roots: tuple[str, ...]
    recipe: Recipe
    plan: Plan
    facts: dict[str, Any]
    """software, codecs, patient_key"""

    @property
    def tasks(self) -> list[ShardTask]:
        """One task for each shard."""
        return tasks(self.plan)


_STATE = ("attempts", "receipts", "claims", "surveys")
"""folders of build/ that a committed cache needs no more"""


def _build(cache: Path) -> Path:
    return cache / "build"


def save_plan(job: Job) -> None:
    """Write the plan durably; plan.json, written last, makes it one."""
    build = _build(job.cache)
    for folder in _STATE:
        (build / folder).mkdir(parents=True, exist_ok=True)
    plan = job.plan
    files = plan.files.drop_columns(["per_frame"])  # expanded in `frames`
    for name, table in (("files", files), ("frames", plan.frames), ("rejects", plan.rejects)):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table.unify_dictionaries(), max_chunksize=1 << 16)
        write_durably(build / f"{name}.arrow", sink.getvalue())
    about = {
        "identity": job.identity,
        "roots": list(job.roots),
        "recipe": job.recipe.to_dict(),
        "arrays": [asdict(spec) for spec in plan.arrays],
        "wasted_bytes": plan.wasted_bytes,
        "facts": job.facts,
    }
    write_durably(build / "plan.json", json.dumps(about, indent=1).encode())
    _load.cache_clear()


def planned_identity(cache: Path) -> str | None:
    """Identity of the plan in `cache`; None if there is none, or something else of that name."""
    try:
        return str(json.loads((_build(cache) / "plan.json").read_bytes())["identity"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def load_job(cache: Path) -> Job:
    """The plan in `cache`, its tables mapped and not read.

    Raises Unfinished if there is none, or the cache is committed.
    """
    build = _build(cache)
    if not (build / "frames.arrow").exists():
        if (cache / "zarr.json").exists():
            raise Unfinished(
                f"{cache}: the cache is committed already; there is nothing left to do"
            )
        raise Unfinished(f"{cache}: no plan here; run `dicom2cache plan SRC... {cache}` first")
    if not (build / "plan.json").exists():
        raise Unfinished(f"{cache}: planning did not end; run `dicom2cache plan` again")
    return _load(cache, (build / "plan.json").stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _load(cache: Path, _: int) -> Job:
    build = _build(cache)
    about = json.loads((build / "plan.json").read_bytes())
    tables = {}
    for name in ("files", "frames", "rejects"):
        # pyarrow drops the descriptor at close; the mapping lives as long as the table
        with pa.memory_map(str(build / f"{name}.arrow")) as source:
            tables[name] = pa.ipc.open_file(source.read_buffer()).read_all()
    arrays = tuple(ArraySpec(**{**a, "slot": tuple(a["slot"])}) for a in about["arrays"])
    plan = Plan(arrays, tables["files"], tables["frames"], tables["rejects"], about["wasted_bytes"])
    return Job(
        cache,
        about["identity"],
        tuple(about["roots"]),
        Recipe.from_dict(about["recipe"]),
        plan,
        about["facts"],
    )


def receipt_path(cache: Path, task: ShardTask) -> Path:
    """Where the task's receipt is published."""
    return _build(cache) / "receipts" / f"{task.name}.arrow"


def scratch(cache: Path) -> Path:
    """Folder for what is not whole yet, so that a process that dies leaves nothing elsewhere."""
    return _build(cache) / "attempts"


def survey_path(cache: Path, stack: int) -> Path:
    """Where the percentiles of a stack are kept until commit."""
    return _build(cache) / "surveys" / f"{stack}.json"


def trial_path(cache: Path, array: int) -> Path:
    """Where the codec that a trial chose for an array is kept until commit."""
    return _build(cache) / "surveys" / f"codec.{array}.json"


def attempt_path(cache: Path, task: ShardTask) -> Path:
    """A new name for an attempt at the task's shard."""
    return scratch(cache) / f"{task.name}.{secrets.token_hex(8)}"


def claim(cache: Path, task: ShardTask) -> Path:
    """Say that the task was begun: advisory; one left behind means that its process died."""
    path = _build(cache) / "claims" / task.name
    path.touch()
    return path


def claimed(cache: Path, task: ShardTask) -> bool:
    """True if the task was begun and not ended."""
    return (_build(cache) / "claims" / task.name).exists()


def publish(
    job: Job,
    task: ShardTask,
    attempt: Path,
    size: int,
    index_crc32c: int,
    codec: str,
    results: pa.Table,
) -> None:
    """Publish a durable attempt; if another one was first, drop it: its bytes are the same."""
    target = receipt_path(job.cache, task)
    about = {
        "attempt": attempt.name, "bytes": str(size), "index_crc32c": str(index_crc32c),
        "codec": codec,
    }  # fmt: skip
    sink = pa.BufferOutputStream()
    table = results.replace_schema_metadata(about)
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    own = attempt.with_name(f"{attempt.name}.receipt")
    write_durably(own, sink.getvalue())
    if not give_name(own, target):
        attempt.unlink(missing_ok=True)
    settle(job, task)


@dataclass(frozen=True)
class Receipt:
    """What a task did."""

    bytes: int
    """size of the shard file"""
    index_crc32c: int
    codec: str
    """what compressed it"""
    results: pa.Table
    """RESULTS"""


def settle(job: Job, task: ShardTask) -> Receipt | None:
    """The task's receipt, its shard in place; None if the task is not done.

    Finishes the rename of a process that died after it published the receipt.
    """
    path = receipt_path(job.cache, task)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    results = pa.ipc.open_file(pa.py_buffer(data)).read_all()
    about = {k.decode(): v.decode() for k, v in results.schema.metadata.items()}
    spec = job.plan.arrays[task.array]
    shard = job.cache / shard_path(spec, task.shard)
    if not shard.exists():
        attempt = _build(job.cache) / "attempts" / about["attempt"]
        shard.parent.mkdir(exist_ok=True)
        try:
            os.rename(attempt, shard)
        except FileNotFoundError:
            if not shard.exists():  # else another process was faster
                path.unlink(missing_ok=True)  # neither: somebody removed it; do the task again
                return None
        sync_folder(shard.parent)
    return Receipt(int(about["bytes"]), int(about["index_crc32c"]), about["codec"], results)


def is_done(job: Job, task: ShardTask) -> bool:
    """True if the task's receipt is published and its shard in place."""
    return receipt_path(job.cache, task).exists() and settle(job, task) is not None


def failed_frames(job: Job, task: ShardTask) -> int | None:
    """How many frames of the task are not stored; None if the task is not done."""
    receipt = settle(job, task)
    if receipt is None:
        return None
    reasons = receipt.results["reason"]
    return len(reasons) - int(reasons.null_count)


def open_tasks(job: Job, wanted: list[ShardTask]) -> Iterator[ShardTask]:
    """Those of `wanted` that are not done."""
    return (task for task in wanted if not is_done(job, task))


def compact(cache: Path) -> None:
    """Drop the state that a committed cache no longer needs; only plan.json stays."""
    build = _build(cache)
    for folder in _STATE:
        for path in (build / folder).glob("*"):
            path.unlink(missing_ok=True)
        if (build / folder).exists():
            (build / folder).rmdir()
    for name in ("frames", "files", "rejects"):
        (build / f"{name}.arrow").unlink(missing_ok=True)
