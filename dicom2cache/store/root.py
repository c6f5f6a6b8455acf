"""The root metadata of a cache, read from disk: every member that is used has its type and range.

A cache folder may come from elsewhere, and a digest says nothing of who made it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from dicom2cache.errors import CacheError, counting
from dicom2cache.store import names
from dicom2cache.store.layout import FORMAT_VERSION, ROOT, attributes_sha256

_MOST_BYTES = 1 << 26
"""of the document: some ten thousand arrays"""
_MOST = 1 << 40
"""slots of an array, rows of a table: beyond it NumPy's integers may overflow"""
_MOST_IN_SHARD = 1 << 24
"""frames: 16 bytes each in the index; this program makes at most 4,096"""
_ITEMSIZE = {"uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "float32": 4, "float64": 8}
_CODECS = ("none", "lz4", "zstd")
KINDS = ("frames", "failures", "shards")
"""of tables"""
CONTOURS = "contours"
"""and that which only generations with structure sets have"""
_COUNTS = (
    "files", "files_stored", "files_no_pixels", "files_not_dicom", "files_duplicate",
    "files_excluded", "files_failed", "frames_stored", "frames_failed",
)  # fmt: skip
_SHA256 = re.compile(r"[0-9a-f]{64}")


class NotOurs(CacheError):
    """A zarr.json that is not the root of a cache, or is so no more."""


def read_document(cache: Path) -> tuple[bytes, dict[str, Any]]:
    """(bytes of the root's zarr.json, the document). Raises NotOurs, FileNotFoundError, OSError."""
    with names.open_below(cache, ROOT, cache) as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise NotOurs(f"{cache / ROOT}: larger than {_MOST_BYTES} bytes, which no cache's is")
    try:
        document = json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError) as e:
        raise NotOurs(f"{cache}: not a cache of dicom2cache, or damaged: {ROOT}: {e}") from e
    if not isinstance(document, dict):
        raise NotOurs(f"{cache}: not a cache of dicom2cache")
    return data, document


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def attributes_of(cache: Path, document: dict[str, Any]) -> dict[str, Any]:
    """Our attributes in the root's document, of a format that this version knows.

    Raises NotOurs if there are none, CacheError for another format.
    """
    everything = document.get("attributes")
    found = everything.get("dicom2cache") if isinstance(everything, dict) else None
    if not isinstance(found, dict):
        raise NotOurs(f"{cache}: not a cache of dicom2cache")
    check_format(cache, found)
    return found


def check_format(cache: Path, found: dict[str, Any]) -> None:
    """Raises CacheError for attributes of a format that this version does not know."""
    version = found.get("format")
    if version != FORMAT_VERSION or isinstance(version, bool | float):
        raise CacheError(
            f"{cache}: a cache of format {version!r}; this version knows "
            f"{FORMAT_VERSION}, install a newer dicom2cache"
        )


def attributes(cache: Path) -> dict[str, Any]:
    """What the root metadata of a cache say, checked: its digest, all types and ranges.

    Raises CacheError for what is none of a format that this version knows, FileNotFoundError.
    """
    found = attributes_of(cache, read_document(cache)[1])
    if not is_signed(found):
        raise CacheError(
            f"{cache / ROOT}: its SHA-256 does not match; it is damaged, or was edited"
        )
    check(cache, found)
    return found


def is_signed(found: dict[str, Any]) -> bool:
    """Whether the attributes have the digest that they say."""
    try:
        return attributes_sha256(found) == found.get("sha256")
    except RecursionError:
        return False


def check(cache: Path, found: dict[str, Any]) -> None:
    """Raises CacheError, naming it, for a member that is missing, or of another type or range."""
    try:
        _check_all(_At(f"{cache / ROOT}: ", found))
    except _Wrong as e:
        raise CacheError(f"{e}; it was edited, or made by another program") from None


class _Wrong(Exception):
    pass


class _At:
    """A value of the document, and where it stands."""

    def __init__(self, where: str, value: Any) -> None:
        self.where, self.value = where, value

    def wrong(self, legal: str) -> NoReturn:
        shown = repr(self.value)
        raise _Wrong(f"{self.where} is {shown[:80]}{'...' * (len(shown) > 80)}; legal: {legal}")

    def members(self) -> dict[str, Any]:
        if not isinstance(self.value, dict):
            self.wrong("an object")
        return self.value

    def __getitem__(self, name: str) -> _At:
        if name not in self.members():
            raise _Wrong(f"{self.where}{'.' * (self.where[-1] != ' ')}{name} is missing")
        return _At(f"{self.where}{'.' * (self.where[-1] != ' ')}{name}", self.value[name])

    def items(self) -> list[_At]:
        if not isinstance(self.value, list):
            self.wrong("a list")
        return [_At(f"{self.where}[{k}]", v) for k, v in enumerate(self.value)]

    def integer(self, low: int, high: int = _MOST) -> int:
        whole = isinstance(self.value, int) and not isinstance(self.value, bool)
        if not (whole and low <= self.value <= high):
            self.wrong(f"a whole number from {low} to {high}")
        return int(self.value)

    def text(self, legal: str = "a text", fits: Callable[[str], object] = lambda _: True) -> str:
        if not isinstance(self.value, str) or not fits(self.value):
            self.wrong(legal)
        return self.value


def _check_all(root: _At) -> None:
    generations = root["generation"].integer(0, 1 << 20) + 1
    arrays = [_check_array(array) for array in root["arrays"].items()]
    if len(set(arrays)) < len(arrays):
        root["arrays"].wrong("each name once")
    members = root.members()
    anew = "numbering" in members and root["numbering"].integer(0) > 0
    most = root["tables"]["frames"].items()
    for kind in KINDS:
        entries = root["tables"][kind].items()
        if not anew and len(entries) != generations:
            root["tables"][kind].wrong(f"one for each of {counting(generations, 'generation')}")
        if anew and not 1 <= len(entries) == len(most) <= generations:
            root["tables"][kind].wrong("one for each generation of the numbering, from 1")
        for entry in entries:
            _check_entry(entry)
            entry["rows"].integer(0)
    if CONTOURS in root["tables"].members():
        entries = root["tables"][CONTOURS].items()
        if not 1 <= len(entries) <= len(most):
            root["tables"][CONTOURS].wrong(f"one for some of {counting(len(most), 'generation')}")
        for entry in entries:
            _check_entry(entry)
            entry["rows"].integer(0)
    if "removed" in root["tables"].members():
        entries = root["tables"]["removed"].items()
        if len(entries) != 1:
            root["tables"]["removed"].wrong("a list of one")
        _check_entry(entries[0])
        entries[0]["rows"].integer(0)
    if "origin" in members:
        root["origin"].text("64 hex digits", _SHA256.fullmatch)
    numbers = []
    for source in root["sources"].items():
        numbers.append(source["root"].integer(0, 1 << 15))
        source["path"].text()
    if len(set(numbers)) < len(numbers):
        root["sources"].wrong("each number once")
    for count in _COUNTS:
        root["counts"][count].integer(0)
    if "frames_limited" in root["counts"].members():
        root["counts"]["frames_limited"].integer(0)
    root["recipe"].members()
    for versions in ("software", "codecs"):
        for name in root[versions].members():
            root[versions][name].text()
    root["software"]["dicom2cache"].text()
    for key in ("patient_key", "deidentify_key"):
        if key in root.members():
            root[key].text()


def check_specs(arrays: object) -> None:
    """Raises ValueError, naming it, for a member of a plan's arrays of another type or range."""
    try:
        for array in _At("arrays", arrays).items():
            _check_spec(array, (*_CODECS, "auto"))
            if "first" in array.members():
                array["first"].integer(0)
    except _Wrong as e:
        raise ValueError(str(e)) from None


def _check_spec(array: _At, codecs: tuple[str, ...]) -> str:
    name = array["name"].text("a name of letters, digits, _ . -", names.is_name)
    itemsize = _ITEMSIZE[array["dtype"].text(f"{', '.join(_ITEMSIZE)}", _ITEMSIZE.__contains__)]
    slot = [side.integer(1, 1 << 31) for side in array["slot"].items()]
    slots, per_shard = array["slots"].integer(0), array["frames_per_shard"]
    per_shard.integer(1, _MOST_IN_SHARD)
    slot_bytes = itemsize * math.prod(slot)
    if len(slot) not in (2, 3) or slot_bytes * max(slots, per_shard.value) >= 1 << 62:
        array["slot"].wrong(
            "height, width and, of colour, channels, of less than 2^62 bytes in all"
        )
    array["codec"].text(f"{', '.join(codecs)}; install a newer dicom2cache", codecs.__contains__)
    return name


def _check_array(array: _At) -> str:
    name = _check_spec(array, _CODECS)
    array["frames"].integer(0, array["slots"].value)
    found = array["statistics"]
    found["count"]
    for key in found.members():
        if not isinstance(found[key].value, int | float | None) or isinstance(
            found[key].value, bool
        ):
            found[key].wrong("a number or null")
    if found["count"].value is None:
        found["count"].wrong("a number")
    for key in ("min", "max", "mean", "std"):
        if found[key].value is None and key in ("min", "max") and found["count"].value:
            found[key].wrong("a number, as there are values")
    _check_entry(array["metadata"])
    array["metadata"]["path"].text(f"{name}/{ROOT}", f"{name}/{ROOT}".__eq__)
    return name


def _check_entry(entry: _At) -> None:
    entry["path"].text("the path of a file below the cache", _is_path)
    entry["bytes"].integer(0)
    entry["sha256"].text("64 hex digits", _SHA256.fullmatch)


def _is_path(path: str) -> bool:
    return all(map(names.is_name, path.split("/")))
