"""The figures that reading is held to, and what a run has of them."""

from __future__ import annotations

import math
from typing import Any

from benchmarks.read.contenders import ratio
from benchmarks.read.workloads import BATCHES

OURS = ("memcpy", "CacheLoader", "FrameDataset")


def bars_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    """{what, value, bar, unit, met, note} of each figure."""
    tables = {
        name: {row["name"]: row for row in table["rows"]} for name, table in found["warm"].items()
    }
    slices, photos, crops = (tables[name] for name in ("slices", "photos", "radiographs"))
    ours, photo, crop = (rows["CacheLoader"] for rows in (slices, photos, crops))
    best, peer = _best(ours, _peers(slices))
    monai, monai_row = _best(ours, _peers(slices, "MONAI"))
    plain = ratio(ours, slices["pydicom, uncompressed"])
    two, _ = _best(ours, _peers(slices, "pydicom, uncompressed"))
    cold = {row["name"]: row for row in found["cold"]}
    beside = _beside(found["memory"]), _beside(found["million"])
    first, opened = (found["million"][k]["median"] for k in _FIRST)
    return [
        _least("CacheLoader / memcpy, 512x512 int16", _of(ours, slices), 0.92),
        *(
            _least(f"the same, batch {n}", _of(rows["CacheLoader"], rows), 0.92)
            for n, rows in ((n, tables[f"slices{n}"]) for n in BATCHES)
        ),
        _least("CacheLoader / memcpy, 224x224x3 uint8", _of(photo, photos), 0.9),
        _least("CacheLoader / memcpy, 2048x2048, crop of 512", _of(crop, crops), 0.9),
        _least("CacheLoader / best peer, 512x512 int16", best, 5, peer),
        _least("CacheLoader / MONAI PersistentDataset", monai, 10, monai_row),
        _least("CacheLoader / pydicom on uncompressed files", plain, 40, f"2 workers: {two:.1f}"),
        _least(
            "2048x2048, crop of 512: crop reading / whole, then crop",
            ratio(crop, crops["CacheLoader, whole then crop"]),
            8,
        ),
        _least("cold: CacheLoader random / files in order", _cold(cold), 0.7),
        _most("first batch of a million frames, s", first, 0.3, f"with open_cache {opened:.2f}"),
        *(
            _most(f"memory beside leased batches, MiB, {name}", less, 150, f"{whole:.0f} {IMPORTS}")
            for name, (less, whole) in zip(_KINDS, beside, strict=True)
        ),
    ]  # fmt: skip


IMPORTS = "with what importing torch and pyarrow takes"
_KINDS = ("512x512 int16", "a million frames")
_FIRST = ("first batch, s", "with open_cache, s")


def _of(ours: dict[str, Any], rows: dict[str, Any]) -> float:
    return ratio(ours, rows["memcpy"])


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


def _least(what: str, value: float, bar: float, note: str = "") -> dict[str, Any]:
    return {"what": what, "value": value, "bar": f">= {bar}", "met": value >= bar, "note": note}


def _most(what: str, value: float, bar: float, note: str = "") -> dict[str, Any]:
    return {"what": what, "value": value, "bar": f"<= {bar}", "met": value <= bar, "note": note}
