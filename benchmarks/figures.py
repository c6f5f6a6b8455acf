"""Figures of a benchmark, each with the bar that it is held to: printed, and kept in results/.

docs/figures.md is made of what is kept (`python -m tests.house.pages`).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from benchmarks.machine import describe

RESULTS = Path(__file__).parent / "results"


class Figure(TypedDict):
    """A row of the tables in results/ and docs/figures.md."""

    what: str
    value: float
    bar: str
    met: bool | None
    note: str
    unit: NotRequired[str]


def least(what: str, value: float, bar: float, note: str = "", unit: str = "") -> Figure:
    """A figure that shall be at least `bar`."""
    return {"what": what, "value": float(value), "bar": f">= {bar:g}", "met": bool(value >= bar),
            "note": note, "unit": unit}  # fmt: skip


def most(what: str, value: float, bar: float, note: str = "", unit: str = "") -> Figure:
    """A figure that shall be at most `bar`."""
    return {"what": what, "value": float(value), "bar": f"<= {bar:g}", "met": bool(value <= bar),
            "note": note, "unit": unit}  # fmt: skip


def plain(what: str, value: float, note: str = "", unit: str = "") -> Figure:
    """A figure without a bar."""
    return {"what": what, "value": float(value), "bar": "none", "met": None,
            "note": note, "unit": unit}  # fmt: skip


def shown(value: float, unit: str = "") -> str:
    """Three digits, and the unit."""
    if value >= 1000:
        said = f"{value:,.0f}"
    elif value >= 100:
        said = f"{value:.0f}"
    elif value >= 10:
        said = f"{value:.1f}"
    else:
        said = f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"
    return f"{said} {unit}".rstrip()


def table(figures: Sequence[Figure]) -> list[str]:
    """Lines of a table: figure, value, bar, whether it is met, note."""
    lines = ["| figure | value | bar | met | |", "| --- | ---: | ---: | --- | --- |"]
    words = {True: "yes", False: "**no**", None: ""}
    for f in figures:
        value = shown(f["value"], f.get("unit", ""))
        lines.append(f"| {f['what']} | {value} | {f['bar']} | {words[f['met']]} | {f['note']} |")
    return lines


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser that knows `--keep`."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--keep", action="store_true", help="write the figures to results/, too")
    return parser


def tell(name: str, command: str, figures: Sequence[Figure], keep: bool, *packages: str) -> None:
    """Print the figures; with `keep` they, the command and the machine go to results/NAME.json."""
    print("\n".join(table(figures)))
    if keep:
        found: dict[str, Any] = {
            "command": command, "month": time.strftime("%Y-%m"), "machine": describe(*packages),
            "bars": list(figures),
        }  # fmt: skip
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
