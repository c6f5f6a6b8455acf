"""A plan's shards as tasks, and shares of them of about the same cost; pure."""

from __future__ import annotations

import heapq

import numpy as np

from dicom2cache import syntaxes
from dicom2cache.arrow import ints
from dicom2cache.records import Plan, ShardTask


def tasks(plan: Plan) -> list[ShardTask]:
    """One task for each shard, in the order of the cache; their rows cover the frame table once."""
    said = plan.files["transfer_syntax"].combine_chunks().dictionary_encode()
    known = np.array([syntaxes.cost_weight(s) for s in said.dictionary.to_pylist()], np.float32)
    weight = known[ints(said.indices, 0)] if len(said) else np.zeros(1, np.float32)
    summed = np.r_[0.0, np.cumsum(weight[ints(plan.frames["file"], 0)], dtype=np.float64)]
    result, start = [], 0
    for a, spec in enumerate(plan.arrays):
        for shard in range(spec.shards):
            stop = start + min(spec.frames_per_shard, spec.slots - shard * spec.frames_per_shard)
            cost = float(summed[stop] - summed[start]) * spec.slot_bytes
            result.append(ShardTask(a, spec.first + shard, start, stop, cost))
            start = stop
    return result


def part(all_tasks: list[ShardTask], index: int, of: int) -> list[ShardTask]:
    """Part `index` (from 0) of `of` of about the same cost; the parts cover all tasks once."""
    loads = [(0.0, i) for i in range(of)]
    mine = []
    for task in sorted(all_tasks, key=lambda t: (-t.cost, t.array, t.shard)):
        load, who = heapq.heappop(loads)
        heapq.heappush(loads, (load + task.cost, who))
        if who == index:
            mine.append(task)
    return mine
