"""Volumes that a scanner tiled into one frame: Siemens mosaics, UIH's VFRAME images. Pure.

The tags are those of the frame as one large image; where its slices lie is in private elements.
Siemens as in nibabel's MosaicWrapper and dcm2niix, UIH as in dcm2niix's UIH/README.md.
"""

from __future__ import annotations

import math
from typing import Any, cast

from dicom2cache.headers.csa import Csa, Vector, read_csa
from dicom2cache.headers.tags import Dataset, number, private, vector
from dicom2cache.records import Header
from dicom2cache.schema import PER_FRAME_FIELDS

_MOST = 4096
"""slices of a frame; more than any scanner makes"""
_OFF = 0.01
"""how far length and direction of a slice normal may be from those of row x column"""
_EVEN = 0.01
"""mm that positions may be off a straight line of even steps"""
_UIH = 0x0065  # UIH's private group


def is_tiled(row: Header) -> bool:
    """True where Image Type says that the frame is a mosaic."""
    said = row["image_type"]
    if said is None or not ("MOSAIC" in said or "VFRAME" in said):
        return False
    values = said.split("\\")
    return "MOSAIC" in values or "VFRAME" in values


def with_slices(row: Header, ds: Dataset) -> Header:
    """The row of FILES of a mosaic, cut into slices; as one image, flagged, where it cannot be.

    `ds` is its whole header, None if that cannot be read.
    """
    found = None
    single = row["frames"] == 1 and row["samples"] == 1 and row["kind"] == "image"
    if ds is not None and single and row["orientation"] and row["position"]:
        uih = "VFRAME" in (row["image_type"] or "").upper().split("\\")
        found = _uih(row, ds) if uih else _siemens(row, ds)
    if found is None:
        return {**row, "flags": [*(row["flags"] or []), "mosaic"]}
    return cast(Header, {**row, **found})


def _siemens(row: Header, ds: Dataset) -> dict[str, Any] | None:
    csa = read_csa(_bytes(private(ds, "SIEMENS CSA HEADER", 0x0029, 0x10))) or _NOTHING
    images = csa.images_in_mosaic
    if images is None:
        images = _count(private(ds, "SIEMENS MR HEADER", 0x0019, 0x0A))
    side = math.ceil(math.sqrt(images or 0))
    cut = _cut(row, images, side, side)
    if cut is None:
        return None
    cosines, (y, x) = row["orientation"], (row["spacing_y"], row["spacing_x"])
    if y is None or x is None:
        return None
    assert row["position"] is not None
    assert cosines is not None
    # Image Position is that of the large image, whose centre is the slice's.
    right = x * (row["width"] - cut["part_width"]) / 2
    below = y * (row["height"] - cut["part_height"]) / 2
    position = [
        p + right * r + below * c
        for p, r, c in zip(row["position"], cosines[:3], cosines[3:], strict=True)
    ]
    said: dict[str, Any] = {}
    if row["b_value"] is None and csa.b_value is not None:
        said["b_value"] = csa.b_value
    if row["gradient"] is None and csa.gradient is not None:
        said["gradient"] = list(csa.gradient)
    return {**cut, **said, "position": position, **_along(row, ds, csa.slice_normal)}


_NOTHING = Csa(None, None, None, None)


def _uih(row: Header, ds: Dataset) -> dict[str, Any] | None:
    numbers = _numbers(_value(ds, 0x1050))
    images = int(numbers[0]) if len(numbers) == 1 and numbers[0].is_integer() else None
    across = math.ceil(math.sqrt(images or 0))
    cut = _cut(row, images, across, math.ceil(images / across) if images else 0)
    if cut is None:
        return None
    # The position is that of the first slice; nothing is added to it.
    places = [vector(item, "ImagePositionPatient", 3) for item in _many(_value(ds, 0x1051))]
    known = [place for place in places if place is not None]
    if len(known) != images:
        normal = _numbers(_value(ds, 0x1014))
        return {**cut, **_along(row, ds, normal if len(normal) == 3 else None)}
    step = [(last - first) / (images - 1) for first, last in zip(known[0], known[-1], strict=True)]
    even = all(
        abs(p - (first + k * s)) <= _EVEN
        for k, place in enumerate(known)
        for p, first, s in zip(place, known[0], step, strict=True)
    )
    if even:
        return {**cut, "position": known[0], "part_step": step}
    empty = dict.fromkeys(PER_FRAME_FIELDS)
    return {**cut, "per_frame": [{**empty, "position": place} for place in known]}


def _cut(row: Header, images: int | None, across: int, down: int) -> dict[str, Any] | None:
    """Size and number of the parts; None where the frame does not divide into so many."""
    if images is None or not 1 < images <= _MOST:
        return None
    height, width = row["height"] // down, row["width"] // across
    if (height * down, width * across) != (row["height"], row["width"]):
        return None
    return {"parts": images, "parts_across": across, "part_height": height, "part_width": width}


def _along(row: Header, ds: Dataset, normal: Vector | None) -> dict[str, Any]:
    """Step from slice to slice, mm; the way in which they follow is the scanner's, and may be
    against row x column."""
    assert row["orientation"] is not None
    r, c = row["orientation"][:3], row["orientation"][3:]
    across = (r[1] * c[2] - r[2] * c[1], r[2] * c[0] - r[0] * c[2], r[0] * c[1] - r[1] * c[0])
    flags = row["flags"]
    if normal is None or not _is_normal(normal, across):
        normal, flags = across, [*(flags or []), "mosaic-direction"]
    mm = number(ds, "SpacingBetweenSlices") or row["thickness"]
    if not mm or mm < 0:
        return {"flags": flags, "position": None}
    return {"flags": flags, "part_step": [mm * n for n in normal]}


def _is_normal(found: Vector, across: Vector) -> bool:
    cosine = sum(a * b for a, b in zip(found, across, strict=True))
    length = math.sqrt(sum(a * a for a in found))
    return abs(abs(cosine) - 1) <= _OFF and abs(length - 1) <= _OFF


def _value(ds: Dataset, element: int) -> Any:
    """Value of an element of UIH's; its blocks do not move."""
    try:
        return ds[_UIH, element].value
    except Exception:
        return None


def _many(value: Any) -> list[Any]:
    return list(value) if hasattr(value, "__len__") and not isinstance(value, str | bytes) else []


def _numbers(value: Any) -> Vector:
    """Finite numbers of a DS, its VR lost or not; none if one of them is no number."""
    if isinstance(value, bytes):
        value = value.decode("latin-1").strip(" \0").split("\\")
    try:
        found = tuple(float(v) for v in _many(value) or [value])
    except (TypeError, ValueError, OverflowError):
        return ()
    return found if all(map(math.isfinite, found)) else ()


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else b""


def _count(value: Any) -> int | None:
    """A whole number; of an anonymised file two bytes, their VR lost."""
    if isinstance(value, bytes):
        return int.from_bytes(value, "little") if len(value) == 2 else None
    return value if isinstance(value, int) else None
