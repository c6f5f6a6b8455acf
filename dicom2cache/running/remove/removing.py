"""The plan of a new numbering: a cache without some of its frames. No pixel is decoded for it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dicom2cache.errors import CacheError, Unfinished
from dicom2cache.privacy.keys import fingerprint
from dicom2cache.privacy.veil import KEY, Veil, check_key
from dicom2cache.recipes.recipe import Recipe
from dicom2cache.records import Plan
from dicom2cache.running import damage
from dicom2cache.running.job import GIVE_UP, Job, load_job, save_plan, update_of
from dicom2cache.running.remove.asked import Asked, Found, find, texts_of
from dicom2cache.running.remove.kept import Places
from dicom2cache.running.remove.withheld import Withheld
from dicom2cache.running.target import check_bytes
from dicom2cache.schema import FILES, FRAMES, GONE, REJECTS
from dicom2cache.store import root
from dicom2cache.store.committed import spec_of
from dicom2cache.store.root import CONTOURS


@dataclass(frozen=True)
class Removed:
    """What a removal came to, or would."""

    frames: int
    files: int
    """stored ones, of which nothing is left"""
    unstored: int
    """rows of failures/"""
    contours: int
    """rows of contours/"""
    left: int
    """frames that stay"""
    shards: int
    """that had frames that go: what stays of them is copied"""
    copied: int
    """bytes"""
    missing: tuple[str, ...]
    """values that nothing in the cache is of"""
    before: tuple[str, ...]
    """those of `missing` that were removed earlier"""
    unknown: int
    """rows of failures/ that stay since nobody knows whose they are"""
    numbering: int
    """that the cache has then"""


def plan_removal(
    cache: Path, asked: Asked, key: bytes, veil: Veil | None, dry_run: bool, force: bool
) -> tuple[Job | None, Removed | None] | None:
    """(the plan on disk, what it comes to); no plan: nothing goes, or it is only asked what would.

    A removal that was cut short comes first, by itself. None if another process has begun
    meanwhile. Raises CacheError if the cache cannot be changed, Unfinished while files are added.
    """
    attributes = root.attributes(cache)
    if "identity" not in attributes:
        raise CacheError(
            f"{cache}: made by an earlier version, and cannot be changed; build it again with "
            "--overwrite, or at another path"
        )
    check_key(veil, attributes, cache, "give its key: --deidentify KEYFILE")
    said, own = attributes.get("patient_key"), fingerprint(key, "patient")
    if veil is None and said != own:
        raise CacheError(
            f"{cache}: patients are hashed by another key (its fingerprint is {said}, that of this "
            f"one {own}); give --patient-key FILE, the one it was made with"
        )
    damage.refuse(cache)
    if update_of(cache) is not None and not dry_run:
        job = load_job(cache)
        if job.gone is None or job.tasks:
            raise Unfinished(
                f"{cache}: files are being added to it; end that first, by `dicom2cache convert "
                f"{cache}` and `dicom2cache commit {cache}`, {GIVE_UP.format(cache)}"
            )
        return job, None
    withheld = Withheld.of(cache, attributes, key)
    known = Withheld.of(cache, attributes, key)
    found = find(cache, attributes, asked, key, veil, withheld)
    arrays = tuple(
        replace(spec, first=spec.first + spec.shards, slots=0)
        for spec in map(spec_of, attributes["arrays"])
    )
    places = Places(cache, attributes, ~found.frames, [spec.first for spec in arrays])
    what = _said(attributes, asked, found, places, known, key, veil)
    if dry_run or not (what.frames or what.unstored or what.contours):
        return None, what
    if not force:
        check_bytes(cache, places.bytes)
    gone = _gone(found)
    recipe = Recipe.from_dict(attributes["recipe"])
    nothing = Plan(arrays, FILES.empty_table(), FRAMES.empty_table(), REJECTS.empty_table(), 0)
    facts = {
        k: attributes[k] for k in ("software", "codecs", "patient_key", KEY) if k in attributes
    }
    job = Job(
        cache, _identity(attributes, gone, withheld.table()), _roots(attributes), recipe, nothing,
        facts, onto=attributes["sha256"], gone=gone, removed=withheld.table(),
    )  # fmt: skip
    try:
        return save_plan(job), what
    except Unfinished:
        return None


def _said(
    attributes: dict[str, Any], asked: Asked, found: Found, places: Places, known: Withheld,
    key: bytes, veil: Veil | None,
) -> Removed:  # fmt: skip
    texts = texts_of(asked, key, veil)
    earlier = {said for text, said in texts.items() if known.has(asked.kind, text)}
    return Removed(
        frames=int(found.frames.sum()),
        files=found.files,
        unstored=int(found.failures.sum()),
        contours=int(found.contours.sum()),
        left=int((~found.frames).sum()),
        shards=len(places.touched),
        copied=places.bytes,
        missing=found.missing,
        before=tuple(said for said in found.missing if said in earlier),
        unknown=found.unknown,
        numbering=attributes.get("numbering", 0) + 1,
    )


def _gone(found: Found) -> pa.Table:
    """GONE."""
    masks = {"frames": found.frames, "failures": found.failures, CONTOURS: found.contours}
    rows = [np.flatnonzero(mask) for mask in masks.values()]
    kinds = pa.array(np.repeat(list(masks), list(map(len, rows))), pa.string())
    return pa.table([kinds, pa.array(np.concatenate(rows), pa.int64())], GONE)


def _identity(attributes: dict[str, Any], gone: pa.Table, removed: pa.Table) -> str:
    """That of the cache without them: the same whoever removes the same."""
    digest = hashlib.sha256(f"{attributes['identity']} without".encode())
    for table in (gone, removed):
        for column in table.combine_chunks().columns:
            digest.update(repr(column.to_pylist()).encode())
    return digest.hexdigest()


def _roots(attributes: dict[str, Any]) -> tuple[str, ...]:
    """Source folders by number; empty where there is none."""
    said = {s["root"]: s["path"] for s in attributes["sources"]}
    return tuple(said.get(k, "") for k in range(max(said, default=-1) + 1))
