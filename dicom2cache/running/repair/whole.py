"""The repair of a cache: tables and metadata first, then shards, the root last."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicom2cache.errors import CacheError, Unfinished
from dicom2cache.privacy.veil import KEY, Veil
from dicom2cache.running import job, remains
from dicom2cache.running.attempts import attempt_name
from dicom2cache.running.originals import Originals, originals_of
from dicom2cache.running.pool import call, parallel
from dicom2cache.running.progress import Progress, Work, phase
from dicom2cache.running.repair.shards import Mended, mend
from dicom2cache.running.repair.state import opened
from dicom2cache.running.target import no_cache
from dicom2cache.store import names, root, seen, spare
from dicom2cache.store.committed import as_in_format, signed_attributes, spec_of, whole_root
from dicom2cache.store.durable import sync_folder, write_durably
from dicom2cache.store.layout import (
    ROOT,
    SEEN,
    SPARE,
    TIMES,
    array_metadata,
    root_metadata,
    shortened,
    spare_path,
)


@dataclass(frozen=True)
class Repaired:
    """What a repair did, and what it could not do."""

    restored: tuple[str, ...] = ()
    """files that were restored from their other copy, by path below the cache"""
    shards: tuple[Mended, ...] = ()
    """that were damaged"""

    @property
    def is_whole(self) -> bool:
        """True if nothing is left that is damaged."""
        return not any(shard.lost or shard.why for shard in self.shards)


def attributes_to_repair(cache: Path) -> dict[str, Any]:
    """The attributes of the root, or of its second copy.

    Raises CacheError if both are lost or damaged, Unfinished if the cache was never committed.
    """
    if not (cache / ROOT).exists() and not job.is_lost(cache) and job.plan_path(cache).exists():
        job.load_job(cache)  # what it raises says more
        raise Unfinished(f"{cache}: not committed yet; run `dicom2cache commit {cache}`")
    names.refuse_links(cache)
    for copy in (False, True):
        found = whole_root(cache, copy)
        if found is not None:
            root.check_format(cache, found)
            root.check(cache, found)  # a digest says nothing of who made it
            return found
    if not (cache / ROOT).exists() and not (cache / SPARE).exists():
        raise no_cache(cache)
    raise CacheError(_beyond(cache, ROOT))


def _beyond(cache: Path, name: str) -> str:
    return (
        f"{cache / name}: lost or damaged, and so is its copy {cache / spare_path(name)}: what was "
        "in it cannot be made from nothing; run `dicom2cache build` with --overwrite"
    )


def repair(
    cache: Path,
    sources: Sequence[str | os.PathLike[str]] | None,
    veil: Veil | None,
    jobs: int,
    backend: str,
    progress: Progress,
) -> Repaired:
    """Mend what is damaged; what was done. Run again, it goes on where it stopped.

    `sources`, `veil`: as of `originals_of`. Raises CacheError for what no copy is left of, OSError
    if it cannot be written.
    """
    attributes = attributes_to_repair(cache)
    originals = Originals({})  # of a de-identified cache whose key is not given: for its tables
    if veil or KEY not in attributes:
        originals = originals_of(cache, attributes, sources, veil)
    scratch = remains.attempts_at_repair(cache) / attempt_name("tables")
    try:
        scratch.mkdir(parents=True)
        restored = _tables(cache, attributes, scratch)
        with as_in_format(cache):
            shards = _shards(cache, attributes, originals, jobs, backend, progress)
        restored += _root(cache, attributes, scratch)
    except OSError as e:
        e.filename = e.filename or os.fspath(cache)
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        with suppress(OSError):  # the next command does it
            remains.tidy(cache)
    return Repaired(tuple(restored), tuple(shards))


def _tables(cache: Path, attributes: dict[str, Any], scratch: Path) -> list[str]:
    """Restore tables and the arrays' metadata, and the copies of both; paths of what was wrong."""
    restored = []
    slots = {a["metadata"]["path"]: a for a in attributes["arrays"]}
    for entry in spare.entries_of(attributes):
        name = entry["path"]
        own, copy = names.below(cache, name, ROOT), cache / spare_path(name)
        array = slots.get(name)
        whole, copied = (_is(path, entry, array and array["slots"]) for path in (own, copy))
        if not whole:
            own.parent.mkdir(exist_ok=True)
            if copied and array is not None:  # an array may be longer by now than its root says
                write_durably(own, shortened(copy.read_bytes(), array["slots"]), scratch)
            elif copied:
                spare.copy(copy, own, entry, scratch)
            elif array is not None and _digest(array_metadata(spec_of(array))) == entry["sha256"]:
                write_durably(own, array_metadata(spec_of(array)), scratch)
            else:
                raise CacheError(_beyond(cache, name))
            sync_folder(cache)
            restored.append(name)
        if not copied and "identity" in attributes:  # older caches have no copies
            (cache / SPARE).mkdir(exist_ok=True)
            if array is not None:
                write_durably(copy, shortened(own.read_bytes(), array["slots"]), scratch)
            else:
                spare.copy(own, copy, entry, scratch)
            restored.append(spare_path(name))
    return restored


def _is(path: Path, entry: spare.Entry, slots: int | None) -> bool:
    """Whether a file is as its entry says; PermissionError is no damage."""
    digest = hashlib.sha256()
    names.refuse_link(path)
    try:
        if not path.is_file():
            return False
        with open(path, "rb") as file:
            if slots is not None:
                digest.update(shortened(file.read(), slots))
            while block := file.read(1 << 20):
                digest.update(block)
    except PermissionError:
        raise
    except OSError:
        return False
    return bool(digest.hexdigest() == entry["sha256"])


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _root(cache: Path, attributes: dict[str, Any], scratch: Path) -> list[str]:
    """Restore the root and its copy, now that all that they list is there."""
    written = root_metadata(
        {k: v for k, v in attributes.items() if k != "sha256"},
        {a["name"]: (cache / a["metadata"]["path"]).read_bytes() for a in attributes["arrays"]},
    )
    own, copy = cache / ROOT, cache / spare_path(ROOT)
    said = [path.read_bytes() if path.is_file() else b"" for path in (own, copy)]
    signed = [data for data in said if signed_attributes(data) == attributes]
    if said[0] == said[1] or ("identity" not in attributes and _is_like(said[0], written)):
        right = said[0]
    else:  # what is beside our attributes has no digest, but follows from them
        right = next((data for data in signed if data == written), written)
    restored = []
    if "identity" in attributes:
        if said[1] != right:
            write_durably(copy, right, scratch)
            restored.append(spare_path(ROOT))
        for name, read in ((TIMES, spare.times_of), (SEEN, seen.read)):
            if read(cache) is None and (cache / name).exists():
                (cache / name).unlink()  # changes of the sources are not known then
                restored.append(name)
    if said[0] != right:
        write_durably(own, right, scratch)
        restored.append(ROOT)
    return restored


def _is_like(root: bytes, written: bytes) -> bool:
    """Whether a root of an older version says the same, consolidated metadata if it has them."""
    try:
        found, expected = json.loads(root), json.loads(written)
    except ValueError:
        return False
    if "consolidated_metadata" not in found:
        del expected["consolidated_metadata"]
    return bool(found == expected)


def _shards(
    cache: Path,
    attributes: dict[str, Any],
    originals: Originals,
    jobs: int,
    backend: str,
    progress: Progress,
) -> list[Mended]:
    """Check all shards and mend the damaged ones; these."""
    whole = opened(cache, attributes["sha256"])
    todo = [(s["array"], s["shard"]) for s in whole.shards]
    sizes = {
        (s["array"], s["shard"]): Work(s["frames"], s["bytes"], s["bytes"]) for s in whole.shards
    }
    found: list[Mended] = []

    def seen(key: tuple[int, int], mended: Mended) -> None:
        progress.advance(sizes[key] + Work(failed=len(mended.lost)))
        if mended.written or mended.lost or mended.why:
            found.append(mended)

    with phase(progress, "repairing", sum(sizes.values(), Work()), "frames"):
        isolated = False
        while todo:
            left = _round(cache, attributes, originals, todo, jobs, backend, isolated, seen)
            if isolated and len(left) == len(todo):
                raise Unfinished(f"{cache}: worker processes die; use fewer --jobs")
            todo, isolated = left, True  # what a worker dies of dies alone there
    return sorted(found, key=lambda m: m.name)


Key = tuple[int, int]


def _round(
    cache: Path,
    attributes: dict[str, Any],
    originals: Originals,
    todo: Sequence[Key],
    jobs: int,
    backend: str,
    isolated: bool,
    seen: Callable[[Key, Mended], None],
) -> list[Key]:
    """Mend these shards; those that are not done since a worker process died."""
    left = dict.fromkeys(todo)
    sha256 = attributes["sha256"]
    calls = (call(_keyed, str(cache), sha256, *key, originals, isolated) for key in todo)
    try:
        for key, mended in parallel(jobs, backend, calls, ordered=False):
            del left[key]
            seen(key, mended)
    except BrokenExecutor:
        pass
    return list(left)


def _keyed(
    cache: str, sha256: str, number: int, shard: int, originals: Originals, isolated: bool
) -> tuple[Key, Mended]:
    return (number, shard), mend(cache, sha256, number, shard, originals, isolated)
