"""One converter in a process of its own: its work timed after its start-up, or its pixels checked.

Run by contenders.py:
python -m benchmarks.convert.process time|check CONVERTER KIND FOLDER OUT OPTIONS COUNT.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.convert.converters.common import Work
from benchmarks.convert.sources import Kind, paths_of, true_frame

_LOSSY = 3.0
"""greatest mean difference from the image before JPEG: another colour space is above 10"""


def cpu_seconds() -> float:
    """CPU time so far of this process and of all that descend from it, living or waited for."""
    parents: dict[int, list[tuple[int, int]]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        parents.setdefault(int(words[1]), []).append(
            (int(stat.parent.name), sum(map(int, words[11:15])))
        )
    ticks, todo = 0, [os.getpid()]
    while todo:
        for pid, used in parents.get(todo.pop(), []):
            ticks += used
            todo.append(pid)
    mine = os.times()
    waited = mine.children_user + mine.children_system
    return time.process_time() + waited + ticks / os.sysconf("SC_CLK_TCK")


def timed(converter: Any, kind: Kind, folder: Path, out: Path, options: Any, count: int) -> Any:
    """Wall and CPU seconds of converting `count` files; opening it and a few files come first.

    With the option `passes` that is done so often, and the medians are given.
    """
    files = paths_of(folder)[:count]
    work = converter.opened(kind, files, options)
    (out / "few").mkdir(parents=True)
    work(paths_of(folder, "few"), out / "few")
    start = cpu_seconds(), time.perf_counter()
    passes = [_once(work, files, out / "all", options) for _ in range(options.get("passes", 1))]
    wall, cpu = (median(found[k] for found in passes) for k in ("wall", "cpu"))
    return {"wall": wall, "cpu": cpu, "all_cpu": cpu_seconds() - start[0],
            "all_wall": time.perf_counter() - start[1]}  # fmt: skip


def _once(work: Work, files: list[Path], out: Path, options: Any) -> dict[str, float]:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    cpu, wall = cpu_seconds(), time.perf_counter()
    work(files, out)
    if options.get("sync"):
        os.sync()  # once, for all that was written
    return {"wall": time.perf_counter() - wall, "cpu": cpu_seconds() - cpu}


def checked(kind: Kind, folder: Path, found: Iterator[tuple[int, Any]], count: int) -> Any:
    """{wrong, values}: what is wrong with the pixels, if anything, and what they are."""
    import numpy as np

    truth, seen, values = np.load(folder / "truth.npy", mmap_mode="r"), set[int](), set[str]()
    for k, got in found:
        which = [true_frame(kind, k, f, len(truth)) for f in range(kind.frames)]
        true, got = np.squeeze(truth[which]), np.squeeze(np.asarray(got))
        if got.shape != true.shape:
            return {"wrong": f"file {k} came as {got.shape}, and is {true.shape}"}
        if kind.lossy:
            off = float(np.abs(got.astype(np.int16) - true).mean())
            if off > _LOSSY:
                return {"wrong": f"colours of file {k} are off by {off:.0f} in the mean"}
            values.add(f"RGB, off by {off:.2f} at most in the mean" if not values else "")
        elif np.array_equal(got, true):
            values.add("RGB" if kind.colour else "HU")
        elif not kind.colour and np.array_equal(got, true + np.int16(1024)):
            values.add("stored values")
        else:
            return {"wrong": f"file {k} has other pixels"}
        seen.add(k)
    if len(seen) != count:
        return {"wrong": f"{len(seen)} of {count} files came"}
    return {"wrong": "", "values": ", ".join(sorted(values - {""}))}


def main() -> None:
    """Do it, and answer with one line of JSON."""
    # What libraries print must not come between.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    do, name, kind_said, folder, out, options, count = sys.argv[1:]
    kind = Kind(**json.loads(kind_said))
    converter = import_module(f"benchmarks.convert.converters.{name}")
    answer: Any
    try:
        if do == "time":
            answer = timed(
                converter, kind, Path(folder), Path(out), json.loads(options), int(count)
            )
        else:
            files = paths_of(Path(folder))[: int(count)]
            found = converter.pixels(kind, files, Path(out))
            answer = checked(kind, Path(folder), found, int(count))
    except Exception as error:  # whatever it is, it costs this contender alone
        answer = {"wrong": f"{type(error).__name__}: {error}"[:300]}
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
