"""Check a cache: sizes and checksums, and a sample decoded again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dicom2cache.arrow import ints
from dicom2cache.errors import CacheError, Dicom2cacheError
from dicom2cache.frames.decode import Source
from dicom2cache.frames.slices import values_of
from dicom2cache.headers.read import read_header
from dicom2cache.planning.plan import make_plan
from dicom2cache.planning.select import with_rules
from dicom2cache.privacy.keys import PatientKey
from dicom2cache.recipes.recipe import Recipe
from dicom2cache.records import ArraySpec, Candidate, FrameRow
from dicom2cache.schema import FILES, REJECTS
from dicom2cache.sources import mounts
from dicom2cache.store.committed import read_table, spec_of
from dicom2cache.store.layout import (
    FORMAT_VERSION,
    MISSING,
    ROOT,
    attributes_sha256,
    shard_path,
    shortened,
)
from dicom2cache.store.names import below
from dicom2cache.store.shards import crc32c, in_slot, read_index, read_slot

Ints = NDArray[np.int64]
_NOT_AS_SAID = (
    KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, ZeroDivisionError,
    pa.ArrowException,
)  # fmt: skip
"""what metadata provoke whose types or sizes are not those of the format"""
_REMEDY = "copy the cache again from a good copy, or build it again"


def verify(cache: Path, attributes: dict[str, Any], quick: bool = False) -> Iterator[str]:
    """What is wrong with the cache, a sentence each; nothing if it is whole.

    `quick` checks metadata, tables, sizes and indexes; else every slot's CRC-32C too. Metadata that
    lies, or names what is not below the cache, is a finding too, and never an error.
    """
    try:
        yield from _verify(cache, attributes, quick)
    except CacheError as e:
        yield str(e)
    except _NOT_AS_SAID as e:
        why = f"{type(e).__name__}: {e}"
        yield f"{cache / 'zarr.json'}: it or a table is not what FORMAT.md says ({why}); {_REMEDY}"


def _verify(cache: Path, attributes: dict[str, Any], quick: bool) -> Iterator[str]:
    if attributes.get("format") != FORMAT_VERSION:
        yield f"{cache}: format {attributes.get('format')!r}, this version knows {FORMAT_VERSION}"
        return
    if attributes_sha256(attributes) != attributes.get("sha256"):
        yield f"{cache / 'zarr.json'}: its SHA-256 does not match; {_REMEDY}"
        return
    broken = False
    entries = [e for tables in attributes["tables"].values() for e in tables]
    slots = {a["metadata"]["path"]: a["slots"] for a in attributes["arrays"]}
    for entry in [*entries, *(a["metadata"] for a in attributes["arrays"])]:
        path = below(cache, entry["path"], cache / ROOT)
        problem = _check_file(path, entry, slots.get(entry["path"]))
        if problem:
            broken = True
            yield problem
    for problem in _other_readers_see(cache, attributes):
        broken = True
        yield problem
    if broken:
        return  # the tables say what the rest should be
    frames = read_table(cache, attributes, "frames", ["array", "row", "crc32c"])
    shards: list[dict[str, Any]] = read_table(cache, attributes, "shards").to_pylist()
    arrays = ints(frames["array"], -1)
    if not np.isin(arrays, np.arange(len(attributes["arrays"]))).all():
        yield f"{cache / 'frames'}: names an array that is not in zarr.json; {_REMEDY}"
    for number, about in enumerate(attributes["arrays"]):
        spec = spec_of(about)
        mine = np.flatnonzero(arrays == number)  # by row, a generation after the other
        rows, checks = (ints(frames[c].take(mine), -1) for c in ("row", "crc32c"))
        own = [s for s in shards if s["array"] == number]
        problem = _misplaced(spec, about["frames"], rows, own)
        if problem:
            yield f"{cache / spec.name}: {problem}; {_REMEDY}"
            continue
        for shard in own:
            start = shard["shard"] * spec.frames_per_shard
            part = slice(*np.searchsorted(rows, [start, start + spec.frames_per_shard]))
            yield from _check_shard(cache, spec, shard, rows[part] - start, checks[part], quick)


def _check_file(path: Path, entry: dict[str, Any], slots: int | None) -> str | None:
    """What is wrong with a table, or with the zarr.json of an array of `slots` or, by now, more."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            if slots is not None:
                digest.update(shortened(file.read(), slots))
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as e:
        return f"{path}: {e.strerror}; {_REMEDY}"
    if digest.hexdigest() != entry["sha256"]:
        return f"{path}: its SHA-256 is not the one in zarr.json; {_REMEDY}"
    if slots is None and path.stat().st_size != entry["bytes"]:
        return f"{path}: {path.stat().st_size} bytes, {entry['bytes']} in zarr.json; {_REMEDY}"
    return None


def _other_readers_see(cache: Path, attributes: dict[str, Any]) -> Iterator[str]:
    """What a reader of Zarr would take the arrays for, where that is not what our attributes say.

    zarr-python believes the copies of the arrays' metadata in the root, and not the arrays' own.
    """
    document = json.loads((cache / ROOT).read_bytes())
    group = (document.get("zarr_format"), document.get("node_type"))
    if group != (3, "group"):
        yield f"{cache / ROOT}: says {group}, legal: (3, 'group'); {_REMEDY}"
    copies = (document.get("consolidated_metadata") or {}).get("metadata")
    if copies is not None and set(copies) != {a["name"] for a in attributes["arrays"]}:
        yield f"{cache / ROOT}: its consolidated metadata name other arrays; {_REMEDY}"
        return
    for about in attributes["arrays"]:
        path = below(cache, f"{about['name']}/{ROOT}", cache / ROOT)
        own = json.loads(path.read_bytes())
        if own["shape"][0] < about["slots"]:
            yield f"{path}: {own['shape'][0]} slots, {about['slots']} in the root; {_REMEDY}"
        seen = [own] if copies is None else [own, copies[about["name"]]]
        for where, metadata in zip((path, cache / ROOT), seen, strict=False):
            # An array may have grown since; all else is as it was written.
            if {**metadata, "shape": own["shape"]} != own or metadata["shape"][1:] != own["shape"][
                1:
            ]:
                yield f"{where}: other metadata of {about['name']} than its own; {_REMEDY}"
        if own["data_type"] != about["dtype"] or own["shape"][1:] != list(about["slot"]):
            yield f"{path}: {own['data_type']} {own['shape'][1:]}, not as the root says; {_REMEDY}"


def _misplaced(
    spec: ArraySpec, frames: int, rows: Ints, shards: list[dict[str, Any]]
) -> str | None:
    """What frames/ and shards/ say of an array that cannot be."""
    if len(rows) != frames:
        return f"frames/ has {len(rows)} frames of it, zarr.json {frames}"
    if (np.diff(rows) <= 0).any():
        return "its rows in frames/ are not in order"
    held = sorted((s["shard"] * spec.frames_per_shard, s["slots"]) for s in shards)
    starts, slots = np.array(held, np.int64).reshape(-1, 2).T
    if (np.diff(starts) == 0).any():
        return "shards/ names one of its shards twice"
    fits = (starts >= 0) & (slots > 0) & (slots <= spec.frames_per_shard)
    if not (fits & (starts + slots <= spec.slots)).all():
        return f"shards/ has slots of it that are not among its {spec.slots}"
    place = np.searchsorted(starts, rows, side="right") - 1
    lost = rows[(place < 0) | (rows >= np.r_[starts + slots, 0][place])]
    return f"row {lost[0]} is in frames/, and in no shard of shards/" if len(lost) else None


def _check_shard(
    cache: Path, spec: ArraySpec, shard: dict[str, Any], slots: Any, checks: Any, quick: bool
) -> Iterator[str]:
    path = below(cache, shard_path(spec, shard["shard"]), cache / "shards")
    try:
        size = path.stat().st_size
        if size != shard["bytes"]:
            yield f"{path}: {size} bytes, {shard['bytes']} expected; {_REMEDY}"
            return
        with open(path, "rb") as file:
            index, data_bytes, whole = read_index(file, spec)
            if not whole or crc32c(index.tobytes()) != shard["index_crc32c"]:
                yield f"{path}: the CRC-32C of its index does not match; {_REMEDY}"
                return
            if len(slots) != shard["frames"] or not _is_index(
                index, data_bytes, spec, shard["slots"], slots
            ):
                yield f"{path}: its index does not match frames/; {_REMEDY}"
                return
            if quick:
                return
            for slot, check in zip(slots, checks, strict=True):
                try:
                    if crc32c(read_slot(file, spec, index[slot])) != check:
                        yield f"{path}: slot {slot} is damaged (CRC-32C); {_REMEDY}"
                except ValueError as e:
                    yield f"{path}: slot {slot} is damaged ({e}); {_REMEDY}"
    except ValueError as e:
        yield f"{path}: {e}; {_REMEDY}"
    except OSError as e:
        yield f"{path}: {e.strerror}; {_REMEDY}"


def _is_index(index: Any, data_bytes: int, spec: ArraySpec, count: int, slots: Any) -> bool:
    """Whether the index has the frames in `slots` of `count` and no other, as FORMAT.md says."""
    expected = np.full_like(index, MISSING)
    if spec.codec == "none":
        expected[slots, 0], expected[slots, 1] = slots * spec.slot_bytes, spec.slot_bytes
        end = count * spec.slot_bytes
    else:  # one after another, without gaps
        lengths = np.minimum(index[slots, 1], 2 * spec.slot_bytes + 32)  # no sum overflows
        ends = np.cumsum(lengths)
        expected[slots, 0], expected[slots, 1] = ends - lengths, lengths
        end = int(ends[-1]) if len(ends) else 0
    return end == data_bytes and bool((index == expected).all())


def verify_deep(cache: Path, attributes: dict[str, Any], fraction: float) -> Iterator[str]:
    """Decode that fraction of the source files again; what differs from the cache, a sentence each.

    The sample is the same each time: the first files by SHA-256 of their path. Raises ValueError
    for a fraction that is not above 0 and at most 1, SourceAway if a source folder cannot be seen.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction {fraction}; legal: above 0 and at most 1")
    recipe = Recipe.from_dict(attributes["recipe"])
    specs = [spec_of(about) for about in attributes["arrays"]]
    roots = [s["path"] for s in attributes["sources"]]
    columns = ["root", "path", "frame", "array", "row", "crc32c", "window_low", "window_high"]
    columns.append("part_of_frame")  # not in the first caches
    rows_of: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for row in read_table(cache, attributes, "frames", columns).to_pylist():
        rows_of.setdefault((row["root"], row["path"]), []).append(row)
    files = sorted(rows_of, key=lambda f: hashlib.sha256(f"{f[0]}\0{f[1]}".encode()).digest())
    for root, relative in files[: max(1, round(fraction * len(files)))]:
        path = Path(roots[root], relative)
        try:
            status = path.stat()
            candidate = Candidate(root, relative, status.st_size, status.st_mtime_ns)
            header = read_header(roots, candidate, PatientKey(b""))
            # Planned anew, alone: slope and intercept are not what the cache says of itself.
            files = with_rules(pa.Table.from_pylist([header], FILES), recipe)
            plan = make_plan(files, REJECTS.empty_table(), recipe)
            (header,) = plan.files.to_pylist()
            planned = {(f["frame"], f["part_of_frame"]): f for f in plan.frames.to_pylist()}
            with Source(str(path), header) as source:
                for row in rows_of[root, relative]:
                    mine = planned.get((row["frame"], row.get("part_of_frame") or 0))
                    if mine is None:
                        yield f"{path}: this version does not cut its frames as the cache has them"
                        break
                    spec = specs[row["array"]]
                    yield from _decode_again(cache, source, row, mine, recipe, spec)
        except (OSError, Dicom2cacheError) as e:
            mounts.raise_environment(e, roots[root], relative)
            yield f"{path}: cannot be decoded again: {e}"


def _decode_again(
    cache: Path,
    source: Source,
    row: dict[str, Any],
    planned: FrameRow,
    recipe: Recipe,
    spec: ArraySpec,
) -> Iterator[str]:
    """What is wrong with a frame, by its row of frames/ and the one it has in a new plan."""
    decoded = source.read(row["frame"])
    limits = (row["window_low"], row["window_high"])  # a stack's; planned alone it is not whole
    values = values_of(decoded, planned, source, recipe.treatments, spec.dtype, limits).pixels
    slot = in_slot(values, spec)
    shard, place = divmod(row["row"], spec.frames_per_shard)
    with open(cache / shard_path(spec, shard), "rb") as file:
        stored = read_slot(file, spec, read_index(file, spec)[0][place])
    if stored.tobytes() != slot.tobytes() or crc32c(slot) != row["crc32c"]:
        yield (
            f"{source.path}, frame {row['frame']}: decoded again it differs from what is stored in "
            f"{spec.name}, row {row['row']}; build again with --overwrite"
        )
