"""Labels: from a column of the cache, or from a table of the user's, joined on what both have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trainer_adapter.cache import Cache
from trainer_adapter.errors import LabelError, counting
from trainer_adapter.format.keywords import KEYWORDS, nearest
from trainer_adapter.loading.beside import Beside, beside
from trainer_adapter.loading.classes import (
    Encoded,
    balanced,
    check_kind,
    counts_of,
    encode,
    numbers_of,
)
from trainer_adapter.loading.join import (
    PATIENT,
    Joined,
    Key,
    KeyFile,
    On,
    first_rows,
    join,
    keys_of,
    said_of,
)
from trainer_adapter.loading.options import Labels, Target
from trainer_adapter.loading.tables import plain, read_table, says
from trainer_adapter.reading.shown import page_of

_SHOWN = 8
_KINDS = ("image", "dose", "map", "mask")

__all__ = ["Encoded", "Labelled", "WithLabels", "from_column", "from_table", "labelled"]


@dataclass(frozen=True)
class Labelled:
    """The frames of a cache that are trained on, with their labels."""

    cache: Cache
    kept: NDArray[np.int64]
    """(n,) positions of the frames in the cache that was given"""
    values: NDArray[Any] | None
    """(n,) int64 class numbers, or float32; (n, k) of k labels; None without a label"""
    classes: Any
    """what the numbers stand for, in their order; [] for float32; of several {label: these}"""
    known: NDArray[np.bool_] | None = None
    """(n, k) of several labels: False where one is not known"""
    numbers: Any = field(default_factory=dict)
    """{value: number} of all that is a class; of several labels {label: these}"""
    beside: Beside | None = None
    """their masks or doses, if they were asked for"""

    def targeted(self, target: Target | None) -> Labelled:
        """Those of the frames that have a target. Raises as `beside`."""
        if target is None:
            return self
        kept, found = beside(self.cache, target)
        return replace(
            self,
            cache=self.cache.select(kept),
            kept=self.kept[kept],
            values=None if self.values is None else self.values[kept],
            known=None if self.known is None else self.known[kept],
            beside=found,
        )

    def said(self, what: str) -> str:
        """What it is, with how many frames and which classes, for a repr."""
        told = f"<{what} of {self.cache!r}"
        if self.beside is not None:
            of = f" of {', '.join(map(str, self.beside.names))}" if self.beside.names else ""
            told += f"; {self.beside.name}s{of}"
        if self.values is None:
            return f"{told}>"
        if self.known is not None:
            return f"{told}; labels {', '.join(map(str, self.classes))}>"
        if not len(self.classes):
            return f"{told}; a number for each>"
        most = list(self.counts.items())[:_SHOWN]
        more = f", and {len(self.classes) - _SHOWN} more" if len(self.classes) > _SHOWN else ""
        return f"{told}; {', '.join(f'{n} of {name}' for name, n in most)}{more}>"

    def page(self, what: str) -> str:
        """HTML of the same, for a notebook."""
        rows: list[dict[str, Any]] = []
        if self.values is not None and self.known is not None:
            counts = self.counts
            rows = [
                {"label": n, "class": c, "frames": k} for n in counts for c, k in counts[n].items()
            ]
        elif len(self.classes):
            rows = [{"class": c, "frames": k} for c, k in self.counts.items()]
        return page_of(self.cache, self.said(what), rows)

    @property
    def counts(self) -> dict[Any, Any]:
        """{class: frames}; of several labels {label: {class: frames}}. Raises ValueError."""
        if self.values is None and self.beside is not None:
            return self.beside.counts(self.cache)
        if self.values is None:
            raise ValueError("class_counts: no label was asked for")
        if self.known is None:
            return counts_of(_classes(self.values), self.classes)
        columns = zip(self.classes, self.values.T, self.known.T, strict=True)
        return {
            name: counts_of(_classes(values[known].astype(np.int64)), self.classes[name])
            for name, values, known in columns
            if self.classes[name]
        }

    def weights(self, how: str = "balanced") -> NDArray[np.float64]:
        """(n,) float64, the weight of each frame: by its label, else by its mask's rarest class.

        Raises ValueError for what has no one class.
        """
        if how != "balanced":
            raise ValueError(f"weights {how!r}; legal: balanced")
        if self.values is None and self.beside is not None:
            return self.beside.weights(self.cache)
        if self.values is None or self.known is not None:
            raise ValueError('weights "balanced" are by one label of classes')
        return balanced(_classes(self.values))


class WithLabels:
    """What a dataset and a loader say of their labels; `_found` is what they train on."""

    _found: Labelled

    def _repr_html_(self) -> str:
        return self._found.page(type(self).__name__)

    @property
    def labels(self) -> NDArray[Any] | None:
        """(n,) labels in the order of `cache`, (n, k) of several; None without a label."""
        return self._found.values

    @property
    def known(self) -> NDArray[np.bool_] | None:
        """(n, k) of several labels: False where one is not known; None for one label or none."""
        return self._found.known

    @property
    def class_counts(self) -> dict[Any, Any]:
        """{class: frames}; of several labels {label: {class: frames}}; without a label of masks
        {class: frames that show it}. Raises ValueError."""
        return dict(self._found.counts)

    @property
    def class_numbers(self) -> dict[Any, Any]:
        """{value: number} of all that is a class; of several labels {label: these}."""
        return dict(self._found.numbers)

    @property
    def mask_numbers(self) -> dict[str, int]:
        """{name: number} of what is drawn, of the masks that are the target. Raises ValueError."""
        if self._found.beside is None:
            raise ValueError("mask_numbers: no target was asked for")
        return dict(self._found.beside.numbers)


def _classes(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind == "f":
        raise ValueError("the label is of numbers, not of classes")
    return values


def labelled(cache: Cache, wanted: Labels) -> Labelled:
    """The frames that are wanted, with their labels.

    Raises LabelError if frames have no label, unless `missing` is "drop", and if none has one;
    ValueError if none is of the kind.
    """
    label, labels, on, missing = wanted.label, wanted.labels, wanted.on, wanted.missing
    if (labels is None) != (on is None) or (labels is not None and label is None):
        raise ValueError("`labels`, `on` and `label` go together: table, key, column")
    if missing not in ("error", "drop"):
        raise ValueError(f"missing {missing!r}; legal: error, drop")
    kept = np.arange(len(cache))
    if wanted.kind is not None:
        kept = np.flatnonzero(pc.equal(cache.column("kind"), wanted.kind).to_numpy())
        if not len(kept) and (wanted.kind == "image" or wanted.kind not in _KINDS):
            _hold_kind(cache, wanted.kind)
        cache = cache if len(kept) == len(cache) else cache.select(kept)
    if label is None:
        return Labelled(cache, kept, None, [])
    several = not isinstance(label, str)
    names = [label] if isinstance(label, str) else list(label)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"label {label!r}; legal: a column, or several that differ")
    told = _classes_of(names, wanted.classes)
    if labels is None:
        found = [from_column(cache, name, told[name]) for name in names]
        source = None
    else:
        assert on is not None
        source = _Source(cache, labels, on, names, wanted.key)
        found = [source.column(name, told[name]) for name in names]
    known = np.stack([e.known for e in found], 1)
    some = known.any(1)
    if len(cache) and not some.all() and (missing == "error" or not some.any()):
        raise _lost(cache, label, np.flatnonzero(~some), source)
    if not some.all():
        cache = cache.select(some)
    classes = {n: e.classes or [] for n, e in zip(names, found, strict=True)}
    numbers = {
        n: {} if e.classes is None else numbers_of(told[n] if told[n] is not None else e.classes)
        for n, e in zip(names, found, strict=True)
    }
    values = _matrix(found)[some]
    if several:
        return Labelled(cache, kept[some], values, classes, known[some], numbers)
    return Labelled(cache, kept[some], values[:, 0], classes[names[0]], None, numbers[names[0]])


def _hold_kind(cache: Cache, kind: str) -> None:
    """Raises ValueError for a selection of other kinds, where nobody asked for this one by name."""
    there = pc.unique(cache.column("kind")).to_pylist()
    if there == ["waveform"]:
        raise ValueError(
            f"all of {len(cache)} are waveforms: WaveformDataset(cache, length) reads them"
        )
    if there:
        raise ValueError(
            f"none of {counting(len(cache), 'frame')} is of kind {kind!r}, they are "
            f"{', '.join(there)}; give kind={there[0]!r}, or kind=None for all"
        )


def _matrix(found: Sequence[Encoded]) -> NDArray[Any]:
    """(n, k): int64 where all are class numbers, else float32, NaN where nothing is known."""
    if all(e.classes is not None for e in found):
        return np.stack([e.values for e in found], 1)
    columns = [np.where(e.known, e.values, np.nan).astype(np.float32) for e in found]
    return np.stack(columns, 1)


def _classes_of(names: list[str], classes: Any) -> dict[str, Any]:
    """What `classes` says of each label."""
    for own in ("class_numbers", "classes"):
        if hasattr(classes, own):
            classes = getattr(classes, own)
            break
    if isinstance(classes, Mapping) and any(
        not isinstance(v, int | np.integer) or v is False for v in classes.values()
    ):
        if unknown := [n for n in classes if n not in names]:
            raise ValueError(f"classes of {unknown[0]!r}; the labels are {', '.join(names)}")
        return {name: classes.get(name) for name in names}
    return dict.fromkeys(names, classes)


def _lost(cache: Cache, label: Any, lost: NDArray[np.int64], source: _Source | None) -> LabelError:
    if source is None:
        example = f"path {cache.column('path')[int(lost[0])].as_py()}"
    else:
        example = source.said(int(lost[0]))
    some = f"{len(lost)} of {counting(len(cache), 'frame has', 'frames have')}"
    told = f"{some} no label {label!r}, such as {example}"
    if source is not None:
        told += f"; keys of the labels are such as {source.theirs()}"
    if len(lost) < len(cache):
        return LabelError(f'{told}; give missing="drop" to leave them out')
    if source is None:
        told += "; label= takes any column of cache.frames, labels= a table of yours"
    return LabelError(f"{told}; no frame is left to train on")


def from_column(cache: Cache, name: str, classes: Any = None) -> Encoded:
    """Labels out of a column of frames/, by its name or by DICOM's."""
    return encode(cache.column(KEYWORDS.get(name, name)), name, classes)


def from_table(
    cache: Cache, table: Any, on: On, name: str, key_file: KeyFile = None, classes: Any = None
) -> Encoded:
    """Column `name` of `table`, joined to the frames on `on`: what is a column of both, a DICOM
    keyword, several of them, or {column of the table: one of these}.

    `table` is a table of pyarrow, pandas or Polars, a dictionary, or a path to a .csv, .tsv or
    .parquet file; `key_file` has the key of PatientID and AccessionNumber, and in a de-identified
    cache that of UIDs and paths. Raises LabelError if a column is missing, a key stands there
    twice, a path is of two sources, or hashes are joined to what is none; ValueError for another
    key file.
    """
    return _Source(cache, table, on, [name], key_file).column(name, classes)


class _Source:
    """A table that is joined to the frames of a cache, once for all its labels."""

    def __init__(
        self, cache: Cache, table: Any, on: On, names: list[str], key_file: KeyFile
    ) -> None:
        self._cache, self._keys = cache, keys_of(on)
        theirs = [key.theirs for key in self._keys]
        single = len(theirs) == len(names) == 1
        self._table = read_table(
            table,
            {*theirs, "root"} - set(names),
            *((theirs[0], names[0]) if single else (None,) * 2),
        )
        for name in names:
            if name not in self._table.column_names:
                raise LabelError(
                    f"the labels have no column {name!r}; {nearest(name, self._table.column_names)}"
                )
        self._joined: Joined = join(cache, self._table, self._keys, key_file)

    def column(self, name: str, classes: Any) -> Encoded:
        """One of its columns, for each frame."""
        values = plain(self._table[name])
        check_kind(values.type, name)
        if pa.types.is_null(values.type):
            values = values.cast(pa.string())
        known = says(values).to_numpy(zero_copy_only=False)
        place = first_rows(self._joined, known)
        self._hold_alike(values, known)
        taken = values.take(pa.array(place, mask=place < 0))
        return encode(taken, name, classes)

    def _hold_alike(self, values: Any, known: NDArray[np.bool_]) -> None:
        """Raises LabelError if two names of one file have different labels."""
        rows = np.flatnonzero(known & (self._joined.rows >= 0))
        order = rows[np.argsort(self._joined.rows[rows], kind="stable")]
        file = self._joined.rows[order]
        label = values.dictionary_encode().indices.fill_null(-1).to_numpy()[order]
        differ = np.flatnonzero((file[1:] == file[:-1]) & (label[1:] != label[:-1]))
        if len(differ):
            one, other = (int(order[differ[0] + k]) for k in (0, 1))
            names = [said_of(self._table, self._keys, k) for k in (one, other)]
            raise LabelError(
                f"{names[0]} and {names[1]} are the same file twice, but the labels say "
                f"{values[one].as_py()} and {values[other].as_py()}; give them one"
            )

    def said(self, frame: int) -> str:
        """The key of a frame, for errors."""
        return ", ".join(f"{k.ours} {self._value(k, frame)}" for k in self._keys)

    def _value(self, key: Key, frame: int) -> str:
        said = self._cache.column(key.ours)[frame].as_py()
        return f"{said} (a hash of it)" if key.said in PATIENT else str(said)

    def theirs(self) -> str:
        """Some keys of the table, for errors."""
        shown = [said_of(self._table, self._keys, k) for k in range(min(3, self._table.num_rows))]
        return "; ".join(shown) or "none, since the table has no rows"
