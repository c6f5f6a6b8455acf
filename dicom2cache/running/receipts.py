"""What is done of a plan: attempts at shards, and the receipt of the one that counts.

What a shard task did is in its receipt, and only there: local processes, Dask and Slurm arrays
behave alike. An attempt is written under attempts/; `link()`, which never replaces, publishes its
receipt and so decides between several attempts without a lock server; the winner, or whoever comes
by later, renames the shard into place.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from dicom2cache.errors import CacheError, on_path
from dicom2cache.records import ShardTask
from dicom2cache.running.attempts import abandoned, attempt_name
from dicom2cache.running.job import Job, scratch
from dicom2cache.schema import RESULTS
from dicom2cache.store.durable import make_folder, name_first, sync_folder, write_durably
from dicom2cache.store.layout import shard_path
from dicom2cache.store.names import checked, open_plain, read_plain, refuse_link


def receipt_path(job: Job, task: ShardTask) -> Path:
    """Where the task's receipt is published."""
    return job.state / "receipts" / f"{task.name}.arrow"


def new_attempt(job: Job, task: ShardTask) -> Path:
    """A new name for an attempt at the task's shard; those of processes that died are removed."""
    for path in scratch(job).glob(f"{task.name}.*"):
        if abandoned(path.name):
            path.unlink(missing_ok=True)
    return scratch(job) / attempt_name(task.name)


def task_of(attempt: str) -> str:
    """Name of the task that an attempt, by its name, is at."""
    return attempt.rpartition(".")[0]


def publish(
    job: Job,
    task: ShardTask,
    attempt: Path,
    size: int,
    index_crc32c: int,
    chunks_crc32c: int | None,
    codec: str,
    results: pa.Table,
) -> bool:
    """Publish a durable attempt; False if another one was first.

    It is dropped then: its bytes are the same.
    """
    about = {
        "attempt": attempt.name, "bytes": str(size), "index_crc32c": str(index_crc32c),
        "codec": codec, "chunks_crc32c": "" if chunks_crc32c is None else str(chunks_crc32c),
    }  # fmt: skip
    sink = pa.BufferOutputStream()
    table = results.replace_schema_metadata(about)
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    own = attempt.with_name(f"{attempt.name}.receipt")
    write_durably(own, sink.getvalue())
    first = name_first(own, receipt_path(job, task))
    if not first:
        attempt.unlink(missing_ok=True)
    settle(job, task)
    return first


@dataclass(frozen=True)
class Receipt:
    """What a task did."""

    bytes: int
    """size of the shard file"""
    index_crc32c: int
    chunks_crc32c: int | None
    """of what is before the index of a compressed shard"""
    codec: str
    """what compressed it"""
    results: pa.Table
    """RESULTS"""


def settle(job: Job, task: ShardTask) -> Receipt | None:
    """The task's receipt, its shard in place; None if the task is not done.

    Finishes the rename of a process that died after it published the receipt: the attempt is there
    until then, and a file of the shard's name is none of this plan. Raises CacheError if the
    receipt is damaged.
    """
    path = receipt_path(job, task)
    try:
        with on_path(path):
            data = read_plain(path)
    except FileNotFoundError:
        return None
    try:
        results = pa.ipc.open_file(pa.py_buffer(data)).read_all()
        results.validate(full=True)
        if results.schema.names != RESULTS.names or results.num_rows != task.stop - task.start:
            raise ValueError("results of other frames")
        about = {k.decode(): v.decode() for k, v in results.schema.metadata.items()}
        chunks = about["chunks_crc32c"]
        receipt = Receipt(
            int(about["bytes"]), int(about["index_crc32c"]), int(chunks) if chunks else None,
            about["codec"], results,
        )  # fmt: skip
        named = about["attempt"]
    except (ValueError, KeyError, AttributeError, OSError, pa.ArrowException) as e:
        raise _damaged(path, e) from e
    shard = job.cache / shard_path(job.plan.arrays[task.array], task.shard)
    attempt = scratch(job) / checked(named, path)
    refuse_link(attempt)
    if attempt.exists() or not _describes(receipt, shard):
        make_folder(shard.parent)
        try:
            os.rename(attempt, shard)
        except FileNotFoundError:
            if not _describes(receipt, shard):  # else another process was faster
                path.unlink(missing_ok=True)  # neither: somebody removed it; do the task again
                return None
        sync_folder(shard.parent)
    return receipt


def _damaged(receipt: Path, why: Exception) -> CacheError:
    return CacheError(
        f"{receipt}: damaged ({why}): it was whole when it got its name, so its disk has failed or "
        "somebody has changed it; remove it and run `dicom2cache convert` again, which makes "
        "that shard anew"
    )


def _describes(receipt: Receipt, shard: Path) -> bool:
    """True if the file is there, of the size and the index that the receipt says."""
    try:
        with on_path(shard), open_plain(shard) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 4))
            return (size, int.from_bytes(file.read(), "little")) == (
                receipt.bytes, receipt.index_crc32c,
            )  # fmt: skip
    except (FileNotFoundError, CacheError):  # a link or FIFO of that name is replaced
        return False


def is_done(job: Job, task: ShardTask) -> bool:
    """True if the task's receipt is published and its shard in place."""
    return receipt_path(job, task).exists() and settle(job, task) is not None


def failed_frames(job: Job, task: ShardTask) -> int | None:
    """How many frames of the task are not stored; None if the task is not done."""
    receipt = settle(job, task)
    if receipt is None:
        return None
    reasons = receipt.results["reason"]
    return len(reasons) - int(reasons.null_count)


def failed_in(receipt: Path) -> int:
    """How many frames are not stored, by a receipt, its shard in place or not."""
    data = read_plain(receipt)
    try:
        reasons = pa.ipc.open_file(pa.py_buffer(data)).read_all()["reason"]
    except (ValueError, KeyError, OSError, pa.ArrowException) as e:
        raise _damaged(receipt, e) from e
    return len(reasons) - int(reasons.null_count)
