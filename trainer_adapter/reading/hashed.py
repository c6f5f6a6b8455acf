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

from trainer_adapter.format import system

_KEY = "deidentify_key"
DOMAINS = {
    "path": "path", "study_uid": "uid", "series_uid": "uid", "sop_uid": "uid",
    "frame_of_reference_uid": "uid", "referenced_sop_uid": "uid",
    "image_sop_uid": "uid",
    "patient": "patient", "accession": "accession",
}  # fmt: skip
"""columns of frames/ that are hashes there, with what stands before a text"""


@dataclass(frozen=True)
class Hashes:
    """The hashes under a key."""

    key: bytes
    domains: bool = True
    """as a de-identified cache has them: what it is that is hashed stands before it"""

    def of(self, domain: str, text: str) -> str:
        """What the cache has for a text."""
        said = f"{domain}:{text}" if self.domains else text
        return hmac.digest(self.key, said.encode(errors="surrogateescape"), "sha256").hex()[:32]

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
    return Hashes(_key_of(cache, attributes, _KEY, "deidentify", Path(key).expanduser()))


def patient_hashes(
    cache: Path, attributes: dict[str, Any], key: str | os.PathLike[str] | None
) -> Hashes:
    """The hashes of patients and accession numbers: by the key file, else by this user's own key.

    Raises ValueError if no key is there, or one that is not the cache's or that others have access
    to; OSError if it cannot be read.
    """
    if is_deidentified(attributes):
        found = hashes(cache, attributes, key)
        if found is None:
            raise ValueError(
                f"{cache}: de-identified: patients are hashes; give key=KEYFILE, the one that it "
                f"was made with (fingerprint {attributes[_KEY]})"
            )
        return found
    path = own_key() if key is None else Path(key).expanduser()
    if not path.exists():
        raise ValueError(
            f"{path}: no key there, and {cache} has patients as hashes by the one of fingerprint "
            f"{attributes.get('patient_key')}; give key=FILE, a copy of it: `dicom2cache key "
            "export FILE` writes one, where the cache was made"
        )
    return Hashes(_key_of(cache, attributes, "patient_key", "patient", path), domains=False)


def own_key() -> Path:
    """Where this user's key for patients is (docs/privacy.md)."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return home / "dicom2cache" / "patient.key"


def _key_of(cache: Path, attributes: dict[str, Any], member: str, kind: str, path: Path) -> bytes:
    with open(path, "rb") as file:
        if system.HAS_MODES and stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
            raise ValueError(f"{path}: others have access to this key; run `chmod 600 {path}`")
        found = file.read(1 << 20)
    said = hashlib.sha256(f"dicom2cache {kind} key".encode() + found).hexdigest()[:16]
    if said != attributes.get(member, said):
        raise ValueError(
            f"{path}: not the key of {cache}: its fingerprint is {said}, and {attributes[member]} "
            "is that of the cache's; give key=FILE"
        )
    return found
