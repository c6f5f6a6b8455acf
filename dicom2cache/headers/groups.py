"""Functional groups of multi-frame files (PS3.3 C.7.6.16): what is said of one frame alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dicom2cache.errors import FrameError, counting
from dicom2cache.headers.acquisition import acquired_of, gradient_of, phase_of
from dicom2cache.headers.meaning import linear, spacing_of, unit_of, windows_of
from dicom2cache.headers.slide import tile_of
from dicom2cache.headers.tags import Dataset, items, name, number, numbers, text, vector, whole
from dicom2cache.records import Segment


def _group(functional: Dataset, keyword: str) -> Dataset | None:
    found = items(functional, keyword)
    return found[0] if found else None


def _functional(
    groups: Dataset,
    ds: Dataset,
    grey: bool,
    flags: set[str],
    labels: dict[int | None, str | None],
) -> dict[str, Any]:
    """What one functional group item says (PS3.3 C.7.6.16), under the names of PER_FRAME.

    What is odd about it is added to `flags`; `labels`: `segment_labels` of the file.
    """
    frame: dict[str, Any] = {}

    def take(column: str, found: Any) -> None:
        if found is not None:
            frame[column] = found

    if grey and (transform := _group(groups, "PixelValueTransformationSequence")):
        slope, intercept, _ = linear(transform)
        take("slope", slope)
        take("intercept", intercept)
        if slope is not None:
            frame["unit"], odd = unit_of(ds, transform, True)
            flags.update(odd)
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
        take("plane_step", number(measures, "SpacingBetweenSlices"))
    if content := _group(groups, "FrameContentSequence"):
        take("stack_name", text(content, "StackID"))
        take("in_stack", whole(content, "InStackPositionNumber"))
        take("temporal_index", whole(content, "TemporalPositionIndex"))
        take("acquisition", whole(content, "FrameAcquisitionNumber"))
        take("dimensions", [int(v) for v in numbers(content, "DimensionIndexValues")] or None)
        moment = acquired_of(content, "FrameAcquisitionDateTime")
        take("acquired", moment or acquired_of(content, "FrameReferenceDateTime"))
    if temporal := _group(groups, "TemporalPositionSequence"):
        offset = number(temporal, "TemporalPositionTimeOffset")  # s
        take("time", None if offset is None else offset * 1000)
    if timing := _group(groups, "MRTimingAndRelatedParametersSequence"):
        take("flip_angle", number(timing, "FlipAngle"))
    if modified := _group(groups, "MRModifierSequence"):
        take("inversion_time", number(modified, "InversionTimes"))
    if labelled := _group(groups, "MRArterialSpinLabelingSequence"):
        take("asl_label", text(labelled, "ASLContext"))
    if breath := _group(groups, "RespiratorySynchronizationSequence"):
        take("phase", phase_of(breath))
    if echo := _group(groups, "MREchoSequence"):
        take("echo_time", number(echo, "EffectiveEchoTime"))
    if diffusion := _group(groups, "MRDiffusionSequence"):
        take("b_value", number(diffusion, "DiffusionBValue"))
        take("gradient", gradient_of(diffusion))
    if cardiac := _group(groups, "CardiacSynchronizationSequence"):
        take("trigger_time", number(cardiac, "NominalCardiacTriggerDelayTime"))
        take("phase", phase_of(cardiac))
    for keyword in ("CTImageFrameTypeSequence", "MRImageFrameTypeSequence", "PETFrameTypeSequence"):
        if frame_type := _group(groups, keyword):
            take("image_type", text(frame_type, "FrameType"))
    if voi := _group(groups, "FrameVOILUTSequence"):
        take("windows", windows_of(voi))
    if segment := _group(groups, "SegmentIdentificationSequence"):
        number_of = whole(segment, "ReferencedSegmentNumber")
        take("segment", number_of)
        take("segment_label", labels.get(number_of))
    frame.update(tile_of(groups))
    if derived := _group(groups, "DerivationImageSequence"):
        frame.update(_reference(derived))
    return frame


def voi_of_frames(ds: Dataset) -> Iterator[Any]:
    """The VOI LUT item of each functional group that has one."""
    for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for functional in items(ds, keyword):
            if voi := _group(functional, "FrameVOILUTSequence"):
                yield voi


def _reference(derived: Dataset) -> dict[str, Any]:
    """The one image that a frame was derived from; nothing where there are several."""
    sources = items(derived, "SourceImageSequence")
    if len(sources) != 1:
        return {}
    frame: dict[str, Any] = {"referenced_sop_uid": text(sources[0], "ReferencedSOPInstanceUID")}
    number_of = numbers(sources[0], "ReferencedFrameNumber")
    if len(number_of) == 1:
        frame["referenced_frame"] = int(number_of[0]) - 1
    return frame


def referred(ds: Dataset) -> tuple[list[str] | None, str | None]:
    """(series, the one instance) that a mask refers to as a whole (PS3.3 C.12.2)."""
    series = items(ds, "ReferencedSeriesSequence")
    instances = [i for s in series for i in items(s, "ReferencedInstanceSequence")]
    named = {uid for s in series if (uid := text(s, "SeriesInstanceUID"))}
    found = {uid for i in instances if (uid := text(i, "ReferencedSOPInstanceUID"))}
    return sorted(named) or None, found.pop() if len(found) == 1 else None


def segment_labels(ds: Dataset) -> dict[int | None, str | None]:
    """{segment number: label} of a segmentation (PS3.3 C.8.20.4)."""
    return {
        whole(s, "SegmentNumber"): text(s, "SegmentLabel") for s in items(ds, "SegmentSequence")
    }


def segments_of(ds: Dataset) -> list[Segment] | None:
    """All segments of a segmentation, items of SEGMENT (PS3.3 C.8.20.4)."""
    found: list[Segment] = []
    for segment in items(ds, "SegmentSequence"):
        category, kind = (
            _group(segment, f"SegmentedProperty{what}CodeSequence") for what in ("Category", "Type")
        )
        found.append(
            {
                "number": whole(segment, "SegmentNumber"),
                "label": text(segment, "SegmentLabel"),
                "category": _code(category),
                "type": _code(kind),
                "type_meaning": text(kind, "CodeMeaning") if kind is not None else None,
            }
        )
    return found or None


def _code(item: Dataset | None) -> str | None:
    """SCHEME:VALUE of a code (PS3.3 table 8.8-1)."""
    if item is None:
        return None
    found = text(item, "CodeValue") or text(item, "LongCodeValue") or text(item, "URNCodeValue")
    return f"{text(item, 'CodingSchemeDesignator') or ''}:{found}" if found else None


_DECIDING = {
    "slope": "RescaleSlope",
    "intercept": "RescaleIntercept",
    "unit": "RescaleType",
    "segment": "ReferencedSegmentNumber",
}
"""what a functional group says of pixel values, and not of their place or look"""


def functional_groups(
    ds: Dataset, frames: int, kind: str, grey: bool
) -> tuple[dict[str, Any], list[dict[str, Any]] | None, tuple[str, ...]]:
    """(what the shared groups say, what each of the `frames` says or None, flags), C.7.6.16.

    Of more items than frames, what all say alike holds for each frame; of a mask, which is nothing
    without its place, the first ones, as where frames were cut off. Of fewer, nothing. Raises
    FrameError if it so stays open what the values of a frame mean.
    """
    odd: set[str] = set()
    shared_items = items(ds, "SharedFunctionalGroupsSequence")
    labels = segment_labels(ds)  # once: not segments times frames
    shared = _functional(shared_items[0], ds, grey, odd, labels) if shared_items else {}
    groups = items(ds, "PerFrameFunctionalGroupsSequence")
    own = [_functional(group, ds, grey, odd, labels) for group in groups]
    flags = tuple(sorted(odd))
    if not any(own):
        return shared, None, flags
    if len(own) == frames:
        return shared, own, flags
    common: dict[str, Any] = {}
    if len(own) > frames:
        common = {k: v for k, v in own[0].items() if all(k in g and g[k] == v for g in own)}
    unsure = [
        name(keyword)
        for column, keyword in _DECIDING.items()
        if column not in common and any(column in g for g in own)
    ]
    if unsure:
        raise FrameError(
            f"{name('PerFrameFunctionalGroupsSequence')} has {counting(len(own), 'item')} for "
            f"{counting(frames, 'frame')}, {name('NumberOfFrames')}: which holds for which frame "
            f"cannot be known, and they say {', '.join(unsure)}; legal: one item for each frame "
            "(PS3.3 C.7.6.16)"
        )
    alike = [dict(common) for _ in range(frames)] if common else None
    if kind == "mask" and len(own) > frames:
        alike = own[:frames]
    return shared, alike, (*flags, "frame-groups-mismatch")
