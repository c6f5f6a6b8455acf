"""What files of any series may have besides, and must make no difference to the stacks."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

from tests.oracles.series.written import Series
from tests.support.dicom_files import uid


@dataclass(frozen=True)
class Disturbance:
    """A change to each file of a series."""

    change: Callable[[Dataset, int], None]
    """(file, its number in an order of no meaning)"""
    spoils: frozenset[str] = frozenset()
    """kinds of which it changes the meaning"""


def _plane(ds: Dataset, k: int) -> None:
    if "ImageOrientationPatient" not in ds:
        return
    turn = 1e-7 * (k % 3 - 1)
    row, column = np.array(ds.ImageOrientationPatient).reshape(2, 3).astype(float)
    row, column = row + turn * column, column - turn * row
    ds.ImageOrientationPatient = [f"{v:.9f}" for v in (*row, *column)]


def _place(ds: Dataset, k: int) -> None:
    if "ImagePositionPatient" in ds:
        off = 2e-5 * (k % 3 - 1)
        ds.ImagePositionPatient = [f"{float(v) + off:.6f}" for v in ds.ImagePositionPatient]


def _frame_of_reference(ds: Dataset, k: int) -> None:
    ds.FrameOfReferenceUID = uid(f"frame {k}")


def _study(ds: Dataset, k: int) -> None:
    ds.StudyInstanceUID = uid(f"study {k}")


def _times(ds: Dataset, k: int) -> None:
    """Times of single slices differ by less than half a millisecond."""
    for name in ("TriggerTime", "FrameReferenceTime", "InversionTime"):
        if name in ds:
            setattr(ds, name, f"{float(getattr(ds, name)) + 0.1 * (k % 3):.2f}")


def _exposure(ds: Dataset, k: int) -> None:
    """What a scanner regulates from slice to slice."""
    ds.XRayTubeCurrent, ds.WindowCenter, ds.WindowWidth = 100 + k, 40 + k, 400 + k
    ds.SliceLocation = round(1000 - 0.1 * k, 2)  # and one that lies


def _no_instance(ds: Dataset, k: int) -> None:
    ds.pop("InstanceNumber", None)


def _instance(ds: Dataset, k: int) -> None:
    ds.InstanceNumber = 1


def _turn(ds: Dataset, k: int) -> None:
    """The patient lies askew: all planes and places are turned together."""
    turn = np.array(
        [[0.9363, -0.2751, 0.2184], [0.2896, 0.9564, -0.0370], [-0.1987, 0.0978, 0.9752]]
    )
    turn, _ = np.linalg.qr(turn)
    turn *= np.sign(np.linalg.det(turn))

    def turned(values: list[float]) -> list[str]:
        moved = np.array(values, float).reshape(-1, 3) @ turn.T
        return [f"{v:.9f}"[:16] for v in moved.ravel()]

    for item in (ds, *_items(ds)):
        for name in ("ImagePositionPatient", "ImageOrientationPatient"):
            if name in item:
                setattr(item, name, turned(getattr(item, name)))


def _items(ds: Dataset) -> list[Dataset]:
    found = []
    shared = ds.get("SharedFunctionalGroupsSequence", [])
    for group in (*shared, *ds.get("PerFrameFunctionalGroupsSequence", [])):
        for name in ("PlanePositionSequence", "PlaneOrientationSequence"):
            found += list(group.get(name, []))
    return found + list(ds.get("DetectorInformationSequence", []))


UNSAID = {
    "instance_only", "nothing_but_instances", "gated_pet", "diffusion_two_b0_by_instance",
}  # fmt: skip
"""kinds whose slices nothing but Instance Number tells apart"""
ORDERED = {
    "diffusion", "diffusion_acquisition_tears", "diffusion_b_values", "diffusion_philips",
    "diffusion_ge", "diffusion_ge_by_row", "diffusion_repeated",
}  # fmt: skip
"""kinds whose volumes have an order by Instance Number alone"""
FILE_PER_VOLUME = {"concatenation", "enhanced_file_per_time", "mosaic_fmri", "mosaic_diffusion"}
TILED = {
    "mosaic_axial", "mosaic_downwards", "mosaic_sagittal", "mosaic_coronal", "mosaic_older",
    "mosaic_oblique", "mosaic_fmri", "mosaic_diffusion", "mosaic_without_csa", "mosaic_moved",
    "vframe", "vframe_sagittal",
}  # fmt: skip
"""whose private elements say more of the planes"""

DISTURBANCES = {
    "plane": Disturbance(_plane),
    "place": Disturbance(_place, frozenset({"one_place"})),
    "frame_of_reference": Disturbance(
        _frame_of_reference, frozenset({"two_frames_of_reference"} | FILE_PER_VOLUME)
    ),
    "study": Disturbance(_study),
    "times": Disturbance(_times),
    "exposure": Disturbance(_exposure, frozenset({"slice_location_only", "instance_only"})),
    "no_instance": Disturbance(_no_instance, frozenset(UNSAID)),
    "one_instance": Disturbance(_instance, frozenset(UNSAID)),
    "turn": Disturbance(_turn, frozenset(TILED)),
}


def disturb(s: Series, name: str) -> None:
    """Change each file of a series that was written."""
    paths = sorted(p for p in s.folder.rglob("*") if p.is_file())
    random.Random(name).shuffle(paths)
    number = {p.relative_to(s.folder).as_posix(): k for k, p in enumerate(paths)}
    for path in paths:
        name_of = path.relative_to(s.folder).as_posix()
        k = number[s.twins.get(name_of, name_of)]  # copies stay copies
        ds = dcmread(path)
        DISTURBANCES[name].change(ds, k)
        ds.save_as(path)
    s.maybe |= {"joined"}
    if "instance" in name:
        s.parts = s.parts and s.folder.name not in ORDERED
