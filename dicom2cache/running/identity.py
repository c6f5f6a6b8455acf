"""What a plan was made from: what tells whether a run is the same one again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from dicom2cache.privacy.keys import fingerprint
from dicom2cache.privacy.veil import KEY, Veil
from dicom2cache.recipes.recipe import Recipe
from dicom2cache.records import Candidate
from dicom2cache.running import versions


def facts_of(key: bytes, veil: Veil | None, recipe: Recipe) -> dict[str, Any]:
    """Members of the root metadata that hang on this program and on its key."""
    said = {KEY: veil.fingerprint} if veil else {"patient_key": fingerprint(key, "patient")}
    return {
        "software": versions.software(recipe.codec), "codecs": versions.codecs(), **said,
    }  # fmt: skip


def identity_of(
    roots: Sequence[str],
    candidates: Sequence[Candidate],
    unlisted: pa.Table,
    recipe: Recipe,
    facts: dict[str, Any],
    veil: Veil | None,
) -> str:
    """Digest of recipe, sources and versions, a colon, and that of the sources' times.

    Under a veil both are keyed: of a single file, path and time could be guessed and tested.
    """
    about = [roots, recipe.to_dict(), facts, unlisted.to_pylist()]
    digest, times = hashlib.sha256(json.dumps(about, sort_keys=True).encode()), hashlib.sha256()
    for c in candidates:
        also = "" if c.member is None else f"\0{c.member.offset}\0{c.member.crc}"
        digest.update(f"{c.root}\0{c.path}\0{c.size}{also}\n".encode())
        times.update(f"{c.mtime_ns}\n".encode())
    both = digest.hexdigest(), times.hexdigest()
    return ":".join(veil.hashed("identity", part) if veil else part for part in both)
