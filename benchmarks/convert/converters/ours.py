"""This project: the command `dicom2cache build`, from start to end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.convert.converters.common import Options, Pixels
from benchmarks.convert.sources import Kind

PACKAGES = ("dicom2cache", "imagecodecs", "numpy", "pyarrow", "pydicom", "joblib", "zarr")
SETTINGS = (
    "`dicom2cache build SRC CACHE --jobs N` with its defaults, or with `--codec lz4`; HU, header "
    "columns, statistics, checksums; shards are written past the page cache on ext4 and XFS, and "
    "each is synced to the disk, as of its peers only in the rows that say so"
)


def command(source: Path, out: Path, options: Options) -> list[str]:
    """The whole build of a folder."""
    program = Path(sys.executable).parent / "dicom2cache"
    more = ["--codec", options["codec"]] if "codec" in options else []
    return [str(program), "build", str(source), str(out), "--jobs", str(options["jobs"]), *more]


def pixels(kind: Kind, files: Sequence[Path], out: Path) -> Pixels:
    """Frames of the cache, by the path in its table."""
    from trainer_adapter import open_cache

    cache = open_cache(out)
    table = cache.frames.select(["path", "frame"]).to_pylist()
    rows = {(int(Path(r["path"]).stem), r["frame"]): k for k, r in enumerate(table)}
    for path in files:
        k = int(path.stem)
        numbers = [rows[k, f] for f in range(kind.frames)]
        yield k, np.stack([np.asarray(cache[i]) for i in numbers])
