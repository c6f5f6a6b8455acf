"""Kill an export before each call that makes something durable, run it again, print what came out.

    python -m tests.support.kill_export CACHE FOLDER

A line of JSON for each step: [number, name, status of the killed export, of the next one, what lay
there between the two, what lies there then].
"""

from __future__ import annotations

import json
import shutil
import sys
from hashlib import sha256
from pathlib import Path

import nibabel.fileholders
import numpy.ma
import scipy.ndimage

from tests.support.kill_at_each_step import in_child
from trainer_adapter import export, open_cache

_READY = (nibabel.fileholders, numpy.ma, scipy.ndimage, export)  # imported before the forks


def files(folder: Path) -> dict[str, str]:
    """{path: SHA-256} of the files below a folder."""
    return {
        path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def main(cache: Path, folder: Path) -> None:
    """Every step, until an export comes through."""
    for step in range(1000):
        out = folder / str(step)

        def run(out: Path = out) -> bool:
            return export(open_cache(cache), out, jobs=1).count("failed") == 0

        name, killed = in_child(run, step)
        if not name:
            break
        between = files(out)
        _, status = in_child(run, None)
        print(json.dumps([step, name, killed, status, between, files(out)]), flush=True)
        shutil.rmtree(out, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
