"""What stored values mean: slope, intercept, unit, windows, geometry. Pure, Dataset to values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dicom2cache.errors import FrameError
from dicom2cache.headers.tags import (
    Dataset,
    decimal,
    has_content,
    items,
    name,
    number,
    numbers,
    raw,
    text,
    vector,
    whole,
)

RT_DOSE = "1.2.840.10008.5.1.4.1.1.481.2"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
_ENHANCED_CT = {f"{CT_IMAGE}.1", f"{CT_IMAGE}.2"}  # and its legacy converted kind
_CM = 3
"""Physical Units of an ultrasound region (PS3.3 C.8.5.5.1.15)"""
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


def kind_of(ds: Dataset) -> str:
    """image, dose, map or mask, by SOP class."""
    return _KINDS.get(text(ds, "SOPClassUID") or "", "image")


def rescale_of(ds: Dataset) -> Rescale:
    """The file's own slope, intercept and unit (PS3.3 C.11.1, C.8.8.3, C.8.9.1)."""
    if text(ds, "SOPClassUID") == RT_DOSE or text(ds, "Modality") == "RTDOSE":
        scaling = decimal(ds, "DoseGridScaling")
        unit = {"GY": "Gy", "RELATIVE": "relative"}.get(text(ds, "DoseUnits") or "", "US")
        if scaling is None:
            return Rescale(1.0, 0.0, "US", ("dose-scaling-missing",))
        if scaling < 0:
            raise FrameError(
                f"{name('DoseGridScaling')} is {raw(ds, 'DoseGridScaling')}; legal: a factor above "
                "0: a dose below 0 has Pixel Representation 1 (PS3.3 C.8.8.3); correct it"
            )
        return Rescale(scaling, 0.0, unit)
    slope, intercept, flags = linear(ds)
    unit, implied = unit_of(ds, ds, slope is not None)
    if slope is None:
        return Rescale(1.0, 0.0, unit, flags)
    return Rescale(slope, intercept, unit, flags + implied)


def linear(ds: Dataset) -> tuple[Any, Any, tuple[str, ...]]:
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


def unit_of(ds: Dataset, transform: Dataset, rescaled: bool) -> tuple[str, tuple[str, ...]]:
    """(unit of rescaled values, flags): what the header says, else US (unspecified).

    In a CT Image, Rescale Type may be absent where the unit is HU, and nowhere else (1C in PS3.3
    Table C.8-3); not so with multi-energy, nor in localizers, nor in other SOP classes of CT.
    """
    said = text(transform, "RescaleType")
    first, *more = (said or "").split("\\")
    if first.upper() == "HU":
        return ("HU", ("unit-several",) if more else ()) if rescaled else ("US", ())
    units = text(ds, "Units")  # PET, (0054,1001)
    if units and text(ds, "Modality") in ("PT", "NM") and said in (None, "US"):
        return units, ()
    if not rescaled or said:
        return (said if said and rescaled else "US"), ()
    sop = text(ds, "SOPClassUID") or ""
    if sop in _ENHANCED_CT:
        return "US", ("unit-missing",)  # type 1 in each functional group (C.7.6.16.2.9)
    image_type = (text(ds, "ImageType") or "").upper().split("\\")
    if not sop and text(ds, "Modality") == "CT" and image_type[0] == "ORIGINAL":
        sop = CT_IMAGE  # of ACR-NEMA, which had no SOP classes
    if sop != CT_IMAGE or "LOCALIZER" in image_type:
        return "US", ()
    if text(ds, "MultienergyCTAcquisition") == "YES":
        return "US", ("unit-missing",)
    # Perfusion and other maps are sent as derived CT Images, with no word about their unit.
    return "HU", ("unit-implied",) if image_type[0] == "DERIVED" else ()


def windows_of(ds: Dataset) -> list[dict[str, Any]] | None:
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


def spacing_of(ds: Dataset) -> tuple[float | None, float | None, str | None]:
    """(mm between rows, mm between columns, keyword of the element that says so), PS3.3 10.7.1."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        found = vector(ds, keyword, 2)
        if found and min(found) > 0:
            return found[0], found[1], keyword
    return _region_spacing(ds)


def _region_spacing(ds: Dataset) -> tuple[float | None, float | None, str | None]:
    """Of ultrasound: where all regions measure cm in both directions, and say the same.

    The axes of a spectrum or of M-mode are seconds or cm/s, and no place.
    """
    found = set()
    for region in items(ds, "SequenceOfUltrasoundRegions"):
        axes = "PhysicalUnitsXDirection", "PhysicalUnitsYDirection"
        units = {whole(region, keyword) for keyword in axes}
        x, y = number(region, "PhysicalDeltaX"), number(region, "PhysicalDeltaY")
        found.add((abs(y) * 10, abs(x) * 10) if units == {_CM} and x and y else None)
    if len(found) == 1 and (one := found.pop()):
        return *one, "SequenceOfUltrasoundRegions"
    return None, None, None


def aspect_of(ds: Dataset) -> float | None:
    """Height of a pixel over its width, Pixel Aspect Ratio (0028,0034); None if not said."""
    found = vector(ds, "PixelAspectRatio", 2)  # vertical, horizontal (PS3.3 C.7.6.3.1.7)
    return found[0] / found[1] if found and min(found) > 0 else None
