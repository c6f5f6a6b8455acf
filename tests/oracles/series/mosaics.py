"""Volumes tiled into one frame: Siemens mosaics, UIH's VFRAME images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.oracles.series.written import AXIAL, CORONAL, SAGITTAL, Series
from tests.support.dicom_files import pattern, uid
from tests.support.siemens import Tags, write_mosaic, write_vframe

OBLIQUE = [1, 0, 0, 0, 0.8, -0.6]
Vector = Sequence[float]


def _mosaic(
    s: Series,
    name: str,
    count: int,
    cosines: Sequence[float],
    normal: Vector,
    shape: tuple[int, int] = (12, 16),
    **options: Any,
) -> None:
    """Write one mosaic, and note its slices from the lowest along row x column."""
    series = s.folder.name
    said = {"SeriesInstanceUID": uid(series), "StudyInstanceUID": uid(f"study of {series}")}
    slices = pattern(f"{series}{name}", (count, *shape))
    write_mosaic(s.folder / name, slices, cosines, normal, **said, **options)
    _note(s, name, count, cosines, normal)


def _note(s: Series, name: str, count: int, cosines: Sequence[float], normal: Vector) -> None:
    up = np.dot(np.cross(cosines[:3], cosines[3:]), normal) > 0
    s.put.append([(name, k) for k in (range(count) if up else reversed(range(count)))])


def mosaic_fmri(s: Series) -> None:
    """A time series, a mosaic a volume."""
    for t in range(3):
        _mosaic(
            s, f"t{t}.dcm", 10, AXIAL, (0, 0, 1), InstanceNumber=t + 1, AcquisitionNumber=t + 1,
            AcquisitionTime=f"1010{t * 2:02}",
        )  # fmt: skip


def mosaic_sagittal(s: Series) -> None:
    """Slices go to the left, against row x column; no tile is empty."""
    _mosaic(s, "m.dcm", 9, SAGITTAL, (1, 0, 0))


def mosaic_coronal(s: Series) -> None:
    """One slice more than a square has tiles; taller than wide."""
    _mosaic(s, "m.dcm", 17, CORONAL, (0, 1, 0), (20, 8))


def mosaic_oblique(s: Series) -> None:
    """Neither axis of the patient; thickness for want of a spacing between slices."""
    _mosaic(s, "m.dcm", 7, OBLIQUE, (0, 0.6, 0.8), step=None)


def mosaic_downwards(s: Series) -> None:
    """From head to feet."""
    _mosaic(s, "m.dcm", 6, AXIAL, (0, 0, -1))


def mosaic_without_csa(s: Series) -> None:
    """The number of slices where newer scanners write it."""
    _mosaic(s, "m.dcm", 6, AXIAL, (0, 0, 1), number="0019")


def mosaic_of_several_places(s: Series) -> None:
    """The number in both places, the CSA header in a block that another program moved."""
    _mosaic(s, "m.dcm", 6, SAGITTAL, (1, 0, 0), number="both", block=0x12)


def mosaic_diffusion(s: Series) -> None:
    """b-values and directions in the CSA header alone."""
    directions = (
        (0, None), (1000, (1, 0, 0)), (1000, (0, 0.6, 0.8)), (1000, (0.36, 0.48, -0.8))
    )  # fmt: skip
    for n, (b, direction) in enumerate(directions):
        tags: Tags = [("B_value", "IS", 1, [str(b)])]
        if direction:
            shown = [f"{v:.8f}" for v in direction]
            tags += [
                ("DiffusionDirectionality", "CS", 1, ["DIRECTIONAL"]),
                ("DiffusionGradientDirection", "FD", 3, shown),
            ]
        _mosaic(
            s, f"d{n}.dcm", 6, OBLIQUE, (0, 0.6, 0.8), csa_tags=tags, InstanceNumber=n + 1,
            AcquisitionNumber=n + 1, AcquisitionTime=f"1010{n * 2:02}",
            ImageType=["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE", "ND", "MOSAIC"],
        )  # fmt: skip


def vframe(s: Series) -> None:
    """UIH: five slices, three across and two down, each with its position."""
    _vframe(s, 5, AXIAL, (0, 0, 1))


def vframe_sagittal(s: Series) -> None:
    """UIH: eight slices to the left."""
    _vframe(s, 8, SAGITTAL, (1, 0, 0))


def _vframe(s: Series, count: int, cosines: Sequence[float], normal: Vector) -> None:
    series = s.folder.name
    slices = pattern(series, (count, 12, 16))
    places = [[-10 + 3.5 * k * normal[0], -20, -30 + 3.5 * k * normal[2]] for k in range(count)]
    write_vframe(
        s.folder / "v.dcm", slices, cosines, places=places, SeriesInstanceUID=uid(series)
    )  # fmt: skip
    _note(s, "v.dcm", count, cosines, normal)


KINDS = (
    mosaic_fmri, mosaic_sagittal, mosaic_coronal, mosaic_oblique, mosaic_downwards,
    mosaic_without_csa, mosaic_of_several_places, mosaic_diffusion, vframe, vframe_sagittal,
)  # fmt: skip
