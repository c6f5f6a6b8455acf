"""What stored values mean: slope, intercept, unit, windows, geometry. Pure, Dataset to values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dicom2cache.headers.tags import (
    decimal,
    has_content,
    items,
    number,
    numbers,
    text,
    value,
    vector,
    whole,
)

RT_DOSE = "1.2.840.10008.5.1.4.1.1.481.2"
_KINDS = {
    RT_DOSE: "dose",
    "1.2.840.10008.5.1.4.1.1.30": "map",  # Parametric Map
    "1.2.840.10008.5.1.4.1.1.66.4": "mask",  # Segmentation
    "1.2.840.10008.5.1.4.1.1.66.7": "mask",  # Label Map Segmentation
}


@dataclass(frozen=True)
class Rescale:
    """Stored value to value: value = slope * stored + intercept."""

    slope: float
    intercept: float
    unit: str
    flags: tuple[str, ...] = ()


def kind_of(ds: Any) -> str:
    """image, dose, map or mask, by SOP class."""
    return _KINDS.get(str(value(ds, "SOPClassUID")), "image")


def rescale_of(ds: Any) -> Rescale:
    """The file's own slope, intercept and unit (PS3.3 C.11.1, C.8.8.3, C.8.9.1)."""
    if str(value(ds, "SOPClassUID")) == RT_DOSE or text(ds, "Modality") == "RTDOSE":
        scaling = decimal(ds, "DoseGridScaling")
        unit = {"GY": "Gy", "RELATIVE": "relative"}.get(text(ds, "DoseUnits") or "", "US")
        if scaling is None:
            return Rescale(1.0, 0.0, "US", ("dose-scaling-missing",))
        return Rescale(scaling, 0.0, unit)
    if kind_of(ds) == "map" and (mapped := _real_world(ds)):
        return mapped
    slope, intercept, flags = linear(ds)
    unit = unit_of(ds, ds, slope is not None)
    if slope is None:
        return Rescale(1.0, 0.0, unit, flags)
    return Rescale(slope, intercept, unit, flags)


def _real_world(ds: Any) -> Rescale | None:
    """What the values of a parametric map measure (PS3.3 C.7.6.16.2.11); None if not one line."""
    groups = items(ds, "SharedFunctionalGroupsSequence")[:1]
    found = items(groups[0], "RealWorldValueMappingSequence") if groups else []
    found = found or items(ds, "RealWorldValueMappingSequence")
    if len(found) != 1:
        return None
    slope, intercept = (number(found[0], f"RealWorldValue{w}") for w in ("Slope", "Intercept"))
    units = items(found[0], "MeasurementUnitsCodeSequence")
    unit = text(units[0], "CodeValue") if units else None
    if slope is None or intercept is None:
        return None
    return Rescale(slope, intercept, unit or "US")


def linear(ds: Any) -> tuple[Any, Any, tuple[str, ...]]:
    """(slope or None, intercept or None, flags): one of the pair alone is completed by 1 or 0.

    Raises FrameError for a value that is no number: taken for absent it would yield wrong values.
    """
    slope, intercept = decimal(ds, "RescaleSlope"), decimal(ds, "RescaleIntercept")
    if slope is None and intercept is None:
        declared = "RescaleSlope" in ds or "RescaleIntercept" in ds
        return None, None, ("rescale-empty",) if declared else ()
    if slope is None or intercept is None:
        return (
            1.0 if slope is None else slope,
            0.0 if intercept is None else intercept,
            ("rescale-one-sided",),
        )
    return slope, intercept, ()


def unit_of(ds: Any, transform: Any, rescaled: bool) -> str:
    """The unit of rescaled values: what the header says, else US (unspecified).

    HU without Rescale Type holds only for rescaled, ORIGINAL, non-localizer CT (PS3.3 C.8.2.1).
    """
    said = text(transform, "RescaleType")
    if said and rescaled:
        return said
    units = text(ds, "Units")  # PET, (0054,1001)
    if units and text(ds, "Modality") in ("PT", "NM"):
        return units
    image_type = (text(ds, "ImageType") or "").upper().split("\\")
    if (
        rescaled
        and text(ds, "Modality") == "CT"
        and image_type[0] == "ORIGINAL"
        and "LOCALIZER" not in image_type
    ):
        return "HU"
    return "US"


def windows_of(ds: Any) -> list[dict[str, Any]] | None:
    """All VOI windows of the file (PS3.3 C.11.2), as far as they pair; None if there are none."""
    centers, widths = numbers(ds, "WindowCenter"), numbers(ds, "WindowWidth")
    if not centers or not widths:
        return None
    named = (text(ds, "WindowCenterWidthExplanation") or "").split("\\")
    function = text(ds, "VOILUTFunction") or "LINEAR"
    named += [""] * (len(centers) - len(named))
    return [
        {"center": c, "width": w, "function": function, "explanation": n or None}
        for c, w, n in zip(centers, widths, named, strict=False)
    ]


def window_flags(datasets: Iterable[Any]) -> tuple[str, ...]:
    """Flags for windows of a file or its frames that do not pair, or are no numbers."""
    flags = set()
    for ds in datasets:
        centers, widths = numbers(ds, "WindowCenter"), numbers(ds, "WindowWidth")
        if centers and widths:
            flags |= {"windows-unpaired"} if len(centers) != len(widths) else set()
        elif has_content(ds, "WindowCenter") or has_content(ds, "WindowWidth"):
            flags.add("windows-unreadable")
    return tuple(sorted(flags))


def spacing_of(ds: Any) -> tuple[float | None, float | None, str | None]:
    """(mm between rows, mm between columns, keyword of the element that says so), PS3.3 10.7.1."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        found = vector(ds, keyword, 2)
        if found and min(found) > 0:
            return found[0], found[1], keyword
    regions = items(ds, "SequenceOfUltrasoundRegions")
    # Several regions may differ; then no one spacing holds for the frame.
    if len(regions) == 1 and whole(regions[0], "PhysicalUnitsXDirection") == 3:  # cm
        x, y = number(regions[0], "PhysicalDeltaX"), number(regions[0], "PhysicalDeltaY")
        if x and y:
            return abs(y) * 10, abs(x) * 10, "SequenceOfUltrasoundRegions"
    return None, None, None


def gradient_of(ds: Any) -> list[float] | None:
    """Direction of the diffusion gradient (PS3.3 C.8.13.5.9)."""
    for source in (*items(ds, "DiffusionGradientDirectionSequence")[:1], ds):
        found = vector(source, "DiffusionGradientOrientation", 3)
        if found:
            return found
    return None
