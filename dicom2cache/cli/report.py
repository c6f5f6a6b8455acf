"""What was planned or stored, and what was not and why, in words for a terminal."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dicom2cache.arrow import tally
from dicom2cache.cli import voice
from dicom2cache.cli.assembled import COLUMNS, OF_FILES, assembled, recorded
from dicom2cache.cli.named import classed, named
from dicom2cache.cli.rejects import print_rejects, said_of
from dicom2cache.cli.reporting.facts import WHOSE, whose_they_are
from dicom2cache.cli.words import counting, one_line
from dicom2cache.planning.foreseen import foreseen
from dicom2cache.privacy.terms import keeper
from dicom2cache.privacy.veil import Veil, each
from dicom2cache.recipes.rois import Rois
from dicom2cache.running.remove.unnamed import waiting
from dicom2cache.store.committed import as_in_format, read_table, void_failures
from dicom2cache.store.layout import SEEN, TIMES
from dicom2cache.store.root import CONTOURS

if TYPE_CHECKING:
    from dicom2cache.running.compare import Difference
    from dicom2cache.running.errata import Concerned
    from dicom2cache.running.growing import Updated
    from dicom2cache.running.job import Job
    from dicom2cache.running.remove.purging import Purged
    from dicom2cache.running.remove.removing import Removed
    from dicom2cache.running.repair.whole import Repaired

_MOST = 20
"""lines, unless all are asked for"""
_FILES, _AT_ONCE = 5, 1024  # most files of an erratum; most rows as objects
_RESTORED = dict.fromkeys(
    (TIMES, SEEN), "removed, as it was damaged; times of sources are not compared any more"
)


def _whole() -> bool:
    return voice.now().verbose


def _shown() -> int:
    """Most lines of a list."""
    return sys.maxsize if _whole() else _MOST


def size(count: float) -> str:
    """Bytes in words, such as 12.3 MiB."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def print_plan(job: Job, veil: Veil | None = None) -> None:
    """Arrays, frames, bytes, waste, shards and rejects of a plan, as its cache will name them."""
    specs, plan = job.plan.arrays, job.plan
    total = sum(s.slots * s.slot_bytes for s in specs)
    share = plan.wasted_bytes / total if total else 0.0
    print(
        f"{counting(plan.frames.num_rows, 'frame')} of {counting(plan.files.num_rows, 'file')}, "
        f"{size(total)} in {counting(sum(s.shards for s in specs), 'shard')}, "
        f"{size(plan.wasted_bytes)} ({share:.1%}) of it empty corners of shared slots"
        f"{_before(job.recipe.codec)}"
    )
    own = [s for s in specs if s.slots or job.onto is None]  # of an update, those that it adds to
    _print_arrays([(s.name, s.slots, s.slots * s.slot_bytes, s.shards, "", None) for s in own])
    frames = plan.frames.select([c for c in COLUMNS if c not in OF_FILES])
    for name in OF_FILES:
        said = plan.files[name].take(plan.frames["file"])
        said = each(said, keeper(name)) if veil and name == "modality" else said
        frames = frames.append_column(name, said)
    _print_stacks(frames)
    rois = job.recipe.rois
    for line in () if veil else named(plan.files, plan.frames, rois):
        print(line)
    drawn = plan.contours
    _print_contours(veil.contours(drawn) if veil and drawn.num_rows else drawn, rois)
    for note in foreseen(plan.files, job.recipe, job.onto is not None):
        print(one_line(f"note: {note}"))
    print_rejects(veil.failures(plan.rejects) if veil else plan.rejects, "", _whole())


def print_updated(cache: Path, done: Updated) -> None:
    """What an update added; files that have changed or are gone, and are not what is stored."""
    path = one_line(str(cache))
    added = done.added
    for what, names in (("changed since it was stored", done.changed), ("gone", done.vanished)):
        for name in names[: _shown()]:
            print(f"{one_line(name)}: {what}; the cache keeps it as it was", file=sys.stderr)
        if len(names) > _shown():
            print(f"and {len(names) - _shown()} more: {what}", file=sys.stderr)
    if done.withheld:
        what = counting(done.withheld, "file was", "files were")
        print(f"{what} removed from the cache before, and left out", file=sys.stderr)
    for series, count in done.torn[: _shown()]:
        which = counting(count, "of its files is", "of its files are")
        why = f"{which} gone, changed or not below the sources"
        print(f"series {one_line(series)}: stays in parts, since {why}", file=sys.stderr)
    if len(done.torn) > _shown():
        print(f"and {len(done.torn) - _shown()} more series that stay in parts", file=sys.stderr)
    if not (added["frames_stored"] or done.rejects.num_rows):
        print(f"{path}: nothing new; {counting(done.counts['frames_stored'], 'frame')}")
    else:
        print(
            f"{path}: {counting(added['frames_stored'], 'frame')} of "
            f"{counting(added['files_stored'], 'file')} added; "
            f"{counting(done.counts['frames_stored'], 'frame')} now"
        )
        print_rejects(done.rejects, whole=_whole())
    if done.restacked:
        print(
            f"{path}: {counting(done.restacked, 'frame')} in whole stacks again; what was there "
            f"before stays on the disk until `dicom2cache purge {path}`"
        )


def print_removed(cache: Path, done: Removed, dry_run: bool) -> None:
    """What a removal took out, or would."""
    path = one_line(str(cache))
    for value in done.missing:
        why = "nothing in the cache is of it; files of it that come later are added"
        if value in done.before:
            why = "was removed before"
        print(f"{one_line(value)}: {why}", file=sys.stderr)
    if not (done.frames or done.unstored or done.contours):
        print(f"{path}: nothing to remove; {counting(done.left, 'frame')}")
        return
    beside = f", {counting(done.contours, 'row')} of contours/" if done.contours else ""
    beside += f" and {counting(done.unstored, 'row')} of failures/" if done.unstored else ""
    what = f"{counting(done.frames, 'frame')} of {counting(done.files, 'file')}{beside}"
    copied = f"{size(done.copied)} of {counting(done.shards, 'shard')}"
    left = f"{counting(done.left, 'frame')} left"
    if dry_run:
        print(f"{path}: {what} would be removed, {left}; {copied} would be copied")
    else:
        print(f"{path}: {what} removed, {left}; numbering {done.numbering} now")
        print(f"they stay on the disk until `dicom2cache purge {path}`")
    if done.unknown:
        print(
            f"{counting(done.unknown, 'row of failures/ stays', 'rows of failures/ stay')}: nobody "
            "knows whose; `update` looks at a file once",
            file=sys.stderr,
        )


def print_purged(cache: Path, done: Purged) -> None:
    """What a purge deleted."""
    path = one_line(str(cache))
    if not done.files:
        print(f"{path}: nothing to purge")
    else:
        print(f"{path}: {counting(done.files, 'file')} deleted, {size(done.bytes)}")
    if done.names:
        print(f"{counting(done.names, 'row')} of the mapping taken out")


def _before(codec: str) -> str:
    return "" if codec == "none" else f"; bytes are before compression ({codec})"


def print_cache(cache: Path, about: dict[str, Any], whose: bool = False) -> None:
    """Arrays, counts and rejects of a committed cache; with `whose` patients, modalities, units.

    Raises CacheError for tables that lie.
    """
    with as_in_format(cache):
        _print_cache(cache, about, whose)


def _print_cache(cache: Path, about: dict[str, Any], whose: bool) -> None:
    counts = about["counts"]
    shards = read_table(cache, about, "shards", ["array", "bytes"])
    by_array: dict[int, list[int]] = {k: [] for k in range(len(about["arrays"]))}
    for a, b in zip(shards["array"].to_pylist(), shards["bytes"].to_pylist(), strict=True):
        by_array[a].append(b)
    total = sum(map(sum, by_array.values()))
    print(
        f"{one_line(str(cache))}: {counting(counts['frames_stored'], 'frame')} of "
        f"{counting(counts['files_stored'], 'file')}, {size(total)} in "
        f"{counting(shards.num_rows, 'shard')}"
    )
    if about.get("numbering"):
        files, waste = waiting(cache, about)
        wait = f"{counting(files, 'file')} of earlier ones, {size(waste)}, "
        wait = f"{wait}wait for `dicom2cache purge {cache}`"
        print(one_line(f"numbering {about['numbering']}{f'; {wait}' if files else ''}"))
    if limited := counts.get("frames_limited"):
        print(f"{limited} failed for memory or time, which another machine may have")
    if whose:
        for line in whose_they_are(read_table(cache, about, "frames", list(WHOSE))):
            print(f"  {one_line(line)}")
    rows = []
    for k, a in enumerate(about["arrays"]):
        codec = "" if a["codec"] == "none" else f", {a['codec']}"
        shown = (sum(by_array[k]), len(by_array[k]), codec, a["statistics"])
        rows.append((a["name"], a["frames"], *shown))
    _print_arrays(rows)
    _print_stacks(read_table(cache, about, "frames", list(COLUMNS)))
    _print_contours(read_table(cache, about, CONTOURS, [*_OF_FILE, "name", "contour"]))
    void = void_failures(cache, about)
    rejects = read_table(cache, about, "failures").filter(pa.array(~void))
    print_rejects(rejects, whole=_whole())


def print_repaired(cache: Path, done: Repaired, problems: list[str]) -> int:
    """What a repair did, and on stderr what is still wrong; how much that is."""
    for name in done.restored:
        print(one_line(f"{cache / name}: {_RESTORED.get(name, 'restored from its other copy')}"))
    left = 0
    for shard in done.shards:
        path = one_line(str(cache / shard.name))
        if shard.written:
            frames = counting(shard.frames, "frame")
            print(f"{path}: written anew, {shard.mended} of {frames} from sources")
        if shard.why:
            print(f"{path}: stays as it is: {one_line(shard.why)}", file=sys.stderr)
            left += 1
        if shard.lost and not shard.written:
            lost = counting(len(shard.lost), "frame")
            print(
                f"{path}: stays as it is, since of {lost} the sources are not what they were",
                file=sys.stderr,
            )
        for line in shard.lost[: _shown()]:
            print(f"  {one_line(line)}", file=sys.stderr)
        if len(shard.lost) > _shown():
            print(f"  and {len(shard.lost) - _shown()} more", file=sys.stderr)
        left += len(shard.lost)
    for problem in problems:
        print(one_line(problem), file=sys.stderr)
    if left:
        print(
            "what is listed is still damaged: bring these sources back as they were (--source says "
            f"where), and run `dicom2cache repair {one_line(str(cache))}` again; or build again "
            "with --overwrite",
            file=sys.stderr,
        )
    elif not problems:
        print(f"{one_line(str(cache))}: whole")
    return left + len(problems)


def print_errata(found: list[Concerned], about: dict[str, Any]) -> None:
    """What may be wrong in a cache of an earlier version, with some of the frames."""
    if not found:
        return
    version = one_line(str(about["software"]["dicom2cache"]))
    print(f"made by dicom2cache {version}; what may be wrong, and is mended by a new build:")
    for erratum in found:
        count = erratum.rows.num_rows
        print(f"  {erratum.name}: {erratum.what}: {counting(count, 'row')}")
        left = count
        files = groupby(erratum.rows.slice(0, _AT_ONCE).to_pylist(), lambda r: r["path"])
        for path, rows in islice(files, _FILES):
            frames = [{**row, "reason": ""} for row in rows]
            for line, covered in said_of("", path, frames):
                print(f"    {one_line(line.removeprefix(': ').removesuffix(': '))}")
                left -= covered
        if left:
            print(f"    and {left} more; --errata lists all")


def print_frames(found: list[Concerned], about: dict[str, Any]) -> None:
    """A line for each frame that may be wrong: erratum, source file, frame, with tabs between."""
    folders = {s["root"]: s["path"] for s in about["sources"]}
    for erratum in found:
        for batch in erratum.rows.to_batches(max_chunksize=_AT_ONCE):
            for row in batch.to_pylist():
                path = one_line(os.path.join(folders[row["root"]], row["path"]))
                print(erratum.name, path, "" if row["frame"] is None else row["frame"], sep="\t")


def print_differences(differences: Iterable[Difference]) -> int:
    """A line for each frame, or file of contours, that differs, and how many in what; their
    number."""
    counts: Counter[str] = Counter()
    total = 0
    for found in differences:
        total += 1
        counts.update(found.words.keys())
        part = f", part {found.part}" if found.part else ""
        said = "; ".join(f"{kind} {words}".rstrip() for kind, words in found.words.items())
        frame = "" if "contours" in found.words else f", frame {found.frame}{part}"
        print(one_line(f"{found.path}{frame}: {said}"))
    if total:
        what = "frames and files" if "contours" in counts else "frames"
        print(f"{what} that differ: {total} ({', '.join(f'{k} {n}' for k, n in counts.items())})")
    return total


def _print_arrays(rows: list[tuple[str, int, int, int, str, dict[str, Any] | None]]) -> None:
    width = max((len(r[0]) for r in rows), default=0)
    for name, frames, count, shards, codec, found in rows[: _shown()]:
        values = ""
        if found and found["count"]:
            mean = "beyond float64" if found["mean"] is None else f"{found['mean']:.4g}"
            values = f"  values {found['min']:g} to {found['max']:g}, mean {mean}"
        many = f"{counting(shards, 'shard')}{codec}"
        word = "frame " if frames == 1 else "frames"
        print(f"  {name:<{width}}  {frames:>8} {word}  {size(count):>10}  {many}{values}")
    if len(rows) > _shown():
        print(f"  and {counting(len(rows) - _shown(), 'more array')}")


def _print_stacks(frames: pa.Table) -> None:
    """What was assembled, so that a series that is torn or joined is seen."""
    for title, lines in (("stacks:", assembled(frames)), ("waveforms:", recorded(frames))):
        for k, line in enumerate(lines):
            print(one_line(line) if k else f"{title}\n{one_line(line)}")


_OF_FILE = ["root", "path"]


def _print_contours(contours: pa.Table, rois: Rois = ()) -> None:
    """How many there are, and which names of structures, so that a map of names can be written."""
    if not contours.num_rows:
        return
    files = contours.select(_OF_FILE).group_by(_OF_FILE).aggregate([]).num_rows
    drawn = contours.num_rows - contours["contour"].null_count
    print(f"contours: {drawn} of {counting(files, 'structure set')}")
    each_file = contours.select([*_OF_FILE, "name"]).group_by([*_OF_FILE, "name"]).aggregate([])
    found = tally(each_file["name"].drop_null())
    most = sorted(found.items(), key=lambda one: (-one[1], one[0]))
    for name, count in most[: _shown()]:
        print(f"  {one_line(name)}: in {count}{classed(name, rois)}")
    if len(most) > _shown():
        print(f"  and {counting(len(most) - _shown(), 'more name')}, all in contours/")
