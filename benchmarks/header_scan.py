"""Headers of CT files with 512x512 pixels: the scan against pydicom and dicomsdl, CPU time.

Run: python -m benchmarks.header_scan. All ways read the same files, in turn, in one process;
figures are medians of the rounds, ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.datadict import keyword_for_tag
from pydicom.examples import get_path
from pydicom.uid import generate_uid

from benchmarks.machine import describe
from dicom2cache.describe import wanted_tags
from dicom2cache.header_scan import scan as scan_header
from dicom2cache.header_values import CHARSET, Scan
from dicom2cache.headers import read_headers
from dicom2cache.scan import scan

BAR = 0.25
_FIRST = "pydicom dcmread(stop_before_pixels=True)"


def make_series(folder: Path, files: int) -> None:
    """CT slices with the header of pydicom's sample (6 KiB, 140 elements, private ones too)."""
    folder.mkdir(parents=True)
    ds = dcmread(get_path("ct"))
    ds.Rows = ds.Columns = 512
    ds.PixelData = np.zeros((512, 512), np.int16).tobytes()
    for k in range(files):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid(
            entropy_srcs=["headers", str(k)]
        )
        ds.InstanceNumber = k
        ds.ImagePositionPatient = [0, 0, 2.5 * k]
        ds.AcquisitionTime = ds.ContentTime = f"{100000 + k}.{k:06d}"
        ds.WindowCenter = 40 + k % 3
        ds.save_as(folder / f"{k:04d}.dcm")


def ways(folder: Path) -> dict[str, Callable[[], Any]]:
    """What is compared, each reading all files once."""
    roots, candidates, _ = scan([folder], folder / "none")
    paths = [os.path.join(roots[0], c.path) for c in candidates]
    tags = wanted_tags()
    wanted = frozenset(tags) | {CHARSET}

    def scanned() -> None:
        for path in paths:
            descriptor = os.open(path, os.O_RDONLY)
            elements = scan_header(descriptor, wanted)
            assert elements is not None
            Scan(elements)
            os.close(descriptor)

    found: dict[str, Callable[[], Any]] = {
        _FIRST: lambda: [dcmread(p, stop_before_pixels=True) for p in paths],
        "pydicom, specific_tags too": lambda: [
            dcmread(p, stop_before_pixels=True, specific_tags=tags) for p in paths
        ],
        "scan, wanted values converted": scanned,
        "read_headers: rows of FILES, hashes too": lambda: read_headers(
            roots, candidates, b"k" * 16
        ),
    }
    try:
        import dicomsdl
    except ImportError:
        return found
    names = [name for name in map(keyword_for_tag, tags) if name]

    def parsed() -> None:
        for path in paths:
            dicomsdl.open(path, load_until=0x7FDFFFFF)

    def read() -> None:
        for path in paths:
            ds = dicomsdl.open(path, load_until=0x7FDFFFFF)
            for name in names:
                getattr(ds, name)

    return {**found, "dicomsdl, parsed": parsed, "dicomsdl, wanted values converted": read}


def main() -> None:
    """Print all figures and the bar."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        make_series(Path(temporary) / "ct", given.files)
        compared = ways(Path(temporary) / "ct")
        for number in range(given.rounds + 1):
            for name, way in compared.items():
                start = time.process_time()
                way()
                if number:  # the first fills the page cache and what is remembered
                    spent = (time.process_time() - start) / given.files * 1e3
                    times.setdefault(name, []).append(spent)
    figures = {}
    for name, spent in times.items():
        ratio = statistics.median(a / b for a, b in zip(spent, times[_FIRST], strict=True))
        figures[name] = {"ms": round(statistics.median(spent), 4), "ratio": round(ratio, 3)}
        print(f"{name}: {figures[name]['ms']:.3f} ms a file, {ratio:.3f} of the first")
    print(f"bar: the scan at most {BAR} of the first")
    if given.json:
        machine = describe("pydicom", "numpy")
        if "dicomsdl, parsed" in figures:
            machine |= describe("dicomsdl")
        given.json.write_text(json.dumps({"machine": machine, "figures": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
