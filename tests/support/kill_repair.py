"""Kill a repair before each call that makes something durable, run it again, print what came out.

    python -m tests.support.kill_repair DAMAGED FOLDER

As kill_at_each_step. Prints a line of JSON for each step: [number, name, status of the killed
repair, tree that it left if there is a root that a reader takes, status of the next one, tree].
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from dicom2cache import repair
from dicom2cache.running.repair import whole
from dicom2cache.store.committed import whole_root
from tests.support.caches import tree
from tests.support.kill_at_each_step import in_child

_READY = whole


def main(damaged: Path, folder: Path) -> None:
    """Every step, until a repair comes through."""
    for step in range(1000):
        cache = Path(shutil.copytree(damaged, folder / str(step)))

        def run(cache: Path = cache) -> bool:
            return repair(cache, jobs=1, backend="threading").is_whole

        name, killed = in_child(run, step)
        if not name:
            break
        opened = tree(cache) if whole_root(cache) is not None else {}
        _, status = in_child(run, None)
        found = tree(cache) if status == 0 else {}
        print(json.dumps([step, name, killed, opened, status, found]), flush=True)
        shutil.rmtree(cache)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
