"""Kill a removal, or its purge, before each call that makes something durable, and run it again.

    python -m tests.support.kill_remove remove|purge PATIENT CACHE FOLDER FIRST STRIDE

As kill_at_each_step, each time with a copy of CACHE in FOLDER. Prints a line of JSON for each step:
[number, name, what `verify` finds then, numbering and frames that a reader has then, status of the
next run, tree].
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from dicom2cache import verify
from dicom2cache.running.remove.whole import purge, remove
from tests.support.caches import attributes, tree
from tests.support.kill_at_each_step import die_at


def _in_child(what: str, patient: str, cache: Path, step: int | None) -> tuple[str, int]:
    """(name of the call it died at, exit status) of a removal or purge in a child."""
    heard, told = os.pipe()
    child = os.fork()
    if not child:
        if step is not None:
            die_at(step, told)
        try:
            if what == "remove":
                remove(cache, patient_id=[patient])
            else:
                purge(cache)
        except BaseException as e:
            print(repr(e), file=sys.stderr, flush=True)
            os._exit(2)
        os._exit(0)
    os.close(told)
    name = os.read(heard, 100).decode()
    os.close(heard)
    return name, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(what: str, patient: str, cache: Path, folder: Path, first: int, stride: int) -> None:
    """Every `stride`-th step from `first` on, until it comes through."""
    for step in range(first, 1000, stride):
        copy = Path(shutil.copytree(cache, folder / str(step)))
        name, killed = _in_child(what, patient, copy, step)
        if not name:
            break
        assert killed == -9, killed
        problems = verify(copy)
        about = attributes(copy)
        has = [about.get("numbering", 0), about["counts"]["frames_stored"]]
        _, status = _in_child(what, patient, copy, None)
        found = tree(copy) if status == 0 else {}
        print(json.dumps([step, name, problems, has, status, found]), flush=True)
        shutil.rmtree(copy)


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(Path, sys.argv[3:5]), *map(int, sys.argv[5:]))  # type: ignore[arg-type]
