"""Which files an export has: a stack each, or all volumes over time of an acquisition; pure."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer_adapter.volumes.placed import said
from trainer_adapter.volumes.stacks import Stacks

_KIND = (
    "kind", "unit", "modality", "image_type", "echo_time", "flip_angle", "inversion_time",
    "asl_label", "kvp", "kernel",
)  # fmt: skip
"""in what volumes over time are alike; where they differ in one of these, each has its file"""
_APART = 0.01
"""mm between the corners of two volumes that lie at one place"""


@dataclass(frozen=True)
class Piece:
    """One file."""

    parts: tuple[int, ...]
    """places in Stacks, in the order of acquisition"""
    stack: int
    """number of the first"""
    name: str
    """below the folder, without suffix: of a hash, numbers and a modality, never of texts"""


def pieces_of(stacks: Stacks) -> list[Piece]:
    """All files, in the order of stacks; each stack is in one."""
    columns = {c: said(stacks.core, c, stacks.first) for c in (*_KIND, "patient")}
    owners = said(stacks.core, "stack_of", stacks.first)
    order = said(stacks.core, "part", stacks.first)
    acquisitions: dict[Any, list[int]] = defaultdict(list)
    for k, owner in enumerate(owners):
        alone = owner is None or columns["kind"][k] == "mask" or _no_time(stacks, k)
        kind = (columns[c][k] for c in _KIND)
        like = ("alone", k) if alone else (owner, *kind, *_size(stacks, k))
        acquisitions[like].append(k)
    found = []
    for parts in acquisitions.values():
        parts.sort(key=lambda k: (order[k] or 0, k))
        together = [k for k in parts if _at_one_place(stacks, parts[0], k)]
        for group in [together, *([k] for k in parts if k not in together)]:
            stack = int(stacks.number[group[0]])
            name = file_name(columns["patient"][group[0]], stack, columns["modality"][group[0]])
            found.append(Piece(tuple(group), stack, name))
    return sorted(found, key=lambda piece: piece.stack)


def _no_time(stacks: Stacks, k: int) -> bool:
    """Whether a stack has no place, or is in colour, for which NIfTI has no fourth axis."""
    array = stacks.core.root.arrays[int(stacks.core.places.array[stacks.first[k]])]
    return bool(np.isnan(stacks.affine[k]).any() or array.slot[2:])


def _size(stacks: Stacks, k: int) -> tuple[int, ...]:
    places, first = stacks.core.places, stacks.first[k]
    return (int(stacks.count[k]), int(places.array[first]), int(places.height[first]),
            int(places.width[first]))  # fmt: skip


def _at_one_place(stacks: Stacks, one: int, other: int) -> bool:
    if one == other:
        return True
    count, _, height, width = _size(stacks, one)
    corners = np.array([[0, 0, 0, 1], [width - 1, height - 1, count - 1, 1]]).T
    away = (stacks.affine[one] - stacks.affine[other]) @ corners
    return bool(np.abs(away).max() <= _APART)


def file_name(patient: str | None, stack: int, modality: str | None) -> str:
    """Such as `sub-0123456789abcdef/sub-0123456789abcdef_stack-000012_ct`.

    A cache may say anything: what is no hash, or no modality, is left out.
    """
    known = patient is not None and re.fullmatch("[0-9a-f]{16,64}", patient)
    subject = f"sub-{patient[:16]}" if patient is not None and known else "sub-unknown"
    kind = modality if modality and re.fullmatch("[A-Z]{2,8}", modality) else "OT"
    return f"{subject}/{subject}_stack-{stack:06}_{kind.lower()}"
