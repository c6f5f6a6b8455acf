"""dcm2niix: a series to one NIfTI file, uncompressed."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.convert.converters.common import Options, Pixels, Work
from benchmarks.convert.sources import Kind

PACKAGES = ("dcm2niix",)
SETTINGS = (
    "dcm2niix -z n -b n -f FOLDER on each series of 256 files, one process after another, or two "
    "at a time"
)


def _command(series: Path, out: Path) -> list[str]:
    from dcm2niix import bin

    return [bin, "-z", "n", "-b", "n", "-f", series.name, "-o", str(out), str(series)]


def opened(kind: Kind, files: Sequence[Path], options: Options) -> Work:
    """A process for each series."""
    at_once = int(options.get("processes", 1))

    def work(files: Sequence[Path], out: Path) -> None:
        series = sorted({path.parent for path in files})
        for k in range(0, len(series), at_once):
            running = [
                subprocess.Popen(_command(s, out), stdout=2) for s in series[k : k + at_once]
            ]
            if any([process.wait() for process in running]):
                raise RuntimeError(f"{series[k].name}: dcm2niix could not convert it")

    return work


def pixels(kind: Kind, files: Sequence[Path], out: Path) -> Pixels:
    """Slices of the volumes, NIfTI's last row being DICOM's first."""
    import nibabel

    for series in sorted({path.parent for path in files}):
        found = sorted(out.glob(f"{series.name}*.nii"))
        if len(found) != 1:
            raise RuntimeError(f"{len(found)} volumes of a series")
        data = np.asanyarray(nibabel.load(found[0]).dataobj)
        if data.dtype.names:  # RGB
            data = np.stack([data[n] for n in data.dtype.names], -1)
        planes = np.swapaxes(data[:, ::-1], 0, 1)
        inside = sorted(series.glob("*.dcm"))
        if kind.frames > 1:
            yield int(inside[0].stem), np.moveaxis(planes, 2, 0)
            continue
        if planes.shape[2] != len(inside):
            raise RuntimeError(f"{planes.shape[2]} slices of {len(inside)} files")
        for k, path in enumerate(inside):
            yield int(path.stem), planes[:, :, k]
