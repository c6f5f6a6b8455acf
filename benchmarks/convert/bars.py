"""The figures that converting is held to, and what a run has of them."""

from __future__ import annotations

import math
from typing import Any

from benchmarks.convert.contenders import ratio

_FLOORS = {"jpeg-2000": 1.04, "jpeg-ls": 1.15, "jpeg-lossless": 1.30, "htj2k": None, "jpeg": None}


def bars_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    """{what, value, bar, met, note} of each figure; what has no bar is given beside them."""
    tables = {
        name: {row["name"]: row for row in table["rows"]}
        for name, table in found["kinds"].items()
    }  # fmt: skip
    bars = []
    if "ct" in tables:
        rows = tables["ct"]
        one = rows["dicom2cache, 1 job"]
        decode = rows["pydicom, pixel_array alone"]
        bars.append(_most("uncompressed CT: CPU / pydicom dcmread + pixel_array",
                          ratio(one, decode, "cpu"), 0.6))  # fmt: skip
        for count in (1, 2):
            mine = rows[f"dicom2cache, {count} job{'s' * (count > 1)}"]
            times, peer = _fastest(mine, rows, count)
            what = f"uncompressed CT: files/s / fastest peer, {count} process{'es' * (count > 1)}"
            bars.append(_least(what, times, 2, peer))
        synced, peer = _fastest(one, rows, 1, sync=True)
        what = "uncompressed CT: files/s / fastest peer whose output is synced too, 1 process"
        bars.append(_least(what, synced, None, peer))
    for name, bar in _FLOORS.items():
        if name in tables:
            mine, floor = (tables[name][n] for n in ("dicom2cache, 1 job", "imagecodecs alone"))
            what = f"{name}: CPU / the codec's own"
            bars.append(_most(what, ratio(mine, floor, "cpu"), bar))
    for name, bar in {"jpeg-2000": 0.56, "ct": 0.65}.items():
        if name in tables:
            one, two = (tables[name][f"dicom2cache, {n}"] for n in ("1 job", "2 jobs"))
            note = f"start-up of both taken off: {ratio(two, one, 'wall'):.2f}"
            what = f"{name}, {one['files']} files: wall of 2 jobs / 1 job, start-up included"
            bars.append(_most(what, ratio(two, one, "whole_wall"), bar, note))
    return bars


def _fastest(
    mine: dict[str, Any], rows: dict[str, dict[str, Any]], processes: int, sync: bool = False
) -> tuple[float, str]:
    """(times as many files/s, name) of the peer of as many processes that comes nearest."""
    peers = [
        row for row in rows.values()
        if row["converter"] != "ours" and row["writes"] and row["processes"] == processes
        and "failed" not in row and row["options"].get("sync", False) == sync
    ]  # fmt: skip
    return min(((ratio(p, mine, "wall"), p["name"]) for p in peers), default=(math.nan, "none ran"))


def _least(what: str, value: float, bar: float | None, note: str = "") -> dict[str, Any]:
    said = "none" if bar is None else f">= {bar}"
    met = None if bar is None else value >= bar
    return {"what": what, "value": value, "bar": said, "met": met, "note": note}


def _most(what: str, value: float, bar: float | None, note: str = "") -> dict[str, Any]:
    said = "none" if bar is None else f"<= {bar}"
    met = None if bar is None else value <= bar
    return {"what": what, "value": value, "bar": said, "met": met, "note": note}
