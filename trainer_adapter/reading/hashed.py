"""Names in a de-identified cache: what a user has, hashed as FORMAT.md says."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_KEY = "deidentify_key"
DOMAINS = {
    "path": "path", "study_uid": "uid", "series_uid": "uid", "sop_uid": "uid",
    "frame_of_reference_uid": "uid", "referenced_sop_uid": "uid",
    "patient": "patient", "accession": "accession",
}  # fmt: skip
"""columns of frames/ that are hashes there, with what stands before a text"""


@dataclass(frozen=True)
class Hashes:
    """The hashes under a key."""

    key: bytes

    def of(self, domain: str, text: str) -> str:
        """What a de-identified cache has for a text."""
        return hmac.digest(self.key, f"{domain}:{text}".encode(), "sha256").hex()[:32]

    def column(self, domain: str, texts: Any) -> Any:
        """A column of texts, each hashed; null stays null."""
        coded = texts.cast(pa.string()).dictionary_encode()
        found = [self.of(domain, text) for text in coded.dictionary.to_pylist()]
        return pa.array(found, pa.string()).take(pc.fill_null(coded.indices, None))


def is_deidentified(attributes: dict[str, Any]) -> bool:
    """True if paths and UIDs in a cache are hashes, by its root's attributes."""
    return _KEY in attributes


def hashes(
    cache: Path, attributes: dict[str, Any], key: str | os.PathLike[str] | None
) -> Hashes | None:
    """What the key file gives; None without one.

    Raises ValueError for a key that others have access to, that is not the cache's, or that it does
    not need; OSError if it cannot be read.
    """
    if key is None:
        return None
    if not is_deidentified(attributes):
        raise ValueError(f"{cache}: not de-identified: paths and UIDs are plain; leave key out")
    with open(key, "rb") as file:
        if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
            raise ValueError(f"{key}: others have access to this key; run `chmod 600 {key}`")
        found = file.read()
    said = hashlib.sha256(b"dicom2cache deidentify key" + found).hexdigest()[:16]
    if said != attributes[_KEY]:
        raise ValueError(
            f"{key}: not the key of {cache}: its fingerprint is {said}, and {attributes[_KEY]} is "
            "that of the cache's"
        )
    return Hashes(found)
