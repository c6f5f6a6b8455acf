"""Headers and recipe to plan, pure and columnar.

The law: every frame of every file that is kept is in exactly one slot; a shard is never over its
size, save for a frame that is larger than a shard; the frames of a stack lie one after another in
one array; and none of it depends on the order of the files.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dicom2cache import arrays, codecs
from dicom2cache.columns import (
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
from dicom2cache.recipe import Recipe
from dicom2cache.records import FILES, FRAMES, ArraySpec, Plan, ShardTask
from dicom2cache.stacks import Geometry, Stacks, assign


def make_plan(files: pa.Table, rejects: pa.Table, recipe: Recipe) -> Plan:
    """Where every frame of `files` (FILES, all to be stored) goes.

    Raises RecipeError if the sizes cannot be brought under `max_arrays`.
    """
    files = canonical(files).combine_chunks()
    if recipe.intensity == "stored":
        files = _as_stored(files)
    counts = ints(files["frames"], 1)
    file = np.repeat(np.arange(files.num_rows, dtype=np.int32), counts)
    frame = (np.arange(len(file)) - np.repeat(np.cumsum(counts) - counts, counts)).astype(np.int32)
    said = expand(files, file)
    slope, intercept, inverted = _linear(files, file, said, recipe)
    stacks = assign(_geometry(files, file, frame, said))
    values = _values(files, file, slope, intercept)
    if recipe.dtype == "auto":
        dtype = arrays.dtype_names(arrays.dtypes_of_stacks(values, stacks.stack))
        if recipe.intensity == "window":
            dtype = np.where(_windowed(files, recipe)[file], "uint8", dtype)
    else:
        dtype = np.full(len(file), recipe.dtype)
    specs, array, wasted = _arrays(files, file, dtype, recipe)

    order = stacks.order[np.argsort(array[stacks.order], kind="stable")]
    array = array[order]
    starts = np.searchsorted(array, np.arange(len(specs)))
    row = np.arange(len(order)) - starts[array]
    table = _frames(said, order, {
        "file": file[order], "frame": frame[order], "array": array.astype(np.int16), "row": row,
        "slope": slope[order], "intercept": intercept[order],
    }, stacks)  # fmt: skip
    files = _inverted_windows(files, file, inverted)
    if recipe.intensity == "window":
        windowed = pa.array(_windowed(files, recipe))
        files = with_column(files, "unit", pc.if_else(windowed, "window", files["unit"]))
    return Plan(tuple(specs), files, table, rejects, wasted)


def _windowed(files: pa.Table, recipe: Recipe) -> NDArray[np.bool_]:
    """Which files go through the recipe's window: grey images, and neither dose nor maps."""
    if recipe.intensity != "window":
        return np.zeros(files.num_rows, bool)
    grey = pc.and_(pc.is_valid(files["slope"]), pc.equal(files["kind"], "image"))
    found: NDArray[np.bool_] = grey.to_numpy(zero_copy_only=False).astype(bool)
    return found


def _as_stored(files: pa.Table) -> pa.Table:
    grey = pc.is_valid(files["slope"])
    one, zero = (pc.if_else(grey, v, None).cast(pa.float64()) for v in (1.0, 0.0))
    none = pa.nulls(files.num_rows, pa.float64())
    for column, value in (
        ("slope", one), ("intercept", zero), ("lut_low", none), ("lut_high", none),
        ("unit", pc.if_else(grey, "stored", None)),
        ("windows", pa.nulls(files.num_rows, files.schema.field("windows").type)),
    ):  # fmt: skip
        files = with_column(files, column, value)
    return files


def _linear(
    files: pa.Table, file: NDArray[np.int32], said: dict[str, Any], recipe: Recipe
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """(slope, intercept) of every frame, MONOCHROME1 folded in; and which files were inverted.

    v' = S - v with S = modality(lowest) + modality(highest) is again linear: slope -m, intercept
    m * (lowest + highest) + b. Only where the unit is unspecified: HU or optical density keep
    their values (PS3.3 C.7.6.3.1.2).
    """
    if recipe.intensity == "stored":  # per-frame transforms are the file's, not the recipe's
        slope, intercept = (floats(files[c])[file] for c in ("slope", "intercept"))
    else:
        slope, intercept = floats(said["slope"]), floats(said["intercept"])
    inverted = np.zeros(files.num_rows, bool)
    if recipe.monochrome1 == "invert" and recipe.intensity == "modality":
        inverted = pc.and_kleene(
            pc.and_kleene(files["inverted"], pc.equal(files["unit"], "US")),
            pc.and_(pc.is_null(files["lut_low"]), pc.equal(files["pixel_keyword"], "PixelData")),
        ).fill_null(False).to_numpy(zero_copy_only=False).astype(bool)  # fmt: skip
        low, high = _stored_range(files)
        total = (low + high)[file]
        mirrored = inverted[file]
        intercept = np.where(mirrored, slope * total + intercept, intercept)
        slope = np.where(mirrored, -slope, slope)
    return slope, intercept, inverted


def _stored_range(files: pa.Table) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    bits = ints(files["bits_stored"], 16)
    signed = files["signed"].to_numpy(zero_copy_only=False).astype(bool)
    span = 2.0**bits
    return np.where(signed, -span / 2, 0.0), np.where(signed, span / 2, span) - 1


def _values(
    files: pa.Table, file: NDArray[np.int32], slope: NDArray[Any], intercept: NDArray[Any]
) -> arrays.Values:
    low, high = _stored_range(files)
    integer = pc.equal(files["pixel_keyword"], "PixelData").to_numpy(zero_copy_only=False)
    palette = ints(files["palette_bits"], 0)
    high = np.where(palette > 0, 2.0**palette - 1, high)
    low = np.where(palette > 0, 0.0, low)
    m, b = np.nan_to_num(slope, nan=1.0), np.nan_to_num(intercept, nan=0.0)
    ends = m * low[file] + b, m * high[file] + b
    lut_low, lut_high = floats(files["lut_low"])[file], floats(files["lut_high"])[file]
    lut = ~np.isnan(lut_low)
    whole = integer.astype(bool)[file] & (lut | ((m == np.floor(m)) & (b == np.floor(b))))
    hu = pc.equal(files["unit"], "HU").fill_null(False).to_numpy(zero_copy_only=False)
    double = pc.equal(files["pixel_keyword"], "DoubleFloatPixelData")
    return arrays.Values(
        low=np.where(lut, lut_low, np.minimum(*ends)),
        high=np.where(lut, lut_high, np.maximum(*ends)),
        whole=whole,
        hu=hu.astype(bool)[file],
        double=double.to_numpy(zero_copy_only=False).astype(bool)[file],
    )


def _geometry(
    files: pa.Table, file: NDArray[np.int32], frame: NDArray[np.int32], said: dict[str, Any]
) -> Geometry:
    per_file = [codes(files[c]) for c in ("study_uid", "series_uid", "frame_of_reference_uid")]
    per_file += [ints(files[c], 0) for c in ("height", "width", "samples", "palette_bits")]
    per_file += [codes(files[c]) for c in ("kind", "unit", "pixel_keyword")]
    per_file.append(codes(pc.equal(files["photometric"], "PALETTE COLOR").cast(pa.string())))
    base = [c[file] for c in per_file]
    base += [float_codes(floats(said[c]), 1e-4) for c in ("spacing_y", "spacing_x")]
    base.append(codes(said["image_type"]))
    resolvers = [
        codes(said["stack_name"]),
        ints(said["acquisition"], -1),
        float_codes(floats(said["echo_time"]), 1e-3),
        float_codes(floats(said["b_value"]), 1e-1),
        ints(said["temporal_index"], -1),
        float_codes(floats(said["trigger_time"]), 1e-1),
    ]
    ties = [ints(files["instance"], -1)[file], frame.astype(np.int64)]
    ties += [codes(files["sop_uid"])[file], file.astype(np.int64)]
    position, orientation = vectors(said["position"], 3), vectors(said["orientation"], 6)
    return Geometry(base, position, orientation, resolvers, ties)


def _arrays(
    files: pa.Table, file: NDArray[np.int32], dtype: NDArray[Any], recipe: Recipe
) -> tuple[list[ArraySpec], NDArray[np.int64], int]:
    """(arrays, number of its array for each frame, bytes wasted)."""
    colour = (ints(files["samples"], 1) > 1) | (ints(files["palette_bits"], 0) > 0)
    channels = np.where(colour & (recipe.colour == "rgb"), 3, 0)
    if len(recipe.window) > 1:
        channels = np.where(_windowed(files, recipe), len(recipe.window), channels)
    shape = combine([ints(files["height"], 0), ints(files["width"], 0), channels])
    height, width = ints(files["height"], 0), ints(files["width"], 0)
    names, dtype_code = np.unique(dtype, return_inverse=True)
    size = combine([dtype_code.astype(np.int64), shape[file]])
    _, example, inverse = np.unique(size, return_index=True, return_inverse=True)
    keys = []
    for e in example:
        f = file[e]
        last = (int(channels[f]),) if channels[f] else ()
        frame_shape = (int(height[f]), int(width[f]), *last)
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
        (arrays.array_spec(d, slot, n, recipe.shard_bytes) for (d, slot), n in total.items()),
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
        if field.name not in columns:
            columns[field.name] = take_dictionary(said[field.name], taken)
    return pa.table([columns[name].cast(FRAMES.field(name).type) for name in FRAMES.names], FRAMES)


def _inverted_windows(
    files: pa.Table, file: NDArray[np.int32], inverted: NDArray[np.bool_]
) -> pa.Table:
    """Windows of inverted files mirrored with the values: c' = S - c + 1 if LINEAR, else S - c."""
    if not inverted.any():
        return files
    windows, flags = files["windows"].to_pylist(), files["flags"].to_pylist()
    still = files["inverted"].to_pylist()
    low, high = _stored_range(files)
    slope, intercept = floats(files["slope"]), floats(files["intercept"])
    for i in np.flatnonzero(inverted):
        total = slope[i] * (low[i] + high[i]) + 2 * intercept[i]
        windows[i] = windows[i] and [
            {**w, "center": total - w["center"] + (w["function"] == "LINEAR")} for w in windows[i]
        ]
        flags[i], still[i] = [*(flags[i] or []), "inverted"], False
    for name, column in (("windows", windows), ("flags", flags), ("inverted", still)):
        files = with_column(files, name, pa.array(column, FILES.field(name).type))
    return files


def tasks(plan: Plan) -> list[ShardTask]:
    """One task for each shard, in the order of the cache; their rows cover the frame table once."""
    weight = np.array([codecs.cost_weight(s) for s in plan.files["transfer_syntax"].to_pylist()])
    weight = np.append(weight, 0.0)  # for a plan without files
    file = ints(plan.frames["file"], 0)
    summed = np.r_[0.0, np.cumsum(weight[file])]
    result, start = [], 0
    for a, spec in enumerate(plan.arrays):
        for shard in range(spec.shards):
            stop = start + min(spec.frames_per_shard, spec.slots - shard * spec.frames_per_shard)
            cost = float(summed[stop] - summed[start]) * spec.slot_bytes
            result.append(ShardTask(a, shard, start, stop, cost))
            start = stop
    return result


def part(all_tasks: list[ShardTask], index: int, of: int) -> list[ShardTask]:
    """Part `index` (from 0) of `of` of about the same cost; the parts cover all tasks once."""
    loads = [(0.0, i) for i in range(of)]
    mine = []
    for task in sorted(all_tasks, key=lambda t: (-t.cost, t.array, t.shard)):
        load, who = heapq.heappop(loads)
        heapq.heappush(loads, (load + task.cost, who))
        if who == index:
            mine.append(task)
    return mine
