"""Where the source files are that a cache names, by their paths or by hashes of them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from dicom2cache.errors import CacheError, counting
from dicom2cache.privacy.keys import keyed_hash
from dicom2cache.privacy.veil import Veil, check_key
from dicom2cache.sources.find import scan


@dataclass(frozen=True)
class Originals:
    """The sources of a cache, where they are now."""

    folders: dict[int, str]
    """by `root` of frames/"""
    key: bytes | None = None
    """of a de-identified cache"""
    looked: str = field(default_factory=lambda: secrets.token_hex(8))
    """when: what was found then holds for all that works with this, in each process"""

    def place(self, root: int, path: str) -> tuple[str, str] | None:
        """(folder, path below it, with /) of the file that a row of frames/ or failures/ names.

        None if no file there has that name.
        """
        folder = self.folders.get(root)
        if folder is None:
            return None
        found = path if self.key is None else _by_hash(folder, self.key, self.looked).get(path)
        return None if found is None else (folder, found)


@lru_cache(4)
def _by_hash(folder: str, key: bytes, _looked: str) -> dict[str, str]:
    _, candidates, _ = scan([folder], Path(os.devnull))
    return {keyed_hash(key, c.path, "path:") or "": c.path for c in candidates}


def originals_of(
    cache: Path,
    attributes: dict[str, Any],
    sources: Sequence[str | os.PathLike[str]] | None = None,
    veil: Veil | None = None,
) -> Originals:
    """The sources of a cache by its root's attributes.

    `sources`: the folders, if they lie elsewhere by now, in the order of the cache's; of a
    de-identified cache they are needed, and so is its key (`veil`). Raises CacheError without them.
    """
    folders = {int(s["root"]): str(s["path"]) for s in attributes["sources"]}
    remedy = "give --deidentify KEYFILE, and --source FOLDER for each source folder"
    check_key(veil, attributes, cache, remedy)
    if veil and not sources:
        raise CacheError(f"{cache}: de-identified: it does not say where its sources are; {remedy}")
    if not sources:
        return Originals(folders)
    given = [os.path.abspath(source) for source in sources]
    if len(given) != len(folders):
        names = "" if veil else f": {', '.join(folders.values())}"
        raise CacheError(
            f"{cache}: made from {counting(len(folders), 'folder')}, and "
            f"{counting(len(given), 'was', 'were')} given; give one for each, in its order{names}"
        )
    if veil:  # whoever gives them in another order, and where they were, is understood
        known = {path: root for root, path in folders.items()}
        said = [known.get(veil.hashed("source", folder)) for folder in given]
        if None not in said and len(set(said)) == len(said):
            return Originals({r: f for r, f in zip(said, given, strict=True) if r is not None},
                             veil.key)  # fmt: skip
    return Originals(dict(zip(folders, given, strict=True)), veil.key if veil else None)
