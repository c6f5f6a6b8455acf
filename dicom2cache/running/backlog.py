"""How much work the tasks of a plan are, and how much of those under way is done; for progress."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from dicom2cache.arrow import ints
from dicom2cache.errors import CacheError
from dicom2cache.records import ShardTask
from dicom2cache.running.attempts import abandoned
from dicom2cache.running.job import Job, scratch
from dicom2cache.running.progress import Work
from dicom2cache.running.receipts import task_of
from dicom2cache.store.compression import CHUNK_HEADER, chunk_bytes
from dicom2cache.store.names import open_plain

_CHUNKS = 1024  # enough to know how an array compresses


def work_of(job: Job, task: ShardTask) -> Work:
    """What the task is, for progress."""
    frames = task.stop - task.start
    return Work(frames, frames * job.plan.arrays[task.array].slot_bytes, task.cost)


def roots_of(job: Job, wanted: Iterable[ShardTask]) -> list[str]:
    """The source folders that these tasks read from."""
    job.check("frames", ["file"])
    job.check("files", ["root"])
    file, root = ints(job.plan.frames["file"], 0), ints(job.plan.files["root"], 0)
    numbers = {n for task in wanted for n in np.unique(root[file[task.start : task.stop]]).tolist()}
    return [job.roots[number] for number in sorted(numbers)]


def syntaxes_of(job: Job, wanted: Iterable[ShardTask]) -> set[str]:
    """The transfer syntaxes of the files that these tasks read."""
    job.check("frames", ["file"])
    job.check("files", ["transfer_syntax"])
    met, file = np.zeros(job.plan.files.num_rows, bool), ints(job.plan.frames["file"], 0)
    for task in wanted:
        met[file[task.start : task.stop]] = True
    return set(job.plan.files["transfer_syntax"].filter(pa.array(met)).unique().to_pylist())


def under_way(job: Job, work: Mapping[str, Work]) -> Work:
    """What is done of tasks that have not ended, by the sizes of their attempts; at most all."""
    written: dict[str, float] = {}  # in bytes before compression
    try:
        with os.scandir(scratch(job)) as entries:
            for entry in entries:
                name = task_of(entry.name)
                if name in work and not abandoned(entry.name):  # else a receipt, or a table
                    size = entry.stat().st_size / _ratio(job, name, entry)
                    written[name] = max(written.get(name, 0), size)
    except (OSError, CacheError):  # committed, or a task has just ended: only progress is late
        return Work()
    total = Work()
    for name, size in written.items():
        whole = work[name]
        share = min(1.0, size / whole.bytes)
        total += Work(int(whole.units * share + 1e-6), int(whole.bytes * share), whole.cost * share)
    return total


def _ratio(job: Job, name: str, attempt: os.DirEntry[str]) -> float:
    """Bytes by raw bytes of the chunks that the attempt at a task begins with; 1: uncompressed."""
    spec = job.plan.arrays[int(name.partition(".")[0])]
    if spec.codec == "none":
        return 1.0
    count = end = 0
    with open_plain(Path(attempt.path)) as file:
        while count < _CHUNKS:
            file.seek(end)
            length = chunk_bytes(file.read(CHUNK_HEADER), spec)
            if length is None:
                break
            count, end = count + 1, end + length
    return end / (count * spec.slot_bytes) if count else 1.0
