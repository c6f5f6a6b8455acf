"""The figures that converting is held to, and what a run has of them."""

from __future__ import annotations

import math
from typing import Any

from benchmarks.convert.contenders import DISK, FEW, TMPFS, ratio
from benchmarks.figures import Figure, least, most, plain

_FLOORS = {
    "jpeg-2000": 1.04, "jpeg-ls": 1.12, "jpeg-lossless": 1.25, "htj2k": 1.30, "jpeg": 1.8,
}  # fmt: skip
_NAMES = {
    "jpeg-2000": "JPEG 2000", "jpeg-ls": "JPEG-LS", "jpeg-lossless": "JPEG Lossless",
    "htj2k": "HTJ2K", "jpeg": "JPEG Baseline, colour",
}  # fmt: skip
_Rows = dict[str, dict[str, Any]]


def bars_of(found: dict[str, Any]) -> list[Figure]:
    """Each figure with its bar; what has none is given beside them."""
    tables = {
        name: {row["name"]: row for row in table["rows"]}
        for name, table in found["kinds"].items()
    }  # fmt: skip
    bars = _uncompressed(tables["ct"]) if "ct" in tables else []
    for name, bar in _FLOORS.items():
        if name in tables:
            mine, floor = (tables[name][n] for n in ("dicom2cache, 1 job", "imagecodecs alone"))
            what = f"building from {_NAMES[name]}: CPU against the codec alone"
            bars.append(most(what, ratio(mine, floor, "cpu"), bar))
    if "cine" in tables:
        mine, decode = (
            tables["cine"][n] for n in ("dicom2cache, 1 job", "pydicom, pixel_array alone")
        )
        what = "building from uncompressed RGB of 30 frames a file: CPU against pydicom's decoding"
        bars.append(most(what, ratio(mine, decode, "cpu"), 1.0))
    if "jpeg-2000" in tables:
        files = tables["jpeg-2000"]["dicom2cache, 1 job"]["files"]
        bars.append(_two_jobs(tables["jpeg-2000"], "", "JPEG 2000", 0.56 if files >= 512 else 0.6))
    return bars


def _uncompressed(rows: _Rows) -> list[Figure]:
    """Figures of CT files that are not compressed."""
    one, two = rows["dicom2cache, 1 job"], rows["dicom2cache, 2 jobs"]
    ct = f"building from {one['files']:,} uncompressed CT files"
    decoding = ratio(one, rows["pydicom, pixel_array alone"], "cpu")
    writing = ratio(one, rows["pydicom to .npy"], "cpu")
    bars = [
        most(f"{ct}: CPU against pydicom's decoding", decoding, 0.25),
        plain(f"{ct}: CPU against pydicom's decoding and writing .npy", writing),
    ]
    times, peer = _fastest(one, rows)
    bars.append(least(f"{ct}: files/s against the fastest of its peers, 1 process", times, 2, peer))
    times, peer = _fastest(two, rows)
    bars.append(
        least(f"{ct}: files/s against the fastest of its peers, 2 processes", times, 1, peer)
    )
    what = f"{ct}, 2 jobs: files/s against what the disk takes of as many bytes, synced"
    bars.append(least(what, ratio(rows[DISK], two, "wall"), 0.9))
    times, peer = _fastest(one, rows, sync=True)
    what = f"{ct}: files/s against the fastest of its peers whose output is synced, 1 process"
    bars.append(plain(what, times, peer))
    memory = rows[f"dicom2cache, 2 jobs, {TMPFS}"]
    times, peer = _fastest(memory, rows)
    what = (
        f"building from {memory['files']:,} uncompressed CT files, output in memory ({TMPFS}): "
        "files/s against the fastest of its peers, 2 processes"
    )
    bars.append(least(what, times, 2, peer))
    bars.append(_two_jobs(rows, "", "uncompressed CT", 0.65))
    bars.append(_two_jobs(rows, FEW, "uncompressed CT", 1.0))
    return bars


def _two_jobs(rows: _Rows, which: str, files: str, bar: float) -> Figure:
    """How long two jobs take by one, start-up included."""
    one, two = (rows[f"dicom2cache, {n}{which}"] for n in ("1 job", "2 jobs"))
    what = f"building from {one['files']:,} {files} files: time of 2 jobs by 1 job, with start-up"
    note = f"without start-up {ratio(two, one, 'wall'):.2f}"
    return most(what, ratio(two, one, "whole_wall"), bar, note)


def _fastest(mine: dict[str, Any], rows: _Rows, sync: bool = False) -> tuple[float, str]:
    """(times as many files/s, name) of the peer that comes nearest.

    Of those with as many processes, and output in the same place.
    """
    tmpfs = mine["options"].get(TMPFS, False)
    peers = [
        row for row in rows.values()
        if row["converter"] != "ours" and row["writes"] and row["processes"] == mine["processes"]
        and "failed" not in row and row["options"].get("sync", False) == sync
        and row["options"].get(TMPFS, False) == tmpfs
    ]  # fmt: skip
    return min(((ratio(p, mine, "wall"), p["name"]) for p in peers), default=(math.nan, "none ran"))
