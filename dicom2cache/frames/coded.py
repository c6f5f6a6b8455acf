"""One encoded frame, as the header has it, and what a decoder made of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Coded:
    """What the header says of one encoded frame."""

    rows: int
    columns: int
    samples: int
    bits_allocated: int
    photometric: str
    planar: int = 0
    """Planar Configuration of what is not compressed itself"""
    room: NDArray[np.uint8] | None = None
    """memory that the frame may be decoded into, so that it need not be copied"""

    def out(self, precision: int) -> NDArray[Any] | None:
        """An array in `room` for unsigned samples of so many bits; None if they do not fill it."""
        if self.room is None:
            return None
        shape = (self.rows, self.columns) + ((self.samples,) if self.samples > 1 else ())
        kind = np.dtype(np.uint8 if precision <= 8 else np.uint16)
        fills = len(self.room) == math.prod(shape) * kind.itemsize and precision <= 16
        return self.room.view(kind).reshape(shape) if fills else None


@dataclass(frozen=True)
class Decoded:
    """One decoded frame, before masking by BitsStored."""

    pixels: NDArray[Any]
    """(H, W) or (H, W, C)"""
    photometric: str
    """of `pixels`: RGB where the decoder has converted"""
    codec: str
    """what decoded it, with its version"""
    precision: int
    """bits of a sample in the codestream; 0: not said there"""
    flags: tuple[str, ...] = ()
    lossy: bool | None = False
    """whether the codestream is; None: it may be"""
