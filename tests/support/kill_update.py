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
from tests.support.kill_at_each_step import die_at


def _in_child(source: Path, cache: Path, step: int | None) -> tuple[str, int]:
    """(name of the call it died at, exit status) of an update in a child."""
    heard, told = os.pipe()
    child = os.fork()
    if not child:
        if step is not None:
            die_at(step, told)
        try:
            update(source, cache, jobs=1, backend="threading")
        except BaseException as e:
            print(repr(e), file=sys.stderr, flush=True)
            os._exit(2)
        os._exit(0)
    os.close(told)
    name = os.read(heard, 100).decode()
    os.close(heard)
    return name, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(source: Path, cache: Path, folder: Path, first: int, stride: int) -> None:
    """Every `stride`-th step from `first` on, until an update comes through."""
    for step in range(first, 1000, stride):
        copy = Path(shutil.copytree(cache, folder / str(step)))
        name, killed = _in_child(source, copy, step)
        if not name:
            break
        problems = verify(copy)
        frames = attributes(copy)["counts"]["frames_stored"]
        _, status = _in_child(source, copy, None)
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
