"""All checks of a committed cache, what the rest depends on first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from dicom2cache.errors import CacheError
from dicom2cache.running.remains import tidy
from dicom2cache.running.verify import layout, metadata, shards, tables
from dicom2cache.running.verify.findings import Finding
from dicom2cache.store import root
from dicom2cache.store.committed import as_in_format, spec_of
from dicom2cache.store.layout import ROOT


def verify(cache: Path, quick: bool = False, others: bool = True) -> Iterator[Finding]:
    """What is wrong with the cache; nothing if it is whole.

    `quick` checks metadata, tables, sizes and indexes; else every byte. `others`: whether it is
    opened by zarr-python too. What is behind a finding
    that says what the rest should be (the root, a table) is not looked at. Raises CacheError for
    another format, and for what is no cache and does not look like one; FileNotFoundError if there
    is no root.
    """
    with suppress(OSError):  # what the run left that made it; who may not write leaves it
        tidy(cache)
    try:
        data, document = root.read_document(cache)
        attributes = root.attributes_of(cache, document)
    except root.NotOurs as e:
        if not (cache / "frames").is_dir():
            raise
        yield Finding(cache, ROOT, "root", f"damaged ({e})")
        return
    try:
        with as_in_format(cache):
            yield from _verify(cache, data, document, attributes, quick, others)
    except CacheError as e:  # what contradicts itself in a way that no check names
        yield Finding(cache, ROOT, "contents", str(e))


def _verify(
    cache: Path, data: bytes, document: dict[str, Any], attributes: dict[str, Any], quick: bool,
    others: bool,
) -> Iterator[Finding]:  # fmt: skip
    if not root.is_signed(attributes):
        yield Finding(cache, ROOT, "root", "its SHA-256 does not match")
        return
    try:
        root.check(cache, attributes)
    except CacheError as e:
        yield Finding(cache, ROOT, "contents", str(e))
        return
    broken = False
    for found in (
        *metadata.of_root(cache, data, document, attributes),
        *metadata.of_arrays(cache, attributes),
        *tables.of_files(cache, attributes),
        *tables.of_spare(cache, attributes, data),
    ):
        broken = broken or found.kind != "spare"
        yield found
    if broken:
        yield from layout.extra(cache, attributes, None)
        return
    said = tables.read(cache, attributes)
    specs = [spec_of(about) for about in attributes["arrays"]]
    lies = list(tables.contradictions(cache, attributes, specs, said))
    yield from lies
    yield from layout.extra(cache, attributes, None if lies else said)
    broken = bool(lies)
    for number, spec in enumerate(specs):
        if number in {found.array for found in lies}:
            continue  # no shard of it is to blame
        for found in shards.of_array(cache, number, spec, said, quick):
            broken = True
            yield found
    if others and not broken:
        from dicom2cache.running.verify.others import differing

        yield from differing(cache, specs, said)
