"""How much work the tasks of a plan are, and how much of those under way is done; for progress."""

from __future__ import annotations

import os
from collections.abc import Mapping

from dicom2cache.ledger import Job, scratch
from dicom2cache.progress import Work
from dicom2cache.receipts import abandoned, task_of
from dicom2cache.records import ShardTask


def work_of(job: Job, task: ShardTask) -> Work:
    """What the task is, for progress."""
    frames = task.stop - task.start
    return Work(frames, frames * job.plan.arrays[task.array].slot_bytes, task.cost)


def under_way(job: Job, work: Mapping[str, Work]) -> Work:
    """What is done of tasks that have not ended, by the sizes of their attempts; at most all."""
    written: dict[str, int] = {}
    try:
        with os.scandir(scratch(job)) as entries:
            for entry in entries:
                name = task_of(entry.name)
                if name in work and not abandoned(entry.name):  # else a receipt, or a table
                    written[name] = max(written.get(name, 0), entry.stat().st_size)
    except OSError:  # committed, or a task has just ended: only progress is late
        return Work()
    total = Work()
    for name, size in written.items():
        whole = work[name]
        share = min(1.0, size / whole.bytes)
        total += Work(int(whole.units * share), int(whole.bytes * share), whole.cost * share)
    return total
