"""What is not stored and why, in words for a terminal: failures first, the rest by reason."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, groupby, islice
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.compute as pc

from dicom2cache.arrow import rows_of_outcome, tally
from dicom2cache.cli.reporting.unstored import OUTCOMES, Unstored, grouped
from dicom2cache.cli.words import counting, one_line

_SHOWN, _RUNS = 20, 6  # most lines, and most runs of frames in one
_EACH = 10  # failed files that are told one by one


def print_rejects(
    rejects: pa.Table, where: str = ", all in failures/", whole: bool = False
) -> None:
    """Rows of failures/, a few lines: failed files, if there are few, then groups by reason.

    `whole`: each file has a line.
    """
    if not rejects.num_rows:
        return
    print(f"not stored: {_outcomes(rejects)}")
    left = rejects.num_rows
    lines = _each_file(rejects) if whole else islice(_short(rejects), _SHOWN)
    for line, covered in lines:
        print(f"  {one_line(line)}")
        left -= covered
    if left:
        print(f"  and {left} more{where}")


def _outcomes(rejects: pa.Table) -> str:
    found = tally(rejects["outcome"])
    return ", ".join(f"{found[k]} {word}" for k, word in OUTCOMES.items() if found[k])


def _each_file(rejects: pa.Table) -> Iterator[tuple[str, int]]:
    for outcome in [*OUTCOMES, *sorted(set(tally(rejects["outcome"])) - set(OUTCOMES))]:
        rows = rows_of_outcome(rejects, outcome)
        for (_, path), mine in groupby(rows, lambda row: (row["root"], row["path"])):
            yield from said_of(outcome, path, mine)


def _short(rejects: pa.Table) -> Iterator[tuple[str, int]]:
    """(words, number of rows) of each line."""
    rest = rejects
    failed = rejects.filter(pc.equal(rejects["outcome"], "failed"))
    if len(pc.unique(failed["path"])) <= _EACH:
        rest = rejects.filter(pc.not_equal(rejects["outcome"], "failed"))
        rows = rows_of_outcome(failed, "failed")
        files = groupby(rows, lambda row: (row["root"], row["path"]))
        yield from chain.from_iterable(said_of("failed", path, mine) for (_, path), mine in files)
    for group in grouped(rest):
        frame = "" if group.frame is None else f", frame {group.frame}"
        yield f"{group.outcome}: {group.path}{frame}: {group.said}{_alike(group)}", group.rows


def _alike(group: Unstored) -> str:
    """How many others there are for the same reason."""
    if group.rows == 1:
        return ""
    files = group.files - 1
    more = counting(files, "file") if files else counting(group.rows - 1, "frame")
    named = ", ".join(f"{name} {n}" for name, n in group.suffixes)
    return f"; and {more} like it{f' ({named})' if named else ''}"


def _what(group: Unstored) -> str:
    """Such as `126 files`, `30 frames of 2 files`."""
    files = counting(group.files, "file")
    return files if group.rows == group.files else f"{counting(group.rows, 'frame')} of {files}"


def print_groups(rejects: pa.Table) -> None:
    """Each reason with its count, an example and what to do."""
    print(_outcomes(rejects) or "everything is stored")
    for outcome, mine in groupby(grouped(rejects), lambda group: group.outcome):
        print(f"{OUTCOMES.get(outcome, outcome)}:")
        for group in mine:
            print(f"  {_what(group)}: {one_line(group.reason)}")
            if group.suffixes:
                print(f"    {one_line(', '.join(f'{name} {n}' for name, n in group.suffixes))}")
            frame = "" if group.frame is None else f", frame {group.frame}"
            said = "" if group.said == group.reason else f": {group.said}"
            print(f"    such as {one_line(f'{group.path}{frame}{said}')}")
            if group.remedy:
                print(f"    -> {group.remedy}")


def write_groups(rejects: pa.Table, to: TextIO) -> None:
    """The groups as CSV (RFC 4180)."""
    out = csv.writer(to)
    out.writerow(
        ["outcome", "stage", "reason", "rows", "files", "suffixes", "example", "frame",
         "example_reason", "remedy"]
    )  # fmt: skip
    for g in grouped(rejects):
        suffixes = " ".join(f"{name}:{n}" for name, n in g.suffixes)
        row = (
            g.outcome, g.stage, g.reason, g.rows, g.files, suffixes, g.path, g.frame, g.said,
            g.remedy,
        )  # fmt: skip
        out.writerow([_cell(value) for value in row])


def write_each(rejects: pa.Table, folders: dict[int, str], to: TextIO) -> None:
    """A row of CSV for each file, or frame of one, failures first; paths with their folder."""
    out = csv.writer(to)
    out.writerow(["outcome", "stage", "path", "frame", "reason", "kept"])
    known = [*OUTCOMES, *sorted(set(tally(rejects["outcome"])) - set(OUTCOMES))]
    for row in chain.from_iterable(rows_of_outcome(rejects, outcome) for outcome in known):
        path, kept = (
            name if name is None else os.path.join(folders.get(row[root], ""), name)
            for root, name in (("root", row["path"]), ("same_root", row["same_path"]))
        )
        said = (row["outcome"], row["stage"], path, row["frame"], row["reason"], kept)
        out.writerow([_cell(value) for value in said])


def _cell(value: Any) -> str:
    return "" if value is None else one_line(str(value))


def said_of(outcome: str, path: str, rows: Iterable[dict[str, Any]]) -> Iterator[tuple[str, int]]:
    """(words, number of rows) for each reason of one file, or of frames of it."""
    covered: Counter[str] = Counter()
    runs: dict[str, list[list[int]]] = {}
    for row in rows:
        reason, frame = row["reason"], row["frame"]
        covered[reason] += 1
        mine = runs.setdefault(reason, [])
        if frame is not None and mine and mine[-1][1] == frame - 1:
            mine[-1][1] = frame
        elif frame is not None:
            mine.append([frame, frame])
    for reason, rows_of_it in covered.items():
        where = _frames(runs[reason], rows_of_it)
        yield f"{outcome}: {path}{where}: {reason}", rows_of_it


def _frames(runs: list[list[int]], number: int) -> str:
    """Such as `, frames 3, 10-29`; nothing for a whole file."""
    if len(runs) > _RUNS:
        return f", {counting(number, 'frame')} from {runs[0][0]} to {runs[-1][1]}"
    said = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
    return f", frame{'' if number == 1 else 's'} {said}" if runs else ""
