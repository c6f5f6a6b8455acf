"""`make bench-convert`: the same files through dicom2cache, its peers and the codecs alone.

Run: .venv-peers/bin/python -m benchmarks.convert [--quick] [--kind ct]. Contenders take turns, for
several rounds; ratios are taken within each round, and their median is given.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.convert.bars import bars_of
from benchmarks.convert.contenders import CONTENDERS, compete
from benchmarks.convert.report import in_words
from benchmarks.convert.sources import KINDS, Kind, paths_of
from benchmarks.machine import describe

RESULTS = Path(__file__).parents[1] / "results"


def prepare(kind: Kind, here: Path) -> None:
    """The files, written in a process of its own."""
    print(f"{time.strftime('%H:%M:%S')} {kind.title}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "benchmarks.convert.sources", str(here)]
    subprocess.run([*command, json.dumps(asdict(kind))], check=True)


def measure(kind: Kind, here: Path, rounds: int, chosen: str) -> dict[str, Any]:
    """The table of one kind; its files are removed."""
    sizes = [path.stat().st_size for path in paths_of(here)]
    rows = compete(kind, here, rounds, chosen)
    shutil.rmtree(here)
    return {"title": f"{kind.title}, {kind.files} files", "files": kind.files,
            "frames": kind.frames, "kib": sum(sizes) / len(sizes) / 1024, "rows": rows}  # fmt: skip


def smaller(kind: Kind) -> Kind:
    """A quarter or half of the files, but for those whose number a bar names."""
    share = {"ct": 4, "jpeg-2000": 1}.get(kind.name, 2)
    return replace(kind, files=kind.files // share)


def summed_up(found: dict[str, Any], seconds: float, rounds: int) -> dict[str, Any]:
    """Tables of kinds, with bars, settings, machine and versions."""
    modules = {c.converter: import_module(f"benchmarks.convert.converters.{c.converter}")
               for c in CONTENDERS}  # fmt: skip
    packages = []
    for name in sorted({n for m in modules.values() for n in m.PACKAGES}):
        try:
            version(name)
        except PackageNotFoundError:
            continue
        packages.append(name)
    return {
        "command": "make bench-convert", "minutes": round(seconds / 60, 1), "rounds": rounds,
        "machine": describe(*packages),
        "settings": {name: m.SETTINGS for name, m in modules.items()},
        "bars": bars_of(found), **found,
    }  # fmt: skip


def main() -> None:
    """Measure, print, and keep the results of a whole run."""
    parser = argparse.ArgumentParser(description="Converting: ours, peers, codecs.")
    parser.add_argument("--quick", action="store_true", help="fewer files, one round; not kept")
    parser.add_argument("--kind", choices=list(KINDS), help="files of one kind; not kept")
    parser.add_argument("--only", default="", help="contenders with this in their name; not kept")
    parser.add_argument("--tmp", type=Path, help="where files go: up to 12 GiB at a time")
    given = parser.parse_args()
    rounds, start = 1 if given.quick else 3, time.perf_counter()
    found = dict[str, Any](kinds={})
    for kind in [KINDS[given.kind]] if given.kind else KINDS.values():
        used = smaller(kind) if given.quick else kind
        with tempfile.TemporaryDirectory(dir=given.tmp) as temporary:
            here = Path(temporary) / kind.name
            prepare(used, here)
            found["kinds"][kind.name] = measure(used, here, rounds, given.only)
    if given.only:
        print(json.dumps(found, indent=1))
        return
    result = summed_up(found, time.perf_counter() - start, rounds)
    text = in_words(result)
    print(text)
    if not (given.quick or given.kind):
        keep(result, text)


def keep(result: dict[str, Any], text: str) -> None:
    """In results/, as words and as JSON."""
    (RESULTS / "convert.md").write_text(text)
    (RESULTS / "convert.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
