"""Headers of CT files with 512x512 pixels: the scan against pydicom and dicomsdl, CPU time.

Run: python -m benchmarks.headers. Each timed file is read once in the process: every way has
files of its own in every round, made alike, since values and stretches that were met before are
remembered. Two archives: one series, whose files differ in what slices of a volume differ in, and
many patients, where each file is of another patient, study and series. Figures are medians of the
rounds after the first, ratios are taken within a round. The bytes lie in the page cache.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.datadict import keyword_for_tag
from pydicom.examples import get_path
from pydicom.uid import generate_uid

from benchmarks.figures import arguments, most, plain, tell
from dicom2cache.headers.describe import wanted_tags
from dicom2cache.headers.elements import CHARSET, Scan
from dicom2cache.headers.read import read_headers
from dicom2cache.headers.split import split
from dicom2cache.privacy.keys import PatientKey
from dicom2cache.records import Candidate
from dicom2cache.sources.place import Opened

BAR = 0.25
_FIRST = "pydicom dcmread(stop_before_pixels=True)"
_PIXELS = 512 * 512 * 2

Way = Callable[[Sequence[Path]], Any]


def _slice(ds: Dataset, k: int) -> None:
    """What tells the slices of a series apart."""
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid(
        entropy_srcs=["headers", str(k)]
    )
    ds.InstanceNumber = k
    ds.ImagePositionPatient = [0, 0, 2.5 * k]
    ds.SliceLocation = 2.5 * k
    ds.AcquisitionTime = ds.ContentTime = f"{100000 + k % 50000}.{k:06d}"
    ds.WindowCenter = 40 + k % 3


def _patient(ds: Dataset, k: int) -> None:
    """A patient, study and series of its own, on one of several scanners."""
    _slice(ds, k)
    ds.PatientID, ds.PatientName = f"MRN{k:07}", f"Name{k}^Given{k}"
    ds.PatientBirthDate = f"{1920 + k % 90}{1 + k % 12:02}{1 + k % 28:02}"
    ds.PatientAge, ds.PatientSex = f"{k % 100:03}Y", "FM"[k % 2]
    ds.AccessionNumber, ds.StudyID = f"A{k:08}", str(k)
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = (
        f"{2000 + k % 25}{1 + k % 12:02}{1 + k % 28:02}"
    )
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        setattr(ds, keyword, generate_uid(entropy_srcs=[keyword, str(k)]))
    ds.ImagePositionPatient = [-100 - k % 977 / 7, -120 - k % 613 / 9, -5.0 * (k % 400)]
    spacing = round(0.5 + k % 501 / 1000, 6)
    ds.PixelSpacing = [spacing, spacing]
    ds.ReconstructionDiameter = round(512 * spacing, 3)
    ds.KVP, ds.XRayTubeCurrent = 80 + 20 * (k % 4), 50 + k % 400
    ds.SeriesNumber = k % 12
    ds.BodyPartExamined = ("CHEST", "HEAD", "ABDOMEN", "PELVIS")[k % 4]
    ds.StationName, ds.DeviceSerialNumber = f"CT{k % 23}", str(10_000 + k % 23)


ARCHIVES: dict[str, Callable[[Dataset, int], None]] = {
    "one series": _slice,
    "many patients": _patient,
}


def write(folder: Path, count: int, change: Callable[[Dataset, int], None]) -> list[Path]:
    """CT files with the header of pydicom's sample (6 KiB, 140 elements, private ones too).

    Their pixels are zeros and take no room on the disk.
    """
    folder.mkdir(parents=True)
    ds = dcmread(get_path("ct"))
    ds.Rows = ds.Columns = 512
    paths = []
    for k in range(count):
        change(ds, k)
        ds.PixelData = b""
        buffer = BytesIO()
        ds.save_as(buffer)
        head = buffer.getvalue()
        at = head.rindex(b"\xe0\x7f\x10\x00OW") + 8  # its value follows a length of 4 bytes
        path = folder / f"{k:06d}.dcm"
        with open(path, "wb") as file:
            file.write(head[:at] + _PIXELS.to_bytes(4, "little"))
            file.truncate(at + 4 + _PIXELS)
        paths.append(path)
    return paths


def ways() -> dict[str, Way]:
    """What is compared."""
    tags = wanted_tags()
    wanted = frozenset(tags) | {CHARSET}

    def scanned(paths: Sequence[Path]) -> None:
        for path in paths:
            with Opened(path) as file:
                found = split(file, wanted)
            elements = None if found is None else found.whole()
            assert elements is not None
            Scan(elements)

    def rows(paths: Sequence[Path]) -> None:
        folder = paths[0].parent
        status = [(path.name, path.stat()) for path in paths]
        some = [Candidate(0, name, s.st_size, s.st_mtime_ns) for name, s in status]
        files = read_headers([str(folder)], some, PatientKey(b"k" * 16)).files
        assert files.num_rows == len(paths)

    found: dict[str, Way] = {
        _FIRST: lambda paths: [dcmread(p, stop_before_pixels=True) for p in paths],
        "pydicom, specific_tags too": lambda paths: [
            dcmread(p, stop_before_pixels=True, specific_tags=tags) for p in paths
        ],
        "scan, wanted values converted": scanned,
        "read_headers: rows of FILES, hashes too": rows,
    }
    try:
        import dicomsdl
    except ImportError:
        return found
    names = [name for name in map(keyword_for_tag, tags) if name]

    def parsed(paths: Sequence[Path]) -> None:
        for path in paths:
            dicomsdl.open(str(path), load_until=0x7FDFFFFF)

    def read(paths: Sequence[Path]) -> None:
        for path in paths:
            ds = dicomsdl.open(str(path), load_until=0x7FDFFFFF)
            for name in names:
                getattr(ds, name)

    return {**found, "dicomsdl, parsed": parsed, "dicomsdl, wanted values converted": read}


def measured(paths: Sequence[Path], files: int, rounds: int) -> dict[str, dict[str, float]]:
    """{way: {ms, ratio}}, of `files` files a way and round, none of them read before."""
    compared = ways()
    rest = iter(paths)
    times: dict[str, list[float]] = {name: [] for name in compared}
    for number in range(rounds + 1):
        for name, way in compared.items():
            mine = [next(rest) for _ in range(files)]
            gc.collect()
            start = time.process_time()
            way(mine)
            if number:  # the first round imports what is needed, and learns what files are like
                times[name].append((time.process_time() - start) / files * 1e3)
    found = {}
    for name, spent in times.items():
        ratio = statistics.median(a / b for a, b in zip(spent, times[_FIRST], strict=True))
        found[name] = {"ms": round(statistics.median(spent), 4), "ratio": round(ratio, 3)}
    return found


def main() -> None:
    """Print all figures and the bar."""
    parser = arguments(__doc__)
    parser.add_argument("--files", type=int, default=300, help="of a way and a round")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    figures = {}
    with tempfile.TemporaryDirectory() as temporary:
        for archive, change in ARCHIVES.items():
            count = given.files * (given.rounds + 1) * len(ways())
            paths = write(Path(temporary) / archive, count, change)
            figures[archive] = measured(paths, given.files, given.rounds)
            print(f"{archive}, each file read for the first time:")
            for name, found in figures[archive].items():
                print(f"  {name}: {found['ms']:.3f} ms a file, {found['ratio']:.3f} of the first")
    rows = []
    for archive, ways_of in figures.items():
        for name, found in list(ways_of.items())[1:]:
            what, ratio = f"{archive}, {name}, by the CPU time of pydicom's header", found["ratio"]
            scan = name.startswith("scan")
            rows.append(most(what, ratio, BAR) if scan else plain(what, ratio))
    tell("headers", "make bench-headers", rows, given.keep, "pydicom", "numpy")


if __name__ == "__main__":
    main()
