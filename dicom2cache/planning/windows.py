"""VOI windows in units of what is stored, pure and columnar."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dicom2cache.arrow import Floats, Mask, floats, mask_of, replaced, with_column
from dicom2cache.planning import treatments
from dicom2cache.planning.treatments import stored_range
from dicom2cache.recipes.recipe import Recipe
from dicom2cache.schema import FILES, FRAMES


def frame_windows(
    files: pa.Table, file: NDArray[np.int32], windows: Any, inverted: Any, recipe: Recipe
) -> Any:
    """Windows that frames have of their own, in units of what is stored; null: the file's."""
    none = FRAMES.field("windows").type
    if windows.null_count == len(windows):
        return pa.nulls(len(file), none)
    total = mirror(files)
    suv = treatments.suv_files(files, recipe)
    stored = treatments.holds(files, recipe, lambda t: t.intensity == "stored")
    factor = floats(files["suv_factor"])
    found: list[Any] = [None] * len(file)
    valid = windows.is_valid().to_numpy(zero_copy_only=False)
    for i in np.flatnonzero(valid & ~stored[file]):
        k, mine = file[i], windows[int(i)].as_py()
        mine = mirrored_windows(mine, total[k]) if inverted[k] else mine
        found[i] = scaled_windows(mine, factor[k]) if suv[k] else mine
    return pa.array(found, none)


def windows_of_stored(files: pa.Table, stored: Mask) -> Any:
    """Windows with those of `stored` in units of stored values; null where no line leads there.

    A LUT is no line, a slope below 0 turns the window over, and frames may differ in theirs.
    """
    slope, intercept = floats(files["slope"]), floats(files["intercept"])
    one = mask_of(pc.and_(pc.is_null(files["lut_low"]), pc.is_null(files["per_frame"])))
    straight = one & (slope > 0)
    dropped = pa.array(stored & ~straight)
    column = replaced(files["windows"], dropped, pa.scalar(None, FILES.field("windows").type))
    moved = stored & straight & ((slope != 1) | (intercept != 0)) & mask_of(pc.is_valid(column))
    if not moved.any():
        return column
    windows = column.to_pylist()
    for i in np.flatnonzero(moved):
        windows[i] = [_of_stored(w, slope[i], intercept[i]) for w in windows[i]]
    return pa.array(windows, FILES.field("windows").type)


def _of_stored(window: dict[str, Any], slope: float, intercept: float) -> dict[str, Any]:
    """A window of slope * x + intercept as one of x (PS3.3 C.11.2.1.2.1: LINEAR runs from
    c - 0.5 - (w - 1) / 2 to c - 0.5 + (w - 1) / 2)."""
    half, one = (0.5, 1.0) if window["function"] == "LINEAR" else (0.0, 0.0)
    center = (window["center"] - half - intercept) / slope + half
    return {**window, "center": center, "width": (window["width"] - one) / slope + one}


def scaled_windows(windows: Any, factor: float) -> Any:
    """Windows of values that are multiplied by `factor`."""
    return windows and [
        {**w, "center": w["center"] * factor, "width": w["width"] * factor} for w in windows
    ]


def inverted_windows(files: pa.Table, inverted: Mask) -> pa.Table:
    """Windows of inverted files mirrored with the values; the files are flagged, and no longer
    inverted."""
    if not inverted.any():
        return files
    windows, flags = files["windows"].to_pylist(), files["flags"].to_pylist()
    still = files["inverted"].to_pylist()
    total = mirror(files)
    for i in np.flatnonzero(inverted):
        windows[i] = mirrored_windows(windows[i], total[i])
        flags[i], still[i] = [*(flags[i] or []), "inverted"], False
    for name, column in (("windows", windows), ("flags", flags), ("inverted", still)):
        files = with_column(files, name, pa.array(column, FILES.field(name).type))
    return files


def mirror(files: pa.Table) -> Floats:
    """S of v' = S - v, for each file."""
    low, high = stored_range(files)
    total: Floats = floats(files["slope"]) * (low + high) + 2 * floats(files["intercept"])
    return total


def mirrored_windows(windows: Any, total: float) -> Any:
    """Windows of values that were turned over: c' = S - c + 1 if LINEAR, else S - c."""
    return windows and [
        {**w, "center": total - w["center"] + (w["function"] == "LINEAR")} for w in windows
    ]
