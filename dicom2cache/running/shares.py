"""Which share of a plan a process converts: a part of so many, or whatever is not done."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

from dicom2cache.errors import CacheError
from dicom2cache.planning.tasks import part
from dicom2cache.records import ShardTask
from dicom2cache.running.choices import chosen_before, damaged
from dicom2cache.running.job import Job, scratch
from dicom2cache.store.durable import write_first

_LEGAL = "legal: I/N with I from 0 to N-1, or slurm/N in a Slurm array"


@dataclass(frozen=True)
class Share:
    """Part `index` of `of`, from 0."""

    index: int
    of: int
    array: bool = False
    """one task of an array, whose parts are all of the same number"""


WHOLE = Share(0, 1)


def share_of(said: str | tuple[int, int], environment: Mapping[str, str] = os.environ) -> Share:
    """The share that `I/N`, (I, N) or `slurm/N` says.

    The index of slurm/N is SLURM_ARRAY_TASK_ID. SLURM_ARRAY_TASK_COUNT is not asked: it counts the
    tasks of one submission, and a second one of a few tasks would share the plan out anew. Raises
    ValueError for what is no such share.
    """
    if not isinstance(said, str):
        said = "/".join(map(str, said))
    index, slash, of = said.partition("/")
    array = index == "slurm"
    if array:
        index = environment.get("SLURM_ARRAY_TASK_ID", "")
        if not index:
            raise ValueError(f"part {said}: SLURM_ARRAY_TASK_ID is not set; submit an array")
    if not (slash and index.isdecimal() and of.isdecimal()) or int(index) >= int(of):
        of_task = f" of SLURM_ARRAY_TASK_ID={index}" if array else ""
        raise ValueError(f"part {said}{of_task}; {_LEGAL}")
    return Share(int(index), int(of), array)


def hold(job: Job, share: Share) -> list[ShardTask]:
    """The tasks of a share; recorded is into how many the plan is shared out, if it is the first.

    Raises CacheError for a task of an array that shares it out otherwise: shards would be left.
    """
    if share == WHOLE:
        return job.tasks
    path = job.state / "choices" / "shares.json"
    write_first(path, json.dumps({"of": share.of}).encode(), scratch(job), job.links)
    of = chosen_before(path).get("of")
    if not isinstance(of, int):
        raise damaged(path)
    if share.array and of != share.of:
        raise CacheError(
            f"{job.cache}: the first part here was one of {of}, this one is of {share.of}; give "
            f"--part slurm/{of}, or no --part, which takes whatever is not done"
        )
    return part(job.tasks, share.index, share.of)
