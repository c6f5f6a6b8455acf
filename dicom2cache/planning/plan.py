"""Headers and recipe to plan, pure and columnar.

The law: every frame of every file that is kept is in exactly one slot; a shard is never over its
size, save for a frame that is larger than a shard; the frames of a stack lie one after another in
one array; and none of it depends on the order of the files.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dicom2cache.arrow import (
    canonical,
    codes,
    combine,
    expand,
    float_codes,
    floats,
    ints,
    take_dictionary,
    vectors,
    with_column,
)
from dicom2cache.errors import RecipeError
from dicom2cache.pixels.resize import Placement
from dicom2cache.planning import arrays, parts, treatments, values
from dicom2cache.planning.placement import columns_of, place_frames
from dicom2cache.planning.stacks import Geometry, Stacks, assign
from dicom2cache.planning.windows import frame_windows, inverted_windows
from dicom2cache.recipes.recipe import Recipe
from dicom2cache.records import ArraySpec, Plan
from dicom2cache.schema import FRAMES


def make_plan(files: pa.Table, rejects: pa.Table, recipe: Recipe) -> Plan:
    """Where every frame of `files` (FILES, all to be stored) goes.

    Raises RecipeError if the sizes cannot be brought under `max_arrays`.
    """
    files = values.with_recipe(canonical(files).combine_chunks(), recipe)
    file, frame, part = parts.numbered(files)
    said = parts.with_places(files, file, frame, part, expand(files, file))
    said["unit"] = values.units(files, file, said["unit"])
    slope, intercept, inverted = values.linear(files, file, said, recipe)
    stacks = assign(_geometry(files, file, frame, part, said))
    dtype = values.dtypes(files, file, slope, intercept, said["unit"], stacks.stack, recipe)
    placement = place_frames(files, file, said, recipe)
    specs, array, wasted = _arrays(files, file, dtype, placement, recipe)

    order = stacks.order[np.argsort(array[stacks.order], kind="stable")]
    array = array[order]
    starts = np.searchsorted(array, np.arange(len(specs)))
    row = np.arange(len(order)) - starts[array]
    graded = treatments.graded_files(files, recipe)
    said["unit"] = _or_window(said["unit"], graded[file])
    said["windows"] = frame_windows(files, file, said["windows"], inverted, recipe)
    table = _frames(said, order, {
        "file": file[order], "frame": frame[order], "part_of_frame": part[order],
        "array": array.astype(np.int16), "row": row,
        "slope": slope[order], "intercept": intercept[order], **columns_of(placement, said, order),
    }, stacks)  # fmt: skip
    files = inverted_windows(files, inverted)
    files = with_column(files, "unit", _or_window(files["unit"], graded))
    return Plan(tuple(specs), files, table, rejects, wasted)


def _or_window(unit: Any, graded: NDArray[np.bool_]) -> Any:
    """The units, `window` where values become shares of a range."""
    if not graded.any():
        return unit
    return pc.if_else(pa.array(graded), "window", unit.cast(pa.string()))


def _geometry(
    files: pa.Table,
    file: NDArray[np.int32],
    frame: NDArray[np.int32],
    part: NDArray[np.int16],
    said: dict[str, Any],
) -> Geometry:
    per_file = [codes(files[c]) for c in ("study_uid", "series_uid", "frame_of_reference_uid")]
    per_file += [*parts.sides(files), *(ints(files[c], 0) for c in ("samples", "palette_bits"))]
    per_file += [codes(files[c]) for c in ("kind", "pixel_keyword")]
    per_file.append(codes(pc.equal(files["photometric"], "PALETTE COLOR").cast(pa.string())))
    base = [c[file] for c in per_file]
    base += [float_codes(floats(said[c]), 1e-4) for c in ("spacing_y", "spacing_x")]
    base += [ints(said["segment"], -1), ints(files["rule"], 0)[file]]
    base += [codes(said[c]) for c in ("unit", "image_type")]
    base += [ints(said[c], -1) for c in ("detector", "energy_window")]
    resolvers = [
        codes(said["stack_name"]),
        ints(said["acquisition"], -1),
        float_codes(floats(said["echo_time"]), 1e-3),
        float_codes(floats(said["b_value"]), 1e-1),
        combine([float_codes(g, 1e-3) for g in vectors(said["gradient"], 3).T]),
        ints(said["temporal_index"], -1),
        float_codes(floats(said["trigger_time"]), 1e-1),
    ]
    ties = [ints(said["in_stack"], -1), ints(files["instance"], -1)[file], frame.astype(np.int64)]
    ties += [codes(files["sop_uid"])[file], file.astype(np.int64), part.astype(np.int64)]
    position, orientation = vectors(said["position"], 3), vectors(said["orientation"], 6)
    return Geometry(base, position, orientation, resolvers, ties)


def _arrays(
    files: pa.Table,
    file: NDArray[np.int32],
    dtype: NDArray[Any],
    placement: Placement,
    recipe: Recipe,
) -> tuple[list[ArraySpec], NDArray[np.int64], int]:
    """(arrays, number of its array for each frame, bytes wasted)."""
    colour = (ints(files["samples"], 1) > 1) | (ints(files["palette_bits"], 0) > 0)
    rgb = treatments.holds(files, recipe, lambda t: t.colour == "rgb")
    channels = np.where(colour & rgb, 3, 0)
    windows = treatments.by_rule(files, recipe, lambda t: len(t.window)).astype(np.int64)
    several = treatments.graded_files(files, recipe) & (windows > 1)
    channels = np.where(several, windows, channels)
    height, width = placement.height, placement.width
    shape = combine([height, width, channels[file]])
    names, dtype_code = np.unique(dtype, return_inverse=True)
    size = combine([dtype_code.astype(np.int64), shape])
    _, example, inverse = np.unique(size, return_index=True, return_inverse=True)
    keys = []
    for e in example:
        f = file[e]
        last = (int(channels[f]),) if channels[f] else ()
        frame_shape = (int(height[e]), int(width[e]), *last)
        keys.append((str(names[dtype_code[e]]), frame_shape))
    frames = np.bincount(inverse, minlength=len(keys))
    sizes = [(d, s, int(n)) for (d, s), n in zip(keys, frames, strict=True)]
    try:
        slots = arrays.fit_slots(sizes, recipe.max_arrays, recipe.shard_bytes)
    except ValueError as e:
        raise RecipeError(f"recipe: {e}") from e
    total: Counter[tuple[str, tuple[int, ...]]] = Counter()
    own_bytes = 0
    for d, s, n in sizes:
        total[d, slots[d, s]] += n
        own_bytes += n * np.dtype(d).itemsize * math.prod(s)
    specs = sorted(
        (
            arrays.array_spec(d, slot, n, recipe.shard_bytes, recipe.codec)
            for (d, slot), n in total.items()
        ),
        key=lambda spec: spec.name,
    )
    number = {(spec.dtype, spec.slot): k for k, spec in enumerate(specs)}
    of_size = np.array([number[d, slots[d, s]] for d, s in keys], np.int64)
    wasted = sum(spec.slots * spec.slot_bytes for spec in specs) - own_bytes
    return specs, of_size[inverse] if len(keys) else np.empty(0, np.int64), wasted


def _frames(
    said: dict[str, Any], order: NDArray[np.int64], known: dict[str, Any], stacks: Stacks
) -> pa.Table:
    stack = stacks.stack[order]
    # Numbered in row order: the number of changes so far.
    number = np.cumsum(np.r_[False, stack[1:] != stack[:-1]]) if len(stack) else stack
    regular = stacks.regular[order]
    columns = {
        **{k: pa.array(v) for k, v in known.items()},
        "stack": pa.array(number.astype(np.int64)),
        "stack_index": pa.array(stacks.index[order]),
        "stack_regular": pa.array(regular == 1, mask=regular < 0),
    }
    for name in ("slope", "intercept"):
        columns[name] = pa.array(known[name], from_pandas=True)  # NaN: colour
    taken = pa.array(order)
    for field in FRAMES:
        if field.name in said and field.name not in columns:
            columns[field.name] = take_dictionary(said[field.name], taken)
        elif field.name not in columns:
            columns[field.name] = pa.nulls(len(order), field.type)
    return pa.table([columns[name].cast(FRAMES.field(name).type) for name in FRAMES.names], FRAMES)
