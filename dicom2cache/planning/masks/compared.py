"""The plan's frames as what a join of masks to images compares; pure and columnar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dicom2cache.arrow import Codes, codes, combine, floats, ints, mask_of, vectors
from dicom2cache.planning import parts
from dicom2cache.planning.masks.join import Masks
from dicom2cache.planning.masks.planes import Planes, axes_of


@dataclass(frozen=True)
class Compared:
    """Masks, and the images that they may lie on."""

    masks: Masks
    images: Planes
    slices: NDArray[np.bool_]
    """of the images, False for what can only be referred to"""
    mask_rows: NDArray[np.int64]
    """rows of the plan that are masks"""
    image_rows: NDArray[np.int64]
    """and images"""


def compared(
    files: pa.Table,
    file: NDArray[np.int32],
    frame: NDArray[np.int32],
    said: dict[str, Any],
) -> Compared:
    """`said` has what each frame or its file says, with places of slices and tiles."""
    kind = codes(files["kind"])
    names = sorted(set(files["kind"].to_pylist()))
    drawn = (kind == names.index("mask"))[file]
    reference, sop = _together(said["referenced_sop_uid"], files["sop_uid"])
    named, series = _together(
        files["referenced_series"].combine_chunks().flatten(), files["series_uid"]
    )
    space = codes(files["frame_of_reference_uid"])
    known = space >= 0
    space = np.where(known, combine([codes(files["patient"]), space]), -1)
    height, width = parts.sides(files)
    planes = Planes(
        sop=sop[file], frame=frame.astype(np.int64), space=space[file],
        study=codes(files["study_uid"])[file], series=series[file],
        position=vectors(said["position"], 3), axes=axes_of(vectors(said["orientation"], 6)),
        spacing=np.stack([floats(said["spacing_x"]), floats(said["spacing_y"])], axis=1),
        size=np.stack([width, height], axis=1)[file],
        thickness=floats(said["thickness"]),
        tile=np.stack([floats(said["matrix_column"]), floats(said["matrix_row"])], axis=1),
        z=floats(said["z_offset"]),
    )  # fmt: skip
    rows = np.flatnonzero(drawn)
    lists = files["referenced_series"].combine_chunks()
    owner = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False).astype(np.int64)
    masks = Masks(
        planes.take(rows), file[rows].astype(np.int64), reference[rows],
        ints(said["referenced_frame"], -1)[rows], np.stack([owner, named], axis=1),
    )  # fmt: skip
    others = np.flatnonzero(~drawn)
    is_image = mask_of(pc.equal(files["kind"], "image"))[file]
    return Compared(masks, planes.take(others), is_image[others], rows, others)


def _together(one: Any, other: Any) -> tuple[Codes, Codes]:
    """Codes of two columns of texts, equal for equal ones; -1 for null."""
    plain = [_plain(column) for column in (one, other)]
    found = codes(pa.concat_arrays(plain))
    return found[: len(plain[0])], found[len(plain[0]) :]


def _plain(column: Any) -> Any:
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
