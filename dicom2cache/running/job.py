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
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dicom2cache.arrow import rows_of
from dicom2cache.errors import CacheError, Unfinished
from dicom2cache.planning.tasks import tasks
from dicom2cache.recipes.recipe import Recipe
from dicom2cache.records import ArraySpec, Header, Plan, ShardTask
from dicom2cache.store import names
from dicom2cache.store.durable import make_folder, name_first, write_durably
from dicom2cache.store.layout import ROOT


@dataclass(frozen=True)
class Job:
    """A plan on disk, with what surrounds it."""

    cache: Path
    identity: str
    """digest of recipe, sources and versions"""
    roots: tuple[str, ...]
    recipe: Recipe
    plan: Plan
    facts: dict[str, Any]
    """software, codecs, patient_key"""
    nonce: str = field(default_factory=lambda: secrets.token_hex(8))
    """tells this plan from any other that was ever made here, even of the same identity"""

    @property
    def tasks(self) -> list[ShardTask]:
        """One task for each shard."""
        return tasks(self.plan)

    @property
    def state(self) -> Path:
        """Folder of all that belongs to this plan until it is committed."""
        return _build(self.cache) / self.nonce


_NONCE = re.compile(r"[0-9a-f]{16}")
_STATE = ("attempts", "receipts", "claims", "choices")
"""folders of a plan's state, beside its tables"""


def _build(cache: Path) -> Path:
    return cache / "build"


def plan_path(cache: Path) -> Path:
    """The file that makes a plan of what lies beside it."""
    return _build(cache) / "plan.json"


def save_plan(job: Job) -> Job:
    """Write the plan durably; plan.json, named last, makes it one.

    The job on disk: another one, if another process has planned the same in the meantime. Raises
    CacheError if that planned something else, Unfinished if it has committed already.
    """
    for folder in _STATE:
        make_folder(job.state / folder)
    plan = job.plan
    files = plan.files.drop_columns(["per_frame"])  # expanded in `frames`
    for name, table in (("files", files), ("frames", plan.frames), ("rejects", plan.rejects)):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table.unify_dictionaries(), max_chunksize=1 << 16)
        write_durably(job.state / f"{name}.arrow", sink.getvalue())
    about = {
        "identity": job.identity,
        "nonce": job.nonce,
        "roots": list(job.roots),
        "recipe": job.recipe.to_dict(),
        "arrays": [asdict(spec) for spec in plan.arrays],
        "wasted_bytes": plan.wasted_bytes,
        "facts": job.facts,
    }
    own = job.state / "plan.json"
    write_durably(own, json.dumps(about, indent=1).encode())
    if name_first(own, plan_path(job.cache)):
        return job
    _discard(job.state)
    if planned_identity(job.cache) != job.identity:
        raise CacheError(
            f"{job.cache}: another process has planned something else here meanwhile, at "
            f"{_when(plan_path(job.cache))}; give another path"
        )
    return load_job(job.cache)


def _when(path: Path) -> str:
    """When a file was written, UTC."""
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(" ", "seconds")


def headers_of(job: Job, rows: pa.Table) -> dict[int, Header]:
    """The headers (rows of FILES, by number) of the files that rows of the plan's frames are in."""
    needed = np.unique(rows["file"].to_numpy()).tolist()
    return dict(zip(needed, rows_of(job.plan.files, needed).to_pylist(), strict=True))


def _about(cache: Path) -> dict[str, Any]:
    """plan.json; empty if there is none, or something else of that name."""
    try:
        found = json.loads(plan_path(cache).read_bytes())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _nonce(about: dict[str, Any]) -> str | None:
    """The nonce in plan.json: the name of a folder; None for one that is no such name."""
    found = about.get("nonce")
    return found if isinstance(found, str) and _NONCE.fullmatch(found) else None


def planned_identity(cache: Path) -> str | None:
    """Identity of the plan in `cache`; None if there is none, or something else of that name."""
    found = _about(cache).get("identity")
    return None if found is None else str(found)


def is_planned(cache: Path, nonce: str) -> bool:
    """True if the plan of this nonce is the one in `cache`, and not committed."""
    return _nonce(_about(cache)) == nonce and (_build(cache) / nonce).exists()


def planned_arrays(cache: Path) -> list[str]:
    """Names of the arrays of the plan in `cache`, committed or not; no other folder's."""
    said = _about(cache).get("arrays", ())
    arrays = [a for a in said if isinstance(a, dict)] if isinstance(said, list) else []
    return [str(a.get("name")) for a in arrays if names.is_array(a.get("name"))]


def load_job(cache: Path) -> Job:
    """The plan in `cache`, its tables mapped and not read.

    Raises Unfinished if there is none, or the cache is committed.
    """
    names.refuse_links(cache)
    try:
        said = plan_path(cache).read_bytes()
        nonce = _nonce(json.loads(said))
        if nonce is not None and (_build(cache) / nonce).exists():
            return _load(cache, said)
    except FileNotFoundError:
        nonce = None
    except (ValueError, AttributeError) as e:
        raise CacheError(f"{plan_path(cache)}: no plan of dicom2cache: {e}") from e
    if (cache / ROOT).exists():
        raise Unfinished(f"{cache}: the cache is committed already; there is nothing left to do")
    if plan_path(cache).exists():
        raise Unfinished(
            f"{cache}: the plan here was being replaced when that was interrupted; run "
            "`dicom2cache plan` or `build` with --overwrite"
        )
    if _build(cache).exists():
        raise Unfinished(f"{cache}: planning did not end; run `dicom2cache plan` again")
    raise Unfinished(f"{cache}: no plan here; run `dicom2cache plan SRC... {cache}` first")


@lru_cache(maxsize=2)
def _load(cache: Path, said: bytes) -> Job:
    about = json.loads(said)
    state = _build(cache) / about["nonce"]
    for array in about["arrays"]:
        if not names.is_array(array["name"]):
            names.checked(None, f"{plan_path(cache)}, array {array['name']!r}")
    tables = {}
    for name in ("files", "frames", "rejects"):
        # pyarrow drops the descriptor at close; the mapping lives as long as the table
        with pa.memory_map(str(state / f"{name}.arrow")) as source:
            tables[name] = pa.ipc.open_file(source.read_buffer()).read_all()
    arrays = tuple(ArraySpec(**{**a, "slot": tuple(a["slot"])}) for a in about["arrays"])
    plan = Plan(arrays, tables["files"], tables["frames"], tables["rejects"], about["wasted_bytes"])
    return Job(
        cache,
        about["identity"],
        tuple(about["roots"]),
        Recipe.from_dict(about["recipe"]),
        plan,
        about["facts"],
        about["nonce"],
    )


def scratch(job: Job) -> Path:
    """Folder for what is not whole yet, so that a process that dies leaves nothing elsewhere."""
    return job.state / "attempts"


def percentiles_path(job: Job, stack: int) -> Path:
    """Where the percentiles of a stack are kept until commit."""
    return job.state / "choices" / f"stack.{stack}.json"


def codec_path(job: Job, array: int) -> Path:
    """Where the codec that was chosen for an array is kept until commit."""
    return job.state / "choices" / f"codec.{array}.json"


def forget(cache: Path) -> None:
    """Drop all that plans in `cache` keep beside plan.json: nobody can go on with one of them."""
    try:
        inside = list(_build(cache).iterdir())
    except FileNotFoundError:
        return
    for path in inside:
        if path.is_symlink():
            continue
        if path.is_dir():
            if _NONCE.fullmatch(path.name) or path.name.startswith(_GONE):
                _discard(path)
        elif path.name.startswith(".plan.json."):  # of a writer that died
            path.unlink(missing_ok=True)


def compact(cache: Path) -> None:
    """Drop the state that a committed cache no longer needs; only plan.json stays."""
    forget(cache)
    about = _about(cache)
    if about.pop("nonce", None) is not None:  # the one thing that differs from build to build
        write_durably(plan_path(cache), json.dumps(about, indent=1).encode())


def _discard(state: Path) -> None:
    """Remove a plan's state: its name at once, so that workers find it whole or not at all."""
    gone = state if state.name.startswith(_GONE) else state.with_name(f"{_GONE}{state.name}")
    try:
        os.rename(state, gone)
    except FileNotFoundError:
        return  # another process was faster
    shutil.rmtree(gone, ignore_errors=True)  # files still open stay there on NFS: no harm


_GONE = "removed-"
