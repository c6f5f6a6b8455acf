"""Kill a removal, or its purge, before each call that makes something durable, and run it again.

    python -m tests.support.kill_remove remove|purge PATIENT CACHE FOLDER FIRST STRIDE

As kill_at_each_step, each time with a copy of CACHE in FOLDER. Prints a line of JSON for each step:
[number, name, what `verify` finds then, numbering and frames that a reader has then, status of the
next run, tree].
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from dicom2cache import verify
from dicom2cache.running.remove.whole import purge, remove
from tests.support.caches import attributes, tree
from tests.support.kill_at_each_step import in_child


def main(what: str, patient: str, cache: Path, folder: Path, first: int, stride: int) -> None:
    """Every `stride`-th step from `first` on, until it comes through."""
    for step in range(first, 1000, stride):
        copy = Path(shutil.copytree(cache, folder / str(step)))

        def run(copy: Path = copy) -> bool:
            return bool(remove(copy, patient_id=[patient]) if what == "remove" else purge(copy))

        name, killed = in_child(run, step)
        if not name:
            break
        assert killed == -9, killed
        problems = verify(copy)
        about = attributes(copy)
        has = [about.get("numbering", 0), about["counts"]["frames_stored"]]
        _, status = in_child(run, None)
        found = tree(copy) if status == 0 else {}
        print(json.dumps([step, name, problems, has, status, found]), flush=True)
        shutil.rmtree(copy)


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(Path, sys.argv[3:5]), *map(int, sys.argv[5:]))  # type: ignore[arg-type]
