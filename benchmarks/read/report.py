"""The results of `make bench-read` in words and tables."""

from __future__ import annotations

from typing import Any

from benchmarks.read.contenders import ratio


def in_words(found: dict[str, Any]) -> str:
    """Markdown of a whole run."""
    machine, kept = found["machine"], ("processor", "cores", "memory", "system", "python")
    lines = ["# Reading: CacheLoader, its peers, memcpy", ""]
    lines += [
        f"`{found['command']}`, {found['minutes']} minutes on: "
        + ", ".join(f"{k} {machine[k]}" for k in kept) + ".", "",
        "All contenders serve the same frames, each in its own form and in a process of its own, "
        "take turns for several rounds, and let each batch go at once. Ratios are medians of the "
        "ratios within each round. Before the clock starts each has given every frame once, with "
        "the same pixels.", "",
    ]  # fmt: skip
    if found["bars"]:
        lines += ["## Figures and their bars", "", "| figure | value | bar | met | |"]
        lines += ["| --- | ---: | ---: | --- | --- |"]
        lines += [
            f"| {b['what']} | {b['value']:.2f} | {b['bar']} | {'yes' if b['met'] else '**no**'} | "
            f"{b['note']} |"
            for b in found["bars"]
        ]
    for table in found["warm"].values():
        lines += ["", f"## {table['title']}, full shuffle, page cache warm", "", *_warm(table)]
    if found.get("cold"):
        lines += [
            "",
            "## Cold: files dropped from the page cache before each pass",
            "",
            *_cold(found),
        ]
    elif "cold" in found:
        lines += ["", "Cold reading was not measured: this system cannot drop files from memory."]
    if "million" in found:
        lines += ["", "## First batch and memory of CacheLoader, batch 64, in fresh processes", ""]
        lines += [*_limits(found)]
    lines += ["", "## How each was set up", ""]
    lines += [f"- `{peer}`: {how}." for peer, how in found["settings"].items()]
    rest = {k: v for k, v in machine.items() if k not in kept}
    lines += ["", "Versions: " + ", ".join(f"{k} {v}" for k, v in rest.items()) + "."]
    return "\n".join(lines) + "\n"


def _warm(table: dict[str, Any]) -> list[str]:
    rows = {row["name"]: row for row in table["rows"]}
    ours, limit = rows.get("CacheLoader", {}), rows.get("memcpy", {})
    lines = ["| contender | frames/s | min to max | of memcpy | CacheLoader is | frames |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: |"]
    for name, row in rows.items():
        if "failed" in row:
            lines += [f"| {name} | did not run: {row['failed']} | | | | {row['frames']} |"]
            continue
        spread = f"{_number(row['min'])} to {_number(row['max'])}"
        lines += [
            f"| {name} | {_number(row['median'])} | {spread} | {ratio(row, limit):.3f} | "
            f"{ratio(ours, row):.1f} x | {row['frames']} |"
        ]
    return lines


def _cold(found: dict[str, Any]) -> list[str]:
    rows = found["cold"]
    lines = ["| 512x512 int16 | MiB/s | min to max | of the files in order |"]
    lines += ["| --- | ---: | ---: | ---: |"]
    for row in rows:
        if "failed" in row:
            lines += [f"| {row['name']} | not measured: {row['failed']} | | |"]
            continue
        spread = f"{_number(row['min'])} to {_number(row['max'])}"
        lines += [
            f"| {row['name']} | {_number(row['median'])} | {spread} | {ratio(row, rows[0]):.2f} |"
        ]
    return [*lines, "", "Gone from the page cache of this system, as mincore says; what lies below "
            "a virtual machine's disk may still hold them."]  # fmt: skip


def _limits(found: dict[str, Any]) -> list[str]:
    lines = ["| | 512x512 int16 | 1,000,000 of 32x32 uint8 |", "| --- | ---: | ---: |"]
    for name in found["million"]:
        both = [found[which][name] for which in ("memory", "million")]
        shown = [f"{b['median']:.2f} ({b['min']:.2f} to {b['max']:.2f})" for b in both]
        lines += [f"| {name} | {shown[0]} | {shown[1]} |"]
    return lines


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
