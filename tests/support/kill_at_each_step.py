"""Kill a build before each call that makes something durable, run it again, print what came out.

    python -m tests.support.kill_at_each_step SOURCE FOLDER FIRST STRIDE CODEC

A process of its own, so that it can fork without threads: a build then costs no imports. Prints a
line of JSON for each step: [number, name, status of the killed build, of the next one, tree].
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import joblib
import numcodecs.blosc
import numpy.ma
import pyarrow.parquet
import pydicom

from dicom2cache import Recipe, build
from dicom2cache.running import commit
from tests.support.caches import tree

# Imported before the forks, but nothing of it run: Arrow's threads must start in the children.
_READY = (joblib, numcodecs.blosc, numpy.ma, pyarrow.parquet, pydicom, commit)
imagecodecs.version()  # imports every codec
_STEPS = ("mkdir", "fsync", "link", "replace", "rename", "unlink")


def _die_at(step: int, told: int) -> None:
    """Kill this process before its call number `step` of _STEPS, after telling the call's name."""
    calls = 0

    def patched(name: str, works: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > step:
                os.write(told, name.encode())
                os.kill(os.getpid(), signal.SIGKILL)
            return works(*arguments, **options)

        return call

    for name in _STEPS:
        setattr(os, name, patched(name, getattr(os, name)))


def in_child(call: Callable[[], bool], step: int | None) -> tuple[str, int]:
    """(name of the call that a child died at, its exit status: 0 if `call` is true, 1 if not).

    What is called must stay in this process (`backend="threading"`). `step` None: it lives.
    """
    heard, told = os.pipe()
    child = os.fork()
    if not child:
        if step is not None:
            _die_at(step, told)
        try:
            status = 0 if call() else 1
        except BaseException as e:
            print(repr(e), file=sys.stderr, flush=True)
            status = 2
        os._exit(status)
    os.close(told)
    name = os.read(heard, 100).decode()
    os.close(heard)
    return name, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(source: Path, folder: Path, first: int, stride: int, codec: str) -> None:
    """Every `stride`-th step from `first` on, until a build comes through."""
    for step in range(first, 1000, stride):
        cache = folder / str(step)
        recipe = Recipe(shard_mib=1, codec=codec)

        def run(cache: Path = cache, recipe: Recipe = recipe) -> bool:
            return bool(build(source, cache, recipe, jobs=1, backend="threading"))

        name, killed = in_child(run, step)
        if not name:
            break
        _, status = in_child(run, None)
        found = tree(cache) if status == 0 else {}
        print(json.dumps([step, name, killed, status, found]), flush=True)
        shutil.rmtree(cache)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
