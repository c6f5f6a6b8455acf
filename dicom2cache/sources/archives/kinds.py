"""Which files are archives that are looked into, and what is said of those that are not."""

from __future__ import annotations

import os
from typing import NamedTuple

from dicom2cache.records import Member

STORED, DEFLATED, TAR, GZIP = "stored", "deflated", "tar", "gzip"
"""how a member is packed"""
MAGIC = {
    ".zip": ((0, b"PK\3\4"), (0, b"PK\5\6")),
    ".tar": ((257, b"ustar"),),
    ".gz": ((0, b"\x1f\x8b"),),
}
"""by the end of a file's name, with what it begins then; others are files"""
_TAR_GZ = (".tar.gz", ".tgz")


class Found(NamedTuple):
    """What an archive has, or has no more."""

    name: str
    """in the archive, cleaned; empty: the archive itself"""
    size: int = 0
    """bytes, without compression"""
    member: Member | None = None
    problem: str | None = None
    """why it is no candidate"""
    outcome: str = "failed"


def suffix_of(path: str) -> str | None:
    """The one of MAGIC that a name ends with; None: no archive, whatever is in it."""
    end = os.path.splitext(path)[1].lower()
    if end == ".tgz":
        return ".gz"
    return end if end in MAGIC else None


def refused(path: str) -> str | None:
    """Why an archive by its name is not looked into."""
    if path.lower().endswith(_TAR_GZ):
        return (
            "a compressed tar: what is in it cannot be read without all that is before; gunzip it "
            "first, and give the .tar"
        )
    return None


def beside(path: str) -> str | None:
    """Why an archive is not looked into by whose members' paths other files may go already."""
    folder = f"{path}!"
    if not os.path.lexists(folder):
        return None
    return (
        f"beside it is {os.path.basename(folder)}, whose files have the paths that members of the "
        "archive would have; rename one of them"
    )


def clean(name: str) -> str:
    """A name as tables have it: without a root, and without steps that lead nowhere.

    What leads up stays: it is a name, and no file is ever opened by it.
    """
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def within(path: str) -> tuple[str, str] | None:
    """(archive, name in it) of a path with !/ in it; None if it is that of a file."""
    if "!/" not in path or os.path.lexists(path):
        return None
    at = path.find("!/")
    while at >= 0:
        archive = path[:at]
        if suffix_of(archive) and not os.path.isdir(f"{archive}!"):
            return archive, path[at + 2 :]
        at = path.find("!/", at + 1)
    return None
