"""An update that adds 1% to a cache, against its build and the listing of the sources.

CT series of 100 uncompressed slices; the new ones are a series of their own, and one slice in an
old one. Times are of whole commands, CPU time of their processes beside it. The floor of an update
is a command that has nothing to do, which is shown too: on small trees that is most of it.
Run: python -m benchmarks.growing [--files 10000] [--size 256]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.uid import generate_uid

from benchmarks.figures import arguments, most, tell
from dicom2cache.sources.find import scan
from tests.support.dicom_files import write_series


def _series(template: Path, folder: Path, number: int, count: int, size: int) -> None:
    """`count` slices of a series of its own."""
    folder.mkdir(parents=True)
    dataset = dcmread(template)
    rng = np.random.default_rng(number)
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[f"series {number}"])
    for k in range(count):
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[f"{number} {k}"])
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.InstanceNumber, dataset.ImagePositionPatient = k + 1, [0, 0, k]
        dataset.PixelData = rng.integers(0, 4096, (size, size), np.uint16).tobytes()
        dataset.save_as(folder / f"{k:03}.dcm")


def _timed(*arguments: object) -> tuple[float, float]:
    """(wall, CPU) seconds of a command."""
    before, start = os.times(), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "dicom2cache", *map(str, arguments)], check=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wall, after = time.perf_counter() - start, os.times()
    before_cpu = before.children_user + before.children_system
    return wall, after.children_user + after.children_system - before_cpu


def main() -> None:
    """Print a table."""
    parser = arguments(__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=256)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="growing-") as name:
        folder = Path(name)
        template = write_series(folder / "template", 1, asked.size)[0]
        sources, cache = folder / "sources", folder / "cache"
        for number in range(asked.files // 100):
            _series(template, sources / f"{number:05}", number, 100, asked.size)
        late = sources / "00000" / "099.dcm"
        late.rename(folder / late.name)
        found = {"build": _timed("build", sources, cache)}
        found["update, nothing new"] = _timed("update", sources, cache)
        shutil.move(folder / late.name, late)
        _series(template, sources / "new", 1 << 20, asked.files // 100 - 1, asked.size)
        start, before = time.perf_counter(), time.process_time()
        scan([sources], cache)
        found["listing"] = time.perf_counter() - start, time.process_time() - before
        found["update, 1% new"] = _timed("update", sources, cache)
    for what, (wall, cpu) in found.items():
        share = wall / found["build"][0], cpu / found["build"][1]
        print(f"{what:20} {wall:8.2f} s {share[0]:7.1%} {cpu:8.2f} s CPU {share[1]:7.1%}")
    bar = 0.05 * found["build"][0] + found["listing"][0]
    what = f"an update that adds 1% to {asked.files:,} files of {asked.size}x{asked.size}"
    note = "the bar: listing the files, and 5% of the build"
    figures = [most(what, found["update, 1% new"][0], round(bar, 2), note, "s")]
    tell("growing", f"make bench-growing FILES={asked.files}", figures, asked.keep)


if __name__ == "__main__":
    main()
