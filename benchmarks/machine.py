"""What a figure was measured on, and how: memory as the kernel counts it, contenders in turn."""

from __future__ import annotations

import os
import platform
import resource
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median


def peak_mib() -> float:
    """Greatest resident memory of this process so far, MiB.

    From /proc where there is one: ru_maxrss of a child begins at its parent's peak.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(s for s in status.read_text().splitlines() if s.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def describe(*packages: str) -> dict[str, str]:
    """Processor, cores, memory, system, Python and the versions of `packages`."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [s for s in cpuinfo.read_text().splitlines() if s.startswith("model name")]
        model = names[0].split(":")[1].strip() if names else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": model,
        "cores": str(os.cpu_count()),
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def private_mib() -> float:
    """Memory of this process that is not of a file, MiB: anonymous and shared, now."""
    lines = [s.split() for s in Path("/proc/self/status").read_text().splitlines()]
    return sum(int(s[1]) for s in lines if s[0] in ("RssAnon:", "RssShmem:")) / 1024


def in_turn(contenders: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Median seconds of each, run in turn, so that a drift of the machine hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for k in range(rounds + 1):
        for name, run in contenders.items():
            seconds = run()
            if k:  # the first round warms up
                times[name].append(seconds)
    return {name: median(values) for name, values in times.items()}
