"""Headers and recipe to what values frames will have, pure and columnar: slope, unit, dtype."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dicom2cache import arrays
from dicom2cache.columns import floats, ints, with_column
from dicom2cache.recipe import Recipe, Treatment
from dicom2cache.records import FILES

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


def mask_of(column: Any) -> Mask:
    """bool, False for null."""
    found: Mask = column.fill_null(False).to_numpy(zero_copy_only=False).astype(bool)
    return found


def by_rule(files: pa.Table, recipe: Recipe, pick: Callable[[Treatment], Any]) -> NDArray[Any]:
    """What the treatment of each file says, one object a file."""
    said = np.empty(len(recipe.treatments), object)
    said[:] = [pick(t) for t in recipe.treatments]
    return np.asarray(said[ints(files["rule"], 0)])


def holds(files: pa.Table, recipe: Recipe, pick: Callable[[Treatment], bool]) -> Mask:
    """For which files their treatment has a property."""
    return by_rule(files, recipe, pick).astype(bool)


def graded_files(files: pa.Table, recipe: Recipe) -> Mask:
    """Files that windows or percentiles apply to: grey images; neither dose, maps nor masks."""
    grey = pc.and_(pc.is_valid(files["slope"]), pc.equal(files["kind"], "image"))
    return holds(files, recipe, lambda t: t.graded) & mask_of(grey)


def with_recipe(files: pa.Table, recipe: Recipe) -> pa.Table:
    """The files with slope, unit and windows as the recipe wants them, `stored` and `suv`."""
    grey = mask_of(pc.is_valid(files["slope"]))
    stored = grey & holds(files, recipe, lambda t: t.intensity == "stored")
    if stored.any():
        files = with_column(files, "windows", _windows_of_stored(files, stored))
        mask, none = pa.array(stored), pa.scalar(None, pa.float64())
        for column, said in (
            ("slope", 1.0), ("intercept", 0.0), ("lut_low", none), ("lut_high", none),
            ("unit", "stored"),
        ):  # fmt: skip
            files = with_column(files, column, _replaced(files[column], mask, said))
    suv = suv_files(files, recipe)
    if suv.any():
        files = with_column(files, "unit", _replaced(files["unit"], pa.array(suv), "SUVbw"))
        windows, factor = files["windows"].to_pylist(), floats(files["suv_factor"])
        for i in np.flatnonzero(suv):
            windows[i] = scaled_windows(windows[i], factor[i])
        files = with_column(files, "windows", pa.array(windows, FILES.field("windows").type))
    return files


def _replaced(column: Any, mask: Any, value: Any) -> Any:
    """The column with `value` where the mask is."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    kept = column.filter(pc.invert(mask))
    scalar = value if isinstance(value, pa.Scalar) else pa.scalar(value, column.type)
    new = pa.array([scalar.as_py()], column.type)
    # One chunk of what is kept, one of what is new: pc.if_else knows no lists of structs.
    place = np.zeros(len(mask), np.int64)
    flags = np.asarray(mask)
    place[~flags] = np.arange(len(kept))
    place[flags] = len(kept)
    return pa.chunked_array([kept, new], column.type).take(pa.array(place)).combine_chunks()


def _windows_of_stored(files: pa.Table, stored: Mask) -> Any:
    """Windows with those of `stored` in units of stored values; null where no line leads there.

    A LUT is no line, a slope below 0 turns the window over, and frames may differ in theirs.
    """
    slope, intercept = floats(files["slope"]), floats(files["intercept"])
    one = mask_of(pc.and_(pc.is_null(files["lut_low"]), pc.is_null(files["per_frame"])))
    straight = one & (slope > 0)
    dropped = pa.array(stored & ~straight)
    column = _replaced(files["windows"], dropped, pa.scalar(None, FILES.field("windows").type))
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


def suv_files(files: pa.Table, recipe: Recipe) -> Mask:
    """PET files whose treatment is SUV."""
    pet = mask_of(pc.and_(pc.equal(files["modality"], "PT"), pc.is_valid(files["slope"])))
    return pet & holds(files, recipe, lambda t: t.intensity == "suv")


def linear(
    files: pa.Table, file: NDArray[np.int32], said: dict[str, Any], recipe: Recipe
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
        np.where(stored[file], floats(files[c])[file], floats(said[c])) * suv[file]
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


def stored_range(files: pa.Table) -> tuple[Floats, Floats]:
    """(least, greatest) value that the stored bits of each file can hold."""
    bits = ints(files["bits_stored"], 16)
    signed = mask_of(files["signed"])
    span = 2.0**bits
    return np.where(signed, -span / 2, 0.0), np.where(signed, span / 2, span) - 1


def _values(
    files: pa.Table, file: NDArray[np.int32], slope: NDArray[Any], intercept: NDArray[Any]
) -> arrays.Values:
    low, high = stored_range(files)
    integer = mask_of(pc.equal(files["pixel_keyword"], "PixelData"))
    palette = ints(files["palette_bits"], 0)
    high = np.where(palette > 0, 2.0**palette - 1, high)
    low = np.where(palette > 0, 0.0, low)
    m, b = np.nan_to_num(slope, nan=1.0), np.nan_to_num(intercept, nan=0.0)
    ends = m * low[file] + b, m * high[file] + b
    lut_low, lut_high = floats(files["lut_low"])[file], floats(files["lut_high"])[file]
    lut = ~np.isnan(lut_low)
    whole = integer[file] & (lut | ((m == np.floor(m)) & (b == np.floor(b))))
    return arrays.Values(
        low=np.where(lut, lut_low, np.minimum(*ends)),
        high=np.where(lut, lut_high, np.maximum(*ends)),
        whole=whole,
        hu=mask_of(pc.equal(files["unit"], "HU"))[file],
        double=mask_of(pc.equal(files["pixel_keyword"], "DoubleFloatPixelData"))[file],
    )


def dtypes(
    files: pa.Table,
    file: NDArray[np.int32],
    slope: Floats,
    intercept: Floats,
    stack: NDArray[np.int64],
    recipe: Recipe,
) -> NDArray[Any]:
    """NumPy name of the dtype of every frame, the same within a stack; from headers alone."""
    said = by_rule(files, recipe, lambda t: t.dtype)
    auto = said == "auto"
    names = said[file].astype("U7")
    if auto.any():
        values = _values(files, file, slope, intercept)
        smallest = arrays.dtype_names(arrays.dtypes_of_stacks(values, stack))
        names = np.where(auto[file], smallest, names)
        shares = auto & (graded_files(files, recipe) | _graded_colour(files, recipe))
        names = np.where(shares[file], "uint8", names)
    # A mask's numbers are what they are, whatever the recipe says of images.
    masks = mask_of(pc.equal(files["kind"], "mask"))
    if masks.any():
        wide = np.where(ints(files["bits_allocated"], 8) > 8, "uint16", "uint8")
        names = np.where(masks[file], wide[file], names)
    return names


def _graded_colour(files: pa.Table, recipe: Recipe) -> Mask:
    colour = pc.and_(pc.is_null(files["slope"]), pc.equal(files["kind"], "image"))
    return holds(files, recipe, lambda t: t.graded) & mask_of(colour)


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
