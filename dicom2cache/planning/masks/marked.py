"""The columns of masks that say on which image each lies; pure and columnar."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dicom2cache.planning.masks.compared import compared
from dicom2cache.planning.masks.join import Pairs, join

BY = ("reference", "geometry", "resampled")
"""values of `image_by`"""


def marked(
    files: pa.Table,
    file: NDArray[np.int32],
    frame: NDArray[np.int32],
    part: NDArray[np.int16],
    said: dict[str, Any],
) -> dict[str, Any]:
    """`image_*` of all frames of a plan, as their files have them: null where none is found."""
    if not pc.any(pc.equal(files["kind"], "mask")).as_py():
        return {}
    found = compared(files, file, frame, said)
    pairs = join(found.masks, found.images, found.slices)
    pairs = pairs.take(pairs.first)
    pairs = pairs.take(pairs.same)
    image = np.full(len(file), -1, np.int64)
    image[found.mask_rows[pairs.mask]] = found.image_rows[pairs.image]
    by = np.zeros(len(file), np.int64)
    by[found.mask_rows[pairs.mask]] = how(pairs)
    index = pa.array(image, mask=image < 0)
    return {
        "image_sop_uid": files["sop_uid"].combine_chunks().take(pa.array(file)).take(index),
        "image_frame": pa.array(frame).take(index),
        "image_part": pa.array(part).take(index),
        "image_by": pa.array(BY).take(pa.array(by, mask=image < 0)),
    }


def how(pairs: Pairs) -> NDArray[np.int64]:
    """Numbers of BY."""
    return np.where(pairs.same, pairs.by, 2)
