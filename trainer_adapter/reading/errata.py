"""What may be wrong in a cache of an earlier converter: errata.toml, held to the cache."""

from __future__ import annotations

import tomllib
import warnings
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import dataset as arrow_dataset

from trainer_adapter.errors import ErrataWarning
from trainer_adapter.format import Root

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
    tables = root.tables("frames")
    schema = pa.unify_schemas([arrow_dataset.dataset(t).schema for t in tables])
    frames = arrow_dataset.dataset(tables, schema)
    holds = {e["name"]: _concerned(e, schema.names) for e in about}
    # Without readahead: opening takes little memory.
    found = frames.scanner(columns=holds, batch_readahead=1, fragment_readahead=1).to_table()
    counts = {e["what"]: pc.sum(found[e["name"]]).as_py() or 0 for e in about}
    told = [f"{count} frames: {what}" for what, count in counts.items() if count]
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


def _concerned(erratum: dict[str, Any], known: list[str]) -> Any:
    """An expression over the columns of frames/: whether a frame is concerned."""
    whole = pc.scalar(False)
    for entry in erratum.get("frames", []):
        if "several" in entry:
            continue
        holds = pc.scalar(True)
        for name, value in entry["if"].items():
            holds = holds & _is(name, value, known)
        for name, value in entry.get("unless", {}).items():
            holds = holds & ~_is(name, value, known)
        whole = whole | holds
    return whole


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
