"""The folder that a cache is made in: what may be there before, and how that is removed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from dicom2cache.errors import CacheError
from dicom2cache.records import ArraySpec
from dicom2cache.running import job
from dicom2cache.store import names
from dicom2cache.store.layout import ROOT


def check(target: Path) -> None:
    """Raises CacheError for a path that holds anything but a cache, finished or not."""
    try:
        str(target).encode()
    except UnicodeEncodeError:  # Arrow could not open it
        raise CacheError(f"{str(target)!r}: not UTF-8; give another path") from None
    if not target.exists():
        above = next(p for p in target.parents if p.exists())
        if not os.access(above, os.W_OK | os.X_OK):  # not after an hour of reading headers
            raise CacheError(f"{target}: no permission to make it in {above}")
        return
    names.refuse_links(target)
    if not target.is_dir():
        raise CacheError(f"{target}: a file, not a folder; give a path for the cache's folder")
    inside = {p.name for p in target.iterdir()}
    if not inside or job.planned_identity(target) is not None:
        return
    if inside == {"build"} and not any((target / "build").glob("*.json")):
        return  # planning was interrupted
    if job.planned_identity(target) is not None:
        return  # another process has named its plan since the look above
    raise CacheError(
        f"{target}: exists and is not a cache; give another path, or empty the folder yourself"
    )


def check_room(target: Path, arrays: Sequence[ArraySpec]) -> None:
    """Raises CacheError if the disk has no room for the frames of arrays that are not compressed.

    What is there of an older cache counts as free: it is removed before.
    """
    needed = sum(spec.slots * spec.slot_bytes for spec in arrays if spec.codec == "none")
    free = shutil.disk_usage(next(p for p in (target, *target.parents) if p.exists())).free
    for name in job.planned_arrays(target) if needed > free else ():
        if names.is_array(name):
            free += sum(p.lstat().st_size for p in (target / name).glob("c.*"))
    if needed > free:
        raise CacheError(
            f"{target}: frames of {needed} bytes would be written, and {free} are free there; free "
            "some, leave files out by `where`, compress with --codec, or give --force"
        )


def clear(target: Path, sources: Iterable[str] = ()) -> None:
    """Remove a cache, the root first: without it nobody takes the rest for one.

    Only what this program names is removed, nothing behind a link, and nothing at all if a file of
    `sources` lies in there. Then the state of its plan, so that no process that still works for it
    can put a shard in place; plan.json, which says what else is to be removed, last. Raises
    CacheError if anything is left.
    """
    names.refuse_links(target)
    inside = os.path.realpath(target) + os.sep
    for source in sources:
        if os.path.realpath(source).startswith(inside):
            raise CacheError(
                f"{source}: a source of this run, and it lies in {target}, which --overwrite "
                "removes; give another path for the cache, or move the file"
            )
    folder = target
    try:
        (target / ROOT).unlink(missing_ok=True)
        job.forget(target)
        for name in (*job.planned_arrays(target), "frames", "failures", "shards"):
            folder = target / name
            if folder.exists():
                shutil.rmtree(folder)
        job.plan_path(target).unlink(missing_ok=True)
    except OSError as e:
        what = folder / (e.filename or "")  # rmtree names what is inside by its name alone
        raise CacheError(
            f"{what}: cannot be removed ({e.strerror}); remove {target} yourself, or give another "
            "path"
        ) from e


def cache_of(path: str | os.PathLike[str]) -> Path:
    """The cache's path, absolute: workers may run elsewhere."""
    return Path(path).absolute()
