"""A sample of the source files decoded again and held to what is stored of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from dicom2cache.errors import Dicom2cacheError, FrameError
from dicom2cache.frames import masks
from dicom2cache.frames.decode import Source
from dicom2cache.frames.slices import values_of
from dicom2cache.headers.read import read_file
from dicom2cache.planning.plan import make_plan
from dicom2cache.planning.select import with_rules
from dicom2cache.privacy.keys import PatientKey
from dicom2cache.privacy.own_words import own_words
from dicom2cache.recipes.recipe import Recipe
from dicom2cache.records import ArraySpec, FrameRow
from dicom2cache.running.masked import files_of
from dicom2cache.running.originals import Originals
from dicom2cache.running.verify.findings import Finding, SourceFrame
from dicom2cache.schema import REJECTS
from dicom2cache.sources import mounts
from dicom2cache.sources.archives.listed import candidate_at
from dicom2cache.store import names
from dicom2cache.store.committed import read_table, spec_of
from dicom2cache.store.layout import shard_path
from dicom2cache.store.shards import crc32c, in_slot, read_index, read_slot


def verify_deep(
    cache: Path, attributes: dict[str, Any], fraction: float, originals: Originals
) -> Iterator[Finding]:
    """Decode that fraction of the source files again; what differs from the cache.

    The sample is the same each time: the first files by SHA-256 of their path. Raises ValueError
    for a fraction that is not above 0 and at most 1, SourceAway if a source folder cannot be seen.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction {fraction}; legal: above 0 and at most 1")
    recipe = Recipe.from_dict(attributes["recipe"])
    specs = [spec_of(about) for about in attributes["arrays"]]
    folders = originals.folders
    roots = [folders.get(k, "") for k in range(max(folders, default=-1) + 1)]
    columns = ["root", "path", "frame", "array", "row", "crc32c", "window_low", "window_high"]
    columns += ["part_of_frame", *masks.COLUMNS]  # not all of them in the first caches
    columns = list(dict.fromkeys(columns))
    alone = replace(recipe, masks="none", rois=())  # the images of masks are in other files
    rows_of: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for row in read_table(cache, attributes, "frames", columns).to_pylist():
        rows_of.setdefault((row["root"], row["path"]), []).append(row)
    files = sorted(rows_of, key=lambda f: hashlib.sha256(f"{f[0]}\0{f[1]}".encode()).digest())
    for root, named in files[: max(1, round(fraction * len(files)))]:
        place = originals.place(root, named)
        if place is None:
            row = rows_of[root, named][0]
            what = f"{named}: no file below {roots[root]} has this path; was it moved, or removed?"
            yield _finding(cache, specs, roots, row, what)
            continue
        relative = place[1]
        shown = Path(roots[root], named)  # of a de-identified cache the hash
        try:
            candidate = candidate_at(roots[root], root, relative)
            if candidate is None:  # a FIFO would be waited for
                raise FrameError("not a plain file")
            files = files_of(read_file(roots, candidate, PatientKey(b"")), [candidate])
            # Planned anew, alone: slope and intercept are not what the cache says of itself.
            files = with_rules(files, recipe)
            plan = make_plan(files, REJECTS.empty_table(), alone)
            (header,) = plan.files.to_pylist()
            planned = {(f["frame"], f["part_of_frame"]): f for f in plan.frames.to_pylist()}
            with Source(str(Path(roots[root], relative)), header) as source:
                for row in rows_of[root, named]:
                    mine = planned.get((row["frame"], row.get("part_of_frame") or 0))
                    if row.get("drawn") is not None:
                        mine = masks.planned(row)
                    if mine is None:
                        what = "this version does not cut its frames as the cache has them"
                        yield _finding(cache, specs, roots, row, f"{shown}: {what}")
                        break
                    spec = specs[row["array"]]
                    if not _decodes_alike(cache, source, row, mine, recipe, spec):
                        what = (
                            f"{shown}, frame {row['frame']}: decoded again it differs from what is "
                            f"stored in {spec.name}, row {row['row']}"
                        )
                        yield _finding(cache, specs, roots, row, what)
        except (OSError, Dicom2cacheError) as e:
            mounts.raise_environment(e, roots[root], relative)
            row, said = rows_of[root, named][0], own_words(str(e)) if originals.key else str(e)
            yield _finding(cache, specs, roots, row, f"{shown}: cannot be decoded again: {said}")


def _finding(
    cache: Path, specs: list[ArraySpec], roots: list[str], row: dict[str, Any], what: str
) -> Finding:
    spec = specs[row["array"]]
    shard, slot = divmod(row["row"], spec.frames_per_shard)
    place = (row["root"], row["path"], row["frame"], row.get("part_of_frame") or 0)
    return Finding(
        cache, shard_path(spec, shard), "source", what, row["array"], shard, (slot,),
        (SourceFrame(roots[row["root"]], *place),),
    )  # fmt: skip


def _decodes_alike(
    cache: Path,
    source: Source,
    row: dict[str, Any],
    planned: FrameRow,
    recipe: Recipe,
    spec: ArraySpec,
) -> bool:
    """Whether a frame is what is stored, by its row of frames/ and the one it has in a new plan."""
    decoded = masks.read(source, planned)
    limits = (row["window_low"], row["window_high"])  # a stack's; planned alone it is not whole
    values = values_of(decoded, planned, source, recipe.treatments, spec.dtype, limits).pixels
    slot = in_slot(values, spec)
    shard, place = divmod(row["row"], spec.frames_per_shard)
    with names.open_below(cache, shard_path(spec, shard), "frames/") as file:
        stored = read_slot(file, spec, read_index(file, spec)[0][place])
    return stored.tobytes() == slot.tobytes() and crc32c(slot) == row["crc32c"]
