"""Where the tiles of a whole slide image lie in its total pixel matrix (PS3.3 C.7.6.17.3). Pure."""

from __future__ import annotations

from typing import Any

from dicom2cache.headers.tags import Dataset, items, number, text, whole
from dicom2cache.records import Header


def tile_of(groups: Dataset) -> dict[str, Any]:
    """What a functional group item says of its tile, under the names of PER_FRAME."""
    said: dict[str, Any] = {}
    for plane in items(groups, "PlanePositionSlideSequence")[:1]:
        for column, side in (("matrix_row", "Row"), ("matrix_column", "Column")):
            place = whole(plane, f"{side}PositionInTotalImagePixelMatrix")
            if place is not None:
                said[column] = place - 1  # from 1 in DICOM
        z = number(plane, "ZOffsetInSlideCoordinateSystem")
        if z is not None:
            said["z_offset"] = z
    for path in items(groups, "OpticalPathIdentificationSequence")[:1]:
        said["optical_path"] = text(path, "OpticalPathIdentifier")
    return said


def tiling_of(ds: Dataset, row: Header) -> dict[str, Any]:
    """How the frames of a TILED_FULL image follow each other, under the names of FILES.

    Tiles row by row, then focal planes, then optical paths (of a segmentation, segments). Nothing
    for other images; a flag where the header contradicts the number of frames.
    """
    if text(ds, "DimensionOrganizationType") != "TILED_FULL":
        return {}
    total = [whole(ds, f"TotalPixelMatrix{side}") for side in ("Rows", "Columns")]
    if total[0] is None or total[1] is None or min(total[0], total[1]) < 1:
        return {"flags": [*(row["flags"] or []), "tiles-mismatch"]}
    down, across = -(-total[0] // row["height"]), -(-total[1] // row["width"])
    planes = whole(ds, "TotalPixelMatrixFocalPlanes") or 1
    channels, first = _channels(ds, row), whole(ds, "ConcatenationFrameOffsetNumber") or 0
    every = down * across * planes * max(1, len(channels))
    part = "ConcatenationFrameOffsetNumber" in ds
    last = first + row["frames"]
    if planes < 1 or first < 0 or last > every or (last < every and not part):
        return {"flags": [*(row["flags"] or []), "tiles-mismatch"]}
    origin = items(ds, "TotalPixelMatrixOriginSequence")[:1]
    bottom = number(origin[0], "ZOffsetInSlideCoordinateSystem") if origin else None
    step = _between_planes(ds)
    return {
        "tiles_down": down,
        "tiles_across": across,
        "focal_planes": planes,
        "first_frame": first,
        "tile_channels": channels or None,
        "z_first": bottom or 0.0,
        "z_step": None if step is None else step * 1000,  # mm to um
    }


def _channels(ds: Dataset, row: Header) -> list[dict[str, str | None]]:
    """What frames differ in beside their place: optical paths, or the segments of a mask."""
    if row["kind"] == "mask":
        if row["unit"] == "labelmap":
            return []
        numbers = [whole(s, "SegmentNumber") for s in items(ds, "SegmentSequence")]
        labels = [text(s, "SegmentLabel") for s in items(ds, "SegmentSequence")]
        return (
            [{"id": str(n), "label": label} for n, label in zip(numbers, labels, strict=True)]
            if None not in numbers
            else []
        )
    paths = [text(path, "OpticalPathIdentifier") for path in items(ds, "OpticalPathSequence")]
    count = whole(ds, "NumberOfOpticalPaths") or len(paths) or 1
    if not paths or len(paths) != count:
        paths = [str(k + 1) for k in range(count)] if 1 < count <= row["frames"] else [None]
    return [{"id": path, "label": None} for path in paths]


def _between_planes(ds: Dataset) -> float | None:
    """mm between focal planes."""
    for groups in items(ds, "SharedFunctionalGroupsSequence")[:1]:
        for measures in items(groups, "PixelMeasuresSequence")[:1]:
            return number(measures, "SpacingBetweenSlices")
    return None
