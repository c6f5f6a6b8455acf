"""`make bench-read`: the same frames read by CacheLoader, by its peers and by memcpy, in one run.

Run: .venv-peers/bin/python -m benchmarks.read [--quick] [--only ours]. Contenders take turns, for
several rounds; ratios are taken within each round, and their median is given. The batches are let
go at once.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, tell
from benchmarks.machine import describe
from benchmarks.read import limits
from benchmarks.read.bars import bars_of, together
from benchmarks.read.cold import cold
from benchmarks.read.contenders import CONTENDERS, Contender, chosen, compete
from benchmarks.read.report import in_words
from benchmarks.read.workloads import BATCHES, SLICES, WORKLOADS, Workload, write_frames

RESULTS = Path(__file__).parents[1] / "results"


def run(here: Path, quick: bool, taking: Sequence[Contender]) -> dict[str, Any]:
    """Everything that is measured: warm tables; of all contenders the cold one and limits too."""
    found = dict[str, Any](warm={})
    for work in WORKLOADS.values():
        told(work.title)
        folder = here / work.name
        folder.mkdir()
        write_frames(work, folder / f"{work.name}.npy")
        rounds = 2 if quick else 4 if work is SLICES else 3
        found["warm"][work.name] = _table(work, compete(work, folder, rounds, taking))
        if work is SLICES and any(c.peer == "ours" for c in taking):
            told("memory beside the batches")
            cache = folder / f"ours-{work.frames}" / "cache"
            found["memory"] = limits.fresh(cache, work.batch, 3)
            two = [c for c in CONTENDERS if c.name in ("memcpy", "CacheLoader")]
            for other in (replace(work, batch=batch) for batch in BATCHES):
                rows = compete(other, folder, rounds, two)
                found["warm"][f"{work.name}{other.batch}"] = _table(other, rows)
        shutil.rmtree(folder)
    if len(taking) < len(CONTENDERS):
        return found
    told("a million frames")
    limits.write_million(here / "million")
    os.sync()
    found["million"] = limits.fresh(here / "million", 64, 3 if quick else 7)
    shutil.rmtree(here / "million")
    told("cold")
    if not hasattr(os, "posix_fadvise"):
        found["cold"] = []
        return found
    large = replace(SLICES, frames=1024 if quick else 4096)
    write_frames(large, here / "cold.npy")
    found["cold"] = cold(here, here / "cold.npy", large, 2 if quick else 5)
    return found


def _table(work: Workload, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"title": work.title, "frames": work.frames, "rows": rows}


def told(what: str) -> None:
    """Say what comes, and when."""
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def settings(taking: Sequence[Contender]) -> dict[str, str]:
    """How each peer was set up."""
    peers = dict.fromkeys(c.peer for c in taking)
    return {peer: import_module(f"benchmarks.read.peers.{peer}").SETTINGS for peer in peers}


def versions(taking: Sequence[Contender]) -> list[str]:
    """Packages that matter and are here."""
    peers = [import_module(f"benchmarks.read.peers.{c.peer}") for c in taking]
    names = {name for peer in peers for name in peer.PACKAGES}
    found = []
    for name in sorted(names):
        try:
            version(name)
        except PackageNotFoundError:
            continue
        found.append(name)
    return found


def main() -> None:
    """Measure, print, and keep the results of a whole run."""
    parser = argparse.ArgumentParser(description="Reading: ours, peers, memcpy.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds; not kept")
    parser.add_argument(
        "--only", default="", help="peers, such as ours,npy, beside memcpy; not kept"
    )
    parser.add_argument("--times", type=int, default=1, help="so many runs, each from its files on")
    parser.add_argument("--keep", action="store_true", help="of --only: figures go to results/")
    parser.add_argument("--tmp", type=Path, help="where the frames go: up to 12 GiB at a time")
    given = parser.parse_args()
    taking = chosen(given.only)
    start = time.perf_counter()
    runs = list[list[Figure]]()
    for _ in range(given.times):
        with tempfile.TemporaryDirectory(dir=given.tmp) as temporary:
            found = run(Path(temporary), given.quick, taking)
        runs.append(bars_of(found))
    found = {
        "command": "make bench-read", "minutes": round((time.perf_counter() - start) / 60, 1),
        "machine": describe(*versions(taking)), "settings": settings(taking),
        "bars": runs[-1], **found,
    }  # fmt: skip
    text = in_words(found)
    print(text)
    if given.only:
        command = f"{'QUICK=1 ' * given.quick}make bench-read ONLY={given.only} TIMES={given.times}"
        tell("read_repeated", command, together(runs), given.keep, *versions(taking))
    if not (given.quick or given.only):
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "read.md").write_text(text)
        (RESULTS / "read.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
