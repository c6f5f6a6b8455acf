"""Headers and recipe to what values frames will have, pure and columnar: slope, unit, dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dicom2cache.arrow import Floats, Mask, floats, ints, mask_of, replaced, with_column
from dicom2cache.planning import arrays
from dicom2cache.planning.treatments import (
    by_rule,
    graded_files,
    holds,
    stored_range,
    suv_files,
    waveforms,
)
from dicom2cache.planning.windows import scaled_windows, windows_of_stored
from dicom2cache.recipes.recipe import Recipe
from dicom2cache.schema import FILES


def with_recipe(files: pa.Table, recipe: Recipe) -> pa.Table:
    """The files with slope, unit and windows as the recipe wants them, `stored` and `suv`."""
    grey = mask_of(pc.is_valid(files["slope"]))
    stored = grey & holds(files, recipe, lambda t: t.intensity == "stored")
    if stored.any():
        files = with_column(files, "windows", windows_of_stored(files, stored))
        mask, none = pa.array(stored), pa.scalar(None, pa.float64())
        for column, new in (
            ("slope", 1.0), ("intercept", 0.0), ("lut_low", none), ("lut_high", none),
            ("unit", "stored"),
        ):  # fmt: skip
            files = with_column(files, column, replaced(files[column], mask, new))
    suv = suv_files(files, recipe)
    if suv.any():
        files = with_column(files, "unit", replaced(files["unit"], pa.array(suv), "SUVbw"))
        windows, factor = files["windows"].to_pylist(), floats(files["suv_factor"])
        for i in np.flatnonzero(suv):
            windows[i] = scaled_windows(windows[i], factor[i])
        files = with_column(files, "windows", pa.array(windows, FILES.field("windows").type))
        files = _flagged(files, suv & mask_of(pc.is_valid(files["suv_flag"])), files["suv_flag"])
    return files


def _flagged(files: pa.Table, mask: Mask, flag: Any) -> pa.Table:
    """The files with one more flag where the mask is; `flag` is a column of them."""
    if not mask.any():
        return files
    flags = files["flags"].to_pylist()
    for i in np.flatnonzero(mask):
        flags[i] = [*(flags[i] or []), flag[int(i)].as_py()]
    return with_column(files, "flags", pa.array(flags, FILES.field("flags").type))


def units(files: pa.Table, file: NDArray[np.int32], own: Any) -> Any:
    """The unit of every frame: its file's; `own` where the frames of a file differ."""
    whole = files["unit"].combine_chunks().dictionary_encode().take(pa.array(file))
    if whole.null_count == 0 or own.null_count == len(own):
        return whole
    return pc.coalesce(*(c.cast(pa.string()) for c in (whole, own)))


def linear(
    files: pa.Table, file: NDArray[np.int32], per_frame: dict[str, Any], recipe: Recipe
) -> tuple[Floats, Floats, Mask]:
    """(slope, intercept) of every frame, MONOCHROME1 folded in; and which files were inverted.

    v' = S - v with S = modality(lowest) + modality(highest) is again linear: slope -m, intercept
    m * (lowest + highest) + b. Only where the unit is unspecified: HU or optical density keep
    their values (PS3.3 C.7.6.3.1.2).
    """
    stored = holds(files, recipe, lambda t: t.intensity == "stored")
    suv = np.where(suv_files(files, recipe), floats(files["suv_factor"]), 1.0)
    slope, intercept = (
        # Per-frame transforms are the file's, not a recipe's that wants stored values.
        np.where(stored[file], floats(files[c])[file], floats(per_frame[c])) * suv[file]
        for c in ("slope", "intercept")
    )
    wanted = holds(files, recipe, lambda t: t.monochrome1 == "invert" and t.intensity == "modality")
    inverted = wanted & mask_of(
        pc.and_kleene(
            pc.and_kleene(files["inverted"], pc.equal(files["unit"], "US")),
            pc.and_(pc.is_null(files["lut_low"]), pc.equal(files["pixel_keyword"], "PixelData")),
        )
    )
    low, high = stored_range(files)
    mirrored = inverted[file]
    if mirrored.any():
        intercept = np.where(mirrored, slope * (low + high)[file] + intercept, intercept)
        slope = np.where(mirrored, -slope, slope)
    return slope, intercept, inverted


def _values(
    files: pa.Table, file: NDArray[np.int32], slope: NDArray[Any], intercept: NDArray[Any], hu: Mask
) -> arrays.Values:
    low, high = stored_range(files, overshoot=True)
    integer = mask_of(pc.equal(files["pixel_keyword"], "PixelData"))
    palette = ints(files["palette_bits"], 0)
    high = np.where(palette > 0, 2.0**palette - 1, high)
    low = np.where(palette > 0, 0.0, low)
    m, b = np.nan_to_num(slope, nan=1.0), np.nan_to_num(intercept, nan=0.0)
    ends = m * low[file] + b, m * high[file] + b
    lut_low, lut_high = floats(files["lut_low"])[file], floats(files["lut_high"])[file]
    lut = ~np.isnan(lut_low)
    # A table of real world values has fractions; a modality LUT has none.
    table = mask_of(pc.equal(files["kind"], "map"))[file]
    line = (m == np.floor(m)) & (b == np.floor(b))
    whole = integer[file] & np.where(lut, ~table, line)
    return arrays.Values(
        low=np.where(lut, lut_low, np.minimum(*ends)),
        high=np.where(lut, lut_high, np.maximum(*ends)),
        whole=whole,
        hu=hu,
        double=mask_of(pc.equal(files["pixel_keyword"], "DoubleFloatPixelData"))[file],
    )


def dtypes(
    files: pa.Table,
    file: NDArray[np.int32],
    slope: Floats,
    intercept: Floats,
    unit: Any,
    stack: NDArray[np.int64],
    recipe: Recipe,
) -> NDArray[Any]:
    """NumPy name of the dtype of every frame, the same within a stack; from headers alone."""
    wanted = by_rule(files, recipe, lambda t: t.dtype)
    auto = wanted == "auto"
    names = wanted.astype(str)[file]
    if auto.any():
        values = _values(files, file, slope, intercept, mask_of(pc.equal(unit, "HU")))
        names = np.where(auto[file], arrays.dtypes_of_stacks(values, stack), names)
        shares = auto & (graded_files(files, recipe) | _graded_colour(files, recipe))
        names = np.where(shares[file], "uint8", names)
    # A mask's numbers are what they are, whatever the recipe says of images.
    masks = mask_of(pc.equal(files["kind"], "mask"))
    if masks.any():
        wide = np.where(ints(files["bits_allocated"], 8) > 8, "uint16", "uint8")
        names = np.where(masks[file], wide[file], names)
    return np.where(waveforms(files)[file], "float32", names)


def _graded_colour(files: pa.Table, recipe: Recipe) -> Mask:
    colour = pc.and_(pc.is_null(files["slope"]), pc.equal(files["kind"], "image"))
    return holds(files, recipe, lambda t: t.graded) & mask_of(colour)
