"""The plan on disk: what is to be done, and where what is done is kept until commit.

Everything that belongs to one plan lies in a folder of build/ that is named by the plan's nonce. A
worker that outlives its run, or works for a plan that was replaced, then finds no folder of its
own any more, and can neither read nor leave anything in another plan's.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dicom2cache.errors import CacheError, Unfinished
from dicom2cache.planning.tasks import tasks
from dicom2cache.recipes.recipe import Recipe
from dicom2cache.records import ArraySpec, Plan, ShardTask
from dicom2cache.running.attempts import attempt_name
from dicom2cache.running.plan_tables import Checked, read_tables, write_tables
from dicom2cache.schema import REMOVED
from dicom2cache.store import names, seen
from dicom2cache.store.committed import whole_root
from dicom2cache.store.durable import (
    has_links,
    make_folder,
    name_first,
    release,
    sync_folder,
    write_durably,
)
from dicom2cache.store.layout import ROOT, SPARE, attributes_sha256, spare_path
from dicom2cache.store.root import check_specs
from dicom2cache.store.spare import times_of


@dataclass(frozen=True)
class Job:
    """A plan on disk, with what surrounds it."""

    cache: Path
    identity: str
    """digest of recipe, sources and versions, a colon, and that of the sources' times"""
    roots: tuple[str, ...]
    """source folders by number; empty where the cache has none of that number"""
    recipe: Recipe
    plan: Plan
    facts: dict[str, Any]
    """software, codecs, patient_key"""
    seen: pa.Table = field(default_factory=seen.TABLE.empty_table)
    """what the source files were like (store.seen)"""
    onto: str | None = None
    """of an update, the `sha256` of the root that it adds to"""
    gone: pa.Table | None = None
    """of an update that begins a new numbering, GONE: what of the cache is not in it"""
    removed: pa.Table = field(default_factory=REMOVED.empty_table)
    """and REMOVED: what stays out from then on"""
    links: bool = True
    """whether the first of several processes is known by hard links (store.durable.name_first)"""
    nonce: str = field(default_factory=lambda: secrets.token_hex(8))
    """tells this plan from any other that was ever made here, even of the same identity"""
    written: Checked | None = field(default=None, compare=False)
    """its tables on disk, where they come from there"""

    @property
    def tasks(self) -> list[ShardTask]:
        """One task for each shard. Raises CacheError for a plan that is damaged."""
        self.check("files", ["transfer_syntax"])
        self.check("frames", ["file"])
        return tasks(self.plan)

    def check(self, table: str, columns: Iterable[str] | None = None, rows: Any = None) -> None:
        """Raises CacheError if `columns` (all) of a table, at `rows` (all), are not as planned."""
        if self.written is not None:
            self.written.check(table, columns, rows)

    @property
    def state(self) -> Path:
        """Folder of all that belongs to this plan until it is committed."""
        return build_folder(self.cache) / self.nonce


REPAIR = "run `dicom2cache repair {}`"
"""what to do about damage"""
GIVE_UP = "or give up what was to be added: delete {}/build"
"""what to do where an update cannot be ended; what it had converted is named by `verify`"""
PLANNING = "plan"
"""of an update, what a process makes while its plan is not named"""
MAKING = "making"
"""and before that: a folder without a mark is dropped"""
_TRIES = 100
NONCE = re.compile(r"[0-9a-f]{16}")
_STATE = ("attempts", "receipts", "claims", "choices")
"""folders of a plan's state, beside its tables"""


def build_folder(cache: Path) -> Path:
    return cache / "build"


def plan_path(cache: Path) -> Path:
    """The file that makes a plan of what lies beside it."""
    return build_folder(cache) / "plan.json"


def save_plan(job: Job) -> Job:
    """Write the plan durably; plan.json, named last, makes it one.

    The job on disk: another one, if another process has planned the same in the meantime. Raises
    CacheError if that planned something else, Unfinished if it has committed already, or has
    planned an update as this one is.
    """
    mark = scratch(job) / attempt_name(PLANNING)
    if job.onto is not None:  # the cache is committed, and whoever comes by tidies it up
        _begin_marked(job, mark)
    for folder in _STATE:
        make_folder(job.state / folder)
    job = replace(job, links=has_links(scratch(job), job.state / "receipts"))
    plan = job.plan
    files = plan.files.drop_columns(["per_frame"])  # expanded in `frames`
    tables = {"files": files, "frames": plan.frames, "rejects": plan.rejects, "seen": job.seen}
    tables |= {} if job.gone is None else {"gone": job.gone, "removed": job.removed}
    tables |= {"contours": plan.contours} if plan.contours.num_rows else {}
    about = {
        "identity": job.identity,
        "nonce": job.nonce,
        "roots": list(job.roots),
        "recipe": job.recipe.to_dict(),
        "arrays": [asdict(spec) for spec in plan.arrays],
        "wasted_bytes": plan.wasted_bytes,
        "facts": job.facts,
        "links": job.links,
        "digests": write_tables(job.state, tables),
        **({"onto": job.onto} if job.onto is not None else {}),
        **({"numbered": True} if job.gone is not None else {}),
        **({"contours": True} if plan.contours.num_rows else {}),
    }
    about["sha256"] = attributes_sha256(about)
    own = job.state / "plan.json"
    write_durably(own, json.dumps(about, indent=1).encode())
    if name_first(own, plan_path(job.cache), job.links):
        if job.onto is not None and is_onto(about, whole_root(job.cache)):
            mark.unlink(missing_ok=True)
            return job
        if job.onto is None and not (job.cache / ROOT).exists():
            return job
        release(plan_path(job.cache))
        plan_path(job.cache).unlink(missing_ok=True)  # another process has committed meanwhile
    discard(job.state)
    drop_if_empty(build_folder(job.cache))
    if job.onto is not None:
        raise Unfinished(f"{job.cache}: another process has begun to add files meanwhile")
    if not is_same(planned_identity(job.cache), job.identity):
        raise CacheError(
            f"{job.cache}: another process has planned something else here meanwhile, at "
            f"{_when(plan_path(job.cache))}; give another path"
        )
    return load_job(job.cache)


def _begin_marked(job: Job, mark: Path) -> None:
    """Make the folder of a plan so that it is there with its mark, or not at all."""
    making = build_folder(job.cache) / attempt_name(MAKING)
    for left in reversed(range(_TRIES)):
        try:
            make_folder(making / scratch(job).name)
            (making / scratch(job).name / mark.name).touch()
        except FileNotFoundError:  # build/ was empty until then, and whoever came by removed it
            if not left:
                raise
        else:
            break
    os.rename(making, job.state)
    sync_folder(job.state.parent)


def _when(path: Path) -> str:
    """When a file was written, UTC."""
    return str(np.datetime64(path.stat().st_mtime_ns // 10**9, "s")).replace("T", " ") + "+00:00"


def about_of(cache: Path) -> dict[str, Any]:
    """plan.json; empty if there is none, or something else of that name."""
    try:
        found = json.loads(names.read_plain(plan_path(cache)))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _nonce(about: dict[str, Any]) -> str | None:
    """The nonce in plan.json: the name of a folder; None for one that is no such name."""
    found = about.get("nonce")
    return found if isinstance(found, str) and NONCE.fullmatch(found) else None


def planned_identity(cache: Path) -> str | None:
    """Identity of what is in `cache`, committed or planned; None if there is nothing of ours.

    A root that is damaged or lost has a second copy. Older caches have it in build/ only.
    """
    planned = {} if "onto" in (about := about_of(cache)) else about
    lost = {} if planned and not (cache / ROOT).exists() else whole_root(cache, spare=True)
    for said in (whole_root(cache), planned, lost):
        if said and said.get("identity") is not None:
            times = None if said is planned else times_of(cache)
            return f"{said['identity']}:{times}" if times else str(said["identity"])
    return None


def is_onto(about: dict[str, Any], root: dict[str, Any] | None) -> bool:
    """True if a plan.json is that of an update of the cache that has this root."""
    return root is not None and about.get("onto") == root["sha256"]


def update_of(cache: Path) -> str | None:
    """Identity of the update of a committed cache that is under way; None if there is none."""
    about = about_of(cache)
    if "onto" not in about or not (build_folder(cache) / (_nonce(about) or "none")).exists():
        return None
    return str(about.get("identity")) if is_onto(about, whole_root(cache)) else None


def is_open(cache: Path) -> bool:
    """True if shards of a plan are to be converted: of a cache that is not committed, or grows."""
    return not (cache / ROOT).exists() or update_of(cache) is not None


def is_growing(cache: Path, attributes: dict[str, Any]) -> bool:
    """Whether a run has begun to append to the cache: its shards and tables come first, the root
    last."""
    begun = (cache / "frames" / f"{attributes['generation'] + 1}.parquet").exists()
    return begun or update_of(cache) is not None


def is_same(known: str | None, identity: str) -> bool:
    """True if what is in a cache was made from the same; times count where they are known."""
    return known == (identity if ":" in (known or "") else identity.partition(":")[0])


def is_planned(cache: Path, nonce: str) -> bool:
    """True if the plan of this nonce is the one in `cache`, and not committed."""
    return _nonce(about_of(cache)) == nonce and (build_folder(cache) / nonce).exists()


def has_plan(cache: Path) -> bool:
    """True if there is a plan in `cache` that is not committed."""
    return is_planned(cache, _nonce(about_of(cache)) or "none")


def planned_arrays(cache: Path) -> list[str]:
    """Names of the arrays of what is in `cache`, committed or planned; no other folder's."""
    found: dict[str, None] = {}
    for said in (about_of(cache), whole_root(cache), whole_root(cache, spare=True)):
        arrays = (said or {}).get("arrays")
        for array in arrays if isinstance(arrays, list) else ():
            name = array.get("name") if isinstance(array, dict) else None
            if names.is_array(name):
                found[str(name)] = None
    return list(found)


_NO_PLAN = (
    ValueError, AttributeError, KeyError, TypeError, IndexError, OverflowError, RecursionError,
    pa.ArrowException,
)  # fmt: skip
"""what a plan that is none makes Python and pyarrow raise"""


def load_job(cache: Path) -> Job:
    """The plan in `cache`, its tables mapped and not read.

    Raises Unfinished if there is none, or the cache is committed, CacheError if it is damaged.
    """
    names.refuse_links(cache)
    try:
        said = names.read_plain(plan_path(cache))
        about = json.loads(said)
        nonce = _nonce(about)
        there = nonce is not None and (build_folder(cache) / nonce).exists()
        if there and ("onto" not in about or is_onto(about, whole_root(cache))):
            return _load(cache, said)
    except FileNotFoundError:
        nonce = None
    except CacheError:
        raise
    except (*_NO_PLAN, OSError) as e:
        if isinstance(e, OSError) and e.errno is not None:  # pyarrow's own have none
            raise
        raise CacheError(
            f"{plan_path(cache)}: no plan of dicom2cache, or a damaged one: {e}; run `dicom2cache "
            "plan` or `build` with --overwrite"
        ) from e
    if (cache / ROOT).exists():
        raise Unfinished(f"{cache}: the cache is committed already; there is nothing left to do")
    if is_lost(cache):
        raise CacheError(lost(cache))
    if plan_path(cache).exists():
        raise Unfinished(
            f"{cache}: the plan here was being replaced when that was interrupted; run "
            "`dicom2cache plan` or `build` with --overwrite"
        )
    if build_folder(cache).exists():
        raise Unfinished(f"{cache}: planning did not end; run `dicom2cache plan` again")
    raise Unfinished(f"{cache}: no plan here; run `dicom2cache plan SRC... {cache}` first")


@lru_cache(maxsize=2)
def _load(cache: Path, said: bytes) -> Job:
    about = json.loads(said)
    if about.get("sha256") != attributes_sha256(about):
        raise ValueError("its SHA-256 does not match")
    state = build_folder(cache) / about["nonce"]
    names.refuse_links(cache, state)
    for array in about["arrays"]:
        if not names.is_array(array["name"]):
            names.checked(None, f"{plan_path(cache)}, array {array['name']!r}")
    more = {"gone": "numbered", "removed": "numbered", "contours": "contours"}
    some = [name for name, said in more.items() if about.get(said) is True]
    wanted = ("files", "frames", "rejects", "seen", *some)
    written = read_tables(state, wanted, about["digests"])
    tables = written.tables
    check_specs(about["arrays"])
    arrays = tuple(ArraySpec(**{**a, "slot": tuple(a["slot"])}) for a in about["arrays"])
    plan = Plan(arrays, tables["files"], tables["frames"], tables["rejects"], about["wasted_bytes"])
    plan = replace(plan, contours=tables.get("contours", plan.contours))
    if sum(spec.slots for spec in arrays) != plan.frames.num_rows:
        raise ValueError("its arrays have not the slots of its frames")
    facts, texts = about["facts"], (about["identity"], *about["roots"])
    if not all(isinstance(facts[name], dict) for name in ("software", "codecs")):
        raise TypeError("its versions are none")
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("its identity or sources are no text")
    return Job(
        cache,
        about["identity"],
        tuple(about["roots"]),
        Recipe.from_dict(about["recipe"]),
        plan,
        facts,
        tables["seen"],
        about.get("onto"),
        tables.get("gone"),
        tables.get("removed", REMOVED.empty_table()),
        about.get("links", True) is not False,
        about["nonce"],
        written,
    )


def is_lost(cache: Path) -> bool:
    """True for a cache that was committed and whose root is gone, save for its second copy."""
    planned = plan_path(cache).exists() and "onto" not in about_of(cache)
    there = planned or (cache / ROOT).exists()
    return not there and (cache / spare_path(ROOT)).exists()


def lost(cache: Path) -> str:
    """What to say of such a cache."""
    return f"{cache / ROOT}: lost, and {SPARE}/ has a copy of it; {REPAIR.format(cache)}"


def scratch(job: Job) -> Path:
    """Folder for what is not whole yet, so that a process that dies leaves nothing elsewhere."""
    return job.state / "attempts"


def drop_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return  # something of another's is in there
    sync_folder(folder.parent)


def discard(state: Path) -> None:
    """Remove a plan's state: its name at once, so that workers find it whole or not at all."""
    gone = state if state.name.startswith(GONE) else state.with_name(f"{GONE}{state.name}")
    try:
        os.rename(state, gone)
    except FileNotFoundError:
        return  # another process was faster
    shutil.rmtree(gone, ignore_errors=True)  # files still open stay there on NFS: no harm


GONE = "removed-"
