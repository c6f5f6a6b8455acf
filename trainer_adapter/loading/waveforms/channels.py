"""Which channel of each recording is which: by label, by code, and in which unit; columnar."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trainer_adapter.errors import counting

TWELVE_LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""the channels of a 12-lead electrocardiogram, in their order"""

Ints = NDArray[np.int64]
_LEADS = {
    1: "I", 2: "II", 61: "III", 62: "aVR", 63: "aVL", 64: "aVF",
    **{2 + k: f"V{k}" for k in range(1, 8)}, 66: "V8", 67: "V9",
    **{8 + k: f"V{k}R" for k in range(2, 8)}, 68: "V8R", 69: "V9R", 16: "X", 17: "Y", 18: "Z",
    31: "I", 32: "II", 111: "III", 112: "aVR", 113: "aVL", 114: "aVF",
    **{32 + k: f"V{k}" for k in range(1, 7)},
}  # fmt: skip
"""names by the number of their code, PS3.16 CID 3001: MDC 2:number, in older files SCPECG
5.6.3-9-number; those of derived leads too"""
_CODE = re.compile(r"(?:MDC:2:|SCPECG:5\.6\.3-9-)([0-9]{1,3})")
_BEFORE_A_LEAD = re.compile(r"(?i)^(mdc_ecg_(lead_)?|(ecg )?lead[ _-]+)")
_VOLTS = {"V": 1.0, "mV": 1e-3, "uV": 1e-6, "nV": 1e-9}
_SHOWN = 3


def lead_of(source: str | None) -> str | None:
    """The lead that a code of Channel Source, as SCHEME:CODE, stands for."""
    found = _CODE.fullmatch(source or "")
    return _LEADS.get(int(found[1])) if found else None


def name_of(label: str | None, source: str | None) -> str:
    """What a channel is called: its label, else the lead of its code, else its code."""
    said = _BEFORE_A_LEAD.sub("", label or "").strip()
    return said or lead_of(source) or source or ""


def _answers_to(label: str | None, source: str | None) -> set[str]:
    names = {name_of(label, source), label or "", source or ""}
    lead = lead_of(source)
    # A label that is a lead holds, whatever its code says.
    if lead and name_of(label, None).lower() not in {n.lower() for n in _LEADS.values()}:
        names.add(lead)
    return {name.lower() for name in names if name}


@dataclass(frozen=True)
class Picked:
    """k channels of each of n recordings."""

    place: Ints
    """(n, k) row of each in its recording"""
    factor: NDArray[np.float64]
    """(n, k) by which its values become those of `units`"""
    names: tuple[str, ...]
    units: tuple[str, ...]
    kept: NDArray[np.bool_]
    """(n,) recordings that have all of them; the other rows say nothing"""


class Channels:
    """The channels of all recordings, by distinct names, so that n may be a million."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        """`column`: `channels` of frames/."""
        lists = column.combine_chunks()
        self.count = np.asarray(pc.list_value_length(lists).fill_null(0)).astype(np.int64)
        self._row = pc.list_parent_indices(lists).to_numpy().astype(np.int64)
        self._first = np.cumsum(self.count) - self.count
        items = lists.flatten()
        label, source, unit = (
            pc.struct_field(items, name).fill_null("") for name in ("label", "source", "unit")
        )
        both = pc.binary_join_element_wise(label, source, "\x1f").dictionary_encode()
        self._code = both.indices.to_numpy().astype(np.int64)
        self._said = [text.partition("\x1f")[::2] for text in both.dictionary.to_pylist()]
        units = unit.dictionary_encode()
        self._unit = units.indices.to_numpy().astype(np.int64)
        self._units: list[str] = units.dictionary.to_pylist()

    def picked(self, wanted: Sequence[str] | None, unit: str | None, missing: str) -> Picked:
        """The channels that are wanted, by name; None: all.

        Raises ValueError where recordings have other channels than the first one, lack one (unless
        `missing` is "drop"), or where a channel has several units that `unit` does not settle.
        """
        if wanted is None:
            place, names = self._all()
            kept: NDArray[np.bool_] = np.ones(len(place), bool)
        else:
            names = tuple(wanted)
            place = np.stack([self._place(name) for name in names], 1)
            kept = np.asarray((place >= 0).all(1))
            if not kept.all() and (missing == "error" or not kept.any()):
                raise self._lacking(place, names)
        at = self._first[:, None] + np.where(kept[:, None], place, 0)
        at = np.minimum(at, len(self._unit) - 1)  # the last recording may have none
        factor, units = self._in_units(at, kept, names, unit)
        return Picked(place, factor, names, units, kept)

    def _all(self) -> tuple[Ints, tuple[str, ...]]:
        count = int(self.count[0])
        codes = [name_of(*said) for said in self._said]
        numbers = np.unique(codes, return_inverse=True)[1][self._code]
        alike = bool((self.count == count).all())
        if alike:
            table = numbers.reshape(-1, count)
            alike = not np.any(table != table[0])
        names = tuple(codes[k] for k in self._code[:count])
        if not alike:
            other = next(k for k in range(len(self.count)) if self._names(k) != names)
            raise ValueError(
                f"the recordings have different channels, such as {', '.join(names)} and "
                f"{', '.join(self._names(other))}; give channels=[...], those that are wanted, in "
                "their order"
            )
        return np.broadcast_to(np.arange(count), (len(self.count), count)), names

    def _names(self, row: int) -> tuple[str, ...]:
        start = int(self._first[row])
        mine = self._code[start : start + int(self.count[row])]
        return tuple(name_of(*self._said[k]) for k in mine.tolist())

    def _place(self, name: str) -> Ints:
        """(n,) the channel of each recording that is called so, else that whose code says so; -1:
        none. Raises ValueError where there are several."""
        low, found = name.lower(), np.full(len(self.count), -1, np.int64)
        own = [low in (name_of(*said).lower(), said[0].lower()) for said in self._said]
        for answers in (own, [low in _answers_to(*said) for said in self._said]):
            items = np.flatnonzero(np.array(answers, bool)[self._code])
            items = items[found[self._row[items]] < 0]
            rows = self._row[items]
            for row in rows[1:][np.diff(rows) == 0][:1].tolist():
                raise ValueError(
                    f"several channels of a recording are called {name}: "
                    f"{', '.join(self._names(row))}; leave it out, or take all channels"
                )
            found[rows] = items - self._first[rows]
        return found

    def _lacking(self, place: Ints, names: tuple[str, ...]) -> ValueError:
        lost = np.flatnonzero((place < 0).any(1))
        first = int(lost[0])
        absent = [name for name, at in zip(names, place[first], strict=True) if at < 0]
        return ValueError(
            f"{len(lost)} of {counting(len(place), 'recording lacks', 'recordings lack')} a "
            f"channel, such as {', '.join(absent)}: there are "
            f"{', '.join(self._names(first)) or 'none'}"
            + ('; give lacking="drop" to leave them out' if len(lost) < len(place) else "")
        )

    def _in_units(
        self, at: Ints, kept: NDArray[np.bool_], names: tuple[str, ...], wanted: str | None
    ) -> tuple[NDArray[np.float64], tuple[str, ...]]:
        factor, units = np.ones(at.shape), list[str]()
        for k, name in enumerate(names):
            codes = np.unique(self._unit[at[kept, k]]).tolist()
            there = [self._units[code] for code in codes]
            if wanted is None and len(there) > 1:
                raise ValueError(
                    f"channel {name} is in {', '.join(sorted(there))}; give unit=, one of "
                    f"{', '.join(_VOLTS)}, or select recordings of one"
                )
            odd = [one for one in there if one != wanted and not {one, wanted} <= _VOLTS.keys()]
            if wanted is not None and odd:
                raise ValueError(f"channel {name} is in {odd[0]}, which is not made {wanted}")
            units.append(wanted or there[0])
            if wanted is not None:
                each = np.array([
                    1.0 if one == wanted or one not in _VOLTS else _VOLTS[one] / _VOLTS[wanted]
                    for one in self._units
                ])  # fmt: skip
                factor[:, k] = each[self._unit[at[:, k]]]
        return factor, tuple(units)


def shown(values: Sequence[Any]) -> str:
    """Some values, for errors."""
    more = f", and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    return ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values[:_SHOWN]) + more
