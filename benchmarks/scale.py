"""10,000 to 1,000,000 frames: plan, a worker's start, commit, open, report; real files in parts.

python -m benchmarks.scale             headers are made up: what a plan of so many costs on disk,
                                       in a worker, at commit (of receipts without shards' bytes)
python -m benchmarks.scale --files N   N real small files: plan, convert in two parts, commit, open

Each figure in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from benchmarks.figures import Figure, arguments, most, plain, tell
from benchmarks.machine import peak_mib
from benchmarks.planning import headers
from dicom2cache import Recipe, pipeline
from dicom2cache.cli.reporting import whole
from dicom2cache.cli.reporting.page import page_of
from dicom2cache.planning.plan import make_plan
from dicom2cache.planning.select import select_files
from dicom2cache.records import ArraySpec, ShardTask
from dicom2cache.running import commit as committing
from dicom2cache.running import receipts, versions
from dicom2cache.running.job import Job, load_job, save_plan
from dicom2cache.running.plan_rows import frames_of, headers_of
from dicom2cache.schema import REJECTS, RESULTS
from dicom2cache.store.layout import shard_path
from tests.support.dicom_files import pattern, uid, write_dicom
from trainer_adapter import open_cache

_BARS = {
    "plan": (60, 3072), "worker": (2, 300), "commit": (30, None), "open": (0.3, 100),
    "report": (60, 4096),
}  # fmt: skip
"""of 1,000,000 frames: seconds, MiB"""
_WORDS = {
    "plan": "plan of {} headers, on disk",
    "worker": "a worker of such a plan, until its first frame",
    "commit": "commit of {} frames",
    "open": "`open_cache` of them",
    "report": "`report` of them",
}


def plan(n: int, cache: Path) -> None:
    """Plan made-up headers, and write the plan."""
    recipe = Recipe()
    files, rejects = select_files(headers(n), recipe)
    every = pa.concat_tables([REJECTS.empty_table(), rejects])
    facts = {"software": versions.software("none"), "codecs": {}, "patient_key": "0" * 16}
    cache.mkdir()
    save_plan(Job(cache, "0" * 64, (str(cache),), recipe, make_plan(files, every, recipe), facts))


def worker(cache: Path) -> None:
    """What a worker does before the first frame of a shard is decoded."""
    job = load_job(cache)
    task = job.tasks[len(job.tasks) // 2]
    rows = frames_of(job, range(task.start, task.stop))
    assert headers_of(job, rows)


def receipted(cache: Path) -> None:
    """Receipts of all shards, their files sparse: all but the decoding is done."""
    job = load_job(cache)

    def receipt(task: ShardTask) -> None:
        spec = job.plan.arrays[task.array]
        count = task.stop - task.start
        one: dict[str, Any] = {
            "codec": "native", "crc32c": 1, "min": 0.0, "max": 9.0, "mean": 4.5, "std": 2.0,
            **dict.fromkeys(("p0_5", "p1", "p50", "p99", "p99_5"), 4.0),
        }  # fmt: skip
        results = pa.Table.from_pylist([one] * count, RESULTS)
        size = _sparse(cache, spec, task, count)
        about = {
            "attempt": "0", "bytes": str(size), "index_crc32c": "0", "codec": "none",
            "chunks_crc32c": "",
        }  # fmt: skip
        table = results.replace_schema_metadata(about)
        with pa.ipc.new_file(str(receipts.receipt_path(job, task)), table.schema) as writer:
            writer.write_table(table)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(receipt, job.tasks))


def _sparse(cache: Path, spec: ArraySpec, task: ShardTask, count: int) -> int:
    path = cache / shard_path(spec, task.shard)
    path.parent.mkdir(exist_ok=True)
    size = count * spec.slot_bytes + 16 * spec.frames_per_shard + 4
    with open(path, "wb") as file:
        file.truncate(size)
    return size


def commit(cache: Path) -> None:
    """Tables and root of all receipts."""
    committing.commit(load_job(cache))


def opened(cache: Path) -> None:
    """Open the cache, as training does."""
    assert len(open_cache(cache))


def reported(cache: Path) -> None:
    """The page about the cache; its made-up shards have no pictures."""
    assert page_of(whole.report(cache, pipeline.info(cache)))


def files(n: int, folder: Path) -> None:
    """`n` files of 64 x 64 in series of 100, a folder each."""

    def series(first: int) -> None:
        for k in range(first, min(n, first + 100)):
            write_dicom(
                folder / f"{first // 10000:04}" / f"{first:08}" / f"{k:08}.dcm",
                pattern("scale", (64, 64)), SeriesInstanceUID=uid(f"series {first}"),
                SOPInstanceUID=uid(f"file {k}"), InstanceNumber=k % 100,
                ImagePositionPatient=[0.0, 0.0, float(k % 100)],
            )  # fmt: skip

    for first in range(0, n, 100):
        series(first)


_STEPS: dict[str, Callable[..., object]] = {
    "plan": plan, "worker": worker, "receipts": receipted, "commit": commit, "open": opened,
    "report": reported,
    "files": files,
    "plan-files": lambda source, cache: pipeline.plan([source], cache, jobs=2),
    "part-0": lambda cache: pipeline.convert(cache, part="0/2", jobs=2),
    "part-1": lambda cache: pipeline.convert(cache, part="1/2", jobs=2),
    "commit-files": pipeline.commit,
}  # fmt: skip


def _step(name: str, *given: object) -> dict[str, float]:
    """Seconds and greatest memory of a step in a process of its own, beside its imports."""
    command = [sys.executable, "-m", "benchmarks.scale", "--step", name, *map(str, given)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _run(name: str, given: list[str]) -> None:
    values = [int(v) if v.isdecimal() else Path(v) for v in given]
    before, start = peak_mib(), time.perf_counter()
    _STEPS[name](*values)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "mib": peak_mib() - before}))


def _disk(folder: Path) -> tuple[int, int]:
    """(bytes, files) below a folder."""
    found = [os.stat(os.path.join(at, f)) for at, _, names in os.walk(folder) for f in names]
    return sum(s.st_blocks * 512 for s in found), len(found)


def _made_up(n: int, folder: Path) -> dict[str, Any]:
    cache = folder / f"cache{n}"
    found: dict[str, Any] = {"frames": n, "plan": _step("plan", n, cache)}
    found["plan_bytes"], found["plan_files"] = _disk(cache / "build")
    found["worker"] = _step("worker", cache)
    _step("receipts", cache)
    found["commit"] = _step("commit", cache)
    found["open"] = _step("open", cache)
    found["report"] = _step("report", cache)
    found["table_bytes"], found["cache_files"] = _disk(cache)
    return found


def _real(n: int, folder: Path) -> dict[str, Any]:
    source, cache = folder / "source", folder / "cache"
    _step("files", n, source)
    found: dict[str, Any] = {"frames": n, "plan": _step("plan-files", source, cache)}
    found["plan_bytes"], found["plan_files"] = _disk(cache / "build")
    found["parts"] = [_step("part-0", cache), _step("part-1", cache)]
    found["commit"] = _step("commit-files", cache)
    found["open"] = _step("open", cache)
    found["report"] = _step("report", cache)
    found["cache_bytes"], found["cache_files"] = _disk(cache)
    return found


def _line(found: dict[str, Any]) -> str:
    words = [f"{found['frames']:>9,} frames"]
    for name in _BARS:
        if name in found:
            step = found[name]
            words.append(f"{name} {step['seconds']:.2f} s {step['mib']:.0f} MiB")
    words.append(f"plan {found['plan_bytes'] / 2**20:.0f} MiB in {found['plan_files']} files")
    words.append(f"cache {found['cache_files']} files")
    if "parts" in found:
        parts = ", ".join(f"{p['seconds']:.1f} s" for p in found["parts"])
        words.append(f"parts {parts}; {found['cache_bytes'] / 2**20:.0f} MiB")
    return "; ".join(words)


def _figures(one: dict[str, Any], other: dict[str, Any]) -> list[Figure]:
    """Of the largest size; and how much longer each step takes than for the size before."""
    found = []
    for name, (seconds, mib) in _BARS.items():
        step, what = other[name], _WORDS[name].format(f"{other['frames']:,}")
        found.append(most(what, step["seconds"], seconds, unit="s"))
        if mib is not None:
            found.append(most(f"{what}: peak memory", step["mib"], mib, unit="MiB"))
    for name in _BARS:
        ratio = other[name]["seconds"] / max(one[name]["seconds"], 1e-9)
        what = f"{name} of {other['frames']:,} frames, times as long as of {one['frames']:,}"
        bar = other["frames"] // one["frames"] * 1.2
        found.append(most(what, ratio, bar) if name in ("plan", "commit") else plain(what, ratio))
    return found


def main() -> None:
    """Print a line for each size."""
    parser = arguments(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--files", type=int)
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    said = parser.parse_args()
    if said.step:
        _run(said.step[0], said.step[1:])
        return
    results = []
    with TemporaryDirectory(dir=os.environ.get("SCALE_FOLDER")) as folder:
        jobs = [_real] if said.files else [_made_up] * len(said.sizes)
        for job, n in zip(jobs, [said.files] if said.files else said.sizes, strict=True):
            results.append(job(n, Path(folder)))
            print(_line(results[-1]), flush=True)
    if not said.files and len(results) > 1:
        tell("scale", "make bench-scale", _figures(*results[-2:]), said.keep)


if __name__ == "__main__":
    main()
