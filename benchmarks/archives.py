"""Builds of a folder, of the same files in a zip, stored and deflated, and in a tar, in turn.

CT slices of `--size` x `--size`, 12 bits of noise over a smooth image, uncompressed. Whole commands
are timed, and the shares are of the frames a second of the folder in the same round.
Run: python -m benchmarks.archives [--files 10000] [--size 256] [--rounds 3]
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.uid import generate_uid

from benchmarks.figures import arguments, least, tell
from tests.support.dicom_files import write_series


def _slices(folder: Path, count: int, size: int) -> None:
    dataset = dcmread(write_series(folder.parent / "template", 1, size)[0])
    rng = np.random.default_rng(0)
    smooth = np.hypot(*np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]) * 1500
    for k in range(count):
        series, number = divmod(k, 200)
        here = folder / f"{series:04}"
        here.mkdir(parents=True, exist_ok=True)
        dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[f"series {series}"])
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[f"{k}"])
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.InstanceNumber, dataset.ImagePositionPatient = number + 1, [0, 0, number]
        pixels = smooth + rng.normal(1000, 20, (size, size))
        dataset.PixelData = pixels.clip(0, 4095).astype("<u2").tobytes()
        dataset.save_as(here / f"{number:03}.dcm")


def _packed(folder: Path, top: Path) -> dict[str, Path]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    ways = {"folder": folder}
    for name, method in (("stored", zipfile.ZIP_STORED), ("deflated", zipfile.ZIP_DEFLATED)):
        ways[f"zip, {name}"] = top / f"{name}.zip"
        with zipfile.ZipFile(ways[f"zip, {name}"], "w", method) as archive:
            for path in files:
                archive.write(path, path.relative_to(folder))
    ways["tar"] = top / "all.tar"
    with tarfile.open(ways["tar"], "w") as tar:
        tar.add(folder, ".")
    return ways


def main() -> None:
    """Print the figures."""
    parser = arguments(__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="archives-") as name:
        top = Path(name)
        _slices(top / "files", asked.files, asked.size)
        ways = _packed(top / "files", top)
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(asked.rounds):
            for way, source in ways.items():
                start = time.perf_counter()
                command = [
                    sys.executable,
                    "-m",
                    "dicom2cache",
                    "build",
                    str(source),
                    f"{top}/cache",
                ]
                subprocess.run(
                    command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
                seconds[way].append(time.perf_counter() - start)
                shutil.rmtree(top / "cache")
    figures = []
    for way in list(ways)[1:]:
        shares = [a / b for a, b in zip(seconds["folder"], seconds[way], strict=True)]
        what = f"a build of {asked.files:,} files in a {way}, speed by that of the folder"
        figures.append(least(what, statistics.median(shares), 0.8))
    tell("archives", "make bench-archives", figures, asked.keep)


if __name__ == "__main__":
    main()
