"""An update from its plan to its end, and after it, if asked for, whole stacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from dicom2cache.running.job import is_same, planned_identity
from dicom2cache.running.known import Looked
from dicom2cache.running.update import LOOKS, Request, busy, plan_update
from dicom2cache.schema import REJECTS
from dicom2cache.store import root
from dicom2cache.store.committed import read_table


@dataclass(frozen=True)
class Updated:
    """What an update came to."""

    counts: dict[str, int]
    """of the whole cache"""
    added: dict[str, int]
    """the same of what was added"""
    changed: tuple[str, ...]
    """files that the cache has as they were before, since they changed"""
    vanished: tuple[str, ...]
    """files that are gone; the cache keeps what it has of them"""
    withheld: int
    """files that were removed from the cache, and stay out"""
    rejects: pa.Table
    """REJECTS: what of the new files is not stored"""
    restacked: int = 0
    """frames of series whose stacks are whole again"""
    torn: tuple[tuple[str, int], ...] = ()
    """(series as the cache names it, files of it that are gone or have changed): stays in parts"""


def grow(asked: Request, finish: Callable[[], None], restack: bool) -> Updated:
    """Add what is new; `finish` converts and commits the plan in the cache.

    With `restack` series that came in parts become whole stacks afterwards. Raises as
    `plan_update`.
    """
    cache = asked.cache
    before = root.attributes(cache)
    for _ in range(LOOKS):
        job, looked = plan_update(asked)
        now = root.attributes(cache)
        if now.get("numbering") != before.get("numbering"):
            before = now  # of a removal meanwhile, or one that was cut short and is ended
        if job is not None:
            finish()
            if not is_same(planned_identity(cache), job.identity):
                continue
        if looked is not None:
            done = _updated(asked, before, looked)
            return _restacked(asked, finish, done) if restack else done
    raise busy(cache)


def _updated(asked: Request, before: dict[str, Any], looked: Looked) -> Updated:
    """What it came to, `before` being the attributes of the root that it was added to."""
    about = root.attributes(asked.cache)
    counts = dict(about["counts"])
    added = {name: n - before["counts"].get(name, 0) for name, n in counts.items()}
    there = len(before["tables"]["frames"])
    newest = {kind: entries[there:] for kind, entries in about["tables"].items()}
    rejects = REJECTS.empty_table()
    if newest["failures"]:
        rejects = read_table(asked.cache, {**about, "tables": newest}, "failures")
    return Updated(counts, added, looked.changed, looked.vanished, looked.withheld, rejects)


def _restacked(asked: Request, finish: Callable[[], None], done: Updated) -> Updated:
    from dicom2cache.running.remove.restacking import plan_restack

    for _ in range(LOOKS):
        found = plan_restack(asked)
        if found is None:
            continue
        job, frames, torn = found
        if job is None:
            return replace(done, torn=torn)
        finish()
        if frames and is_same(planned_identity(asked.cache), job.identity):
            counts = dict(root.attributes(asked.cache)["counts"])
            return replace(done, counts=counts, restacked=frames, torn=torn)
    raise busy(asked.cache)
