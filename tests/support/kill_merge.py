"""Kill a merge before each call that makes something durable, run it again, print what came out.

    python -m tests.support.kill_merge FOLDER FIRST STRIDE [copy|move] PART PART

As kill_at_each_step, each time with copies of the parts. Prints a line of JSON for each step:
[number, name, which of the caches verify as whole then, status of the next merge, its tree, what
else lies beside it].
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from dicom2cache import CacheError, Unfinished, merge, verify
from tests.support.caches import tree
from tests.support.kill_at_each_step import in_child


def _whole(cache: Path) -> bool:
    try:
        return verify(cache) == []
    except (CacheError, Unfinished):
        return False


def main(folder: Path, first: int, stride: int, how: str, parts: list[Path]) -> None:
    """Every `stride`-th step from `first` on, until a merge comes through."""
    flags = {how: True} if how in ("copy", "move") else {}
    for step in range(first, 1000, stride):
        here = folder / str(step)
        here.mkdir()
        own = [Path(shutil.copytree(part, here / part.name)) for part in parts]

        def run(own: list[Path] = own, here: Path = here) -> bool:
            return bool(merge(own, here / "new", **flags))

        name, killed = in_child(run, step)
        if not name:
            break
        assert killed == -9, killed
        whole = [path.name for path in (*own, here / "new") if _whole(path)]
        _, status = in_child(run, None)
        found = tree(here / "new") if (here / "new").exists() else {}
        beside = sorted(path.name for path in here.iterdir())
        print(json.dumps([step, name, whole, status, found, beside]), flush=True)
        shutil.rmtree(here)


if __name__ == "__main__":
    rest = sys.argv[4:]
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), rest[0], [*map(Path, rest[1:])])
