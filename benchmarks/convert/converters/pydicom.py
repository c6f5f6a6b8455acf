"""pydicom: what most scripts do, file by file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.convert.converters.common import Options, Pixels, Work, arrays, each
from benchmarks.convert.sources import Kind

PACKAGES = ("pydicom", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg")
SETTINGS = (
    "np.save(dcmread(path).pixel_array): stored values, no rescale, which would cost it more; "
    "decoders are pydicom's plug-ins pylibjpeg-libjpeg and pylibjpeg-openjpeg; also dcmread + "
    "pixel_array alone, and dcmread(stop_before_pixels=True) alone, which write nothing"
)


def _save(path: Path, out: Path) -> None:
    from pydicom import dcmread

    np.save(out / f"{path.stem}.npy", dcmread(path).pixel_array)


def _decode(path: Path, out: Path) -> None:
    from pydicom import dcmread

    _ = dcmread(path).pixel_array


def _header(path: Path, out: Path) -> None:
    from pydicom import dcmread

    dcmread(path, stop_before_pixels=True)


def opened(kind: Kind, files: Sequence[Path], options: Options) -> Work:
    """One step of three: to .npy, decode only, header only."""
    import pydicom.pixels  # noqa: F401

    steps: dict[str, Any] = {"npy": _save, "decode": _decode, "header": _header}
    return each(steps[options.get("step", "npy")], options)


def pixels(kind: Kind, files: Sequence[Path], out: Path) -> Pixels:
    """The .npy, or what it decodes."""
    from pydicom import dcmread

    if next(out.iterdir(), None) is not None:
        yield from arrays(files, out)
    else:
        for path in files:
            yield int(path.stem), dcmread(path).pixel_array
