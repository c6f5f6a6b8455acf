"""The plan's frames as what a join of masks to images compares; pure and columnar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dicom2cache.arrow import Codes, Floats, codes, combine, floats, ints, mask_of, plain, vectors
from dicom2cache.planning import parts
from dicom2cache.planning.masks.join import Masks
from dicom2cache.planning.masks.outlined import CONTOUR_DATA
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
    """and images; from the number of its rows on those that are stored already"""


def compared(
    files: pa.Table,
    file: NDArray[np.int32],
    frame: NDArray[np.int32],
    said: dict[str, Any],
    stored: pa.Table,
) -> Compared:
    """`said` has what each frame or its file says, with places of slices and tiles; `stored` are
    frames of a cache that the plan adds to (masks.stored)."""
    reference, sop, old_sop = _together(
        said["referenced_sop_uid"], files["sop_uid"], stored["sop_uid"]
    )
    lists = files["referenced_series"].combine_chunks()
    named, series, old_series = _together(
        lists.flatten(), files["series_uid"], stored["series_uid"]
    )
    study, old_study = _together(files["study_uid"], stored["study_uid"])
    whose = _together(files["patient"], stored["patient"])
    where = _together(files["frame_of_reference_uid"], stored["frame_of_reference_uid"])
    space = combine([np.concatenate(whose), np.concatenate(where)])
    space = np.where(np.concatenate(where) < 0, -1, space)
    space, old_space = space[: len(file_codes := whose[0])], space[len(file_codes) :]
    height, width = parts.sides(files)

    def both(name: str) -> Floats:
        return np.concatenate([floats(said[name]), floats(stored[name])])

    planes = Planes(
        sop=np.r_[sop[file], old_sop],
        frame=np.r_[frame, ints(stored["frame"], 0)],
        space=np.r_[space[file], old_space],
        study=np.r_[study[file], old_study],
        series=np.r_[series[file], old_series],
        position=np.concatenate([vectors(t["position"], 3) for t in (said, stored)]),
        axes=axes_of(np.concatenate([vectors(t["orientation"], 6) for t in (said, stored)])),
        spacing=np.stack([both("spacing_x"), both("spacing_y")], axis=1),
        size=np.stack(
            [np.r_[side[file], ints(stored[name], 0)]
             for side, name in ((width, "source_width"), (height, "source_height"))], axis=1,
        ),
        thickness=both("thickness"),
        tile=np.stack([both("matrix_column"), both("matrix_row")], axis=1),
        z=both("z_offset"),
    )  # fmt: skip
    drawn = np.r_[mask_of(pc.equal(files["kind"], "mask"))[file], np.zeros(len(old_sop), bool)]
    rows, others = np.flatnonzero(drawn), np.flatnonzero(~drawn)
    owner = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False).astype(np.int64)
    step, span = _steps(files, file, said)
    masks = Masks(
        planes.take(rows), file[rows].astype(np.int64), reference[rows],
        ints(said["referenced_frame"], -1)[rows], ints(said["segment"], -1)[rows],
        step[rows], span[rows], np.stack([owner, named], axis=1),
    )  # fmt: skip
    is_image = [mask_of(pc.equal(t["kind"], "image")) for t in (files, stored)]
    slices = np.r_[is_image[0][file], is_image[1]]
    return Compared(masks, planes.take(others), slices[others], rows, others)


def _steps(files: pa.Table, file: NDArray[np.int32], said: dict[str, Any]) -> tuple[Floats, Floats]:
    """((n,) mm between planes, where a file says it, 0 of contours; (n,) what those stand for)."""
    step = floats(said["plane_step"])
    step = np.where(step > 0, step, np.nan)
    outlined = mask_of(pc.equal(files["pixel_keyword"], CONTOUR_DATA))[file]
    return np.where(outlined, 0.0, step), np.where(outlined, step, np.nan)


def _together(*columns: Any) -> list[Codes]:
    """Codes of columns of texts, equal for equal ones; -1 for null."""
    texts = [plain(column).cast(pa.string()) for column in columns]
    bounds = np.cumsum([len(column) for column in texts])[:-1]
    return list(np.split(codes(pa.concat_arrays(texts)), bounds))
