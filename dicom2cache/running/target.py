"""The folder that a cache is made in: what may be there before, and how that is removed."""

from __future__ import annotations

import errno
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom2cache.arrow import ints
from dicom2cache.errors import CacheError, Unfinished
from dicom2cache.records import Plan
from dicom2cache.running import job, remains
from dicom2cache.store import names, root
from dicom2cache.store.late import until_seen
from dicom2cache.store.layout import ROOT, SPARE


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
    with suppress(root.NotOurs, OSError):  # one that is none, or damaged, may be replaced
        root.attributes_of(target, root.read_document(target)[1])
    inside = {p.name for p in target.iterdir()}
    if not inside or job.planned_identity(target) is not None or is_wreck(target):
        return
    if inside == {"build"} and not any((target / "build").glob("*.json")):
        return  # planning was interrupted
    # Another process may have named its plan, or the root, since the look above.
    ours = all(name in names.OWN or names.is_array(name) for name in inside)
    if job.planned_identity(target) is not None or (
        ours and until_seen(lambda: job.planned_identity(target) is not None, target)
    ):
        return
    raise CacheError(
        f"{target}: exists and is not a cache; give another path, or empty the folder yourself"
    )


def is_wreck(target: Path) -> bool:
    """True for what is left of a cache whose root is lost or damaged, with its second copy.

    Nothing else is in there than what a cache has, and an array says that it was one.
    """
    inside = {p.name for p in target.iterdir()} - set(names.OWN)
    return bool(inside) and all(
        names.is_array(name) and (target / name / ROOT).is_file() for name in inside
    )


_AT_LEAST = 0.25
"""of the plain bytes of frames, what they take when they are compressed: few images shrink more"""


def check_room(target: Path, plan: Plan, roots: Sequence[str], replaced: bool = True) -> None:
    """Raises CacheError if the disk has no room for the plan's frames.

    What is there of an older cache counts as free if it is `replaced`: it is removed before.
    """
    needed = sum(spec.slots * spec.slot_bytes for spec in plan.arrays if spec.codec == "none")
    own = _bytes_of_frames(plan)
    compressed = np.array([spec.codec != "none" for spec in plan.arrays], bool)
    needed += int(_AT_LEAST * own[compressed[ints(plan.frames["array"], 0)]].sum())
    free = shutil.disk_usage(next(p for p in (target, *target.parents) if p.exists())).free
    for name in _arrays(target) if replaced and needed > free else ():
        free += sum(p.lstat().st_size for p in (target / name).glob("c.*"))
    if needed > free:
        per_file = np.bincount(ints(plan.frames["file"], 0), own)
        most = int(per_file.argmax())
        (row,) = plan.files.slice(most, 1).select(["root", "path"]).to_pylist()
        raise CacheError(
            f"{target}: frames of {needed} bytes would be written, and {free} are free there; free "
            "some, leave files out by `where`, compress with --codec, or give --force. Most of a "
            f"file, {per_file[most]:.0f} bytes before compression, are of "
            f"{os.path.join(roots[row['root']], row['path'])}"
        )


def check_bytes(target: Path, needed: int) -> None:
    """Raises CacheError if the disk has no room for bytes that are copied within a cache."""
    free = shutil.disk_usage(target).free
    if needed > free:
        raise CacheError(
            f"{target}: {needed} bytes would be copied, and {free} are free there; free some, or "
            "give --force"
        )


def _bytes_of_frames(plan: Plan) -> NDArray[np.float64]:
    """Plain bytes of each frame of the plan, without the rest of its slot."""
    pixel = [spec.slot_bytes // math.prod(spec.slot[:2]) for spec in plan.arrays]
    height, width, array = (ints(plan.frames[c], 0) for c in ("height", "width", "array"))
    return np.array(pixel, np.float64)[array] * height * width


def clear(target: Path, sources: Iterable[str] = ()) -> None:
    """Remove a cache, the root first: without it nobody takes the rest for one.

    Only files that this program names are removed, nothing behind a link, and nothing at all if a
    file of `sources` lies in there. Then the state of its plan, so that no process that still works
    for it can put a shard in place; plan.json, which says what else is to be removed, last. Raises
    CacheError for what cannot be removed.
    """
    names.refuse_links(target)
    inside = os.path.realpath(target) + os.sep
    for source in sources:
        if os.path.realpath(source).startswith(inside):
            raise CacheError(
                f"{source}: a source of this run, and it lies in {target}, which --overwrite "
                "removes; give another path for the cache, or move the file"
            )
    arrays = _arrays(target)
    try:
        if target.is_dir():
            remains.mark_as_replaced(target)
        (target / ROOT).unlink(missing_ok=True)
        remains.forget(target)
        more = ("frames", "failures", "shards", "removed", "contours", "numberings")
        for name in (*arrays, *more):
            _remove(target / name, names.is_file)
        _remove(target / SPARE, names.is_spare)
        remains.unmark(target)
    except OSError as e:
        raise CacheError(
            f"{e.filename or target}: cannot be removed ({e.strerror}); remove {target} yourself, "
            "or give another path"
        ) from e


def _arrays(target: Path) -> list[str]:
    """Names of the arrays of what is in `target`, of a wreck all that look like one."""
    found = job.planned_arrays(target)
    if not found and target.is_dir() and is_wreck(target):
        found = [p.name for p in target.iterdir() if names.is_array(p.name)]
    return found


def _remove(folder: Path, ours: Callable[[str], bool]) -> None:
    """Remove the files of such names, and the folder if nothing else is in there."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if ours(path.name) and (path.is_symlink() or not path.is_dir()):
            path.unlink(missing_ok=True)
    try:
        folder.rmdir()
    except OSError as e:
        if e.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def cache_of(path: str | os.PathLike[str]) -> Path:
    """The cache's path, absolute: workers may run elsewhere."""
    return Path(path).absolute()


@contextmanager
def or_committed(target: Path, identity: str | None) -> Iterator[None]:
    """What fails because another process has committed the same plan meanwhile is no failure."""
    try:
        yield
    except (OSError, Unfinished):
        if identity is not None and not job.has_plan(target):  # the root may be seen late
            until_seen(lambda: (target / ROOT).exists() or job.has_plan(target), target)
        known = job.planned_identity(target)
        if not (target / ROOT).exists() or identity is None or not job.is_same(known, identity):
            raise


def is_committed(target: Path) -> bool:
    """True if there is a root, whole or not."""
    return (target / ROOT).exists()


def no_cache(target: Path) -> Exception:
    """Why there is no committed cache, for whoever needs one."""
    if job.is_lost(target):
        return CacheError(job.lost(target))
    if job.planned_identity(target) is not None:
        return Unfinished(
            f"{target}: not committed yet; run `dicom2cache convert` and `dicom2cache commit`"
        )
    more = "" if os.path.lexists(target) else ": there is no such folder"
    return CacheError(f"{target}: not a cache{more}; make one with `dicom2cache build`")
