"""Where the frames of a multi-frame file lie that has no functional groups. Pure, Dataset to rows.

A file's Image Position (0020,0032) is that of its first frame; the others get one where the
standard says how, and none elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dicom2cache.headers.tags import (
    Dataset,
    is_many,
    items,
    number,
    numbers,
    text,
    value,
    vector,
    whole,
)

NUCLEAR_MEDICINE = "1.2.840.10008.5.1.4.1.1.20"
_SPATIAL = {0x00182005, 0x00180088, 0x00540080, 0x3004000C}
"""what Frame Increment Pointer names where frames differ by their place: Slice Location Vector,
Spacing Between Slices, Slice Vector, Grid Frame Offset Vector"""
_MOMENTS = ("RRIntervalVector", "TimeSlotVector", "PhaseVector", "TimeSliceVector")
_CINE = ("FrameTime", "FrameTimeVector", "CineRate", "RecommendedDisplayFrameRate")
"""where one of these is said, frames follow one another in time (PS3.3 C.7.6.5)"""

Said = dict[str, Any]
"""values of one frame, under names of PER_FRAME"""


def planes(ds: Dataset, frames: int, kind: str) -> list[Said] | None:
    """What each of the `frames` is told apart by, in a file without functional groups.

    None where nothing says so: then the frames have no position, unless there is one frame only.
    """
    if kind == "dose":
        return _dose(ds, frames)
    if text(ds, "SOPClassUID") == NUCLEAR_MEDICINE:
        return _nuclear(ds, frames)
    return _slices(ds, frames) if frames > 1 else None


def normal_of(cosines: Sequence[float]) -> list[float]:
    """Unit vector along which slices are stacked: row x column (PS3.3 C.7.6.2.1.1)."""
    r, c = cosines[:3], cosines[3:]
    return [r[1] * c[2] - r[2] * c[1], r[2] * c[0] - r[0] * c[2], r[0] * c[1] - r[1] * c[0]]


def _moved(origin: Sequence[float], normal: Sequence[float], mm: float) -> list[float]:
    return [p + mm * n for p, n in zip(origin, normal, strict=True)]


def _plane(ds: Dataset) -> tuple[list[float], list[float]] | None:
    """(position, orientation) that an item says, if it says both."""
    origin = vector(ds, "ImagePositionPatient", 3)
    cosines = vector(ds, "ImageOrientationPatient", 6)
    return None if origin is None or cosines is None else (origin, cosines)


def _dose(ds: Dataset, frames: int) -> list[Said] | None:
    """By Grid Frame Offset Vector (3004,000C), PS3.3 C.8.8.3.2.

    Its first value is 0, the others offsets along the normal; or it is the z of Image Position in
    an axial grid, and all are z coordinates. Anything else is illegal, and says nothing, save where
    the normal is z, so that both readings agree.
    """
    plane = _plane(ds)
    offsets = vector(ds, "GridFrameOffsetVector", frames)
    if plane is None or offsets is None:
        return None
    origin, cosines = plane
    normal = normal_of(cosines)
    if offsets[0] == 0:
        return [{"position": _moved(origin, normal, mm)} for mm in offsets]
    if abs(normal[2] - 1) > 1e-6 or abs(offsets[0] - origin[2]) > 1e-2:
        return None
    return [{"position": [*origin[:2], z]} for z in offsets]


def _slices(ds: Dataset, frames: int) -> list[Said] | None:
    """By Slice Location Vector (PS3.3 C.8.6.4), or evenly by Spacing Between Slices, along the
    normal from the file's position; not where frames follow one another in time."""
    plane = _plane(ds)
    if plane is None or not _pointers(ds) <= _SPATIAL:
        return None
    if any(value(ds, keyword) is not None for keyword in _CINE):
        return None
    if (whole(ds, "NumberOfTemporalPositions") or 1) > 1:
        return None
    origin, cosines = plane
    offsets = vector(ds, "SliceLocationVector", frames)
    if offsets is None:
        step = number(ds, "SpacingBetweenSlices")
        if step is None or step <= 0:  # a sign has a meaning in nuclear medicine alone
            return None
        offsets = [k * step for k in range(frames)]
    normal = normal_of(cosines)
    return [{"position": _moved(origin, normal, mm - offsets[0])} for mm in offsets]


def _pointers(ds: Dataset) -> set[int]:
    """Tags that Frame Increment Pointer (0028,0009) names."""
    found = value(ds, "FrameIncrementPointer")
    if found is None:
        return set()
    return {int(tag) for tag in (found if is_many(found) else [found])}


def _vector(ds: Dataset, keyword: str, frames: int) -> list[int] | None:
    """A number for each frame (PS3.3 C.8.4.8)."""
    found = numbers(ds, keyword)
    return [int(v) for v in found] if len(found) == frames else None


def _nuclear(ds: Dataset, frames: int) -> list[Said] | None:
    """By the vectors of PS3.3 C.8.4.8: detector, energy window, moment, and place of each frame.

    Positions are those of reconstructed slices (C.8.4.15): from that of the detector along the
    normal, forward or, where Spacing Between Slices is below 0, backward. Projections have none.
    """
    said: list[Said] = [{} for _ in range(frames)]

    def tell(column: str, values: Sequence[Any] | None) -> None:
        for frame, found in zip(said, values or (), strict=False):
            frame[column] = found

    tell("detector", _vector(ds, "DetectorVector", frames))
    tell("energy_window", _vector(ds, "EnergyWindowVector", frames))
    moments = [v for k in _MOMENTS if (v := _vector(ds, k, frames)) and len(set(v)) > 1]
    if moments:
        each = list(zip(*moments, strict=True))
        rank = {moment: k + 1 for k, moment in enumerate(sorted(set(each)))}
        tell("temporal_index", [rank[moment] for moment in each])
    # A view from an angle is no place: it orders frames, and makes no volume of them.
    views = _vector(ds, "AngularViewVector", frames)
    tell("dimensions", views and [[view] for view in views])
    place = _vector(ds, "SliceVector", frames)
    tell("in_stack", place)
    types = (text(ds, "ImageType") or "").upper().split("\\")
    detectors = items(ds, "DetectorInformationSequence")
    plane = next((p for detector in detectors if (p := _plane(detector))), None)
    if plane is not None and {"RECON TOMO", "RECON GATED TOMO"} & set(types):
        if place is None and whole(ds, "NumberOfSlices") in (None, frames):
            place = list(range(1, frames + 1))
        step = number(ds, "SpacingBetweenSlices")
        if place is not None and (step or set(place) == {1}):
            origin, cosines = plane
            normal = normal_of(cosines)
            tell("position", [_moved(origin, normal, (k - 1) * (step or 0.0)) for k in place])
            tell("orientation", [cosines] * frames)
    return said if any(said) else None
