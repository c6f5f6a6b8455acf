"""Structures of a structure set to masks on its series: this program, rt-utils, dcmrtstruct2nii.

`make bench-contours`: each way makes the mask of each structure in memory, on one processor, in
turn; structures a second of drawing alone, and with the reading of the files, medians of rounds.
rt-utils and dcmrtstruct2nii read pixels too, since they cannot do without. What is drawn must
agree: the pixels of each structure are compared. dcmrtstruct2nii is run with the old name of
pydicom.dcmread, which went with pydicom 3. Run: python -m benchmarks.contours [--quick]
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.contours.series import write
from benchmarks.figures import arguments, least, tell
from dicom2cache.headers.read import read_headers
from dicom2cache.headers.structures import read_structures
from dicom2cache.pixels.outlines import Slices, draw, structures_in
from dicom2cache.privacy.keys import PatientKey
from dicom2cache.recipes.limits import Limits
from dicom2cache.records import Candidate
from dicom2cache.sources.find import scan

BAR = 5.0
Masks = Iterator[NDArray[Any]]
Way = Callable[[Path, Path], Callable[[], Masks]]
"""(series, structure set) to what makes the masks, (slices, rows, columns), in their order"""


def ours(series: Path, structure_set: Path) -> Callable[[], Masks]:
    """Headers of the series, contours, masks on the slices that they touch."""
    roots, candidates, _ = scan([series], Path("/nowhere"))
    headers = read_headers(roots, candidates, PatientKey(bytes(16))).files
    about = structure_set.stat()
    candidate = Candidate(0, structure_set.name, about.st_size, about.st_mtime_ns)
    table = read_structures(str(structure_set), candidate, Limits())
    first = headers.drop_columns(["per_frame"]).slice(0, 1).to_pylist()[0]
    positions = np.array(headers["position"].to_pylist())
    positions = positions[np.argsort(positions[:, 2])]
    slices = Slices(
        positions, np.array(first["orientation"]), (first["spacing_y"], first["spacing_x"]),
        (first["height"], first["width"]),
    )  # fmt: skip

    def masks() -> Masks:
        for outlines in structures_in(table).values():
            yield draw(outlines, slices, out=np.zeros((len(positions), *slices.shape), bool)).pixels

    return masks


def rt_utils(series: Path, structure_set: Path) -> Callable[[], Masks]:
    """As its page says."""
    from rt_utils import RTStructBuilder

    found = RTStructBuilder.create_from(str(series), str(structure_set))
    return lambda: (
        np.moveaxis(found.get_roi_mask_by_name(name), 2, 0) for name in found.get_roi_names()
    )


def dcmrtstruct2nii(series: Path, structure_set: Path) -> Callable[[], Masks]:
    """Its own steps, without the NIfTI that it writes."""
    import pydicom
    import SimpleITK
    from dcmrtstruct2nii.adapters.convert.rtstructcontour2mask import DcmPatientCoords2Mask
    from dcmrtstruct2nii.adapters.input.contours.rtstructinputadapter import RtStructInputAdapter
    from dcmrtstruct2nii.adapters.input.image.dcminputadapter import DcmInputAdapter

    vars(pydicom)["read_file"] = pydicom.dcmread  # the name that it asks for went with pydicom 3
    structures = RtStructInputAdapter().ingest(str(structure_set))
    image = DcmInputAdapter().ingest(str(series))
    drawer = DcmPatientCoords2Mask()
    return lambda: (
        SimpleITK.GetArrayFromImage(drawer.convert(one["sequence"], image, 0, 1))
        for one in structures
    )


WAYS: dict[str, Way] = {"ours": ours, "rt-utils": rt_utils, "dcmrtstruct2nii": dcmrtstruct2nii}


def timed(way: Way, series: Path, structure_set: Path) -> tuple[float, float, list[int]]:
    """(seconds to read, seconds to draw, pixels of each structure)."""
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):  # of imports
        masks = way(series, structure_set)
    read = time.perf_counter()
    pixels = [int(np.count_nonzero(mask)) for mask in masks()]
    return read - start, time.perf_counter() - read, pixels


def main() -> None:
    """Print a line for each way, and the ratios against the bar."""
    parser = arguments(__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer slices, structures and rounds")
    asked = parser.parse_args()
    quick = asked.quick
    warnings.filterwarnings("ignore")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    slices, structures, rounds = (40, 8, 3) if quick else (120, 24, 5)
    with tempfile.TemporaryDirectory(prefix="contours-") as name:
        files = write(Path(name), slices, structures)
        for way in WAYS.values():  # imports
            timed(way, *files)
        found = {name: [timed(way, *files) for _ in range(rounds)] for name, way in WAYS.items()}
    drawing = {name: structures / median(t[1] for t in of) for name, of in found.items()}
    whole = {name: structures / median(t[0] + t[1] for t in of) for name, of in found.items()}
    print(f"{structures} structures on {slices} slices of 512 x 512, one processor, structures/s")
    for name in WAYS:
        theirs = np.array(found[name][0][2]) / np.array(found["ours"][0][2])
        print(
            f"{name:16} drawing {drawing[name]:8.1f}  with reading {whole[name]:7.1f}  pixels "
            f"{theirs.min():.3f} to {theirs.max():.3f} of ours"
        )
    figures = []
    for name in list(WAYS)[1:]:
        what = f"structures to masks, one processor, times as fast as {name}"
        figures.append(least(f"{what}: drawing", drawing["ours"] / drawing[name], BAR))
        figures.append(least(f"{what}: with reading", whole["ours"] / whole[name], BAR))
    tell("contours", f"{'QUICK=1 ' * quick}make bench-contours", figures, asked.keep)


if __name__ == "__main__":
    main()
