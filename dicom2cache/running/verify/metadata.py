"""zarr.json of the root and of the arrays: what any reader of Zarr takes the arrays for."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from dicom2cache.records import ArraySpec
from dicom2cache.running.job import is_growing
from dicom2cache.running.verify.findings import Finding, in_place_of, of_error
from dicom2cache.store import names
from dicom2cache.store.committed import spec_of
from dicom2cache.store.layout import ROOT, array_metadata, shortened

_MOST_BYTES = 1 << 20
_BLANKS = re.compile(rb'("(?:[^"\\]|\\.)*")|[ \t\r\n]+')
_BLOSC = {"clevel", "shuffle", "blocksize"}
"""which may differ from array to array"""


def of_root(
    cache: Path, data: bytes, document: dict[str, Any], attributes: dict[str, Any]
) -> Iterator[Finding]:
    """What is wrong with the root's document beside our attributes, and with its bytes."""
    if _BLANKS.sub(rb"\1", data) != json.dumps(document, separators=(",", ":")).encode():
        yield Finding(cache, ROOT, "root", "not the bytes that this program writes: it is damaged")
        return
    arrays = {a["name"]: a for a in attributes["arrays"]}
    expected: dict[str, Any] = {"zarr_format": 3, "node_type": "group"}
    expected["attributes"] = {"dicom2cache": attributes}
    copies = document.get("consolidated_metadata")
    if copies is not None:
        held = copies.get("metadata") if isinstance(copies, dict) else None
        expected["consolidated_metadata"] = {
            "kind": "inline",
            "must_understand": False,
            "metadata": held,
        }
        if not isinstance(held, dict) or set(held) != set(arrays):
            yield Finding(
                cache, ROOT, "root", "its consolidated_metadata have not the arrays that it names"
            )
            return
        for name, array in arrays.items():
            what = _unlike(held[name], spec_of(array))
            if what is not None:
                yield Finding(cache, ROOT, "root", f"its consolidated_metadata of {name}: {what}")
    for member in sorted(document.keys() | expected.keys()):
        if not _same(document.get(member), expected.get(member)):
            yield Finding(cache, ROOT, "root", f"{member} is not what a cache has there")


def of_arrays(cache: Path, attributes: dict[str, Any]) -> Iterator[Finding]:
    """What is wrong with the arrays' own zarr.json."""
    growing = is_growing(cache, attributes)
    for number, array in enumerate(attributes["arrays"]):
        name = f"{array['name']}/{ROOT}"
        if (found := in_place_of(cache, name)) is not None:
            yield replace(found, array=number)
            continue
        try:
            with names.open_below(cache, name, ROOT) as file:
                data = file.read(_MOST_BYTES)
        except OSError as e:
            yield replace(of_error(cache, name, "metadata", e), array=number)
            continue
        written = shortened(data, array["slots"])
        if hashlib.sha256(written).hexdigest() != array["metadata"]["sha256"]:
            what = f"its SHA-256 is not the one in {ROOT}"
        elif written != data and not growing:
            what = "the array is longer than the root says, and nothing is being appended"
        elif len(written) != array["metadata"]["bytes"]:
            what = f"{len(written)} bytes, {array['metadata']['bytes']} in {ROOT}"
        else:
            unlike = _unlike(_json(written), spec_of(array))
            if unlike is not None:  # the digest is right: it was written so
                yield Finding(cache, name, "contents", unlike, number)
            continue
        yield Finding(cache, name, "metadata", what, number)


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _unlike(document: Any, spec: ArraySpec) -> str | None:
    """What of an array's metadata is not as FORMAT.md and the root say; None: nothing."""
    if not isinstance(document, dict):
        return "not JSON of an object"
    expected: dict[str, Any] = json.loads(array_metadata(spec))
    titles = document.get("dimension_names")
    if isinstance(titles, list) and len(titles) == 1 + len(spec.slot):
        expected["dimension_names"] = [t if isinstance(t, str) else None for t in titles]
    elif titles is None:
        del expected["dimension_names"]
    seen = {k: v for k, v in document.items() if v is not None or k in expected}
    for optional in ("attributes", "storage_transformers"):
        if not seen.get(optional):
            seen.pop(optional, None)
            expected.pop(optional, None)
    for member in sorted(seen.keys() | expected.keys()):
        alike = seen.get(member), expected.get(member)
        if not (_same_codecs(*alike) if member == "codecs" else _same(*alike)):
            return f"{member} is {_short(seen.get(member))}, not {_short(expected.get(member))}"
    return None


def _same_codecs(found: Any, expected: Any) -> bool:
    """Whether codecs are alike but for how Blosc was told to compress."""
    try:
        inner = found[0]["configuration"]["codecs"]
        wanted = expected[0]["configuration"]["codecs"]
        if wanted[0] == {"name": "bytes"} != inner[0]:  # of single bytes, the order says nothing
            wanted[0]["configuration"] = {"endian": "little"}
        for k in range(1, len(wanted)):
            told = inner[k]["configuration"]
            if type(told["clevel"]) is not int or not 0 <= told["clevel"] <= 9:
                return False
            if told["shuffle"] not in ("noshuffle", "shuffle", "bitshuffle"):
                return False
            if type(told["blocksize"]) is not int or not 0 <= told["blocksize"] < 1 << 31:
                return False
            wanted[k]["configuration"] |= {name: told[name] for name in _BLOSC}
    except (KeyError, TypeError, IndexError):
        return False
    return _same(found, expected)


def _same(one: Any, other: Any) -> bool:
    """Whether two JSON values are alike; true is not 1, and 0.0 is 0."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(v, other[k]) for k, v in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else f"{text[:100]}..."
