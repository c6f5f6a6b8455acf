"""Two tasks of an array against one: a plan of JPEG 2000 files, converted in one or two parts.

Each task is a command of its own with one process, as on a node with one processor; the two run at
once, so this needs two processors that are free. One after the other in turns, medians; plan and
commit are not counted. How even the shares are is counted, too: it bounds what two can gain.
Run: python -m benchmarks.parts [--files 2048] [--rounds 3]
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.convert.sources import KINDS, write
from benchmarks.figures import arguments, most, tell
from dicom2cache.planning.tasks import part
from dicom2cache.running.job import load_job

_BAR = 0.6


def _command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "dicom2cache", *map(str, arguments)]


def _quietly(*arguments: object) -> None:
    subprocess.run(_command(*arguments), check=True, capture_output=True)


def _seconds(planned: Path, cache: Path, parts: int) -> float:
    """How long it takes to convert a copy of a plan in so many parts at once."""
    shutil.copytree(planned, cache)
    start = time.perf_counter()
    running = [
        subprocess.Popen(
            _command("convert", cache, "--part", f"{k}/{parts}", "--jobs", 1),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for k in range(parts)
    ]  # fmt: skip
    codes = [process.wait() for process in running]
    seconds = time.perf_counter() - start
    assert not any(codes), codes
    return seconds


def main() -> None:
    """Print the times and their ratio."""
    parser = arguments(__doc__)
    parser.add_argument("--files", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with TemporaryDirectory(prefix="parts-") as name:
        folder = Path(name)
        write(folder / "jpeg-2000", replace(KINDS["jpeg-2000"], files=asked.files))
        planned, cache = folder / "planned", folder / "cache"
        _quietly("plan", folder / "jpeg-2000" / "all", planned)
        tasks = load_job(planned).tasks
        costs = [sum(task.cost for task in part(tasks, k, 2)) for k in range(2)]
        print(f"{asked.files} files, {len(tasks)} shards; shares {costs[0] / sum(costs):.1%} and "
              f"{costs[1] / sum(costs):.1%} of the cost")  # fmt: skip
        found: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(asked.rounds):
            for parts, times in found.items():
                times.append(_seconds(planned, cache, parts))
                _quietly("commit", cache)
                shutil.rmtree(cache)
                print(f"{parts} at once: {times[-1]:.2f} s", flush=True)
    ratio = median(two / one for one, two in zip(*found.values(), strict=True))
    what = f"two tasks of an array by one, {asked.files:,} JPEG 2000 files, one process each"
    tell("parts", "make bench-parts", [most(what, ratio, _BAR)], asked.keep)


if __name__ == "__main__":
    main()
