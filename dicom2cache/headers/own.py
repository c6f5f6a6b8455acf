"""Values of the user's own columns, as texts that their types can be made of."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from typing import Any

from dicom2cache.headers.tags import LONGEST, Dataset, has_items, is_many
from dicom2cache.recipes.columns import REALS, TEXTS, WHOLES, Own
from dicom2cache.recipes.limits import Limits

UNLIKE = "own-column-unlike"
"""flag of a file one of whose values is not as the element's VR has it: the column is null"""
_LISTED = re.compile(r"[A-Z0-9 _]{0,16}")
"""a value of CS (PS3.5 6.2); what else lies in one is free text"""
_FORMATS = {"US": "<H", "SS": "<h", "UL": "<I", "SL": "<i", "UV": "<Q", "SV": "<q", "FL": "<f",
            "FD": "<d"}  # fmt: skip


def wanted_by(limits: Limits) -> frozenset[int]:
    """Tags of the elements that are read for the user's columns."""
    return frozenset().union(*(one.tags for one in columns_of(limits)))


def columns_of(limits: Limits) -> tuple[Own, ...]:
    """The user's columns."""
    return getattr(limits, "own", ())


def is_agreed(limits: Limits) -> bool:
    """Whether the user agreed that columns may tell who a person is."""
    return getattr(limits, "agreed", False)


def with_own(row: Any, ds: Dataset, limits: Limits) -> Any:
    """The row of FILES with the user's columns; flagged where a value is unlike its VR."""
    columns = columns_of(limits)
    if not columns:
        return row
    values, odd = [], False
    agreed = is_agreed(limits)
    for one in columns:
        try:
            values.append(_texts(one, _value(one, ds), agreed))
        except MemoryError:
            raise
        except Exception:  # whatever a value provokes that is not as its VR says
            values.append(None)
            odd = True
    flags = row["flags"]
    if odd and UNLIKE not in (flags or ()):
        flags = [*(flags or []), UNLIKE]
    return {**row, "own": values, "flags": flags}


def _value(one: Own, ds: Any) -> Any:
    if one.keyword:
        return ds.get(one.keyword)
    if not one.creator:
        key = one.tag >> 16, one.tag & 0xFFFF
        return _as_said(one, ds, key) if key in ds else None
    group, low = one.tag >> 16, one.tag & 0xFF
    for block in range(0x10, 0x100):
        if (group, block) not in ds or (group, block << 8 | low) not in ds:
            continue
        said = ds[group, block].value
        said = said.decode("latin-1") if isinstance(said, bytes) else str(said)
        if said.strip(" \0") == one.creator:
            return _as_said(one, ds, (group, block << 8 | low))
    return None


def _as_said(one: Own, ds: Any, key: tuple[int, int]) -> Any:
    """The value of a private element. Raises ValueError if its file says that what is to be a
    number is a text, such as a date or an ID: nobody agreed to that."""
    element = ds[key]
    implicit = ds.original_encoding[0]
    if not implicit and one.vr in REALS | WHOLES and element.VR in TEXTS:
        raise ValueError(f"of VR {element.VR}")
    return element.value


def _texts(one: Own, found: Any, agreed: bool) -> list[str] | None:
    """The values as texts; None where there are none. Raises for what the type cannot hold.

    And, unless it is `agreed` that they may tell who a person is, for words of a list that none is.
    """
    if isinstance(found, bytes) and one.vr in _FORMATS:
        form = _FORMATS[one.vr]
        found = [n for (n,) in struct.iter_unpack(form, found)]
    if isinstance(found, bytes):
        found = found.decode("ascii").strip(" \0").split("\\")
    if found is None or has_items(found):
        if found is None:
            return None
        raise ValueError("a sequence")
    parts = list(found) if is_many(found) else [found]
    parts = [p for p in parts if not (isinstance(p, str) and not p.strip(" \0"))]
    if not parts:
        return None
    make: Callable[[Any], str] = str
    if one.vr in REALS:
        make = _real
    elif one.vr in WHOLES:
        make = _whole
    texts = [make(part).strip(" \0") for part in parts]
    if one.vr == "CS" and not agreed and not all(map(_LISTED.fullmatch, texts)):
        raise ValueError("free text")
    if one.vr not in REALS | WHOLES:
        joined = "\\".join(texts)
        if len(joined) > LONGEST or not joined:
            raise ValueError("too long")
        joined.encode()  # a lone surrogate is no text
        return [joined]
    if len(texts) > 1 and not one.many:
        raise ValueError("several values")
    return texts


def _real(part: Any) -> str:
    made = float(part)
    if not math.isfinite(made):
        raise ValueError(part)
    return repr(made)


def _whole(part: Any) -> str:
    made = int(part) if isinstance(part, int | str) else part
    if float(made) != int(made) or not -(1 << 63) <= int(made) < 1 << 63:
        raise ValueError(part)
    return str(int(made))
