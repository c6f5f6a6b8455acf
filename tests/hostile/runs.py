"""Builds of mutants beside healthy files: what each came to, and what it took."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread

from tests.hostile.mutants import mutant
from tests.support.caches import attributes, command, stored, table
from tests.support.dicom_files import pattern, real, uid, write_dicom

RECIPES: dict[str, list[str]] = {
    "default": [],
    "lightlytrain": ["--recipe", "lightlytrain", "--size", "96"],
    "spacing": ["--spacing", "1", "--size", "128", "--codec", "auto"],
    "stored": ["--intensity", "stored", "--codec", "zstd"],
    "window": ["--window", "soft", "--window", "dicom", "--dtype", "float32", "--size", "80,64"],
    "percentiles": ["--intensity", "percentiles", "--fit", "crop", "--size", "64"],
    "suv": ["--intensity", "suv", "--dtype", "float32"],
}
"""flags of the recipes that mutants go through"""

_HEALTHY = (
    "CT_small.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "JPEG2000.dcm",
    "SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_small_odd.dcm", "examples_palette.dcm", "rtdose.dcm",
    "emri_small.dcm", "liver_1frame.dcm", "MR_small_jpeg_ls_lossless.dcm", "image_dfl.dcm",
)  # fmt: skip
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
_TOGETHER = frozenset({"root", "row", "array", "stack", "stack_of", "crc32c"})
"""columns of frames/ that depend on what else is in a cache; the CRC is that of a slot"""


def neighbours(folder: Path) -> None:
    """Twenty healthy files that share no UID with what mutants are made of."""
    folder.mkdir()
    for name in _HEALTHY:
        ds = dcmread(real(name))
        for keyword in _UIDS:
            if keyword in ds:
                setattr(ds, keyword, uid(f"{keyword} of the healthy {name}"))
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.PatientID = f"healthy {name}"
        ds.save_as(folder / name)
    for k in range(20 - len(_HEALTHY)):
        place = {"InstanceNumber": k, "ImagePositionPatient": [0, 0, 2.5 * k]}
        write_dicom(
            folder / f"slice{k}.dcm", pattern(str(k), (64, 64)).astype(np.int16),
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0], PixelSpacing=[0.5, 0.5], **place,
        )  # fmt: skip


@dataclass
class Came:
    """What one build came to."""

    status: int | None
    """None: it did not end"""
    seconds: float
    peak: int
    """most memory of all its processes together, bytes"""
    said: str
    """stdout and stderr"""
    problems: list[str] = field(default_factory=list)
    """what must not be"""
    counts: dict[str, int] = field(default_factory=dict)
    internal: list[str] = field(default_factory=list)
    """failures that are errors of our own"""


def run(arguments: list[object], patience: float) -> Came:
    """`dicom2cache build ARGUMENTS` in a session of its own, watched."""
    start = time.monotonic()
    process = subprocess.Popen(
        command("build", *arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True, text=True, errors="surrogateescape",
    )  # fmt: skip
    peak, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.2):
            peak[0] = max(peak[0], _memory(process.pid))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    status: int | None = None
    try:
        said, _ = process.communicate(timeout=patience)
        status = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
    ended.set()
    watcher.join()
    return Came(status, time.monotonic() - start, peak[0], said)


def _memory(session: int) -> int:
    """Bytes that the processes of a session hold, what they share counted once."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                rollup = (folder / "smaps_rollup").read_text()
                total += int(re.findall(r"^Pss: +(\d+) kB", rollup, re.M)[0]) << 10
        except (OSError, IndexError):
            continue  # it has ended
    return total


Healthy = dict[tuple[str, int, int], tuple[dict[str, Any], bytes]]


def healthy(cache: Path, root: int) -> Healthy:
    """Rows and pixels of the neighbours, by path, frame and slice."""
    return {
        (row["path"], row["frame"], row["part_of_frame"]): (
            {name: value for name, value in row.items() if name not in _TOGETHER},
            pixels.tobytes(),
        )
        for row, pixels in stored(cache)
        if row["root"] == root
    }


def _differs(one: Healthy, other: Healthy) -> list[str]:
    found = []
    for key in sorted(one.keys() | other.keys()):
        if repr(one.get(key)) != repr(other.get(key)):  # NaN is equal to itself
            found.append(f"{key} is not what it is without mutants")
    return found


def check(came: Came, cache: Path, names: set[str], alone: Healthy) -> None:
    """Add to what a build came to what is wrong with it; `names` are its mutants."""
    if came.status in (0, 1) and not (cache / "zarr.json").exists():
        came.status = 2  # Python's own, for what nobody caught
    if came.status not in (0, 1):
        came.problems.append("it did not end" if came.status is None else "it was aborted")
        return
    lines = came.said.splitlines()
    came.problems += [line for line in lines if re.search(r"Traceback|Warning\b", line)]
    failures = table(cache, "failures")
    frames = table(cache, "frames")
    folders = {s["root"]: s["path"] for s in attributes(cache)["sources"]}
    mine = next(root for root, path in folders.items() if path.endswith("mutants"))
    drawn = table(cache, "contours") if (cache / "contours").exists() else []
    known = {row["path"] for row in (*failures, *frames, *drawn) if row["root"] == mine}
    came.problems += [f"{name}: neither stored nor failed" for name in sorted(names - known)]
    came.counts = attributes(cache)["counts"]
    if came.counts["files"] != len(names) + 20:
        came.problems.append(f"{came.counts['files']} files of {len(names) + 20} are counted")
    for row in failures:
        if "internal error" in row["reason"]:
            came.internal.append(f"{row['path']}: {row['reason']}")
    came.problems += _differs(alone, healthy(cache, 1 - mine))


def write_mutants(
    folder: Path, seed: int, numbers: range, more: tuple[Path, ...]
) -> dict[str, str]:
    """{name of the file: what was done to which}; the files lie in `folder`."""
    folder.mkdir()
    told = {}
    for number in numbers:
        what, data = mutant(seed, number, more)
        name = f"{number:05}.dcm"
        (folder / name).write_bytes(data)
        told[name] = what
    return told
