"""Roots of caches that lie: each leaf and key changed in turn, and signed anew.

Run: python -m tests.running.hostile_roots [--every N] [--commands N]. Some commands on each of
them, taking turns, in this process: only an exit status and a sentence may come of it. Exit status
1 if one ends otherwise.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.support.caches import built, run_here
from tests.support.dicom_files import pattern, write_dicom
from tests.support.signed import sign

VALUES: tuple[Any, ...] = (
    None, True, 0, 1, -1, 2**31, 2**40, 2**63, 2**70, 1.5, 1e308, "", "x", "../x", "/etc", "\0",
    "int16", [], [None], {}, {"x": 1}, [[]] * 3, "9" * 5000,
)  # fmt: skip
"""what a leaf becomes"""
SECONDS = 20
"""beyond which a command hangs"""


def _paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _paths(inner, (*at, key))
    elif isinstance(value, list):
        for k, inner in enumerate(value):
            yield from _paths(inner, (*at, k))


def mutations(about: dict[str, Any]) -> Iterator[tuple[str, Callable[[dict[str, Any]], None]]]:
    """(what, change) for each member: other values, gone, twice, beside another one."""
    for path in _paths({k: v for k, v in about.items() if k != "sha256"}):
        if not path:
            continue
        where = ".".join(map(str, path))
        for value in VALUES:
            yield f"{where} = {str(value)[:20]!r}", lambda a, p=path, v=value: _set(a, p, v)
        yield f"{where} gone", lambda a, p=path: _parent(a, p).__delitem__(p[-1])
        yield f"{where} renamed", _renamed(path)
        yield f"{where} within itself", lambda a, p=path: _set(a, p, [_get(a, p)] * 2)


def _parent(about: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        about = about[key]
    return about


def _get(about: Any, path: tuple[Any, ...]) -> Any:
    return copy.deepcopy(_parent(about, path)[path[-1]])


def _set(about: Any, path: tuple[Any, ...], value: Any) -> None:
    _parent(about, path)[path[-1]] = copy.deepcopy(value)


def _renamed(path: tuple[Any, ...]) -> Callable[[dict[str, Any]], None]:
    def change(about: dict[str, Any]) -> None:
        held = _parent(about, path)
        if isinstance(held, dict):
            held[f"{path[-1]}x"] = held.pop(path[-1])
        else:
            held.insert(0, held[path[-1]])

    return change


def commands(cache: Path, other: Path, source: Path) -> list[tuple[object, ...]]:
    """All commands that read a committed cache."""
    return [
        ("verify", cache), ("verify", cache, "--quick"), ("verify", cache, "--deep", "1"),
        ("info", cache), ("info", cache, "--errata"), ("info", cache, "--json"),
        ("compare", cache, other), ("compare", other, cache), ("convert", cache),
        ("commit", cache), ("plan", source, cache), ("build", source, cache),
        ("report", cache, "-o", other.parent / "page.html"),
        ("show", cache, "1", "-o", other.parent / "1.png"),
        ("show", cache, "--path", "0.dcm", "-o", other.parent / "0.png"),
        ("failures", cache), ("failures", cache, "--each"),
    ]  # fmt: skip


def make(folder: Path) -> tuple[Path, Path, Path]:
    """(cache, another one of the same sources, the sources)."""
    source = folder / "in"
    for k in range(2):
        write_dicom(source / f"{k}.dcm", pattern(str(k), (8, 6)))
    (source / "notes.txt").write_text("none")
    flags = ("--codec", "zstd")
    return built(source, folder / "cache", *flags), built(source, folder / "other"), source


def wrong(folder: Path, every: int = 1, first: int = 0, some: int = 2) -> Iterator[str]:
    """What ends otherwise than by a status and a sentence: mutation, command, how it ended."""
    cache, other, source = make(folder)
    whole = (cache / "zarr.json").read_bytes()
    about = json.loads(whole)["attributes"]["dicom2cache"]
    calls = commands(cache, other, source)
    for n, (what, change) in enumerate(mutations(about)):
        if n % every != first:
            continue
        sign(cache, change)
        for k in range(some):
            call = calls[(n // every * some + k) % len(calls)]
            started = time.monotonic()
            try:
                ran = run_here(*call)
            except Exception as e:
                yield f"{what}: {call[0]} {call[2:]}: {type(e).__name__}: {e}"
                continue
            took = time.monotonic() - started
            said = ran.stderr.strip()
            if took > SECONDS or "Traceback" in said or (ran.returncode and not said):
                told = f"status {ran.returncode} after {took:.1f} s: {said[-200:]}"
                yield f"{what}: {call[0]}: {told}"
        (cache / "zarr.json").write_bytes(whole)


def main() -> int:
    """Run by the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--commands", type=int, default=2)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = list(wrong(Path(folder), asked.every, asked.first, asked.commands))
    print(*found, sep="\n")
    print(f"{len(found)} ended otherwise than by a status and a sentence")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
