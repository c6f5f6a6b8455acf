"""SimpleITK: ReadImage of each file, to .npy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.convert.converters.common import Options, Pixels, Work, arrays, each
from benchmarks.convert.sources import Kind

PACKAGES = ("SimpleITK",)
SETTINGS = (
    "np.save(GetArrayViewFromImage(ReadImage(path))), which applies slope and intercept; one "
    "thread, but for those of its JPEG 2000 decoder"
)


def _save(path: Path, out: Path) -> None:
    import SimpleITK as sitk

    image = sitk.ReadImage(str(path))  # the view does not keep it alive
    np.save(out / f"{path.stem}.npy", sitk.GetArrayViewFromImage(image))


def opened(kind: Kind, files: Sequence[Path], options: Options) -> Work:
    """Files to .npy."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    return each(_save, options)


def pixels(kind: Kind, files: Sequence[Path], out: Path) -> Pixels:
    """The .npy."""
    return arrays(files, out)
