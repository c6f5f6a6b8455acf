"""Where crops lie in their frames: functions of (seed, epoch, sample), pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer_adapter.order.permutations import Ints, Stream, key_of, uniform


@dataclass(frozen=True)
class Crop:
    """Windows of (height, width) pixels.

    Raises ValueError for sides below 1 or an unknown `at`.
    """

    height: int
    width: int
    at: str = "random"
    """`random`, another place in each epoch; `center`; `given`: by `boxes`"""
    boxes: NDArray[Any] | None = None
    """(n, 2) top and left for each frame of the cache that is read, for `given`; may be below 0"""
    seed: int = 0
    fill: float | None = None
    """value of what lies outside of a frame; None: -1000 where the unit is HU (air), else 0"""

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"crop of {self.height} x {self.width}; legal: from 1 x 1")
        if self.at not in ("random", "center", "given") or (self.boxes is None) == (
            self.at == "given"
        ):
            raise ValueError(
                f"crop at {self.at!r}; legal: random, center, or given together with boxes"
            )
        if self.boxes is not None:
            shape, kind = np.shape(self.boxes), np.asarray(self.boxes).dtype.kind
            if len(shape) != 2 or shape[1] != 2 or kind not in "iu":
                raise ValueError(
                    f"boxes of shape {shape}; legal: (n, 2) whole numbers, top and left"
                )

    def places(
        self, epoch: int, samples: Ints, heights: Ints, widths: Ints, boxes: Any = None
    ) -> tuple[Ints, Ints]:
        """(top, left), (b,) each: of the crop in each frame; of a smaller frame, the middle.

        `samples` are the sample indices that randomness depends on; `boxes` are the (b, 2) places
        of these frames, for `given`.
        """
        if boxes is not None:
            found = np.asarray(boxes, np.int64)
            return found[:, 0], found[:, 1]
        tops, lefts = (
            self._along(room, samples, key_of(self.seed, epoch, Stream.CROP + axis))
            for axis, room in enumerate((heights - self.height, widths - self.width))
        )
        return tops, lefts

    def _along(self, room: Ints, samples: Ints, key: np.uint64) -> Ints:
        if self.at == "center":
            return room // 2
        drawn = (uniform(key, samples) * (room + 1)).astype(np.int64)
        return np.where(room > 0, drawn, room // 2)
