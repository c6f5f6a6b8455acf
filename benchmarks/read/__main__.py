"""`make bench-read`: the same frames read by CacheLoader, by its peers and by memcpy, in one run.

Run: .venv-peers/bin/python -m benchmarks.read [--quick]. Contenders take turns, for several rounds;
ratios are taken within each round, and their median is given. The batches are let go at once.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from benchmarks.read import limits
from benchmarks.read.bars import bars_of
from benchmarks.read.cold import cold
from benchmarks.read.contenders import CONTENDERS, compete
from benchmarks.read.report import in_words
from benchmarks.read.workloads import BATCHES, SLICES, WORKLOADS, write_frames

RESULTS = Path(__file__).parents[1] / "results"


def run(here: Path, quick: bool, chosen: str) -> dict[str, Any]:
    """Everything that is measured: warm tables, the cold one, the loader's limits, the bars."""
    found = dict[str, Any](warm={})
    for work in WORKLOADS.values():
        told(work.title)
        folder = here / work.name
        folder.mkdir()
        used = replace(work, frames=work.frames // 2) if quick else work
        write_frames(used, folder / f"{work.name}.npy")
        rounds = 2 if quick else 4 if work is SLICES else 3
        rows = compete(used, folder, rounds, chosen)
        found["warm"][work.name] = {"title": work.title, "frames": used.frames, "rows": rows}
        if work is SLICES and not chosen:
            told("memory beside the batches")
            cache = folder / f"ours-{used.frames}" / "cache"
            found["memory"] = limits.fresh(cache, work.batch, 3)
            for batch in BATCHES:
                other = replace(used, batch=batch)
                rows = compete(other, folder, rounds, "^(memcpy|CacheLoader)$")
                table = {"title": other.title, "frames": used.frames, "rows": rows}
                found["warm"][f"{work.name}{batch}"] = table
        shutil.rmtree(folder)
    if chosen:
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


def told(what: str) -> None:
    """Say what comes, and when."""
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def settings() -> dict[str, str]:
    """How each peer was set up."""
    peers = dict.fromkeys(c.peer for c in CONTENDERS)
    return {peer: import_module(f"benchmarks.read.peers.{peer}").SETTINGS for peer in peers}


def versions() -> list[str]:
    """Packages that matter and are here."""
    peers = [import_module(f"benchmarks.read.peers.{c.peer}") for c in CONTENDERS]
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
    parser.add_argument("--quick", action="store_true", help="fewer frames and rounds; not kept")
    parser.add_argument("--only", default="", help="contenders whose name matches; not kept")
    parser.add_argument("--tmp", type=Path, help="where the frames go: up to 12 GiB at a time")
    given = parser.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=given.tmp) as temporary:
        found = run(Path(temporary), given.quick, given.only)
    found = {
        "command": "make bench-read", "minutes": round((time.perf_counter() - start) / 60, 1),
        "machine": describe(*versions()), "settings": settings(),
        "bars": [] if given.only else bars_of(found), **found,
    }  # fmt: skip
    text = in_words(found)
    print(text)
    if not (given.quick or given.only):
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "read.md").write_text(text)
        (RESULTS / "read.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
