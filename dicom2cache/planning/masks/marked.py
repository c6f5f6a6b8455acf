"""The columns of masks that say on which image each lies; pure and columnar."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dicom2cache.arrow import ints
from dicom2cache.planning.masks.compared import compared
from dicom2cache.planning.masks.join import Pairs, join
from dicom2cache.planning.masks.reach import reaches

BY = ("reference", "geometry", "resampled")
"""values of `image_by`"""


def marked(
    files: pa.Table,
    file: NDArray[np.int32],
    frame: NDArray[np.int32],
    part: NDArray[np.int16],
    said: dict[str, Any],
    stored: pa.Table,
) -> dict[str, Any]:
    """`image_*` of all frames of a plan, as their files have them: null where none is found.

    `said`, and `stored`: as of `compared`.
    """
    found = compared(files, file, frame, said, stored)
    pairs = join(found.masks, found.images, found.slices)
    pairs = pairs.take(pairs.first)
    pairs = pairs.take(pairs.same)
    image = np.full(len(file), -1, np.int64)
    image[found.mask_rows[pairs.mask]] = found.image_rows[pairs.image]
    by = np.zeros(len(file), np.int64)
    by[found.mask_rows[pairs.mask]] = how(pairs)
    index = pa.array(image, mask=image < 0)
    reach = np.full(len(file), np.nan)
    reach[found.mask_rows[pairs.mask]] = reaches(found.masks, found.images, pairs)
    return {
        **image_columns(files, file, frame, part, stored, index),
        "image_by": pa.array(BY).take(pa.array(by, mask=image < 0)),
        "mask_reach": pa.array(reach, from_pandas=True),
    }


def image_columns(
    files: pa.Table,
    file: NDArray[np.int32],
    frame: NDArray[np.int32],
    part: NDArray[np.int16],
    stored: pa.Table,
    index: Any,
) -> dict[str, Any]:
    """Names of images by their rows of a plan, from their number on those that are stored."""
    sop = files["sop_uid"].combine_chunks().cast(pa.string()).take(pa.array(file))
    old = stored["sop_uid"].combine_chunks().cast(pa.string())
    numbers = [np.r_[own, ints(stored[name], 0)]
               for own, name in ((frame, "frame"), (part, "part_of_frame"))]  # fmt: skip
    return {
        "image_sop_uid": pa.concat_arrays([sop, old]).take(index),
        "image_frame": pa.array(numbers[0]).take(index),
        "image_part": pa.array(numbers[1]).take(index),
    }


def how(pairs: Pairs) -> NDArray[np.int64]:
    """Numbers of BY."""
    return np.where(pairs.same, pairs.by, 2)
