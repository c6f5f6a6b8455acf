"""The caches that become one: whole, and alike in all that pixels and hashes depend on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from dicom2cache.errors import CacheError, counting
from dicom2cache.privacy.keys import fingerprint
from dicom2cache.privacy.veil import KEY
from dicom2cache.records import ArraySpec
from dicom2cache.running import damage
from dicom2cache.running.remove.withheld import KIND as REMOVED_KIND
from dicom2cache.running.remove.withheld import OF_COLUMN, Withheld
from dicom2cache.running.target import no_cache
from dicom2cache.schema import REMOVED
from dicom2cache.store import root
from dicom2cache.store.committed import read_table, spec_of
from dicom2cache.store.layout import ROOT, shortened
from dicom2cache.store.names import open_below
from dicom2cache.store.root import CONTOURS

_MOST_METADATA = 1 << 20


@dataclass(frozen=True)
class Part:
    """A committed cache that is to be part of another."""

    cache: Path
    attributes: dict[str, Any]
    specs: tuple[ArraySpec, ...]
    metadata: tuple[bytes, ...]
    """zarr.json of each array, as it would be of an array without slots"""


def parts_of(caches: Sequence[Path], target: Path) -> list[Part]:
    """The caches, checked as `verify --quick` does. Raises CacheError if they cannot be one."""
    if len(caches) < 2:
        raise CacheError("give two caches or more, and then the path of the one that they become")
    for k, cache in enumerate(caches):
        if (os.path.realpath(target) + os.sep).startswith(os.path.realpath(cache) + os.sep):
            raise CacheError(f"{target}: lies in {cache}, which is to be merged; give another path")
        for other in caches[:k]:
            if os.path.realpath(cache) == os.path.realpath(other):
                raise CacheError(f"{cache}: named twice; name each cache once")
    parts = [_part(cache) for cache in caches]
    for part in parts[1:]:
        _check_alike(parts[0], part)
    return parts


def removed_of(parts: Sequence[Part]) -> pa.Table:
    """REMOVED of all parts."""
    tables = [
        read_table(part.cache, part.attributes, REMOVED_KIND)
        for part in parts if part.attributes["tables"].get(REMOVED_KIND)
    ]  # fmt: skip
    whole = pa.concat_tables([REMOVED.empty_table(), *tables])
    order = [(name, "ascending") for name in REMOVED.names]
    return whole.group_by(REMOVED.names).aggregate([]).sort_by(order)


def check_removed(parts: Sequence[Part], key: bytes) -> None:
    """Raises CacheError if a part has what was removed from another, or if the key that tells
    is another one."""
    removed = removed_of(parts)
    if not removed.num_rows:
        return
    said = parts[0].attributes
    veiled = KEY in said
    own = fingerprint(key, "deidentify" if veiled else "patient")
    if own != said[KEY if veiled else "patient_key"]:
        flag = "--deidentify" if veiled else "--patient-key"
        raise CacheError(
            f"{parts[0].cache}: from one of the parts frames were removed, and only by their key "
            f"can be told that no other part has them; give it by {flag} FILE"
        )
    for part in parts:
        for kind in ("frames", "failures", CONTOURS):
            columns = ["root", "path", *OF_COLUMN.values()]
            table = read_table(part.cache, part.attributes, kind, columns)
            count = table.num_rows - Withheld(removed, key).without(table, None).num_rows
            if count:
                raise CacheError(
                    f"{part.cache}: {counting(count, 'row')} of {kind}/ of what was removed from "
                    f"another part; remove it here, too (`dicom2cache remove {part.cache}`)"
                )


def identity_of(parts: Sequence[Part]) -> str:
    """What tells a merged cache from any other: a digest of the digests of its parts' roots."""
    said = json.dumps(["merged", [part.attributes["sha256"] for part in parts]])
    return hashlib.sha256(said.encode()).hexdigest()


def _part(cache: Path) -> Part:
    try:
        attributes = root.attributes(cache)
    except (FileNotFoundError, NotADirectoryError):
        raise no_cache(cache) from None
    damage.refuse(cache)
    metadata = []
    for about in attributes["arrays"]:
        with open_below(cache, f"{about['name']}/{ROOT}", ROOT) as file:
            metadata.append(shortened(file.read(_MOST_METADATA), 0))
    return Part(cache, attributes, tuple(map(spec_of, attributes["arrays"])), tuple(metadata))


def _check_alike(one: Part, other: Part) -> None:
    """Raises CacheError, naming what differs and what to do about it."""
    for what, remedy in (
        ("recipe", "build one of them again with the recipe of the other (`info --json` has it)"),
        ("software", "build one of them again with the versions of the other"),
        ("codecs", "build one of them again with the versions of the other"),
    ):
        differing = _differences(one.attributes[what], other.attributes[what])
        if differing:
            raise (
                CacheError(
                    f"{other.cache}: its {what} differ from those of {one.cache}: "
                    f"{'; '.join(differing)}; {remedy}"
                )
                if what != "recipe"
                else CacheError(
                    f"{other.cache}: made by another recipe than {one.cache}: "
                    f"{'; '.join(differing)}; {remedy}"
                )
            )
    kinds = [part.attributes.get(KEY) is not None for part in (one, other)]
    if kinds[0] != kinds[1]:
        veiled, plain = (one, other) if kinds[0] else (other, one)
        raise CacheError(
            f"{veiled.cache}: de-identified, and {plain.cache} is not; build that again with "
            "--deidentify and the key file of the other"
        )
    for key, flag in (("patient_key", "--patient-key"), (KEY, "--deidentify")):
        said = [part.attributes.get(key) for part in (one, other)]
        if said[0] != said[1]:
            raise CacheError(
                f"{other.cache}: hashed by another key than {one.cache} (fingerprints {said[1]} "
                f"and {said[0]}), so that one patient would have two names; build one of them "
                f"again with {flag} and the key file of the other"
            )


def _differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    one, other = _flat(one), _flat(other)
    return [
        f"{name} {_short(other.get(name))}, not {_short(one.get(name))}"
        for name in sorted({*one, *other})
        if one.get(name) != other.get(name)
    ]


def _flat(said: dict[str, Any]) -> dict[str, Any]:
    """With the members of tables by their own names, such as limits.frames."""
    out: dict[str, Any] = {}
    for name, value in said.items():
        inside = value if isinstance(value, dict) else {}
        out |= {f"{name}.{key}": v for key, v in inside.items()} or {name: value}
    return out


def _short(value: Any) -> str:
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
