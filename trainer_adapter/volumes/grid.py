"""A volume in patches that overlap, for inference, and what a network says of them put together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import index
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer_adapter.errors import counting

_SPREAD = 8
"""standard deviations of the weights in a patch; that of nnU-Net"""
_LEAST = 1e-3
"""weight of a corner, of that of the middle: where no other patch is, it alone counts"""


class PatchGrid:
    """Patches (d, h, w) of a volume (D, H, W), which cover it and overlap.

    A sequence of (corner, patch): `corner` (3,) slice, row, column of the first voxel, `patch` a
    view (d, h, w); where the volume is smaller than a patch, a copy with `fill` around it, and the
    corner is below 0.
    """

    def __init__(
        self,
        volume: NDArray[Any],
        patch: Sequence[int],
        *,
        overlap: float = 0.5,
        fill: float = 0.0,
    ) -> None:
        """`overlap`: least share of a side that two neighbours have in common.

        Raises ValueError for what is no volume, sides below 1, and an overlap that is not from 0 to
        below 1.
        """
        sides = tuple(map(index, patch))
        if volume.ndim != 3 or len(sides) != 3 or min(sides) < 1 or min(volume.shape) < 1:
            raise ValueError(
                f"a volume {volume.shape} in patches {sides}; legal: three sides each, from 1"
            )
        if not 0 <= overlap < 1:
            raise ValueError(f"overlap {overlap}; legal: from 0 to below 1")
        self.volume, self.patch, self.fill = volume, sides, fill
        axes = [_starts(n, side, overlap) for n, side in zip(volume.shape, sides, strict=True)]
        self.corners = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
        """(n, 3)"""

    def __len__(self) -> int:
        return len(self.corners)

    def __getitem__(self, k: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
        corner = self.corners[k]
        inner, outer = self._spans(corner)
        if self.volume[inner].shape == self.patch:
            return corner, self.volume[inner]
        whole = np.full(self.patch, self.fill, self.volume.dtype)
        whole[outer] = self.volume[inner]
        return corner, whole

    def __iter__(self) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
        return (self[k] for k in range(len(self)))

    def batches(self, size: int) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
        """(corners (b, 3), patches (b, 1, d, h, w)), fresh memory, up to `size` at a time."""
        for start in range(0, len(self), size):
            some = [self[k] for k in range(start, min(start + size, len(self)))]
            yield np.stack([c for c, _ in some]), np.stack([p for _, p in some])[:, None]

    def stitch(
        self, parts: Iterable[tuple[Any, Any]], *, weights: str = "gaussian"
    ) -> NDArray[np.float32]:
        """(C, D, H, W): predictions of patches in their places, where they overlap their mean.

        `parts` are (corners (b, 3), predictions (b, C, d, h, w)), NumPy arrays or tensors, in any
        order. `weights` of the mean: "gaussian", those of the middle of a patch count more, or
        "constant". Raises ValueError if predictions do not fit, or do not cover the volume.
        """
        weight = _weights(self.patch, weights)
        total: NDArray[np.float32] | None = None
        count = np.zeros(self.volume.shape, np.float32)
        for corners, predictions in parts:
            for corner, one in zip(_array(corners), _array(predictions), strict=True):
                if one.ndim != 4 or one.shape[1:] != self.patch:
                    raise ValueError(f"a prediction {one.shape}; legal: (C, {self.patch})")
                if total is None:
                    total = np.zeros((len(one), *self.volume.shape), np.float32)
                inner, outer = self._spans(corner)
                total[:, *inner] += one[:, *outer] * weight[outer]
                count[inner] += weight[outer]
        if total is None or not count.all():
            missing = int((count == 0).sum())
            raise ValueError(f"no prediction for {missing} of {counting(count.size, 'voxel')}")
        total /= count
        return total

    def _spans(self, corner: Any) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """What of the volume is in a patch, and where in the patch it is."""
        inner, outer = [], []
        for at, side, n in zip(corner, self.patch, self.volume.shape, strict=True):
            start, stop = max(0, int(at)), min(n, int(at) + side)
            inner.append(slice(start, stop))
            outer.append(slice(start - int(at), stop - int(at)))
        return tuple(inner), tuple(outer)


def _starts(n: int, side: int, overlap: float) -> NDArray[np.int64]:
    """Places of patches along an axis: from the one end to the other at even steps."""
    if n <= side:
        return np.array([(n - side) // 2])
    step = max(1.0, side * (1 - overlap))
    count = int(np.ceil((n - side) / step)) + 1
    return np.rint(np.linspace(0, n - side, count)).astype(np.int64)


def _weights(patch: tuple[int, ...], kind: str) -> NDArray[np.float32]:
    if kind == "constant":
        return np.ones(patch, np.float32)
    if kind != "gaussian":
        raise ValueError(f"weights {kind!r}; legal: gaussian, constant")
    whole = np.ones((1, 1, 1))
    for axis, side in enumerate(patch):
        at = (np.arange(side) - (side - 1) / 2) * _SPREAD / side
        whole = whole * np.exp(-0.5 * at**2).reshape([-1 if a == axis else 1 for a in range(3)])
    found: NDArray[np.float32] = np.maximum(whole / whole.max(), _LEAST).astype(np.float32)
    return found


def _array(values: Any) -> NDArray[Any]:
    found: NDArray[Any] = values.detach().cpu().numpy() if hasattr(values, "detach") else values
    return np.asarray(found)
