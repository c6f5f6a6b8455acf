"""The plan of a new numbering in which series that came in parts are whole stacks.

Their files are planned, and converted, as `build` would: a stack may decide what its pixels become.
So are masks that lie on them: how far their planes reach is by the steps of the slices; and masks
that came before their images, and lie on none so far.
All other frames stay as they are.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dicom2cache.arrow import Mask, mask_of, with_column
from dicom2cache.errors import Unfinished
from dicom2cache.planning.continuing import COLUMNS, CONTINUES, continuing
from dicom2cache.privacy.keys import PatientKey
from dicom2cache.privacy.own_words import own_words_only
from dicom2cache.records import Candidate
from dicom2cache.running import target
from dicom2cache.running.faults import FaultLog
from dicom2cache.running.images import images_of
from dicom2cache.running.job import Job, load_job, save_plan, update_of
from dicom2cache.running.known import look, state_of
from dicom2cache.running.listing import listed
from dicom2cache.running.processors import cpu_count
from dicom2cache.running.remove.kept import Places
from dicom2cache.running.remove.withheld import Withheld
from dicom2cache.running.survey import Survey
from dicom2cache.running.update import REPEATED, Request, Stored, checked
from dicom2cache.schema import GONE, REJECTS
from dicom2cache.store import seen
from dicom2cache.store.committed import read_table, spec_of

Torn = tuple[tuple[str, int], ...]
"""(series as the cache names it, files of it that are gone or have changed)"""


def plan_restack(asked: Request) -> tuple[Job | None, int, Torn] | None:
    """(the plan on disk, frames that are stacked anew, series that cannot be); no plan: none is.

    A plan that is under way comes first, by itself, with 0 frames. None if another process has
    begun meanwhile. Raises as `plan_update`.
    """
    unseen = [s for s in asked.sources if not os.path.exists(s)]
    with own_words_only(asked.veil is not None, asked.cache, *unseen):
        return _plan_restack(asked)


def _plan_restack(asked: Request) -> tuple[Job | None, int, Torn] | None:
    cache, veil = asked.cache, asked.veil
    attributes, recipe, facts = checked(asked)
    if update_of(cache) is not None:
        return load_job(cache), 0, ()
    texts = ("series_uid", "sop_uid", "image_sop_uid", "referenced_sop_uid", "kind", "patient",
             "frame_of_reference_uid")  # fmt: skip
    frames = read_table(cache, attributes, "frames", ["root", "path", "stack_flags", *texts])
    table = frames.select(["root", "path", "stack_flags"])
    for name in texts:
        none = pa.nulls(frames.num_rows)  # caches of before have no image_sop_uid
        column = frames[name] if name in frames.column_names else none
        table = table.append_column(name, column.cast(pa.string()))
    in_parts = table["series_uid"].filter(_has(table["stack_flags"], CONTINUES)).unique()
    waited = table["series_uid"].filter(_waited(table, attributes["tables"]["frames"]))
    if not len(in_parts) and not len(waited):
        return None, 0, ()
    mine = table["sop_uid"].filter(pc.is_in(table["series_uid"], value_set=in_parts))
    drawn = pc.is_in(table["image_sop_uid"], value_set=mine.unique(), skip_nulls=True)
    more = (table["series_uid"].filter(drawn), waited)
    in_parts = pa.chunked_array([in_parts, *(column.combine_chunks() for column in more)])
    in_parts = in_parts.drop_null().unique()
    found = listed(asked.sources, cache, asked.progress, recipe.limits)
    looked = look(cache, attributes, asked.sources, found, veil)
    rows = table.filter(pc.is_in(table["series_uid"], value_set=in_parts))
    files, torn = _there(cache, rows, looked.candidates, asked)
    whole = pc.is_in(table["series_uid"], value_set=_without(in_parts, torn))
    if not files:
        return None, 0, torn
    gone = mask_of(whole)
    by = Survey(
        looked.roots, PatientKey(asked.key, veil is not None), recipe, asked.jobs or cpu_count(),
        asked.backend, asked.progress, FaultLog(veil is not None),
    )  # fmt: skip
    stored = Stored(cache, attributes, veil, looked)
    before = [spec_of(about) for about in attributes["arrays"]]
    repeated = _repeated(cache, attributes, gone)
    planned, _, _ = by.plan(
        files, REJECTS.empty_table(), lambda some: _flagged(by, stored, some, repeated), before,
        images=lambda some: images_of(cache, attributes, some, veil, gone),
    )  # fmt: skip
    if planned is None:
        return None, 0, torn
    planned = replace(planned, contours=pa.table({}))  # they stay as they are
    stay = read_table(cache, attributes, "frames", list(COLUMNS)).slice(0, 0)
    planned = continuing(planned, stay, stored.stacks)
    behind = [spec.first + spec.shards for spec in planned.arrays[: len(before)]]
    if not asked.force:
        target.check_room(cache, planned, looked.roots, replaced=False)
        target.check_bytes(cache, Places(cache, attributes, ~gone, behind).bytes)
    identity = hashlib.sha256(f"{attributes['identity']} restacked".encode())
    for uid in sorted(_without(in_parts, torn).to_pylist()):
        identity.update(f" {uid}".encode())
    said = {s["root"]: s["path"] for s in attributes["sources"]}
    roots = tuple(folder if k in said else "" for k, folder in enumerate(looked.roots))
    job = Job(
        cache, identity.hexdigest(), roots, recipe, planned,
        {name: attributes[name] for name in facts}, onto=attributes["sha256"],
        gone=_gone(cache, attributes, gone, rows, torn),
        removed=Withheld.of(cache, attributes, asked.key).table(),
    )  # fmt: skip
    try:
        return save_plan(job), int(gone.sum()), torn
    except Unfinished:
        return None


def _waited(table: pa.Table, generations: list[dict[str, Any]]) -> Any:
    """(n,) bool: masks that lie on no image, of which images came in a later generation: those that
    they refer to, or others of the same patient and frame of reference."""
    since = np.repeat(np.arange(len(generations)), [entry["rows"] for entry in generations])
    bare = pc.and_(pc.equal(table["kind"], "mask"), pc.is_null(table["image_sop_uid"]))
    bare, image = (mask_of(found) for found in (bare, pc.equal(table["kind"], "image")))
    space = table["frame_of_reference_uid"]
    space = pc.binary_join_element_wise(table["patient"].fill_null(""), space, "\n")
    found = np.zeros(len(bare), bool)
    for theirs, ours in ((space, space), (table["sop_uid"], table["referenced_sop_uid"])):
        last = pa.table({"of": theirs.filter(pa.array(image)), "since": since[image]})
        last = last.group_by("of", use_threads=False).aggregate([("since", "max")])
        at = pc.index_in(ours.filter(pa.array(bare)), value_set=last["of"].combine_chunks(),
                         skip_nulls=True)  # fmt: skip
        newest = last["since_max"].combine_chunks().take(at.combine_chunks()).fill_null(-1)
        found[bare] |= newest.to_numpy(zero_copy_only=False) > since[bare]
    return pa.array(found)


def _has(lists: Any, text: str) -> Any:
    """(n,) bool: whether a list has the text."""
    column = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists
    parents = pc.list_parent_indices(column).filter(pc.equal(pc.list_flatten(column), text))
    found = np.zeros(len(column), bool)
    found[parents.to_numpy()] = True
    return pa.array(found)


def _there(
    cache: Path, rows: pa.Table, candidates: tuple[Candidate, ...], asked: Request
) -> tuple[list[Candidate], Torn]:
    """(files of the series of which all files are as they were, the other series)."""
    veil = asked.veil
    here = {(c.root, veil.hashed("path", c.path) if veil else c.path): c for c in candidates}
    table = seen.read(cache)
    states: dict[tuple[int, str], bytes] = {}
    if table is not None:
        some = table.filter(pc.is_in(table["path"], value_set=rows["path"].unique()))
        states = {(r["root"], r["path"]): r["state"] for r in some.to_pylist()}
    series: dict[str, list[Candidate]] = {}
    lost: dict[str, int] = {}
    for row in rows.group_by(["series_uid", "root", "path"]).aggregate([]).to_pylist():
        uid, key = row["series_uid"], (row["root"], row["path"])
        found = here.get(key)
        if found is None or states.get(key) not in (None, state_of(found, veil)):
            lost[uid] = lost.get(uid, 0) + 1
        else:
            series.setdefault(uid, []).append(found)
    files = [c for uid, mine in series.items() if uid not in lost for c in mine]
    return sorted(files, key=lambda c: (c.root, c.path)), tuple(sorted(lost.items()))


def _without(series: Any, torn: Torn) -> Any:
    names = pa.array([uid for uid, _ in torn], pa.string())
    return series.filter(pc.invert(pc.is_in(series, value_set=names)))


def _repeated(cache: Path, attributes: dict[str, Any], mine: Mask) -> Any:
    """SOP Instance UIDs, as the cache has them, that other files have too."""
    table = read_table(cache, attributes, "frames", ["sop_uid", "flags"]).filter(pa.array(mine))
    return table["sop_uid"].filter(_has(table["flags"], REPEATED)).unique()


def _flagged(
    by: Survey, stored: Stored, files: pa.Table, repeated: Any
) -> tuple[pa.Table, pa.Table]:
    """As `Survey.without_copies`; what had the UID of a file of another series still has it."""
    kept, rejects = by.without_copies(files)
    again = pc.is_in(stored.uids(kept["sop_uid"]), value_set=repeated).to_pylist()
    flags = [
        [*(said or []), REPEATED] if odd and REPEATED not in (said or []) else said
        for said, odd in zip(kept["flags"].to_pylist(), again, strict=True)
    ]
    kind = kept.schema.field("flags").type
    return with_column(kept, "flags", pa.array(flags, kind)), rejects


def _gone(
    cache: Path, attributes: dict[str, Any], frames: Mask, rows: pa.Table, torn: Torn
) -> pa.Table:
    """GONE: the frames, and what failures/ has of frames of their files."""
    kept = {uid for uid, _ in torn}
    mine = {
        (row["root"], row["path"])
        for row in rows.select(["series_uid", "root", "path"]).group_by(
            ["series_uid", "root", "path"]
        ).aggregate([]).to_pylist()
        if row["series_uid"] not in kept
    }  # fmt: skip
    failures = read_table(cache, attributes, "failures", ["root", "path", "outcome"])
    keys = zip(*(failures[c].to_pylist() for c in ("root", "path", "outcome")), strict=True)
    lost = [k for k, (r, path, how) in enumerate(keys) if how == "failed" and (r, path) in mine]
    numbers = [*np.flatnonzero(frames).tolist(), *lost]
    kinds = ["frames"] * int(frames.sum()) + ["failures"] * len(lost)
    return pa.table([pa.array(kinds, pa.string()), pa.array(numbers, pa.int64())], GONE)
