"""Several caches as one: shards under second names, tables with other numbers, one root.

All is made in a folder beside the new cache's, which takes that name once it is whole and durable:
so there is a whole cache, or none. What was killed before that leaves such a folder, and the next
merge to the same path removes it.
"""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from dicom2cache.arrow import ints
from dicom2cache.errors import CacheError
from dicom2cache.privacy.veil import keys_of
from dicom2cache.running import damage
from dicom2cache.running.attempts import abandoned, attempt_name
from dicom2cache.running.merge import files
from dicom2cache.running.merge.parts import Part, check_removed, identity_of, parts_of
from dicom2cache.running.merge.written import Place, Whole
from dicom2cache.running.remove.withheld import KIND
from dicom2cache.running.target import clear
from dicom2cache.store.committed import as_in_format, read_table, whole_root
from dicom2cache.store.durable import make_folder, sync_folder
from dicom2cache.store.layout import ROOT


def merge(
    caches: Sequence[Path],
    target: Path,
    copy: bool = False,
    move: bool = False,
    patient_key: str | os.PathLike[str] | None = None,
    deidentify: str | os.PathLike[str] | None = None,
) -> None:
    """Make `target` of the caches; if it was made of the same ones, nothing.

    Nothing is decoded: pixels are those of the parts, byte for byte. `copy`: shards are copied, and
    not the same files; `move`: the caches are removed afterwards. The key files are
    read where frames were removed from one. Raises CacheError if they cannot
    be one, or for a target that exists; OSError. Then `target` is not there.
    """
    if copy and move:
        raise CacheError("--copy and --move: give one of them")
    left = [c for c in caches if not (c / ROOT).exists()]
    if move and left and whole_root(target) is not None:
        raise CacheError(
            f"{target}: is a cache, and of {left[0]} the {ROOT} is gone: if an earlier --move was "
            "cut short here, nothing is lost; remove what is left of the parts yourself"
        )
    parts = parts_of(caches, target)
    if any(KIND in part.attributes["tables"] for part in parts):
        check_removed(parts, keys_of(patient_key, deidentify)[1])
    if os.path.lexists(target) and not _is_empty(target):
        if not _is_there(parts, target):
            raise CacheError(f"{target}: exists; give another path, or remove it first")
        damage.refuse(target)
    else:
        if copy:
            _check_room(parts, target)
        _make(parts, target, files.copy if copy else files.link)
    for part in parts if move else ():
        clear(part.cache)
        with suppress(OSError):  # something of another's is in there
            part.cache.rmdir()


def _make(parts: Sequence[Part], target: Path, place: Place) -> None:
    make_folder(target.parent)
    stem = f".{target.name}.merging"
    for path in target.parent.glob(f"{glob.escape(stem)}.*"):
        if abandoned(path.name):
            shutil.rmtree(path, ignore_errors=True)
    new = target.parent / attempt_name(stem)
    new.mkdir()
    try:
        with as_in_format(", ".join(os.fspath(part.cache) for part in parts)):
            Whole(parts, new, place).write()
        damage.refuse(new)  # a part may have changed meanwhile
        try:
            os.rename(new, target)  # an empty folder is replaced
        except OSError as e:
            if not _is_there(parts, target):  # by another process, meanwhile
                raise CacheError(
                    f"{target}: cannot be made ({e.strerror}); give another path"
                ) from e
            shutil.rmtree(new)
    except BaseException as e:
        shutil.rmtree(new, ignore_errors=True)
        if isinstance(e, OSError) and os.fspath(e.filename or new).startswith(os.fspath(new)):
            e.filename = os.fspath(target)  # that folder is gone
        raise
    sync_folder(target.parent)


def _is_there(parts: Sequence[Part], target: Path) -> bool:
    """Whether the target is these parts already."""
    return (whole_root(target) or {}).get("identity") == identity_of(parts)


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not any(path.iterdir())


def _check_room(parts: Sequence[Part], target: Path) -> None:
    """Raises CacheError if the disk has no room for the shards of all parts."""
    needed = 0
    for part in parts:
        sizes = read_table(part.cache, part.attributes, "shards", ["bytes"])["bytes"]
        needed += int(ints(sizes, 0).sum())
    above = next(p for p in (target, *target.parents) if p.exists())
    free = shutil.disk_usage(above).free
    if needed > free:
        raise CacheError(
            f"{target}: {needed} bytes would be copied, and {free} are free there; free some, or "
            "leave --copy out: on one file system shards need no second copy"
        )
