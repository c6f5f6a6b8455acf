"""How far the conversion of a plan is, on all nodes together: from what lies in build/."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from dicom2cache.records import ShardTask
from dicom2cache.running import claims, receipts
from dicom2cache.running.backlog import under_way, work_of
from dicom2cache.running.job import Job
from dicom2cache.running.progress import Work


@dataclass(frozen=True)
class Standing:
    """What is done of a plan, and by whom the rest."""

    shards: int
    shards_done: int
    total: Work
    done: Work
    """of shards that are under way too; `failed`: frames that are not stored"""
    holders: dict[str, list[str]]
    """{host: names of the shards it works on}; "" for claims whose process is known to be dead"""
    links: bool
    """whether the file system has hard links"""
    left: float | None
    """seconds, at the rate so far; None while too little is done to tell"""
    is_update: bool = False
    """whether the cache is committed, and grows"""
    is_removal: bool = False
    """whether frames are only taken out of it"""


@dataclass
class Watched:
    """The standing of one plan, asked for again and again: receipts are read once."""

    job: Job
    _failed: dict[str, tuple[int, int]] = field(default_factory=dict)
    """{task: (frames that failed, nanoseconds of its receipt)}"""

    def look(self) -> Standing:
        """The standing now."""
        job = self.job
        tasks = job.tasks
        work = {task.name: work_of(job, task) for task in tasks}
        done, total = Work(), sum(work.values(), Work())
        for task in tasks:
            found = self._of(task)
            if found is not None:
                done += work[task.name] + Work(failed=found[0])
        ended = {name: end for name, (_, end) in self._failed.items()}
        open_work = {name: w for name, w in work.items() if name not in ended}
        holders: dict[str, list[str]] = {}
        for name, holder in claims.holders(job).items():
            if name in open_work:
                host = "?" if holder is None else "" if holder.is_dead else holder.host
                holders.setdefault(host, []).append(name)
        left = _left(ended, {name: work[name].cost for name in ended}, total.cost - done.cost)
        done += under_way(job, open_work)
        growing, removing = job.onto is not None, job.gone is not None and not tasks
        return Standing(
            len(tasks), len(ended), total, done, holders, job.links, left, growing, removing
        )  # fmt: skip

    def _of(self, task: ShardTask) -> tuple[int, int] | None:
        if task.name not in self._failed:
            path: Path = receipts.receipt_path(self.job, task)
            try:
                end = os.stat(path).st_mtime_ns
                self._failed[task.name] = receipts.failed_in(path), end
            except FileNotFoundError:
                return None
        return self._failed[task.name]


def _left(ended: dict[str, int], cost: dict[str, float], rest: float) -> float | None:
    """Seconds for what is left; from the times of receipts, which one file server sets."""
    if len(ended) < 2:
        return None
    first = min(ended, key=lambda name: ended[name])
    seconds = (max(ended.values()) - ended[first]) / 1e9
    done = sum(cost.values()) - cost[first]
    return rest * seconds / done if done > 0 and seconds > 0 else None
