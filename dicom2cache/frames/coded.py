"""One encoded frame, as the header has it, and what a decoder made of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom2cache.errors import FrameError


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


def check_shape(shape: tuple[int, ...], coded: Coded) -> None:
    """Raises FrameError if a codestream of this shape is not what the header says."""
    want = (coded.rows, coded.columns) + ((coded.samples,) if coded.samples > 1 else ())
    if shape != want:
        raise FrameError(
            f"the codestream holds {shape}, the header says {want} (rows, columns[, samples])"
        )


def check_size(rows: int, columns: int, components: int, coded: Coded) -> None:
    """As `check_shape`, before the decoder allocates what a damaged codestream claims."""
    if rows and columns:  # 0: said later in the codestream, or nowhere
        check_shape((rows, columns) + ((components,) if components > 1 else ()), coded)


def damaged(library: str, said: str = "") -> FrameError:
    """The failure of a codestream that `library` cannot decode, or not without a warning."""
    return FrameError(
        f"the codestream is damaged: {library} cannot decode it{f' ({said})' if said else ''}; "
        "copy the file again, or get it anew from where it came"
    )
