"""Names of what is drawn, and their numbers in a label map."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trainer_adapter.format.keywords import nearest
from trainer_adapter.reading.masks.joined import Ints, filled, joined
from trainer_adapter.reading.opened import Core

MOST = 1 << 16
"""numbers of classes are below"""
_DRAWN = ("planes", "labelmap")
"""recipes whose masks have the names of its `rois`"""


@dataclass(frozen=True)
class Segments:
    """e segments of m rows of masks, row after row."""

    names: list[str]
    """sorted"""
    row: Ints
    """(e,) place of the row in Joined.masks, rising"""
    name: Ints
    """(e,) place in `names`"""
    number: Ints
    """(e,) its value in the row, where that is a label map"""
    count: Ints
    """(e,) pixels of it in the row; -1: nobody counted"""

    @cached_property
    def ends(self) -> Ints:
        """(m + 1,) where the segments of each row begin, and the end."""
        return np.searchsorted(self.row, np.arange(self._rows + 1))

    _rows: int = 0


def segments(core: Core) -> Segments:
    """What the rows of masks of a cache show, read once for each process."""
    if core.segments is None:
        core.segments = _segments(core, joined(core).masks)
    found: Segments = core.segments
    return found


def _segments(core: Core, masks: Ints) -> Segments:
    core.ahead(("segments", "segment", "segment_label", "mask_counts", "unit"))
    listed = core.said("segments", masks)
    row = pc.list_parent_indices(listed).to_numpy().astype(np.int64)
    inner = listed.flatten()
    number, label, kind = (pc.struct_field(inner, name) for name in ("number", "label", "type"))
    counted = core.said("mask_counts", masks)
    count = np.full(len(row), -1)
    lengths = [pc.list_value_length(c).fill_null(0).to_numpy() for c in (listed, counted)]
    agrees = lengths[0] == lengths[1]
    known = np.zeros(0, np.int64)
    if len(counted):
        of = pc.list_parent_indices(counted).to_numpy()
        known = counted.flatten().fill_null(-1).to_numpy(zero_copy_only=False)[agrees[of]]
    count[agrees[row]] = known
    bare = np.flatnonzero(lengths[0] == 0)  # of caches before the list, and files that name nothing
    if len(bare):
        row = np.concatenate([row, bare])
        number = pa.concat_arrays([number.cast(pa.int32()), core.said("segment", masks[bare])])
        label = pa.concat_arrays(
            [label.cast(pa.string()), core.said("segment_label", masks[bare]).cast(pa.string())]
        )
        kind = pa.concat_arrays([kind.cast(pa.string()), pa.nulls(len(bare), pa.string())])
        alone = np.full(len(masks), -1)
        alone[lengths[1] == 1] = counted.filter(pa.array(lengths[1] == 1)).flatten().fill_null(-1)
        count = np.concatenate([count, alone[bare]])
    values = number.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    coded = _called(label, kind, values).dictionary_encode()
    names = coded.dictionary.to_pylist()
    order = sorted(range(len(names)), key=names.__getitem__)
    place = np.empty(len(names), np.int64)
    place[order] = np.arange(len(names))
    code = place[coded.indices.to_numpy(zero_copy_only=False)]
    is_map = filled(pc.equal(core.said("unit", masks), "labelmap"))
    # 0 of a label map is what nothing is drawn on; what is beyond uint16 no pixel has.
    kept = ~is_map[row] | (values > 0) & (values < MOST)
    sorting = np.argsort(row[kept], kind="stable")
    row, code, values, count = (c[kept][sorting] for c in (row, code, values, count))
    there = np.unique(code)
    names = [names[order[k]] for k in there.tolist()]
    return Segments(names, row, np.searchsorted(there, code), values, count, len(masks))


def _called(label: Any, kind: Any, number: Ints) -> Any:
    """Names: the label, else the type's code, else the number."""
    label, kind = (
        pc.if_else(pc.equal(c.cast(pa.string()), ""), None, c.cast(pa.string()))
        for c in (label, kind)
    )
    numbered = pc.binary_join_element_wise("segment", pa.array(number).cast(pa.string()), " ")
    return pc.coalesce(label, kind, numbered)


def name_of(label: str | None, kind: str | None, number: int | None) -> str:
    """The name of one segment, as `Segments` has it."""
    return label or kind or f"segment {number or 0}"


def rois(core: Core) -> list[str]:
    """The classes that the recipe draws, in the order of their numbers; else labels stay."""
    recipe = core.root.attributes.get("recipe")
    if not isinstance(recipe, Mapping) or recipe.get("masks") not in _DRAWN:
        return []
    said = recipe.get("rois") or ()
    if isinstance(said, Mapping):
        return [str(name) for name in said]
    if not isinstance(said, list) or not all(isinstance(one, list) and one for one in said):
        return []  # what is no pairs of a name and its expressions names no class
    return [str(name) for name, *_ in said]


def mask_classes(core: Core) -> tuple[str, ...]:
    """The recipe's rois, else the names that are there, sorted."""
    return tuple(rois(core) or segments(core).names)


def numbers_of(core: Core, classes: Any, *, new: bool = False) -> dict[str, int]:
    """{name: number} of what `classes` may be; names that are no class are background.

    None: mask_classes, from 1. A sequence: from 1, names that are there, or may be `new`. A mapping
    says numbers, of names that may not be there. Raises ValueError.
    """
    if hasattr(classes, "mask_numbers"):  # of another loader or dataset
        classes = classes.mask_numbers
    if classes is None:
        numbers = {name: k for k, name in enumerate(mask_classes(core), 1)}
    elif isinstance(classes, Mapping):
        numbers = dict(classes)
    elif isinstance(classes, str) or not isinstance(classes, Sequence):
        raise ValueError(
            f"classes {classes!r}; legal: a list of names, a dictionary of their numbers, or None"
        )
    else:
        if not new:
            hold_names(core, classes)
        if len(set(classes)) < len(classes):
            raise ValueError(f"classes {list(classes)}: one stands there twice")
        numbers = {name: k for k, name in enumerate(classes, 1)}
    if not all(type(n) is int and 0 <= n < MOST for n in numbers.values()):
        raise ValueError(f"classes {numbers}; legal: whole numbers from 0 to {MOST - 1} for each")
    return numbers


def hold_names(core: Core, names: Iterable[Any]) -> None:
    """Raises ValueError for a name that neither the recipe nor a mask has."""
    there = {*mask_classes(core), *segments(core).names}
    for name in names:
        if name not in there:
            raise ValueError(
                f"no mask of {core.root.path} is called {name!r}; "
                f"{nearest(str(name), sorted(there)) if there else 'it has no masks'}"
            )
