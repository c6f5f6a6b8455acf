"""Which of several processes that train together this one is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from operator import index

_SAID_BY = (
    ("RANK", "WORLD_SIZE"),  # torchrun, before init_process_group
    # srun. Not SLURM_NTASKS: a batch script that starts one process has it too.
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)


def distributed_rank(
    rank: int | None, ranks: int | None, environment: Mapping[str, str] = os.environ
) -> tuple[int, int]:
    """(rank, ranks): as given, or of torch.distributed, torchrun or srun, or (0, 1).

    Raises ValueError if only one is given.
    """
    if (rank is None) != (ranks is None):
        raise ValueError(f"rank {rank} of ranks {ranks}: give both or none")
    if rank is not None and ranks is not None:
        return index(rank), index(ranks)
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    for names in _SAID_BY:
        if all(name in environment for name in names):
            return int(environment[names[0]]), int(environment[names[1]])
    return 0, 1
