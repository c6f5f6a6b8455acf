"""What converters have in common: their interface, and work spread over processes.

A converter is a module with `opened(kind, files, options)`, which does what start-up is (imports,
processes) and gives a Work, and `pixels(kind, files, out)`, which yields (number of the file, its
pixels as written) for the check. PACKAGES are those whose versions matter, SETTINGS says how it was
set up, and why so.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

Options = dict[str, Any]
"""how one row of the table differs from another of the same converter, such as {"processes": 2}"""
Work = Callable[[Sequence[Path], Path], None]
"""converts files into a folder that exists"""
Pixels = Iterator[tuple[int, Any]]


def each(one: Callable[..., None], options: Options) -> Work:
    """Work that is done file by file, `one(path, out)`, over as many processes as are wanted."""
    processes = int(options.get("processes", 1))
    if processes == 1:

        def work(files: Sequence[Path], out: Path) -> None:
            for path in files:
                one(path, out)

        return work
    # Forked after the imports, so that these are not made twice.
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("fork"))

    def spread(files: Sequence[Path], out: Path) -> None:
        chunk = max(1, min(32, len(files) // (4 * processes)))
        for _ in pool.map(partial(one, out=out), files, chunksize=chunk):
            pass

    return spread


def arrays(files: Sequence[Path], out: Path) -> Pixels:
    """What was written as one .npy for each file."""
    for path in files:
        yield int(path.stem), np.load(out / f"{path.stem}.npy")
