"""The second copies of root, tables and the arrays' metadata: what cannot be made from nothing.

Real bytes and no links: damage to one copy leaves the other as it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from dicom2cache.errors import CacheError
from dicom2cache.store import seen
from dicom2cache.store.durable import sync_folder, write_durably
from dicom2cache.store.layout import ROOT, SPARE, TIMES, spare_path, to_json
from dicom2cache.store.names import read_plain

Entry = Mapping[str, Any]
"""a file entry of FORMAT.md"""


def entries_of(attributes: Mapping[str, Any]) -> Iterator[Entry]:
    """The file entries of a root's attributes: all but the shards."""
    for tables in attributes["tables"].values():
        yield from tables
    for about in attributes["arrays"]:
        yield about["metadata"]


def keep(
    cache: Path,
    attributes: Mapping[str, Any],
    root: bytes,
    times: str,
    seen_files: pa.Table | None,
    scratch: Path,
    there: Iterable[Entry] = (),
) -> None:
    """Copy what the root's attributes list, then the root itself; all durable before this returns.

    `times` is a digest of the sources' modification times, or empty, `seen_files` what they were
    like (store.seen), if that is known; `there` are tables that have their copies already.

    Raises CacheError if a file is by now not what the attributes say.
    """
    folder = cache / SPARE
    folder.mkdir(exist_ok=True)
    known = list(there)
    for entry in entries_of(attributes):
        if entry in known and (cache / spare_path(entry["path"])).is_file():
            continue
        copy(cache / entry["path"], cache / spare_path(entry["path"]), entry, scratch)
    if seen_files is not None:
        seen.keep(cache, seen_files, scratch)
    write_durably(cache / TIMES, to_json(_signed(times)), scratch)
    write_durably(cache / spare_path(ROOT), root, scratch)
    sync_folder(cache)


def times_of(cache: Path) -> str | None:
    """The digest of the sources' modification times; None if it is lost or damaged."""
    path = cache / TIMES
    try:
        said = read_plain(path)
        times = json.loads(said)["times"]
        return times if said == to_json(_signed(times)) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _signed(times: str) -> dict[str, str]:
    return {"times": times, "sha256": hashlib.sha256(times.encode()).hexdigest()}


def copy(source: Path, target: Path, entry: Entry, scratch: Path) -> None:
    """Copy a file over `target`, durably and whole, if its bytes are those of the entry.

    Raises CacheError if they are not; `target` stays as it is then.
    """
    temporary = scratch / f".{target.name}.{secrets.token_hex(8)}"
    digest = hashlib.sha256()
    try:
        with open(source, "rb") as file, open(temporary, "xb") as out:
            while block := file.read(1 << 20):
                digest.update(block)
                out.write(block)
            out.flush()
            os.fsync(out.fileno())
        if digest.hexdigest() != entry["sha256"]:
            raise CacheError(f"{source}: its SHA-256 is not the one in {ROOT}")
        os.replace(temporary, target)
    except BaseException as e:
        temporary.unlink(missing_ok=True)
        if isinstance(e, OSError) and e.filename in (None, os.fspath(temporary)):
            e.filename = os.fspath(target)  # the temporary one is gone
        raise
    sync_folder(target.parent)
