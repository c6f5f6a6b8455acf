"""How many processes work is worth, and how many frames each decodes side by side; pure."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

from dicom2cache.records import ShardTask

_FORKED = 128 << 20
"""cost, as ShardTask has it, for which a process more is worth a fork, some milliseconds: a shard
of 256 files of 512 x 512 that are not compressed"""
_STARTED = 5 << 28
"""the same where it starts anew, which takes a second of a processor: two that joblib had started
took 1.13 as long as one for 2,560 such files, and 0.93 for 10,240"""
_MUCH = 32 << 30
"""the same where the processes that are there can use all processors by themselves"""
_THREADS = 8
"""frames side by side, at most, that spare a process"""


def processes(jobs: int, cost: float, abreast: float, shards: int, forked: bool = False) -> int:
    """How many processes shards of that cost are worth, at most `jobs`; at least 1.

    `abreast` is how many frames one is at its best with: where decoders let go of the interpreter,
    a few processes use all processors. `forked`: they have all their modules at once.
    """
    fewest = math.ceil(jobs / min(_THREADS, max(1, int(abreast / 2))))
    more = int(cost / (_FORKED if forked else _STARTED))
    wanted = max(min(fewest, 1 + more if more > 1 else 1), 1 + int(cost / _MUCH))
    return max(1, min(jobs, shards, wanted))


def for_tasks(jobs: int, tasks: Sequence[ShardTask], forked: bool = False) -> int:
    """How many processes these tasks are worth, at most `jobs`; at least 1."""
    cost = sum(task.cost for task in tasks)
    abreast = sum(task.cost * task.abreast for task in tasks) / max(1.0, cost)
    return processes(jobs, cost, abreast, len(tasks), forked)


def side_by_side(jobs: int, workers: int, tasks: Sequence[ShardTask]) -> list[int]:
    """For each task, in the order in which they are handed out, how many frames at once.

    `workers` processes take the next task as soon as they are through with one. All `jobs`
    processors shall be busy until the end: so a task gets its share of them by what it costs of
    all that is left when it begins, and at least what comes to each process that has something to
    do then; at most what it is at its best with.
    """
    found, left, now = [], sum(task.cost for task in tasks), 0.0
    running: list[tuple[float, float]] = []  # (when it ends, how much of it is done in a second)
    for number, task in enumerate(tasks):
        if len(running) == workers:
            now = heapq.heappop(running)[0]
        going = sum(speed * (end - now) for end, speed in running)
        together = min(workers, len(running) + len(tasks) - number)
        share = task.cost * jobs / (left + going) if left else 0.0
        count = max(math.ceil(jobs / together), math.ceil(share - 1e-9))
        found.append(max(1, min(count, task.abreast, jobs)))
        busy = found[-1] + sum(speed for _, speed in running)
        speed = found[-1] * min(1.0, jobs / busy)
        heapq.heappush(running, (now + task.cost / speed, speed))
        left = max(0.0, left - task.cost)
    return found
