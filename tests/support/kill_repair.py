"""Kill a repair before each call that makes something durable, run it again, print what came out.

    python -m tests.support.kill_repair DAMAGED FOLDER

As kill_at_each_step. Prints a line of JSON for each step: [number, name, status of the killed
repair, tree that it left if there is a root that a reader takes, status of the next one, tree].
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from dicom2cache import repair
from dicom2cache.running.repair import whole
from dicom2cache.store.committed import whole_root
from tests.support.caches import tree
from tests.support.kill_at_each_step import die_at

_READY = whole


def _in_child(cache: Path, step: int | None) -> tuple[str, int]:
    """(name of the call it died at, exit status) of a repair in a child."""
    heard, told = os.pipe()
    child = os.fork()
    if not child:
        if step is not None:
            die_at(step, told)
        try:
            done = repair(cache, jobs=1, backend="threading")
        except BaseException as e:
            print(repr(e), file=sys.stderr, flush=True)
            os._exit(2)
        os._exit(0 if done.is_whole else 1)
    os.close(told)
    name = os.read(heard, 100).decode()
    os.close(heard)
    return name, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(damaged: Path, folder: Path) -> None:
    """Every step, until a repair comes through."""
    for step in range(1000):
        cache = Path(shutil.copytree(damaged, folder / str(step)))
        name, killed = _in_child(cache, step)
        if not name:
            break
        opened = tree(cache) if whole_root(cache) is not None else {}
        _, status = _in_child(cache, None)
        found = tree(cache) if status == 0 else {}
        print(json.dumps([step, name, killed, opened, status, found]), flush=True)
        shutil.rmtree(cache)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
