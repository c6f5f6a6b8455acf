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
    legal = said.dictionary.to_pylist()
    kind = ints(said.indices, 0)[ints(plan.frames["file"], 0)]
    known = (syntaxes.cost_weight, syntaxes.abreast)
    weights, abreast = (
        np.r_[0.0, np.cumsum(np.array([of(s) for s in legal], np.float32)[kind], dtype=np.float64)]
        for of in known
    )
    result, start = [], 0
    for a, spec in enumerate(plan.arrays):
        for shard in range(spec.shards):
            stop = start + min(spec.frames_per_shard, spec.slots - shard * spec.frames_per_shard)
            cost = float(weights[stop] - weights[start]) * spec.slot_bytes
            many = max(1, int((abreast[stop] - abreast[start]) / (stop - start)))
            result.append(ShardTask(a, spec.first + shard, start, stop, cost, many))
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
