"""The figures that reading is held to, and what a run has of them."""

from __future__ import annotations

import math
from statistics import median
from typing import Any

from benchmarks.figures import Figure, least, most
from benchmarks.read.contenders import ratio
from benchmarks.read.workloads import BATCHES

OURS = ("memcpy", "CacheLoader", "FrameDataset")
_OURS = "CacheLoader"


def bars_of(found: dict[str, Any]) -> list[Figure]:
    """Figures of the contenders that took part."""
    tables = {
        name: {row["name"]: row for row in table["rows"]} for name, table in found["warm"].items()
    }
    slices, photos, crops = (tables[name] for name in ("slices", "photos", "radiographs"))
    ours, two = slices.get(_OURS, {}), slices.get("FrameDataset, DataLoader, 2 workers", {})
    best, peer = _best(ours, _peers(slices))
    monai, monai_row = _best(ours, _peers(slices, "MONAI"))
    plain = ratio(ours, slices.get("pydicom, uncompressed", {}))
    plain_two, _ = _best(ours, _peers(slices, "pydicom, uncompressed"))
    whole = crops.get("CacheLoader, whole then crop", {})
    figures = [
        least("CacheLoader / memcpy, 512x512 int16", _limit(slices), 0.92),
        *(
            least(
                f"CacheLoader / memcpy, 512x512 int16, batch {n}",
                _limit(tables.get(f"slices{n}", {})),
                0.92,
            )
            for n in BATCHES
        ),
        least("CacheLoader / memcpy, 224x224x3 uint8", _limit(photos), 0.9),
        least("CacheLoader / memcpy, 2048x2048, crop of 512", _limit(crops), 0.9),
        least(
            "FrameDataset, DataLoader, 2 workers / memcpy, 512x512 int16",
            ratio(two, slices.get("memcpy", {})),
            0.5,
        ),
        least("CacheLoader / best peer, 512x512 int16", best, 5, peer),
        least("CacheLoader / MONAI PersistentDataset", monai, 10, monai_row),
        least(
            "CacheLoader / pydicom on uncompressed files", plain, 40, f"2 workers: {plain_two:.1f}"
        ),
        least(
            "2048x2048, crop of 512: crop reading / whole, then crop",
            ratio(crops.get(_OURS, {}), whole),
            8,
        ),
    ]
    if "cold" in found:
        cold = _cold({row["name"]: row for row in found["cold"]})
        figures.append(least("cold: CacheLoader random / files in order", cold, 0.7))
    if "million" in found:
        first, opened = (found["million"][k]["median"] for k in _FIRST)
        note = f"with open_cache {opened:.2f}"
        figures.append(most("first batch of a million frames, s", first, 0.3, note))
    for kind, name in _KINDS.items():
        if kind in found:
            less, all_of_it = _beside(found[kind])
            what = f"memory beside leased batches, MiB, {name}"
            figures.append(most(what, less, 150, f"{all_of_it:.0f} {IMPORTS}"))
    if "million" in found:
        return figures
    return [figure for figure in figures if not math.isnan(figure["value"])]


IMPORTS = "with what importing torch and pyarrow takes"
_KINDS = {"memory": "512x512 int16", "million": "a million frames"}
_FIRST = ("first batch, s", "with open_cache, s")


def _limit(rows: dict[str, Any]) -> float:
    return ratio(rows.get(_OURS, {}), rows.get("memcpy", {}))


def _peers(rows: dict[str, Any], like: str = "") -> list[dict[str, Any]]:
    return [r for n, r in rows.items() if like in n and not n.startswith(OURS)]


def _best(ours: dict[str, Any], peers: list[dict[str, Any]]) -> tuple[float, str]:
    """(times as fast, name) of the peer that comes nearest."""
    found = [(ratio(ours, row), row["name"]) for row in peers if "median" in row]
    return min(found, default=(math.nan, "none ran"))


def _cold(rows: dict[str, Any]) -> float:
    ours, files = rows.get("CacheLoader, random"), rows.get("files in order, read()")
    if not ours or not files or "failed" in ours or "failed" in files:
        return math.nan
    return ratio(ours, files)


def _beside(found: dict[str, Any]) -> tuple[float, float]:
    """Greatest private memory beside the leased batches: (without imports, with them), MiB."""
    names = "beside leased and imports, MiB", "beside leased, MiB"
    return found[names[0]]["max"], found[names[1]]["max"]


def together(runs: list[list[Figure]]) -> list[Figure]:
    """Figures of several runs as one: the median of each, with all of them as its note."""
    found = []
    for figures in zip(*runs, strict=True):
        values = sorted(f["value"] for f in figures)
        value, first = median(values), figures[0]
        bar = float(first["bar"].split()[1])
        met = value >= bar if first["bar"].startswith(">=") else value <= bar
        each = ", ".join(f"{v:.2f}" for v in values)
        one = first.copy()
        one.update(value=value, met=met, note=f"of {each}")
        found.append(one)
    return found
