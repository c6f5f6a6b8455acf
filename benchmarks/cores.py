"""As many cores as there are: builds by one job and by two, and 64 jobs by counting.

Builds are whole commands, start-up included, in alternation; medians. Two jobs need two processors
that are free. PYTHONDONTWRITEBYTECODE is not handed on: sources that are compiled anew in each
process are a start-up that no user has. By counting: tasks of a plan are dealt out to workers as
`planning.crew` says, and frames in work share the jobs evenly; no disk, no start-up.
Run: python -m benchmarks.cores [--files 512] [--rounds 3]
"""

from __future__ import annotations

import heapq
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.convert.sources import KINDS, write
from benchmarks.figures import Figure, arguments, most, tell
from dicom2cache.planning.crew import for_tasks, side_by_side
from dicom2cache.records import ShardTask
from dicom2cache.syntaxes import EXPLICIT_LE, abreast, cost_weight

_SHARD = 256  # frames of 512 x 512, 128 MiB
_JOBS = 64
_COUNTED = (1, 3, 8, 40, 65, 130, 400)  # shards
_SYNTAXES = {
    "JPEG 2000": "1.2.840.10008.1.2.4.90", "JPEG-LS": "1.2.840.10008.1.2.4.80",
    "uncompressed": EXPLICIT_LE,
}  # fmt: skip


def _time(jobs: int, workers: int, costs: Sequence[float], threads: Sequence[int]) -> float:
    """How long tasks take that `workers` take in turn: those in work share `jobs` by threads."""
    left, running, now = list(zip(costs, threads, strict=True))[::-1], list[list[float]](), 0.0
    while left or running:
        while left and len(running) < workers:
            running.append([*left.pop()])
        speed = min(1.0, jobs / sum(count for _, count in running))
        step = min(rest / (count * speed) for rest, count in running)
        now += step
        running = [[rest - step * c * speed, c] for rest, c in running]
        running = [[rest, c] for rest, c in running if rest > 1e-9]
    return now


def _counted(syntax: str, shards: int) -> tuple[int, float, float]:
    """(processes, time by these and threads, time by a process for each shard), of even shares."""
    cost = cost_weight(syntax) * _SHARD * (512 * 512 * 2)
    tasks = [ShardTask(0, k, 0, _SHARD, cost, abreast(syntax)) for k in range(shards)]
    workers, even = for_tasks(_JOBS, tasks, forked=True), shards / _JOBS
    threads = side_by_side(_JOBS, workers, tasks)
    ones = [1.0] * shards
    ends = [0.0] * min(shards, _JOBS)
    for _ in range(shards):
        heapq.heapreplace(ends, ends[0] + 1.0)
    return workers, _time(_JOBS, workers, ones, threads) / even, max(ends) / even


def _seconds(source: Path, cache: Path, jobs: int) -> tuple[float, float]:
    """How long a build takes, and how long processors work for it."""
    before = _worked()
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "dicom2cache", "build", source, cache, "--jobs", str(jobs)],
        check=True, capture_output=True, env=clean,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    shutil.rmtree(cache)
    return seconds, _worked() - before


def _worked() -> float:
    """Seconds that processors have worked for children that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def _built(
    folder: Path, kind: str, files: int, rounds: int
) -> dict[int, list[tuple[float, float]]]:
    """{jobs, 1 and 2: (seconds of a build, of processors) of each round}."""
    write(folder / kind, replace(KINDS[kind], files=max(files, 4)))
    source = folder / kind / "all"
    found: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    for _ in range(rounds + 1):  # the first finds files and modules in memory
        for jobs, times in found.items():
            times.append(_seconds(source, folder / "cache", jobs))
    shutil.rmtree(folder / kind)
    return {jobs: times[1:] for jobs, times in found.items()}


def _figures(folder: Path, files: int, rounds: int) -> list[Figure]:
    found = []
    few = _built(folder, "ct", 4, rounds)
    for jobs, words, bar in ((1, "1 job", 0.5), (2, "2 jobs", 0.8)):
        seconds, worked = (median(times) for times in zip(*few[jobs], strict=True))
        what = f"a build of 4 uncompressed files, from start to end, with {words}"
        found.append(most(what, seconds, bar, f"{worked:.2f} s of processors", unit="s"))
    for kind, count, bar in (("jpeg-2000", files, 0.56), ("jpeg-2000", files // 4, 0.6),
                             ("ct", files * 2, 1.0)):  # fmt: skip
        one, two = ([seconds for seconds, _ in times]
                    for times in _built(folder, kind, count, rounds).values())  # fmt: skip
        ratio = median(b / a for a, b in zip(one, two, strict=True))
        words = "JPEG 2000" if kind == "jpeg-2000" else "uncompressed"
        found.append(most(f"{count:,} {words} files of 512x512, 2 jobs by 1 job, start-up included",
                          ratio, bar, f"{median(one):.2f} and {median(two):.2f} s"))  # fmt: skip
    return found


def main() -> None:
    """Print the counts; with files, the times and their ratios too."""
    parser = arguments(__doc__)
    parser.add_argument("--files", type=int, default=0, help="of JPEG 2000; 0: only count")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    print(f"{_JOBS} jobs, times by those of even shares: | processes | with threads | without |")
    for name, syntax in _SYNTAXES.items():
        for shards in _COUNTED:
            workers, ours, before = _counted(syntax, shards)
            print(f"| {name} | {shards} | {workers} | {ours:.2f} | {before:.2f} |")
    if not asked.files:
        return
    with TemporaryDirectory(prefix="cores-") as name:
        figures = _figures(Path(name), asked.files, asked.rounds)
    tell("cores", f"make bench-cores FILES={asked.files}", figures, asked.keep)


if __name__ == "__main__":
    main()
