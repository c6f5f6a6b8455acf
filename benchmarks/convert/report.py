"""The results of `make bench-convert` in words and tables."""

from __future__ import annotations

from typing import Any

from benchmarks import figures
from benchmarks.convert.contenders import CHECKED, middle, ratio


def in_words(found: dict[str, Any]) -> str:
    """Markdown of a whole run."""
    machine, kept = found["machine"], ("processor", "cores", "memory", "system", "python")
    lines = ["# Converting: dicom2cache, its peers, the codecs alone", ""]
    lines += [
        f"`{found['command']}`, {found['minutes']} minutes on: "
        + ", ".join(f"{k} {machine[k]}" for k in kept) + ".", "",
        "All contenders convert the same files, warm in the page cache, to the same file system, "
        f"each time in fresh processes, in turn, for {found['rounds']} rounds. Figures are medians "
        "by the file, with the least and the most; ratios are taken within a round. Start-up is "
        "taken off on both sides: of peers, all until a few files are converted; of dicom2cache, "
        "the whole command on a few files, the median of 3, so that what it starts later counts: "
        "worker processes, where there are enough files for them. CPU is user and "
        "system time of all processes, memory that of the largest. Peers convert fewer files, as "
        "the tables say, and leave their output to the page cache, except in rows that say synced: "
        "one sync after all files; dicom2cache syncs each shard. The first time, the pixels of "
        f"{CHECKED} files at most are compared with those that the files were made from; whose "
        "differ is left out, with the reason.", "",
    ]  # fmt: skip
    if found["bars"]:
        lines += ["## Figures and their bars", "", *figures.table(found["bars"])]
    for table in found["kinds"].values():
        lines += ["", f"## {table['title']}", "", f"Of a file: {table['kib']:,.0f} KiB."]
        lines += ["", *_table(table)]
    lines += ["", "## How each was set up", ""]
    lines += [f"- `{name}`: {how}." for name, how in found["settings"].items()]
    rest = {k: v for k, v in machine.items() if k not in kept}
    lines += ["", "Versions: " + ", ".join(f"{k} {v}" for k, v in rest.items()) + "."]
    return "\n".join(lines) + "\n"


def _table(table: dict[str, Any]) -> list[str]:
    ours = next((r for r in table["rows"] if r["name"] == "dicom2cache, 1 job"), None)
    lines = ["| contender | CPU, ms/file | min to max | wall, ms/file | min to max | CPU of ours "
             "| start-up, s | peak, MiB | written, KiB/file | pixels | files |"]  # fmt: skip
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- | ---: |"]
    for row in table["rows"]:
        if "failed" in row:
            why = row["failed"].replace("|", "/").replace("\n", " ")
            lines += [f"| {row['name']} | left out: {why} | | | | | | | | | {row['files']} |"]
            continue
        times = ratio(row, ours, "cpu") if ours else float("nan")
        lines += [
            f"| {row['name']} | {_spread(row, 'cpu')} | {_spread(row, 'wall')} | {times:.2f} x | "
            f"{middle(row, 'start_wall'):.1f} | {middle(row, 'peak_mib'):,.0f} | "
            f"{middle(row, 'bytes') / 1024:,.0f} | {row['values']} | {row['files']} |"
        ]
    return lines


def _spread(row: dict[str, Any], what: str) -> str:
    every = [1000 * r[what] for r in row["rounds"] if r]
    return f"{1000 * middle(row, what):.2f} | {min(every):.2f} to {max(every):.2f}"
