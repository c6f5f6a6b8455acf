"""dicomsdl: a parser and decoders in C++, to .npy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.convert.converters.common import Options, Pixels, Work, arrays, each
from benchmarks.convert.sources import Kind

PACKAGES = ("dicomsdl",)
SETTINGS = (
    "np.save(open(path).pixelData(storedvalue=True)): stored values, since it rescales to float32; "
    "all frames of a file stacked"
)


def _save(path: Path, out: Path) -> None:
    import dicomsdl

    ds = dicomsdl.open(str(path))
    count = int(ds.NumberOfFrames or 1)
    frames = [ds.pixelData(k, storedvalue=True) for k in range(count)]
    np.save(out / f"{path.stem}.npy", frames[0] if count == 1 else np.stack(frames))


def opened(kind: Kind, files: Sequence[Path], options: Options) -> Work:
    """Files to .npy."""
    import dicomsdl  # noqa: F401

    return each(_save, options)


def pixels(kind: Kind, files: Sequence[Path], out: Path) -> Pixels:
    """The .npy."""
    return arrays(files, out)
