"""What a cache has, counted from its tables: pure, columnar, a second for each million frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dicom2cache.arrow import Codes, appearance, combine, floats, ints
from dicom2cache.cli.reporting.shapes import Histogram, counted, distinct, histogram
from dicom2cache.cli.words import counting
from dicom2cache.schema import FRAMES_TABLE

COLUMNS = (
    "array", "row", "height", "width", "kind", "root", "path", "study_uid", "series_uid", "patient",
    "sex", "age", "modality", "manufacturer", "model", "body_part", "thickness", "transfer_syntax",
    "codec", "unit", "lossy", "burned_in", "image_type", "spacing_y", "stack", "stack_regular",
    "stack_of", "stack_flags", "p1", "p50", "p99", "flags",
)  # fmt: skip
"""what is read of frames/; any may be missing"""
WHOSE = (
    "modality", "kind", "unit", "patient", "study_uid", "series_uid", "stack", "root", "path",
)  # fmt: skip
"""what `whose_they_are` reads"""
OLDEST = 90.0
"""years: who is older is one of few"""
_MODALITIES, _WORDS = 24, 12
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Part:
    """What some of the frames are of."""

    names: tuple[str, ...]
    patients: int
    studies: int
    series: int
    stacks: int
    files: int
    frames: int
    bytes: int
    """on the disk, shares of shards; of a plan before compression"""


@dataclass(frozen=True)
class Values:
    """What the values of frames of one modality, unit and dtype are."""

    modality: str
    unit: str
    dtype: str
    frames: int
    bytes: int
    middle: tuple[float, float, float] | None
    """medians over the frames of their percentiles 1, 50, 99; None where no frame has them"""


@dataclass(frozen=True)
class Stacks:
    """What was assembled of one modality."""

    modality: str
    stacks: int
    acquisitions: int
    least: int
    median: float
    most: int
    """frames of a stack"""
    regular: int
    uneven: int
    unplaced: int
    single: int


@dataclass(frozen=True)
class Facts:
    """All that is counted of frames."""

    whole: Part
    parts: tuple[Part, ...]
    """by modality and kind, most frames first"""
    values: tuple[Values, ...]
    spread: tuple[tuple[str, tuple[Histogram, ...]], ...]
    """(modality, its histograms)"""
    stacks: tuple[Stacks, ...]
    stack_flags: tuple[tuple[str, int], ...]
    """(flag, stacks of several frames)"""
    flags: tuple[tuple[str, int, int], ...]
    """(flag, frames, files)"""
    words: dict[str, list[tuple[str | None, int]]]
    """{column: how often it says what}; of sex, patients"""
    sizes: tuple[tuple[str, int], ...]
    """(rows x columns, frames)"""
    anonymous: int
    """frames whose header names no patient"""


class Frames:
    """The columns of frames/ as codes and numbers; what is missing is unknown."""

    def __init__(self, table: pa.Table) -> None:
        self._table, self.count = table, table.num_rows
        self.modality, self.modalities = self.coded("modality")
        self.patient = appearance(self.text("patient"))
        self.study = appearance(self.text("study_uid"))
        self.series = appearance(self.text("series_uid"))
        self.file = combine([self.ints("root"), appearance(self.text("path"))])
        self.stack = self.ints("stack")
        self.array = self.ints("array")

    def column(self, name: str) -> Any:
        """A column, in one chunk; of nulls where there is none."""
        if name not in self._table.column_names:
            return pa.nulls(self.count, FRAMES_TABLE.field(name).type)
        return self._table[name].combine_chunks()

    def text(self, name: str) -> Any:
        """A column of texts."""
        return self.column(name).cast(pa.string())

    def ints(self, name: str) -> Codes:
        """A column of whole numbers, -1 for null."""
        return ints(self.column(name).cast(pa.int64()), -1)

    def floats(self, name: str) -> NDArray[np.float64]:
        """A column of numbers, NaN for null."""
        return floats(self.column(name))

    def coded(self, name: str, unknown: str = UNKNOWN) -> tuple[Codes, list[str]]:
        """(codes from 0, their words); null is a word of its own."""
        found = self.text(name).fill_null(unknown).dictionary_encode()
        if isinstance(found, pa.ChunkedArray):
            found = found.combine_chunks()
        return ints(found.indices, -1), found.dictionary.to_pylist()


def facts_of(
    table: pa.Table, arrays: Sequence[dict[str, Any]], sizes: NDArray[np.float64]
) -> Facts:
    """All that is counted of rows of frames/, (n,) `sizes` in bytes of each."""
    frames = Frames(table)
    kinds, kind_names = frames.coded("kind", "image")
    parts = _parts(frames, sizes, kinds, kind_names)
    everything = np.zeros(frames.count, np.int64)
    whole = _counted(frames, sizes, everything, [("all",)])[0] if frames.count else _NOTHING
    return Facts(
        whole, parts, _values(frames, sizes, arrays), _spread(frames, kinds, kind_names),
        _stacks(frames), _stack_flags(frames), _flags(frames), _words(frames), _sizes(frames),
        int((frames.patient < 0).sum()),
    )  # fmt: skip


def sides_of(
    table: pa.Table, sizes: NDArray[np.float64], sides: Mapping[str, NDArray[np.int64]]
) -> tuple[Part, ...]:
    """What the sides of a split have, {name: rows}."""
    found: list[Part] = []
    for name, rows in sides.items():
        part = Frames(table.take(pa.array(rows)))
        group = np.zeros(part.count, np.int64)
        found += _counted(part, sizes[rows], group, [(name,)])
    return tuple(found)


_NOTHING = Part(("all",), 0, 0, 0, 0, 0, 0, 0)


def whose_they_are(table: pa.Table) -> Iterator[str]:
    """Lines for a terminal: patients, studies, series, stacks; frames by modality and by unit."""
    frames = Frames(table)
    if not frames.count:
        return
    one = _counted(frames, np.zeros(frames.count), np.zeros(frames.count, np.int64), [("",)])[0]
    said = [
        counting(one.patients, "patient"), counting(one.studies, "study", "studies"),
        counting(one.series, "series", "series"), counting(one.stacks, "stack"),
    ]  # fmt: skip
    yield ", ".join(said)
    if nobody := int((frames.patient < 0).sum()):
        yield f"{counting(nobody, 'frame')} without a patient's ID"
    for name, none in (("modality", UNKNOWN), ("unit", "none (colour)"), ("kind", "image")):
        rows = counted(frames.text(name), _MODALITIES)
        if name == "kind" and len(rows) == 1:
            continue
        many = {"modality": "modalities", "unit": "units", "kind": "kinds"}[name]
        named = [f"{none if word is None else word} {n}" for word, n in rows]
        yield f"{many} (frames): {', '.join(named)}"


def _counted(
    frames: Frames, sizes: NDArray[np.float64], group: Codes, names: Sequence[tuple[str, ...]]
) -> list[Part]:
    n = len(names)
    codes = (frames.patient, frames.study, frames.series, frames.stack, frames.file)
    patients, studies, series, stacks, files = (distinct(group, c, n).tolist() for c in codes)
    rows = np.bincount(group, minlength=n).tolist()
    total = np.bincount(group, weights=sizes, minlength=n).tolist()
    return [
        Part(
            names[k], patients[k], studies[k], series[k], stacks[k], files[k], rows[k],
            round(total[k]),
        )
        for k in range(n)
    ]  # fmt: skip


def _parts(
    frames: Frames, sizes: NDArray[np.float64], kinds: Codes, names: list[str]
) -> tuple[Part, ...]:
    group = frames.modality * len(names) + kinds
    there, group = np.unique(group, return_inverse=True)
    said = [(frames.modalities[c // len(names)], names[c % len(names)]) for c in there.tolist()]
    found = _counted(frames, sizes, group, said) if said else []
    return tuple(sorted(found, key=lambda part: (-part.frames, part.names)))


def _values(
    frames: Frames, sizes: NDArray[np.float64], arrays: Sequence[dict[str, Any]]
) -> tuple[Values, ...]:
    units, unit_names = frames.coded("unit", "")
    dtypes = sorted({about["dtype"] for about in arrays})
    place = np.array([dtypes.index(about["dtype"]) for about in arrays], np.int64)
    if not frames.count:
        return ()
    dtype = place[frames.array]
    group = (frames.modality * len(unit_names) + units) * len(dtypes) + dtype
    there, group = np.unique(group, return_inverse=True)
    order = np.argsort(group, kind="stable")
    ends = np.cumsum(np.bincount(group))
    percentiles = [frames.floats(name)[order] for name in ("p1", "p50", "p99")]
    found = []
    for k, code in enumerate(there.tolist()):
        rest, d = divmod(code, len(dtypes))
        m, u = divmod(rest, len(unit_names))
        mine = slice(ends[k - 1] if k else 0, ends[k])
        rows = order[mine]
        low, middle, high = (_median(column[mine]) for column in percentiles)
        known = None if low is None or middle is None or high is None else (low, middle, high)
        found.append(
            Values(
                frames.modalities[m],
                unit_names[u],
                dtypes[d],
                len(rows),
                round(float(sizes[rows].sum())),
                known,
            )
        )
    return tuple(sorted(found, key=lambda v: (-v.frames, v.modality, v.unit, v.dtype)))


def _median(values: NDArray[np.float64]) -> float | None:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else None


def _spread(
    frames: Frames, kinds: Codes, kind_names: list[str]
) -> tuple[tuple[str, tuple[Histogram, ...]], ...]:
    """The histograms of each modality, most frames first; of values those of images and doses."""
    units, unit_names = frames.coded("unit", "")
    columns = {n: frames.floats(n) for n in ("p1", "p50", "p99", "spacing_y", "thickness")}
    starts, lengths = _runs(frames.stack)
    ages = _of_patients(frames, frames.floats("age"))
    mask = kind_names.index("mask") if "mask" in kind_names else -1
    order = np.argsort(-np.bincount(frames.modality), kind="stable")
    found = []
    for m in order[: _MODALITIES * bool(frames.count)]:
        mine = frames.modality == m
        made: list[Histogram | None] = []
        shown = mine & (kinds != mask)
        for u in np.flatnonzero(np.bincount(units[shown], minlength=len(unit_names)))[:3]:
            rows = shown & (units == u)
            curves = {n: columns[n][rows] for n in ("p1", "p50", "p99")}
            unit = unit_names[u]
            what = "Values of colour" if not unit else "Values"
            made.append(histogram(what, "frames", "" if unit == "US" else unit, curves))
        for name, what in (("spacing_y", "Pixel spacing"), ("thickness", "Slice thickness")):
            made.append(histogram(what, "frames", "mm", {"": columns[name][mine]}))
        if lengths.max() > 1:
            of_stacks = lengths[frames.modality[starts] == m].astype(np.float64)
            made.append(histogram("Frames of a stack", "stacks", "", {"": of_stacks}))
        made.append(histogram("Age", "patients", "years", {"": ages[m == _modality(frames)]}))
        found.append((frames.modalities[int(m)], tuple(h for h in made if h is not None)))
    return tuple(found)


def _first_of_patients(frames: Frames) -> NDArray[np.int64]:
    """A frame of each pair of patient and modality."""
    known = np.flatnonzero(frames.patient >= 0)
    pair = frames.patient[known] * len(frames.modalities) + frames.modality[known]
    first: NDArray[np.int64] = known[np.unique(pair, return_index=True)[1]]
    return first


def _modality(frames: Frames) -> Codes:
    return frames.modality[_first_of_patients(frames)]


def _of_patients(frames: Frames, ages: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.minimum(ages[_first_of_patients(frames)], OLDEST)


def _runs(stack: Codes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(first row, number of frames) of each stack."""
    if not len(stack):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    order = np.argsort(stack, kind="stable")  # what was moved lies behind the rest
    ordered = stack[order]
    begins = np.flatnonzero(np.diff(ordered, prepend=ordered[0] - 1))
    return order[begins], np.diff(np.r_[begins, len(stack)])


def _stacks(frames: Frames) -> tuple[Stacks, ...]:
    starts, lengths = _runs(frames.stack)
    waves = np.asarray(pc.equal(frames.text("kind"), "waveform").fill_null(False)).astype(bool)
    pixels = ~waves[starts]  # a waveform is a stack that is no volume
    starts, lengths = starts[pixels], lengths[pixels]
    modality = frames.modality[starts]
    regular = ints(frames.column("stack_regular").cast(pa.int8()), -1)[starts]
    of = frames.ints("stack_of")[starts]
    of = np.where(of < 0, frames.stack[starts], of)
    found = []
    for m in np.unique(modality).tolist():
        mine = modality == m
        own, several = lengths[mine], lengths[mine] > 1
        said = regular[mine]
        found.append(
            Stacks(
                frames.modalities[m],
                len(own),
                len(np.unique(of[mine])),
                int(own.min()),
                float(np.median(own)),
                int(own.max()),
                int((several & (said == 1)).sum()),
                int((several & (said == 0)).sum()),
                int((several & (said < 0)).sum()),
                int((~several).sum()),
            )
        )
    return tuple(sorted(found, key=lambda s: (-s.stacks, s.modality)))


def _stack_flags(frames: Frames) -> tuple[tuple[str, int], ...]:
    starts, lengths = _runs(frames.stack)
    rows = starts[lengths > 1]
    return tuple((str(f), n) for f, n in _tallied(frames.column("stack_flags").take(rows)))


def _flags(frames: Frames) -> tuple[tuple[str, int, int], ...]:
    column = frames.column("flags")
    rows = pc.list_parent_indices(column).to_numpy()
    found = pc.list_flatten(column).dictionary_encode()
    code = ints(found.indices, -1)
    files = distinct(code, frames.file[rows], len(found.dictionary))
    counts = np.bincount(code, minlength=len(found.dictionary))
    named = zip(found.dictionary.to_pylist(), counts, files, strict=True)
    return tuple(sorted(((f, int(n), int(m)) for f, n, m in named), key=lambda r: (-r[1], r[0])))


def _tallied(lists: Any) -> list[tuple[str | None, int]]:
    return counted(pc.list_flatten(lists), 64)


def _words(frames: Frames) -> dict[str, list[tuple[str | None, int]]]:
    known = np.flatnonzero(frames.patient >= 0)
    people = pa.array(known[np.unique(frames.patient[known], return_index=True)[1]])
    found = {"sex": counted(frames.text("sex").take(people), _WORDS)}
    for name in ("body_part", "manufacturer", "model", "transfer_syntax", "codec"):
        found[name] = counted(frames.text(name), _WORDS)
    for name in ("lossy", "burned_in"):
        found[name] = counted(frames.column(name).cast(pa.string()), _WORDS)
    return found


def _sizes(frames: Frames) -> tuple[tuple[str, int], ...]:
    height, width = frames.ints("height"), frames.ints("width")
    pair, counts = np.unique(height * (1 << 31) + width, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    rows = [(f"{pair[k] >> 31} × {pair[k] & ((1 << 31) - 1)}", int(counts[k])) for k in order]
    shown = rows[:_WORDS]
    if left := sum(count for _, count in rows[_WORDS:]):
        shown.append((f"{len(rows) - _WORDS} other sizes", left))
    return tuple(shown)
