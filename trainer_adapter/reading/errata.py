"""What may be wrong in a cache of an earlier converter, and what it does not say."""

from __future__ import annotations

import tomllib
import warnings
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import dataset as arrow_dataset

from trainer_adapter.errors import ErrataWarning, counting
from trainer_adapter.format.root import Root

_SHOWN = 4
_warned: set[tuple[Path, str]] = set()


def warn_of(root: Root) -> None:
    """Warn once, by ErrataWarning, if frames of the cache may be wrong by what errata.toml says.

    A cache that was made by a version without errata costs nothing.
    """
    made = str(root.attributes.get("software", {}).get("dicom2cache", ""))
    about = [e for e in _errata() if e.get("warn", True) and _between(e, made)]
    key = root.path, str(root.attributes["sha256"])
    if not about or key in _warned:
        return
    _warned.add(key)
    counts = _counts(root, about)
    told = [
        f"{counting(count, 'frame')}: {e['what']}"
        for e, count in zip(about, counts, strict=True)
        if count
    ]
    if told:
        more = f"; and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
        warnings.warn(
            f"{root.path}: made by dicom2cache {made}, and some of it may be wrong. "
            f"{'; '.join(told[:_SHOWN])}{more}. `dicom2cache info {root.path}` lists the frames; "
            "build the cache again to mend them",
            ErrataWarning,
            stacklevel=3,
        )


def _errata() -> list[dict[str, Any]]:
    text = (files("trainer_adapter") / "errata.toml").read_text("utf-8")
    found: list[dict[str, Any]] = tomllib.loads(text)["errata"]
    return found


def _between(erratum: dict[str, Any], version: str) -> bool:
    numbers = _numbers(version)
    return bool(numbers) and _numbers(erratum["since"]) <= numbers < _numbers(erratum["before"])


def _numbers(version: str) -> list[int]:
    """The numbers of a version; one in development counts as the one that it leads to."""
    numbers: list[int] = []
    for part in version.split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return numbers


def _counts(root: Root, about: list[dict[str, Any]]) -> list[int]:
    """How many frames each erratum concerns."""
    entries = [(k, entry) for k, e in enumerate(about) for entry in e.get("frames", [])]
    entries = [(k, entry) for k, entry in entries if "sheared" not in entry]
    named = {c for _, e in entries for part in ("if", "unless") for c in e.get(part, {})}
    masks: list[list[NDArray[np.bool_]]] = [[] for _ in entries]
    for batch in root.batches("frames", sorted(named | {"row"})):  # so opening takes little memory
        holds = {str(n): _holds(entry, batch.column_names) for n, (_, entry) in enumerate(entries)}
        found = arrow_dataset.dataset(batch).to_table(columns=holds)
        for n, parts in enumerate(masks):
            parts.append(found[str(n)].to_numpy())
    whole = np.zeros((len(about), sum(map(len, masks[0])) if masks else 0), bool)
    for n, (k, entry) in enumerate(entries):
        mask = np.concatenate([*masks[n], np.empty(0, bool)])
        if "several" in entry and mask.any():
            mask &= _several(root, entry["several"]["of"], entry["several"]["in"])
        whole[k] |= mask
    return whole.sum(axis=1).tolist()  # type: ignore[no-any-return]


def _holds(entry: dict[str, Any], known: list[str]) -> Any:
    """An expression over columns of frames/: `if` and not `unless`."""
    whole = pc.scalar(True)
    for name, value in entry["if"].items():
        whole = whole & _is(name, value, known)
    for name, value in entry.get("unless", {}).items():
        whole = whole & ~_is(name, value, known)
    return whole


def _several(root: Root, of: str, where: str) -> NDArray[np.bool_]:
    """(n,) whether the frames that share a value of the column `where` have several of `of`."""
    try:
        table = root.read("frames", [of, where])
    except KeyError:
        return np.zeros(1, bool)
    codes = [table[c].combine_chunks().dictionary_encode().indices for c in (where, of)]
    group, value = (c.fill_null(-1).to_numpy().astype(np.int64) + 1 for c in codes)
    pairs = np.unique(group * (int(value.max(initial=0)) + 1) + value)
    counts = np.bincount(pairs // (int(value.max(initial=0)) + 1))
    several: NDArray[np.bool_] = (counts[group] > 1) & (group > 0)
    return several


def _is(name: str, value: Any, known: list[str]) -> Any:
    """Whether a column is `value`, never null; a column that is not there is null everywhere."""
    if isinstance(value, list):
        some = pc.scalar(False)
        for one in value:
            some = some | _is(name, one, known)
        return some
    if name not in known:
        return pc.scalar(value == "")
    field = pc.field(name)
    if value == "":
        return field.is_null()
    if isinstance(value, str) and "*" in value:
        text = value.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
        holds = pc.match_like(field, text.replace("*", "%"))
    else:
        holds = field == value
    return pc.coalesce(holds, pc.scalar(False))
