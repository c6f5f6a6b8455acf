"""How many processors a process may use: in a Slurm job or a container fewer than there are."""

from __future__ import annotations

import math
import os
from pathlib import Path

from dicom2cache.sources import system

_CGROUPS = Path("/sys/fs/cgroup")


def cpu_count(cgroups: Path = _CGROUPS) -> int:
    """The least of the machine's processors, those that the process is bound to, its share of time
    (cgroups v2 and v1), and LOKY_MAX_CPU_COUNT; at least 1.

    As joblib.cpu_count, whose import takes longer than a small command.
    """
    there = os.cpu_count() or 1
    bound = system.processors()
    asked = os.environ.get("LOKY_MAX_CPU_COUNT", "")
    return max(1, min(there, bound, _share(cgroups) or there, int(asked) if asked else there))


def _share(cgroups: Path) -> int | None:
    """Processors that the time of this process's group is worth; None: it is not limited."""
    try:
        quota, period = (cgroups / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota, period = (
                (cgroups / "cpu" / f"cpu.cfs_{name}_us").read_text().strip()
                for name in ("quota", "period")
            )
        except OSError:
            return None
    if quota == "max" or int(quota) <= 0 or int(period) <= 0:
        return None
    return math.ceil(int(quota) / int(period))
