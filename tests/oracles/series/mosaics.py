"""Volumes tiled into one frame, as Siemens and UIH write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.oracles.series.diffusion import DIRECTIONS
from tests.oracles.series.written import AXIAL, CORONAL, SAGITTAL, SIZE, Series
from tests.support.dicom_files import pattern, uid
from tests.support.siemens import Tags, write_mosaic, write_vframe

OBLIQUE = [1, 0, 0, 0, 0.8, -0.6]


def mosaic(
    s: Series,
    name: str,
    count: int,
    cosines: Sequence[float],
    normal: tuple[float, float, float],
    csa_tags: Tags | None = None,
    **said: Any,
) -> None:
    """One mosaic; its slices are noted low to high along row x column."""
    write_mosaic(
        s.folder / name, pattern(s.folder.name + name, (count, *SIZE)), cosines, normal,
        csa_tags=csa_tags, SeriesInstanceUID=uid(s.folder.name),
        SOPInstanceUID=uid(s.folder.name + name), PatientID="P1", **said,
    )  # fmt: skip
    up = np.cross(cosines[:3], cosines[3:]) @ normal > 0
    parts = range(count) if up else reversed(range(count))
    s.put.append([(name, k) for k in parts])


def mosaic_axial(s: Series) -> None:
    """Seven slices in nine tiles."""
    mosaic(s, "m.dcm", 7, AXIAL, (0, 0, 1))


def mosaic_downwards(s: Series) -> None:
    """Head to feet, and no empty tile."""
    mosaic(s, "m.dcm", 4, AXIAL, (0, 0, -1))


def mosaic_sagittal(s: Series) -> None:
    """Along the normal of the CSA header, which is against row x column."""
    mosaic(s, "m.dcm", 5, SAGITTAL, (1, 0, 0))


def mosaic_coronal(s: Series) -> None:
    """Ten slices in sixteen tiles."""
    mosaic(s, "m.dcm", 10, CORONAL, (0, 1, 0))


def mosaic_older(s: Series) -> None:
    """The CSA header of version 1."""
    mosaic(s, "m.dcm", 10, CORONAL, (0, 1, 0), version=1)


def mosaic_oblique(s: Series) -> None:
    """Another plane, and a spacing."""
    mosaic(s, "m.dcm", 12, OBLIQUE, (0, 0.6, 0.8), spacing=1.5, step=2.0)


def mosaic_fmri(s: Series) -> None:
    """A time series of mosaics."""
    for t in range(3):
        mosaic(
            s, f"{t}.dcm", 6, OBLIQUE, (0, 0.6, 0.8), AcquisitionNumber=t + 1, InstanceNumber=t + 1,
            AcquisitionTime=f"1010{2 * t:02}", AcquisitionDate="20240101",
        )  # fmt: skip


def mosaic_diffusion(s: Series) -> None:
    """b-values and directions that stand in the CSA header alone."""
    for n, (b, direction) in enumerate(DIRECTIONS):
        tags: Tags = [("B_value", "IS", 1, [str(b)])]
        if b:
            tags.append(("DiffusionGradientDirection", "FD", 3, [f"{v:.8f}" for v in direction]))
        mosaic(
            s, f"{n}.dcm", 6, AXIAL, (0, 0, 1), tags, AcquisitionNumber=n + 1, InstanceNumber=n + 1,
        )  # fmt: skip


def mosaic_without_csa(s: Series) -> None:
    """The number of slices where newer scanners write it; no Spacing Between Slices."""
    mosaic(s, "m.dcm", 6, AXIAL, (0, 0, 1), number="0019", step=None)


def mosaic_moved(s: Series) -> None:
    """The number in both places, in a block that another program moved."""
    mosaic(s, "m.dcm", 17, SAGITTAL, (1, 0, 0), number="both", block=0x12)


def vframe(s: Series) -> None:
    """UIH: five slices, three across and two down, each with its position."""
    _vframe(s, 5, AXIAL, (0, 0, 1))


def vframe_sagittal(s: Series) -> None:
    """UIH: eight slices to the left."""
    _vframe(s, 8, SAGITTAL, (1, 0, 0))


def _vframe(s: Series, count: int, cosines: Sequence[float], normal: Sequence[float]) -> None:
    places = [[-10 + 3.5 * k * normal[0], -20, -30 + 3.5 * k * normal[2]] for k in range(count)]
    write_vframe(
        s.folder / "v.dcm", pattern(s.folder.name, (count, *SIZE)), cosines, places=places,
        SeriesInstanceUID=uid(s.folder.name),
    )  # fmt: skip
    up = np.cross(cosines[:3], cosines[3:]) @ normal > 0
    s.put.append([("v.dcm", k) for k in (range(count) if up else reversed(range(count)))])
