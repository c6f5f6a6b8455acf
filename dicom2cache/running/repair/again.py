"""Stored frames made again from their sources, by what frames/ says of them.

Headers are read and planned as `build` does, but for these files only. What a plan of all files
chose together (percentiles of a stack, the codec of an array) is taken from the cache. Whatever
comes out is held to the CRC-32C in frames/: a frame that is not what it was is never stored.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dicom2cache.arrow import ints
from dicom2cache.errors import Dicom2cacheError, SourceAway
from dicom2cache.frames import masks
from dicom2cache.frames.chunk import Limits, chunk_of_frame
from dicom2cache.planning import select
from dicom2cache.planning.apart import apart
from dicom2cache.planning.plan import make_plan
from dicom2cache.privacy.keys import PatientKey
from dicom2cache.privacy.own_words import own_words
from dicom2cache.recipes.recipe import Recipe
from dicom2cache.records import ArraySpec, FrameRow, Header, Plan
from dicom2cache.running.each_frame import Failure, Frames, Worker
from dicom2cache.running.inventory import read_few
from dicom2cache.running.masked import files_of
from dicom2cache.running.originals import Originals
from dicom2cache.schema import FRAMES, REJECTS
from dicom2cache.sources import mounts
from dicom2cache.sources.archives.listed import candidate_at
from dicom2cache.store.shards import Chunk

COLUMNS = ["root", "path", "window_low", "window_high", *masks.COLUMNS]
"""of frames/ that a frame is made again by"""
_UNKNOWN = (
    "no source of that name is known here; of a de-identified cache give --deidentify KEYFILE, and "
    "--source FOLDER for each source folder"
)
_MOST_ARRAYS = 32767  # of a recipe; slots are those of the cache


@dataclass(frozen=True)
class Again:
    """What some frames can be made of."""

    recipe: Recipe
    names: list[str]
    """of each frame's source file"""
    numbers: list[tuple[int, int]]
    """frame and part of it"""
    reasons: list[str | None]
    """why a frame cannot be made again; None: it may be"""
    rows: list[FrameRow | None]
    """of the new plan"""
    ends: list[tuple[float, float] | None]
    """percentiles of each frame's stack, or ends of its window"""
    headers: dict[int, Header]
    frames: Frames
    veiled: bool
    """values of headers are left out of what is said"""

    def make(
        self, k: int, spec: ArraySpec, check: int, room: NDArray[np.uint8] | None
    ) -> Chunk | str:
        """The chunk of frame k, or why it is not what the cache had; `room` as of a shard."""
        row, why = self.rows[k], self.reasons[k]
        if row is None or why is not None:
            return why or "this version does not cut the file's frames as the cache has them"
        header = self.headers[row["file"]]
        treatments = self.recipe.treatments
        limits = None
        if (
            treatments[header["rule"] or 0].intensity == "percentiles"
            and header["kind"] == "image"
            and header["slope"] is not None
        ):
            limits = Limits(self.ends[k], None)
        step = partial(chunk_of_frame, treatments=treatments, spec=spec, limits=limits)
        found = self.frames.do(row, step, room)
        if isinstance(found, Failure):
            return own_words(found.reason) if self.veiled else found.reason
        chunk: Chunk = found[0]
        if chunk.crc32c != check:
            return "what is made of it now differs from what was stored (CRC-32C)"
        return chunk


@contextmanager
def again(
    rows: Sequence[dict[str, Any]], originals: Originals, recipe: Recipe, isolated: bool
) -> Iterator[Again]:
    """What frames can be made again of, by their rows of frames/ (COLUMNS).

    `isolated`: a child process works on them.
    """
    files: dict[tuple[int, str], tuple[int, str] | None] = {}
    folders: dict[str, int] = {}
    names: list[str] = []
    for row in rows:
        key = (row["root"], row["path"])
        if key not in files:
            place = originals.place(*key)
            files[key] = place and (folders.setdefault(place[0], len(folders)), place[1])
    roots = list(folders)
    reasons: dict[tuple[int, str], str] = {}
    headers = _headers(roots, [f for f in files.values() if f], recipe, isolated, reasons)
    plan = _plan(headers, recipe, reasons)
    found = _numbers(plan)
    mine: list[int | None] = []
    for row in rows:
        file = files[row["root"], row["path"]]
        named = row["path"] if originals.key or not file else file[1]  # a hash stays one
        names.append(os.path.join(roots[file[0]], named) if file else named)
        mine.append(file and found.get((*file, row["frame"], row.get("part_of_frame") or 0)))
    whole = Worker(isolated, recipe.limits)
    numbers = [k for k in mine if k is not None]
    taken = iter(plan.frames.take(pa.array(numbers, pa.int64())).to_pylist())
    planned = dict(enumerate(plan.files.drop_columns(["per_frame"]).to_pylist()))
    places = {(header["root"], header["path"]): k for k, header in planned.items()}
    whole_rows = [None if k is None else next(taken) for k in mine]
    for k, row in enumerate(rows):
        file = files[row["root"], row["path"]]
        if row.get("drawn") is not None and file in places:
            whole_rows[k] = {**masks.planned(row), "file": places[file]}
    with whole as worker, worker.frames(roots, planned) as frames:
        yield Again(
            recipe,
            names,
            [(row["frame"], row.get("part_of_frame") or 0) for row in rows],
            [_why(files[r["root"], r["path"]], reasons, originals) for r in rows],
            whole_rows,
            [
                None if r["window_low"] is None else (r["window_low"], r["window_high"])
                for r in rows
            ],
            planned,
            frames,
            originals.key is not None,
        )


def _why(
    file: tuple[int, str] | None, reasons: dict[tuple[int, str], str], originals: Originals
) -> str | None:
    if file is None:
        return _UNKNOWN
    why = reasons.get(file)
    return own_words(why) if why and originals.key else why


def _headers(
    roots: list[str],
    files: list[tuple[int, str]],
    recipe: Recipe,
    isolated: bool,
    reasons: dict[tuple[int, str], str],
) -> pa.Table:
    """FILES of those that can be read; why the others cannot is added to `reasons`."""
    candidates = []
    away: dict[int, str] = {}
    for root, folder in enumerate(roots):
        try:
            mounts.check([folder])
        except SourceAway as e:
            away[root] = str(e)
    for root, path in files:
        if root in away:
            reasons[root, path] = away[root]
            continue
        try:
            found = candidate_at(roots[root], root, path)
        except OSError as e:
            reasons[root, path] = f"the source cannot be read ({e.strerror}); bring it back"
            continue
        if found is None:
            reasons[root, path] = "the source is no plain file by now; bring it back"
            continue
        candidates.append(found)
    read = read_few(roots, candidates, PatientKey(b""), recipe.limits, isolated)
    _note(read.rejects, reasons)
    drawn = [files_of(table, candidates) for table in read.contours]
    return pa.concat_tables([read.files, *drawn])


def _plan(files: pa.Table, recipe: Recipe, reasons: dict[tuple[int, str], str]) -> Plan:
    """The plan of these files; why some cannot be planned is added to `reasons`."""
    recipe = replace(recipe, max_arrays=_MOST_ARRAYS, masks="none", rois=())
    none = Plan((), files.slice(0, 0), FRAMES.empty_table(), REJECTS.empty_table(), 0)
    if not files.num_rows:
        return none
    try:
        selected, odd, _ = apart(files, lambda some: select.select_files(some, recipe))
        _note(odd, reasons)
        files, excluded = selected or (files.slice(0, 0), REJECTS.empty_table())
        _note(excluded, reasons)
        if not files.num_rows:
            return none
        planned, odd, _ = apart(files, lambda some: make_plan(some, REJECTS.empty_table(), recipe))
        _note(odd, reasons)
    except Dicom2cacheError as e:
        for row in files.select(["root", "path"]).to_pylist():
            reasons.setdefault((row["root"], row["path"]), str(e))
        return none
    return planned or none


def _note(rejects: pa.Table, reasons: dict[tuple[int, str], str]) -> None:
    for row in rejects.select(["root", "path", "reason"]).to_pylist():
        reasons[row["root"], row["path"]] = row["reason"]


def _numbers(plan: Plan) -> dict[tuple[int, str, int, int], int]:
    """{(root, path, frame, part): row of the plan's frames}."""
    places = list(zip(plan.files["root"].to_pylist(), plan.files["path"].to_pylist(), strict=True))
    columns = (ints(plan.frames[c], 0).tolist() for c in ("file", "frame", "part_of_frame"))
    return {
        (*places[file], frame, part): k
        for k, (file, frame, part) in enumerate(zip(*columns, strict=True))
    }
