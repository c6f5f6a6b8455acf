"""What a cache is made of: by it a run knows whether it is already there."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pyarrow as pa

from dicom2cache.privacy import keys
from dicom2cache.privacy.veil import KEY, Veil
from dicom2cache.recipes.recipe import Recipe
from dicom2cache.records import Candidate
from dicom2cache.running import versions


def facts_of(key: bytes, veil: Veil | None, recipe: Recipe) -> dict[str, Any]:
    """What else the root metadata say of how a cache was made."""
    said = {KEY: veil.fingerprint} if veil else {"patient_key": keys.fingerprint(key, "patient")}
    return {
        "software": versions.software(recipe.codec), "codecs": versions.codecs(), **said,
    }  # fmt: skip


def identity_of(
    roots: list[str],
    candidates: list[Candidate],
    unlisted: pa.Table,
    recipe: Recipe,
    facts: dict[str, Any],
) -> str:
    """Digest of sources, recipe and versions, a colon, and that of the sources' times."""
    about = [roots, recipe.to_dict(), facts, unlisted.to_pylist()]
    digest, times = hashlib.sha256(json.dumps(about, sort_keys=True).encode()), hashlib.sha256()
    for c in candidates:
        digest.update(f"{c.root}\0{c.path}\0{c.size}\n".encode())
        times.update(f"{c.mtime_ns}\n".encode())
    return f"{digest.hexdigest()}:{times.hexdigest()}"
