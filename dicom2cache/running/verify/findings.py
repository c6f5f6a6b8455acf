"""What is wrong with a cache: one record each, and its words."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from dicom2cache.errors import counting, is_environment
from dicom2cache.running.job import REPAIR

Kind = Literal[
    "root", "table", "metadata", "shard", "slots", "extra", "unreadable", "place", "contents",
    "source", "spare",
]  # fmt: skip
"""`root` (zarr.json at the top), `table` (of frames/, failures/ or shards/), `metadata` (an array's
zarr.json) and `shard`: the file is missing or damaged as a whole; `slots`: only some frames of a
shard; `extra`: nothing that a cache has; `unreadable`: it is there, and this user or machine cannot
read it; `place`: a link, folder, FIFO, socket or device in the place of a file; `contents`: every
file is as it was written, but they contradict each other; `source`: what is stored is not what this
version makes of the source file."""

_REMEDY: dict[Kind, str] = {
    "root": REPAIR,
    "table": REPAIR,
    "metadata": REPAIR,
    "shard": REPAIR,
    "slots": REPAIR,
    "spare": REPAIR,
    "extra": "it is none of the cache's: move it elsewhere, or delete it",
    "unreadable": "nothing is known to be lost: let this user read it, and verify again",
    "place": f"move it elsewhere; then {REPAIR}",
    "contents": "build the cache again with --overwrite",
    "source": "build again with --overwrite",
}
_SHOWN = 3  # most slots, and most source frames, in words


class SourceFrame(NamedTuple):
    """Where a frame came from, as frames/ says it."""

    folder: str
    """of the source, as `sources` of the root metadata has it"""
    root: int
    path: str
    frame: int
    part: int

    def __str__(self) -> str:
        part = f", part {self.part}" if self.part else ""
        return f"{os.path.join(self.folder, self.path)}, frame {self.frame}{part}"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a cache; as text, a sentence with its remedy."""

    cache: Path
    name: str
    """of the file or folder, below the cache"""
    kind: Kind
    what: str
    array: int | None = None
    """number in `arrays` of the root metadata"""
    shard: int | None = None
    slots: tuple[int, ...] = ()
    """of the shard, whose frames are lost"""
    frames: tuple[SourceFrame, ...] = ()
    """the frames in these slots"""
    remedy: str = ""
    """what to do, where it is not what the kind says"""

    @property
    def path(self) -> Path:
        """Of the file or folder."""
        return self.cache / self.name

    def __str__(self) -> str:
        held = f" ({_few([str(f) for f in self.frames], '; ')})" if self.frames else ""
        what = self.what if self.kind == "source" else f"{self.path}: {self.what}{held}"
        remedy = self.remedy or _REMEDY[self.kind].format(self.cache)
        return f"{what}; {remedy}"


def damaged_slots(reasons: dict[int, str]) -> str:
    """Words for slots that are damaged: {slot: why}."""
    if len(reasons) == 1:
        ((slot, why),) = reasons.items()
        return f"slot {slot} is damaged ({why})"
    few = _few([f"{slot} ({why})" for slot, why in reasons.items()])
    return f"{counting(len(reasons), 'slot is', 'slots are')} damaged: {few}"


def of_error(cache: Path, name: str, kind: Kind, error: OSError) -> Finding:
    """The finding of a file that cannot be opened or read: of `kind` if it is not there."""
    said = error.strerror or str(error)
    if error.errno in (errno.EACCES, errno.EPERM):
        return Finding(cache, name, "unreadable", f"cannot be read: {said}")
    if is_environment(error):
        remedy = (
            "try again, and look at the disk or network; what stays so is lost, as if it were "
            "missing"
        )
        return Finding(cache, name, "unreadable", f"cannot be read: {said}", remedy=remedy)
    if error.errno in (errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
        return Finding(cache, name, "place", said)
    return Finding(cache, name, kind, said)


def in_place_of(cache: Path, name: str) -> Finding | None:
    """The finding where a link, or what is no file, is in the place of a file or on the way."""
    found, parts = cache, name.split("/")
    for k, part in enumerate(parts):
        found = found / part
        try:
            mode = os.lstat(found).st_mode
        except OSError:
            return None  # who opens it says so
        if not (stat.S_ISREG(mode) if k == len(parts) - 1 else stat.S_ISDIR(mode)):
            wanted = "file" if k == len(parts) - 1 else "folder"
            what = f"{of_mode(mode)}, and not a {wanted}"
            return Finding(cache, "/".join(parts[: k + 1]), "place", what)
    return None


def of_mode(mode: int) -> str:
    """What something is that is no plain file, by its st_mode."""
    kinds = {
        stat.S_IFREG: "a file", stat.S_IFDIR: "a folder", stat.S_IFLNK: "a link",
        stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
    }  # fmt: skip
    return kinds.get(stat.S_IFMT(mode), "no plain file")


def _few(told: Sequence[str], between: str = ", ") -> str:
    more = f"{between}and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
    return between.join(told[:_SHOWN]) + more
