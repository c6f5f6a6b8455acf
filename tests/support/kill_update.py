"""Kill an update before each call that makes something durable, run it again, print what came out.

    python -m tests.support.kill_update SOURCE CACHE FOLDER FIRST STRIDE
    python -m tests.support.kill_update SOURCE CACHE

As kill_at_each_step, each time with a copy of CACHE in FOLDER. Prints a line of JSON for each step:
[number, name, status of the killed update, what `verify` finds then, what a reader has, status of
the next update, tree]. Without FOLDER the update of CACHE itself is killed before it has a receipt.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from dicom2cache import verify
from dicom2cache.pipeline import update
from tests.support.caches import attributes, tree
from tests.support.kill_at_each_step import in_child


def main(source: Path, cache: Path, folder: Path, first: int, stride: int) -> None:
    """Every `stride`-th step from `first` on, until an update comes through."""
    for step in range(first, 1000, stride):
        copy = Path(shutil.copytree(cache, folder / str(step)))

        def run(copy: Path = copy) -> bool:
            return bool(update(source, copy, jobs=1, backend="threading"))

        name, killed = in_child(run, step)
        if not name:
            break
        problems = verify(copy)
        frames = attributes(copy)["counts"]["frames_stored"]
        _, status = in_child(run, None)
        found = tree(copy) if status == 0 else {}
        print(json.dumps([step, name, killed, problems, frames, status, found]), flush=True)
        shutil.rmtree(copy)


def before_a_receipt(source: Path, cache: Path) -> None:
    """Kill the update of `cache` before it names its first receipt: its plan is named by then."""
    names, link = list[str](), os.link

    def linked(*arguments: object, **options: object) -> None:
        names.append("link")
        if len(names) == 3:  # the first one tries out whether there are links
            os.kill(os.getpid(), 9)
        link(*arguments, **options)  # type: ignore[arg-type]

    os.link = linked
    update(source, cache, jobs=1, backend="threading")


if __name__ == "__main__":
    paths = [Path(argument) for argument in sys.argv[1:4]]
    if len(paths) == 2:
        before_a_receipt(*paths)
    else:
        main(*paths, int(sys.argv[4]), int(sys.argv[5]))
