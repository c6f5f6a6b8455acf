"""The plan of an update: what is new below the sources, added to a committed cache."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from dicom2cache.arrow import ints, with_column
from dicom2cache.errors import CacheError, SourceError, Unfinished
from dicom2cache.privacy.keys import PatientKey
from dicom2cache.privacy.own_words import own_words_only
from dicom2cache.privacy.veil import Veil, check_key, keys_of
from dicom2cache.recipes.recipe import Recipe
from dicom2cache.records import Candidate, Plan
from dicom2cache.running import damage, pool, target, versions
from dicom2cache.running.contours import of_instances
from dicom2cache.running.identity import facts_of, identity_of
from dicom2cache.running.job import Job, load_job, save_plan, update_of
from dicom2cache.running.known import (
    Looked,
    awaited,
    look,
    seen_of,
    state_of,
    still_new,
    tell_alike,
)
from dicom2cache.running.listing import listed
from dicom2cache.running.lost import nothing
from dicom2cache.running.processors import cpu_count
from dicom2cache.running.progress import Progress, Silent
from dicom2cache.running.worth import worth
from dicom2cache.schema import FRAMES
from dicom2cache.sources.archives.listed import candidate_at
from dicom2cache.store import root, seen
from dicom2cache.store.committed import read_table, spec_of

if TYPE_CHECKING:
    from dicom2cache.running.remove.withheld import Withheld
    from dicom2cache.running.survey import Survey

REPEATED = "sop-uid-repeated"
_log = logging.getLogger("dicom2cache")


@dataclass(frozen=True)
class Request:
    """What is asked for."""

    cache: Path
    sources: Sequence[str | os.PathLike[str]]
    recipe: Recipe | None
    """None: that of the cache"""
    key: bytes
    """of patients, or of all under a veil"""
    veil: Veil | None
    jobs: int | None
    backend: str
    force: bool
    progress: Progress
    is_built: bool = True
    """whether frames are converted as soon as there is a plan"""
    moved: Mapping[str, str] = field(default_factory=dict)
    """where source folders of the cache are by now"""
    is_dry: bool = False
    """whether the plan is only looked at: nothing is written"""


def request(
    cache: Path,
    sources: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    recipe: Recipe | None,
    jobs: int | None,
    backend: str,
    force: bool,
    patient_key: str | os.PathLike[str] | None,
    deidentify: str | os.PathLike[str] | None,
    progress: Progress | None,
    is_built: bool,
    moved: Mapping[str, str | os.PathLike[str]] | None,
) -> Request:
    """What the arguments of `pipeline.update`, or of `plan`, ask for; its keys are read."""
    some = [sources] if isinstance(sources, str | os.PathLike) else sources
    veil, key = keys_of(patient_key, deidentify)
    told = progress or Silent()
    places = {old: os.fspath(new) for old, new in (moved or {}).items()}
    return Request(cache, some, recipe, key, veil, jobs, backend, force, told, is_built, places)


def held(cache: Path, asked: Recipe | None, attributes: dict[str, Any]) -> Recipe:
    """The recipe of a cache. Raises CacheError for one that is asked for and differs, by its keys.

    Versions that differ, too, and a cache of an earlier version.
    """
    if "identity" not in attributes:
        raise CacheError(
            f"{cache}: made by an earlier version, and cannot be added to; build it again with "
            "--overwrite, or at another path"
        )
    recipe = Recipe.from_dict(attributes["recipe"])
    if asked is not None and asked != recipe:
        said, own = asked.to_dict(), recipe.to_dict()
        differing = [
            f"{name} is {own.get(name)!r} there, {said.get(name)!r} here"
            for name in sorted({*said, *own})
            if said.get(name) != own.get(name)
        ]
        raise CacheError(
            f"{cache}: made by another recipe: {'; '.join(differing)}. Leave the recipe out: an "
            "update takes the cache's own; or build with --overwrite, or at another path"
        )
    remedy = "Install those here, or build again with --overwrite"
    versions.check(cache, attributes, recipe.codec, remedy)
    return recipe


LOOKS = 5
"""times that an update looks for what is new, while others add files too"""


def busy(cache: Path) -> Unfinished:
    """What is raised after so many."""
    return Unfinished(f"{cache}: other processes add files to it; run the same command again")


def plan_update(asked: Request) -> tuple[Job | None, Looked | None]:
    """(the plan on disk, what lies below the sources); no plan: nothing is new.

    A plan that is under way already comes first, by itself: nothing was looked at then. Raises
    CacheError if the cache cannot be added to, Unfinished if others add to it again and again.
    """
    unseen = [s for s in asked.sources if not os.path.exists(s)]  # names that the caller gave
    for _ in range(LOOKS):
        with own_words_only(asked.veil is not None, asked.cache, *unseen):
            found = _plan_update(asked)
        if found is not None:
            return found
    raise busy(asked.cache)


def _plan_update(asked: Request) -> tuple[Job | None, Looked | None] | None:
    """As `plan_update`; None if another process has begun meanwhile."""
    cache, veil = asked.cache, asked.veil
    attributes, recipe, facts = checked(asked)
    if update_of(cache) is not None:
        return load_job(cache), None
    found = listed(asked.sources, cache, asked.progress, recipe.limits)
    looked = look(cache, attributes, asked.sources, found, veil, asked.moved)
    if not looked.candidates:
        raise SourceError(nothing(asked.sources, found[2]))
    looked, withheld = still_new(looked, cache, attributes, asked.key, veil)
    if not looked.new and not looked.unlisted.num_rows:
        return None, looked
    tell_alike(cache, looked, veil)
    workers = asked.jobs or cpu_count()
    some = 0
    if asked.is_built:
        forked = pool.are_forked(asked.backend)
        some = worth(workers, looked.roots, looked.new, recipe.shard_bytes, forked)
    with pool.workers_starting(some, asked.backend, pool.CONVERT):
        planned = _planned(asked, attributes, recipe, looked, workers, withheld)
        if waiting := awaited(cache, attributes, looked, planned, veil):
            both = sorted((*looked.new, *waiting), key=lambda c: (c.root, c.path))
            looked = replace(looked, new=tuple(both))
            planned = _planned(asked, attributes, recipe, looked, workers, withheld)
    new = tuple(c for c in looked.new if (c.root, c.path) not in withheld.files)
    looked = replace(looked, withheld=looked.withheld + len(looked.new) - len(new), new=new)
    if not new and not looked.unlisted.num_rows:
        return None, looked
    if not asked.force:
        target.check_room(cache, planned, looked.roots, replaced=False)
    used = {c.root for c in new} | set(looked.unlisted["root"].to_pylist())
    used |= {s["root"] for s in attributes["sources"]}
    roots = tuple(folder if k in used else "" for k, folder in enumerate(looked.roots))
    mine = identity_of(roots, looked.new, looked.unlisted, recipe, facts, veil).partition(":")[0]
    chained = f"{attributes['identity']} {mine}"
    job = Job(
        cache, hashlib.sha256(chained.encode()).hexdigest(), roots, recipe, planned,
        {name: attributes[name] for name in facts}, seen_of(looked.new, veil), attributes["sha256"],
    )  # fmt: skip
    try:
        return job if asked.is_dry else save_plan(job), looked
    except Unfinished:
        return None


def checked(asked: Request) -> tuple[dict[str, Any], Recipe, dict[str, Any]]:
    """(attributes of the root, recipe, facts) of a cache that is to be added to.

    Raises CacheError if that cannot be, or if it is damaged.
    """
    cache, veil = asked.cache, asked.veil
    attributes = root.attributes(cache)
    recipe = held(cache, asked.recipe, attributes)
    facts = facts_of(asked.key, veil, recipe)
    check_key(veil, attributes, cache, "give its key: --deidentify KEYFILE")
    said = attributes.get("patient_key")
    if veil is None and said != facts["patient_key"]:
        raise CacheError(
            f"{cache}: patients are hashed by another key (its fingerprint is {said}, that of this "
            f"one {facts['patient_key']}); give --patient-key FILE, the one it was made with"
        )
    damage.refuse(cache)
    return attributes, recipe, facts


def _planned(
    asked: Request,
    attributes: dict[str, Any],
    recipe: Recipe,
    looked: Looked,
    workers: int,
    withheld: Withheld,
) -> Plan:
    """The plan of what is new, and not withheld."""
    from dicom2cache.planning.continuing import continuing
    from dicom2cache.running.faults import FaultLog
    from dicom2cache.running.survey import Survey

    by = Survey(
        looked.roots, PatientKey(asked.key, asked.veil is not None), recipe, workers,
        asked.backend, asked.progress, FaultLog(asked.veil is not None),
        partial(withheld.without, veil=asked.veil and replace(asked.veil, seen=None)),
    )  # fmt: skip
    stored = Stored(asked.cache, attributes, asked.veil, looked)
    before = [spec_of(about) for about in attributes["arrays"]]
    planned, rejects, contours = by.plan(
        looked.new, looked.unlisted, lambda files: stored.without_copies(by, files), before,
        stored.contours, asked.veil is not None, stored.images,
    )  # fmt: skip
    if planned is None:
        idle = tuple(replace(s, first=s.first + s.shards, slots=0) for s in before)
        files = by.headers([])[0].drop_columns([])
        planned = Plan(idle, files, FRAMES.empty_table(), rejects, 0, contours)
    return continuing(planned, stored.series(planned), stored.stacks)


def is_made_of(
    cache: Path,
    sources: Sequence[str | os.PathLike[str]],
    found: tuple[Sequence[str], Sequence[Candidate], pa.Table],
    recipe: Recipe,
    facts: dict[str, Any],
    key: bytes,
    veil: Veil | None,
) -> bool:
    """Whether a cache that was added to has all that `scan` found, and nothing else."""
    try:
        attributes = root.attributes(cache)
    except (FileNotFoundError, NotADirectoryError, CacheError):
        return False
    if not attributes["generation"] or attributes["recipe"] != recipe.to_dict():
        return False
    if any(attributes.get(name) != value for name, value in facts.items()):
        return False
    looked = look(cache, attributes, sources, found, veil)
    looked, _ = still_new(looked, cache, attributes, key, veil)
    other = looked.new or looked.unlisted.num_rows or looked.changed or looked.vanished
    return looked.everywhere and not other


class Stored:
    """What a cache has of the series and instances of new files."""

    def __init__(
        self, cache: Path, attributes: dict[str, Any], veil: Veil | None, looked: Looked
    ) -> None:
        self._cache, self._attributes = cache, attributes
        self._veil = replace(veil, seen=None) if veil else None
        self._looked = looked

    def _table(self, columns: Sequence[str]) -> pa.Table:
        return read_table(self._cache, self._attributes, "frames", list(columns))

    @property
    def stacks(self) -> int:
        """The number of the next stack."""
        return int(ints(self._table(["stack"])["stack"], -1).max(initial=-1)) + 1

    def uids(self, column: Any) -> Any:
        """UIDs as the cache has them."""
        plain = column.combine_chunks().cast(pa.string())
        if self._veil is None:
            return plain
        veil = self._veil
        return pa.array([uid and veil.hashed("uid", uid) for uid in plain.to_pylist()], pa.string())

    def series(self, plan: Plan) -> pa.Table:
        """COLUMNS of the frames that the cache has of the series of a plan, as the plan has them.

        Under a veil what is not comparable is left out.
        """
        from dicom2cache.planning.continuing import COLUMNS

        plain = plan.files["series_uid"].unique().drop_null().cast(pa.string())
        named = self.uids(pa.chunked_array([plain]))
        mine = pc.is_in(self._table(["series_uid"])["series_uid"], value_set=named)
        if not pc.any(mine).as_py():
            return self._table(COLUMNS).slice(0, 0) if plan.frames.num_rows else pa.table({})
        table = self._table(COLUMNS).filter(mine)
        if self._veil is not None:
            back = pc.index_in(table["series_uid"], value_set=named)
            place = table.column_names.index("series_uid")
            table = table.set_column(place, "series_uid", plain.take(back.combine_chunks()))
            table = table.drop_columns(["asl_label", "optical_path"])
        return table

    def images(self, files: pa.Table) -> pa.Table:
        """As `images_of`."""
        from dicom2cache.running.images import images_of

        return images_of(self._cache, self._attributes, files, self._veil)

    def without_copies(self, by: Survey, files: pa.Table) -> tuple[pa.Table, pa.Table]:
        """As `Survey.without_copies`, copies of files of the cache left out, too.

        Of those the headers are read again, and pixels if need be. What has the SOP Instance UID of
        one that cannot be read any more as it was stays, flagged.
        """
        sops = self.uids(files["sop_uid"])
        frames = self._table(["root", "path", "sop_uid"])
        twice = frames.filter(pc.is_in(frames["sop_uid"], value_set=sops.drop_null().unique()))
        if not twice.num_rows:
            return by.without_copies(files)
        old = self._now(twice.select(["root", "path"]).group_by(["root", "path"]).aggregate([]))
        known = by.headers(old)[0] if old else files.slice(0, 0)
        kept, rejects = by.without_copies(pa.concat_tables([known, files]))
        kept, rejects = (_without(table, old) for table in (kept, rejects))
        repeated = pc.is_in(self.uids(kept["sop_uid"]), value_set=twice["sop_uid"].unique())
        flags = [
            [*(said or []), REPEATED] if again and REPEATED not in (said or []) else said
            for said, again in zip(kept["flags"].to_pylist(), repeated.to_pylist(), strict=True)
        ]
        kind = kept.schema.field("flags").type
        return with_column(kept, "flags", pa.array(flags, kind)), rejects

    def contours(self, new: pa.Table) -> pa.Table:
        """CONTOURS_TABLE of the cache for the instances of `new`, their UIDs as those have them."""
        plain = new["sop_uid"].unique().drop_null()
        named = self.uids(pa.chunked_array([plain]))
        table = of_instances(self._cache, self._attributes, named)
        back = plain.take(pc.index_in(table["sop_uid"].combine_chunks(), value_set=named))
        table = with_column(table, "sop_uid", back)
        if self._veil is None:
            return table
        here = {self._veil.hashed("path", c.path): c.path for c in self._looked.candidates}
        paths = pa.array([here.get(path) for path in table["path"].to_pylist()], pa.string())
        table = with_column(table, "path", paths)
        return table.filter(table["path"].is_valid())

    def _now(self, stored: pa.Table) -> list[Candidate]:
        """Those of these files of the cache that are as they were, by root and path."""
        table = seen.read(self._cache)
        if table is None:
            return []
        wanted = set(zip(stored["root"].to_pylist(), stored["path"].to_pylist(), strict=True))
        rows = table.filter(pc.is_in(table["path"], value_set=stored["path"].unique()))
        states = {
            (row["root"], row["path"]): row["state"]
            for row in rows.to_pylist()
            if (row["root"], row["path"]) in wanted
        }
        veil, found = self._veil, []
        if veil is not None:  # only what was looked at has a name
            here = {(c.root, veil.hashed("path", c.path)): c for c in self._looked.candidates}
            found = [here[key] for key in states if key in here]
        else:
            for number, path in states:
                try:
                    about = candidate_at(self._looked.roots[number], number, path)
                except OSError:
                    continue
                if about is not None:
                    found.append(about)

        def name(c: Candidate) -> tuple[int, str]:
            return c.root, veil.hashed("path", c.path) if veil else c.path

        same = [c for c in found if state_of(c, veil) == states[name(c)]]
        return sorted(same, key=lambda c: (c.root, c.path))


def _without(table: pa.Table, files: Sequence[Candidate]) -> pa.Table:
    """The rows that are of none of these files."""
    known = {(c.root, c.path) for c in files}
    rows = zip(table["root"].to_pylist(), table["path"].to_pylist(), strict=True)
    return table.filter(pa.array([row not in known for row in rows], pa.bool_()))
