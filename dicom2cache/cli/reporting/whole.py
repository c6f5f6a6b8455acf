"""The whole report of a cache: its tables read, pictures of some stacks made, the page written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dicom2cache.arrow import ints
from dicom2cache.cli.reporting import pictures, traces
from dicom2cache.cli.reporting.charts import counting, grouped, number
from dicom2cache.cli.reporting.contents import Array, Contents, OwnColumn, Picture
from dicom2cache.cli.reporting.facts import COLUMNS, Facts, facts_of, sides_of
from dicom2cache.cli.reporting.unstored import Unstored
from dicom2cache.cli.reporting.unstored import grouped as by_reason
from dicom2cache.errors import CacheError
from dicom2cache.privacy.terms import LISTED, keeper
from dicom2cache.privacy.veil import each
from dicom2cache.recipes.columns import own_of
from dicom2cache.recipes.recipe import Recipe
from dicom2cache.running import errata
from dicom2cache.store.committed import read_table, void_failures

TILES, TILE = 9, 96
"""frames of a stack that are shown, three in a row, and their side in pixels"""
_BYTES = 3_400_000
"""of all pictures: base64 makes a third more of them, and a page is to stay below 5 MB"""
_LARGEST = 1 << 28
"""bytes of a slot that is read for a picture"""
_UID = re.compile(r"\b[0-2](\.\d+){4,}\b")
Sides = Mapping[str, NDArray[np.int64]]


def frames_of(cache: Path, attributes: dict[str, Any], identifying: bool) -> pa.Table:
    """What of frames/ is counted; without free text unless `identifying`."""
    frames = read_table(cache, attributes, "frames", list(COLUMNS))
    return frames if identifying else listed_only(frames)


def listed_only(frames: pa.Table) -> pa.Table:
    """The rows with null for texts that no standard lists, as a de-identified cache has them."""
    for k, name in enumerate(frames.column_names):
        if name in LISTED and pa.types.is_string(frames.schema.field(name).type):
            words = each(frames[name], keeper(name)).cast(pa.string())
            frames = frames.set_column(k, name, words)
    return frames


def failures_of(cache: Path, attributes: dict[str, Any]) -> pa.Table:
    """Rows of failures/ that are not void."""
    void = void_failures(cache, attributes)
    return read_table(cache, attributes, "failures").filter(pa.array(~void))


def sizes_of(frames: pa.Table, attributes: dict[str, Any], shards: pa.Table) -> NDArray[np.float64]:
    """(n,) bytes on the disk for each frame: its shard's, shared by all in it."""
    array, row = ints(frames["array"], 0), ints(frames["row"], 0)
    per_shard = np.array([a["frames_per_shard"] for a in attributes["arrays"]] or [1], np.int64)
    key = array * (1 << 40) + row // per_shard[array]
    known = ints(shards["array"], 0) * (1 << 40) + ints(shards["shard"], 0)
    if not (len(known) and len(key)):
        return np.zeros(len(key))
    order = np.argsort(known)
    place = order[np.minimum(np.searchsorted(known, key, sorter=order), len(known) - 1)]
    share = ints(shards["bytes"], 0) / np.maximum(ints(shards["frames"], 1), 1)
    return np.where(known[place] == key, share[place], 0.0)


def report(
    cache: Path,
    attributes: dict[str, Any],
    *,
    most: int = 24,
    seed: int = 0,
    sides: Sides | None = None,
    title: str | None = None,
    identifying: bool = False,
) -> Contents:
    """What the page of a committed cache tells, with pictures of at most so many stacks.

    `sides`: {name: sample indices} of a split. Raises CacheError for tables that lie.
    """  # fmt: skip
    frames = frames_of(cache, attributes, identifying)
    shards = read_table(cache, attributes, "shards")
    sizes = sizes_of(frames, attributes, shards)
    facts = facts_of(frames, attributes["arrays"], sizes)
    unstored = by_reason(failures_of(cache, attributes), own_only=not identifying)
    made, left_out, stacks = _pictures(cache, attributes, frames, most, seed, identifying)
    found = errata.concerned(cache, attributes)
    version = str(attributes["software"]["dicom2cache"])
    return Contents(
        title or titled(facts), _lead(facts, unstored, version), facts, unstored,
        _arrays(attributes, shards), int(ints(shards["bytes"], 0).sum()),
        _made(attributes, facts), recipe_text(attributes["recipe"], identifying),
        _versions(attributes), made, stacks, left_out, seed,
        sides_of(frames, sizes, sides or {}),
        tuple((e.name, e.rows.num_rows, e.what) for e in found), identifying,
        own=_own(cache, attributes),
    )  # fmt: skip


def _own(cache: Path, attributes: dict[str, Any]) -> tuple[OwnColumn, ...]:
    """The columns that the recipe names, and whether they were asked for by consent."""
    said = attributes["recipe"].get("columns") or ()
    agreed = attributes["recipe"].get("identifying") is True
    columns = own_of(tuple(said))
    rows = read_table(cache, attributes, "frames", [one.name for one in columns])
    told = []
    for text, one in zip(said, columns, strict=True):
        there = one.name in rows.column_names
        kind = f"{one.vr}: {rows.schema.field(one.name).type}" if there else one.vr
        values = rows.num_rows - rows[one.name].null_count if there else 0
        asked = "given (identifying)" if agreed else "needed by this version, and not given"
        consent = asked if one.identifying else "not needed"
        told.append(OwnColumn(one.name, str(text), kind, values, consent))
    return tuple(told)


def titled(facts: Facts) -> str:
    """Such as `1 200 frames: CT, MR and 2 more`."""
    names = list(dict.fromkeys(part.names[0] for part in facts.parts))
    shown, left = names[:3], len(names) - 3
    said = ", ".join(shown) + (f" and {left} more" if left > 0 else "")
    return counting(facts.whole.frames, "frame") + (f": {said}" if said else "")


def _lead(facts: Facts, unstored: Sequence[Unstored], version: str) -> str:
    whole = facts.whole
    said = (
        f"{counting(whole.files, 'DICOM file')} of {counting(whole.patients, 'patient')}, "
        f"decoded by dicom2cache {version}."
    )
    if facts.anonymous:
        said += f" {counting(facts.anonymous, 'frame')} without a patient's ID."
    failed = sum(group.rows for group in unstored if group.outcome == "failed")
    if failed:
        said += f" {counting(failed, 'file or frame', 'files or frames')} failed."
    return said


def _arrays(attributes: dict[str, Any], shards: pa.Table) -> tuple[Array, ...]:
    number_of, sizes = ints(shards["array"], 0), ints(shards["bytes"], 0)
    found = []
    for k, about in enumerate(attributes["arrays"]):
        mine, said = number_of == k, about["statistics"]
        values = "–"
        if said["count"]:
            mean = "beyond float64" if said["mean"] is None else number(said["mean"])
            values = f"{number(said['min'])} to {number(said['max'])}, mean {mean}"
        plain = np.dtype(about["dtype"]).itemsize * int(np.prod(about["slot"], dtype=object))
        found.append(
            Array(
                about["name"],
                about["dtype"],
                " × ".join(map(str, about["slot"])),
                about["frames"],
                int(mine.sum()),
                int(sizes[mine].sum()),
                plain * about["frames"],
                about["codec"],
                values,
            )
        )
    return tuple(found)


def _made(attributes: dict[str, Any], facts: Facts) -> tuple[str, ...]:
    software, recipe = attributes["software"], attributes["recipe"]
    said = [
        f"Decoded by dicom2cache {software['dicom2cache']}, with a recipe of intensity "
        f"{recipe.get('intensity')}, dtype {recipe.get('dtype')}, codec {recipe.get('codec')}.",
        f"The cache is of format {attributes['format']}, generation {attributes['generation']}"
        + (f", numbering {attributes['numbering']}" if attributes.get("numbering") else "")
        + f"; SHA-256 of its root {attributes['sha256']}.",
    ]
    if "deidentify_key" in attributes:
        said.append("It is de-identified: UIDs and paths in it are keyed hashes.")
    elif "patient_key" in attributes:
        said.append("Patients' IDs in it are keyed hashes; UIDs and paths are as they were.")
    if limited := attributes["counts"].get("frames_limited"):
        said.append(f"{grouped(limited)} failed for memory or time, which differ by machine.")
    return tuple(said)


def recipe_text(recipe: dict[str, Any], identifying: bool) -> str:
    """The recipe, a key a line, what differs from the defaults first."""
    default = Recipe().to_dict()
    changed = {k: v for k, v in recipe.items() if v != default.get(k)}
    rest = {k: v for k, v in recipe.items() if k not in changed}
    lines = [f"# {'other than by default' if changed else 'all by default'}"]
    lines += [f"{k} = {json.dumps(v, ensure_ascii=False)}" for k, v in changed.items()]
    lines += ["", "# by default"] if changed else []
    lines += [f"{k} = {json.dumps(v, ensure_ascii=False)}" for k, v in rest.items()]
    said = "\n".join(lines)
    return said if identifying else _UID.sub("(UID)", said)


def _versions(attributes: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    return (*attributes["software"].items(), *attributes["codecs"].items())


def _pictures(
    cache: Path,
    attributes: dict[str, Any],
    frames: pa.Table,
    most: int,
    seed: int,
    identifying: bool,
) -> tuple[tuple[Picture, ...], tuple[str, ...], int]:
    """(pictures, why some stacks have none, how many stacks there are)."""  # fmt: skip
    if not (most and frames.num_rows):
        return (), (), 0
    stack = ints(frames["stack"], -1)
    order = np.argsort(stack, kind="stable")
    begins = np.flatnonzero(np.diff(stack[order], prepend=stack[order[0]] - 1))
    ends = np.r_[begins[1:], len(order)]
    reader = pictures.Reader(cache, attributes)
    text = np.zeros(frames.num_rows, bool) if identifying else _may_have_text(frames)
    burned = np.maximum.reduceat(text[order], begins)
    sizes = np.array([spec.slot_bytes for spec in reader.specs], np.float64)
    above = sizes[ints(frames["array"], 0)] > _LARGEST
    large = above[order[begins]]
    notes = [
        f"{counting(int(n), 'stack')} {why}"
        for n, why in (
            (
                burned.sum(),
                "may have text in the pixels, and can only be among them with --identifying",
            ),
            ((large & ~burned).sum(), "of frames above 256 MiB cannot be among them"),
        )
        if n
    ]
    modality = frames["modality"].cast(pa.string()).fill_null("").combine_chunks()
    words = modality.take(pa.array(order[begins])).to_pylist()
    chosen = _chosen(words, ~(burned | large), most, seed)
    about = read_table(cache, attributes, "frames", pictures.COLUMNS)
    about = about if identifying else listed_only(about)
    made, total, damaged = [], 0, 0
    for k in chosen:
        places = pictures.evenly(int(ends[k] - begins[k]), TILES)
        rows = pictures.some_rows(about, order[begins[k] + places])
        try:
            picture = _picture(
                reader, rows, int(ends[k] - begins[k]), _images(about, rows, ~(text | above))
            )
        except CacheError:
            damaged += 1
            continue
        weight = len(picture.png) + sum(map(len, picture.traces)) * 3 // 4
        if total + weight > _BYTES:
            notes.append("the others would make the page larger than 5 MB")
            break
        total += weight
        made.append(picture)
    if damaged:
        notes.append(
            f"{counting(damaged, 'stack')} cannot be read, since the shard is damaged or missing; "
            "run `dicom2cache verify`"
        )
    return tuple(made), tuple(n[0].upper() + n[1:] + "." for n in notes), len(begins)


def _chosen(modality: list[str], allowed: NDArray[np.bool_], most: int, seed: int) -> list[int]:
    """Stacks by chance, of each modality in turn, so that rare ones are seen."""
    rng = np.random.default_rng(seed)
    queues = []
    for name in sorted(set(modality), key=_last_unknown):
        mine = np.flatnonzero((np.asarray(modality, object) == name) & allowed)
        queues.append(rng.permutation(mine).tolist())
    found: list[int] = []
    for turn in range(max(map(len, queues), default=0)):
        found += [queue[turn] for queue in queues if turn < len(queue)]
        if len(found) >= most:
            break
    return sorted(found[:most], key=lambda k: (_last_unknown(modality[k]), k))


def _last_unknown(modality: str) -> tuple[bool, str]:
    return not modality, modality


_PLAIN = (
    "CT", "MR", "PT", "NM", "MG", "CR", "DX", "XA", "RF", "RTDOSE", "RTIMAGE", "SEG", "OCT", "OPT",
    "SM",
)  # fmt: skip
"""modalities whose machines burn no names into pixels"""
_COPIED = r"^[^\\]*\\SECONDARY|\\(LABEL|OVERVIEW|THUMBNAIL)"
"""Image Type of screen shots, and of slides' labels and what shows them"""


def _may_have_text(frames: pa.Table) -> NDArray[np.bool_]:
    """Frames that may have a name in their pixels, unless the header says that they have none."""
    said = frames["burned_in"] if "burned_in" in frames.column_names else None
    if said is None:
        return np.ones(frames.num_rows, bool)
    machine = pc.is_in(frames["modality"].cast(pa.string()), value_set=pa.array(_PLAIN))
    risky = pc.invert(machine)
    if "image_type" in frames.column_names:
        copied = pc.match_substring_regex(frames["image_type"].cast(pa.string()), _COPIED)
        risky = pc.or_(risky, copied.fill_null(False))
    found: NDArray[np.bool_] = np.asarray(pc.coalesce(said, risky)).astype(bool)
    if "kind" in frames.column_names:  # a waveform has no pixels
        found &= ~np.asarray(pc.equal(frames["kind"], "waveform").fill_null(False)).astype(bool)
    return found


def _images(
    about: pa.Table, rows: list[dict[str, Any]], allowed: NDArray[np.bool_]
) -> list[dict[str, Any] | None]:
    """Of masks the row of the image that each lies on, as `image_*` say; empty for others.

    Only of rows that are `allowed`: an image may have no picture where its mask may.
    """
    wanted = {row["image_sop_uid"] for row in rows if row.get("image_sop_uid")}
    if not wanted or "sop_uid" not in about.column_names:
        return []
    here = pc.is_in(about["sop_uid"], value_set=pa.array(sorted(wanted)))
    places = np.flatnonzero(np.asarray(here) & allowed)
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for image in pictures.some_rows(about, places):
        if image.get("kind") == "image":
            found.setdefault((image["sop_uid"], image["frame"], image["part_of_frame"]), image)
    named = ("image_sop_uid", "image_frame", "image_part")
    return [found.get(tuple(row.get(name) for name in named)) for row in rows]


def _picture(
    reader: pictures.Reader,
    rows: list[dict[str, Any]],
    count: int,
    images: list[dict[str, Any] | None],
) -> Picture:
    first, several = rows[0], len(rows) > 1
    if first.get("kind") == "waveform":
        return _traces(reader, first)
    columns = min(3, len(rows)) if len(rows) != 4 else 2
    side = TILE * 3 // columns
    grey, shown = pictures.picture_of(reader, rows, side, columns, images)
    unit = "" if first.get("unit") in (None, "US") else f" {first['unit']}"
    modality = first.get("modality") or "unknown"
    size = f"{first['height']} × {first['width']}"
    kind = "" if first.get("kind") in (None, "image") else f" {first['kind']}"
    title = f"{modality}{kind}" + (f" · {first['body_part']}" if first.get("body_part") else "")
    lines = [
        f"{size}, {counting(count, 'frame')}" + (f" ({len(rows)} shown)" * (count > len(rows)))
    ]
    if any(images):
        lines.append("on its images")
    elif grey.ndim == 2:
        lines.append(f"{number(shown.low)} to {number(shown.high)}{unit}, {shown.how}")
    named = (("spacing_y", "pixels of"), ("thickness", "slices of"))
    placed = [f"{words} {number(first[n])} mm" for n, words in named if first.get(n)]
    if placed:
        lines.append(", ".join(placed))
    what = f"{len(rows)} of {counting(count, 'frame')}" if several else "A frame"
    alt = f"{what} of a stack of {modality}, {size} pixels"
    flags = tuple(first.get("stack_flags") or ()) if several else ()
    return Picture(pictures.png(grey, 128), alt, title, tuple(lines), flags)


def _traces(reader: pictures.Reader, row: dict[str, Any]) -> Picture:
    modality, unit = row.get("modality") or "unknown", row.get("unit") or ""
    channels, samples = row["height"], row["width"]
    some = f" ({traces.MOST} shown)" if channels > traces.MOST else ""
    lines = [f"{counting(channels, 'channel')}{some}, {counting(samples, 'sample')}"]
    if rate := row.get("sampling_rate"):
        lines.append(f"{number(samples / rate)} s at {number(rate)} Hz")
    low, high = row.get("min"), row.get("max")
    if low is not None and high is not None:
        lines.append(f"{number(low)} to {number(high)} {unit}".rstrip())
    side = TILE * 3
    drawn = traces.paths(traces.steps(reader.frame(row), side), side, side)
    alt = f"A waveform of {modality}, {counting(channels, 'channel')}"
    return Picture(b"", alt, f"{modality} waveform", tuple(lines), (), drawn)
