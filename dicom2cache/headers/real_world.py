"""Real world values: what the stored values of a parametric map measure. Pure, item to values.

PS3.3 C.7.6.16.2.11: a mapping is from stored values, beside the modality LUT and not after it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from dicom2cache.headers.tags import Dataset, items, number, numbers, text, value

UNUSED = "real-world-unused"
"""flag: there is a mapping, but none that is one line, or one table, over all stored values"""
SEVERAL = "real-world-several"
"""flag: several mappings hold for all stored values, as in several units; the first was taken"""


@dataclass(frozen=True)
class Mapping:
    """real = slope * stored + intercept, in `unit` (UCUM)."""

    slope: float
    intercept: float
    unit: str
    first: float | None = None
    """least stored value that has a real one; None: not said"""
    last: float | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """real = entries[stored - first], in `unit` (UCUM)."""

    entries: tuple[float, ...]
    first: int
    unit: str


def real_world(group: Dataset | None, low: float, high: float) -> Mapping | Table | str | None:
    """The mapping that an item says for stored values from `low` to `high`.

    A flag where there is something that is of no use; None where there is nothing.
    """
    found = items(group, "RealWorldValueMappingSequence") if group is not None else []
    if not found:
        return None
    if len(found) == 1 and (table := _table(found[0])):
        return table
    lines = [line for item in found if (line := _line(item))]
    if len(found) > 1:  # parts of the range, or several views of all of it
        lines = [line for line in lines if _covers(line, low, high)]
    if not lines:
        return UNUSED
    alike = len({(line.slope, line.intercept, line.unit) for line in lines}) == 1
    return lines[0] if alike else replace(lines[0], flags=(SEVERAL,))


def real_world_table(ds: Dataset) -> Table | None:
    """The table of a whole file, where that is what its real world values are."""
    groups = items(ds, "SharedFunctionalGroupsSequence")
    found = [m for group in (*groups[:1], ds) if (m := real_world(group, 0.0, 0.0)) is not None]
    return found[0] if found and isinstance(found[0], Table) else None


Said = dict[str, Any]
"""values of one frame, under names of PER_FRAME"""
_OF_VALUES = ("slope", "intercept", "unit", "windows", "mapped_low", "mapped_high")


def real_values(
    ds: Dataset, file: Said, shared: Said, per_frame: list[Said] | None, ends: tuple[float, float]
) -> tuple[Said, list[Said] | None, tuple[str, ...]]:
    """(shared, per frame, flags) of a parametric map with real world values for its modality's.

    `file` has what holds where neither says; `ends` are the least and greatest stored value. A
    mapping of the frame goes before the shared one, that before the file's. The identity that the
    standard demands as Pixel Value Transformation beside them (A.75) says nothing.
    """
    groups = items(ds, "SharedFunctionalGroupsSequence")
    whole = real_world(groups[0], *ends) if groups else None
    whole = real_world(ds, *ends) if whole is None else whole
    own = [real_world(g, *ends) for g in items(ds, "PerFrameFunctionalGroupsSequence")]
    if len(own) != file["frames"]:
        whole = UNUSED if any(own) else whole
        own = []
    frames = per_frame or [{}] * max(1, len(own))  # frames may say a mapping and nothing else
    own = own or [None] * len(frames)
    if isinstance(whole, Table) and not any(own):
        table: Said = {
            "lut_low": min(whole.entries), "lut_high": max(whole.entries), "unit": whole.unit,
            "windows": None, "mapped_low": float(whole.first),
            "mapped_high": float(whole.first + len(whole.entries) - 1),
        }  # fmt: skip
        rest = [{k: v for k, v in frame.items() if k not in _OF_VALUES} for frame in frames]
        return {**shared, **table}, rest if per_frame else None, ()
    found = [whole if m is None else m for m in own]
    if not any(found):
        return shared, per_frame, ()
    flags: set[str] = set()
    made: list[Said] = []
    for mapping, frame in zip(found, frames, strict=True):
        said: Said = {k: frame.get(k, shared.get(k, file[k])) for k in _OF_VALUES}
        if isinstance(mapping, Mapping):
            windows = real_windows(said["windows"], mapping, said["slope"], said["intercept"])
            said = {"slope": mapping.slope, "intercept": mapping.intercept, "unit": mapping.unit,
                    "windows": windows, "mapped_low": mapping.first, "mapped_high": mapping.last,
                    }  # fmt: skip
            flags.update(mapping.flags)
        elif mapping:  # a flag; or a table of single frames, which is not applied
            flags.add(mapping if isinstance(mapping, str) else UNUSED)
        made.append(said)
    rest = [{k: v for k, v in frame.items() if k not in _OF_VALUES} for frame in frames]
    if all(said == made[0] for said in made):
        return {**shared, **made[0]}, rest if per_frame else None, tuple(sorted(flags))
    # No window of the file holds for all.
    both = [{**frame, **said} for frame, said in zip(rest, made, strict=True)]
    return {**shared, "windows": None}, both, tuple(sorted(flags))


def _line(item: Dataset) -> Mapping | None:
    slope, intercept = (number(item, f"RealWorldValue{w}") for w in ("Slope", "Intercept"))
    if slope is None or intercept is None or value(item, "RealWorldValueLUTData") is not None:
        return None
    first, last = _end(item, "First"), _end(item, "Last")
    ends = (None, None) if first is None or last is None else (first, last)
    return Mapping(slope, intercept, _unit(item), *ends)


def _table(item: Dataset) -> Table | None:
    entries = tuple(numbers(item, "RealWorldValueLUTData"))
    first, last = _end(item, "First"), _end(item, "Last")
    if not entries or first is None or last is None or len(entries) != last - first + 1:
        return None
    return Table(entries, int(first), _unit(item))


def _unit(item: Dataset) -> str:
    units = items(item, "MeasurementUnitsCodeSequence")
    code = (text(units[0], "CodeValue") or text(units[0], "LongCodeValue")) if units else None
    return code or "US"


def _covers(line: Mapping, low: float, high: float) -> bool:
    first, last = line.first, line.last
    return first is not None and last is not None and first <= low and last >= high


def _end(item: Dataset, which: str) -> float | None:
    """First or last value mapped; of float pixels in double precision."""
    found = number(item, f"RealWorldValue{which}ValueMapped")
    return number(item, f"DoubleFloatRealWorldValue{which}ValueMapped") if found is None else found


def real_windows(
    windows: list[dict[str, Any]] | None, mapping: Mapping, slope: float, intercept: float
) -> list[dict[str, Any]] | None:
    """Windows of slope * stored + intercept as windows of the mapping; None if it turns them over.

    LINEAR counts in steps of 1 (C.11.2.1.2.1), which have no meaning there: it becomes
    LINEAR_EXACT, with the same ends.
    """
    factor = mapping.slope / slope if slope else 0.0
    if not windows or factor <= 0:
        return None
    found = []
    for w in windows:
        center, width, function = w["center"], w["width"], w["function"]
        if function == "LINEAR":
            center, width, function = center - 0.5, width - 1, "LINEAR_EXACT"
        if width > 0:
            center = (center - intercept) * factor + mapping.intercept
            found.append({**w, "center": center, "width": width * factor, "function": function})
    return found or None
