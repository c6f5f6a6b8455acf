"""Functional groups of multi-frame files (PS3.3 C.7.6.16): what is said of one frame alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dicom2cache.errors import FrameError
from dicom2cache.headers.meaning import gradient_of, linear, spacing_of, unit_of, windows_of
from dicom2cache.headers.tags import items, name, number, numbers, text, vector, whole


def _group(functional: Any, keyword: str) -> Any:
    found = items(functional, keyword)
    return found[0] if found else None


def _functional(groups: Any, ds: Any, grey: bool) -> dict[str, Any]:
    """What one functional group item says (PS3.3 C.7.6.16), under the names of PER_FRAME."""
    said: dict[str, Any] = {}

    def take(column: str, found: Any) -> None:
        if found is not None:
            said[column] = found

    if grey and (transform := _group(groups, "PixelValueTransformationSequence")):
        slope, intercept, _ = linear(transform)
        take("slope", slope)
        take("intercept", intercept)
        if slope is not None:
            said["unit"] = unit_of(ds, transform, True)
    if plane := _group(groups, "PlanePositionSequence"):
        take("position", vector(plane, "ImagePositionPatient", 3))
    if plane := _group(groups, "PlaneOrientationSequence"):
        take("orientation", vector(plane, "ImageOrientationPatient", 6))
    if measures := _group(groups, "PixelMeasuresSequence"):
        y, x, tag = spacing_of(measures)
        take("spacing_tag", tag)
        take("spacing_y", y)
        take("spacing_x", x)
        take("thickness", number(measures, "SliceThickness"))
    if content := _group(groups, "FrameContentSequence"):
        take("stack_name", text(content, "StackID"))
        take("in_stack", whole(content, "InStackPositionNumber"))
        take("temporal_index", whole(content, "TemporalPositionIndex"))
        take("acquisition", whole(content, "FrameAcquisitionNumber"))
    if echo := _group(groups, "MREchoSequence"):
        take("echo_time", number(echo, "EffectiveEchoTime"))
    if diffusion := _group(groups, "MRDiffusionSequence"):
        take("b_value", number(diffusion, "DiffusionBValue"))
        take("gradient", gradient_of(diffusion))
    if cardiac := _group(groups, "CardiacSynchronizationSequence"):
        take("trigger_time", number(cardiac, "NominalCardiacTriggerDelayTime"))
    for keyword in ("CTImageFrameTypeSequence", "MRImageFrameTypeSequence", "PETFrameTypeSequence"):
        if frame_type := _group(groups, keyword):
            take("image_type", text(frame_type, "FrameType"))
    if voi := _group(groups, "FrameVOILUTSequence"):
        take("windows", windows_of(voi))
    if segment := _group(groups, "SegmentIdentificationSequence"):
        number_of = whole(segment, "ReferencedSegmentNumber")
        take("segment", number_of)
        take("segment_label", segment_labels(ds).get(number_of))
    if derived := _group(groups, "DerivationImageSequence"):
        said.update(_reference(derived))
    return said


def voi_of_frames(ds: Any) -> Iterator[Any]:
    """The VOI LUT item of each functional group that has one."""
    for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for functional in items(ds, keyword):
            if voi := _group(functional, "FrameVOILUTSequence"):
                yield voi


def _reference(derived: Any) -> dict[str, Any]:
    """The one image that a frame was derived from; nothing where there are several."""
    sources = items(derived, "SourceImageSequence")
    if len(sources) != 1:
        return {}
    said: dict[str, Any] = {"referenced_sop_uid": text(sources[0], "ReferencedSOPInstanceUID")}
    frame = numbers(sources[0], "ReferencedFrameNumber")
    if len(frame) == 1:
        said["referenced_frame"] = int(frame[0]) - 1
    return said


def segment_labels(ds: Any) -> dict[int | None, str | None]:
    """{segment number: label} of a segmentation (PS3.3 C.8.20.4)."""
    return {
        whole(s, "SegmentNumber"): text(s, "SegmentLabel") for s in items(ds, "SegmentSequence")
    }


_DECIDING = {
    "slope": "RescaleSlope",
    "intercept": "RescaleIntercept",
    "unit": "RescaleType",
    "segment": "ReferencedSegmentNumber",
}
"""what a functional group says of pixel values, and not of their place or look"""


def functional_groups(
    ds: Any, frames: int, grey: bool
) -> tuple[dict[str, Any], list[dict[str, Any]] | None, tuple[str, ...]]:
    """(what the shared groups say, what each of the `frames` says or None, flags), C.7.6.16.

    Of more items than frames, what all say alike holds for each frame; of fewer, nothing. Raises
    FrameError if it so stays open what the values of a frame mean.
    """
    shared_items = items(ds, "SharedFunctionalGroupsSequence")
    shared = _functional(shared_items[0], ds, grey) if shared_items else {}
    said = [_functional(g, ds, grey) for g in items(ds, "PerFrameFunctionalGroupsSequence")]
    if not any(said):
        return shared, None, ()
    if len(said) == frames:
        return shared, said, ()
    common: dict[str, Any] = {}
    if len(said) > frames:
        common = {k: v for k, v in said[0].items() if all(k in g and g[k] == v for g in said)}
    unsure = [
        name(keyword)
        for column, keyword in _DECIDING.items()
        if column not in common and any(column in g for g in said)
    ]
    if unsure:
        raise FrameError(
            f"{name('PerFrameFunctionalGroupsSequence')} has {len(said)} items for {frames} "
            f"frames, {name('NumberOfFrames')}: which holds for which frame cannot be known, and "
            f"they say {', '.join(unsure)}; legal: one item for each frame (PS3.3 C.7.6.16)"
        )
    alike = [dict(common) for _ in range(frames)] if common else None
    return shared, alike, ("frame-groups-mismatch",)


def dose_positions(ds: Any, frames: int) -> list[dict[str, Any]] | None:
    """Position of each dose plane, from Grid Frame Offset Vector (3004,000C), PS3.3 C.8.8.3.2."""
    origin, cosines = (
        vector(ds, "ImagePositionPatient", 3),
        vector(ds, "ImageOrientationPatient", 6),
    )
    offsets = vector(ds, "GridFrameOffsetVector", frames)
    if origin is None or cosines is None or offsets is None:
        return None
    r, c = cosines[:3], cosines[3:]
    normal = [r[1] * c[2] - r[2] * c[1], r[2] * c[0] - r[0] * c[2], r[0] * c[1] - r[1] * c[0]]
    if offsets[0] != 0:  # the vector holds positions along the normal, not offsets from the first
        offsets = [o - offsets[0] for o in offsets]
    return [{"position": [p + o * n for p, n in zip(origin, normal, strict=True)]} for o in offsets]
