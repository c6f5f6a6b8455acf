"""Headers and recipe to plan, pure and columnar.

The law: every frame of every file that is kept is in exactly one slot; a shard is never over its
size, save for a frame that is larger than a shard; the frames of a stack lie one after another in
one array; and none of it depends on the order of the files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dicom2cache.arrow import (
    canonical,
    combine,
    expand,
    ints,
    take_dictionary,
    with_column,
)
from dicom2cache.errors import RecipeError
from dicom2cache.pixels.resize import Placement
from dicom2cache.planning import arrays, parts, treatments, values
from dicom2cache.planning.geometry import geometry
from dicom2cache.planning.masks.drawing import Drawing, drawing
from dicom2cache.planning.masks.marked import marked
from dicom2cache.planning.masks.outlined import with_structures
from dicom2cache.planning.masks.stored import NONE
from dicom2cache.planning.placement import columns_of, place_frames
from dicom2cache.planning.stacks import FLAGS, Stacks, assign
from dicom2cache.planning.windows import frame_windows, inverted_windows
from dicom2cache.recipes.recipe import Recipe
from dicom2cache.records import ArraySpec, Plan
from dicom2cache.schema import FRAMES, IN_MEMORY


def make_plan(
    files: pa.Table,
    rejects: pa.Table,
    recipe: Recipe,
    before: Sequence[ArraySpec] = (),
    stored: pa.Table = NONE,
    drawn_by: tuple[pa.Table, pa.Table] | None = None,
) -> Plan:
    """Where every frame of `files` (FILES, all to be stored) goes.

    `before`: the arrays of a cache that the frames are added to, in its order; their last shards
    stay as they are; `stored`: its images that masks may lie on (masks.stored). What lies on none
    is added to `rejects`. `drawn_by`: structure sets, whose contours are drawn (masks.outlined):
    FILES without frames, and CONTOURS_TABLE. Raises RecipeError if the sizes cannot be brought
    under `max_arrays`.
    """
    if drawn_by is not None:
        files, lost = with_structures(files, *drawn_by, recipe, stored)
        rejects = pa.concat_tables([rejects, lost])
    files = values.with_recipe(canonical(files).combine_chunks(), recipe)
    file, frame, part = parts.numbered(files)
    per_frame = parts.with_places(files, file, frame, part, expand(files, file))
    drawn: Drawing | None = None
    if not pc.any(pc.equal(files["kind"], "mask")).as_py():
        pass
    elif recipe.masks == "none":
        per_frame |= marked(files, file, frame, part, per_frame, stored)
    else:
        drawn = drawing(files, file, frame, part, per_frame, recipe, stored)
        files, rejects = drawn.files, pa.concat_tables([rejects, drawn.rejects])
        file, frame, part, per_frame = drawn.file, drawn.frame, drawn.part, drawn.said
    per_frame["unit"] = values.units(files, file, per_frame["unit"])
    slope, intercept, inverted = values.linear(files, file, per_frame, recipe)
    placement = place_frames(files, file, frame, per_frame, recipe)
    if drawn:
        placement = drawn.placed(placement)
        per_frame["unit"] = drawn.units(per_frame["unit"])
    stacks = assign(geometry(files, file, frame, part, per_frame, placement))
    dtype = values.dtypes(files, file, slope, intercept, per_frame["unit"], stacks.stack, recipe)
    if drawn:
        dtype = drawn.dtypes(dtype, stacks.stack)
    specs, array, wasted = _arrays(files, file, dtype, placement, recipe, before)

    order = stacks.order[np.argsort(array[stacks.order], kind="stable")]
    array = array[order]
    starts = np.searchsorted(array, np.arange(len(specs)))
    first = np.array([spec.first_row for spec in specs], np.int64)
    row = np.arange(len(order)) - (starts - first)[array]
    graded = treatments.graded_files(files, recipe)
    per_frame["unit"] = _or_window(per_frame["unit"], graded[file])
    per_frame["windows"] = frame_windows(files, file, per_frame["windows"], inverted, recipe)
    table = _frames(per_frame, order, {
        "file": file[order], "frame": frame[order], "part_of_frame": part[order],
        "array": array.astype(np.int16), "row": row,
        "slope": slope[order], "intercept": intercept[order],
        **columns_of(placement, per_frame, order),
    }, stacks)  # fmt: skip
    files = inverted_windows(files, inverted)
    files = with_column(files, "unit", _or_window(files["unit"], graded))
    return Plan(tuple(specs), files.drop_columns(list(IN_MEMORY)), table, rejects, wasted)


def _or_window(unit: Any, graded: NDArray[np.bool_]) -> Any:
    """The units, `window` where values become shares of a range."""
    if not graded.any():
        return unit
    return pc.if_else(pa.array(graded), "window", unit.cast(pa.string()))


def _arrays(
    files: pa.Table,
    file: NDArray[np.int32],
    dtype: NDArray[Any],
    placement: Placement,
    recipe: Recipe,
    before: Sequence[ArraySpec],
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
    waves = treatments.waveforms(files)[file]
    if waves.any():
        dtype = np.where(waves, np.char.add(arrays.WAVEFORMS, dtype), dtype)
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
        known = [(arrays.stored_type(spec), spec.slot) for spec in before]
        slots = arrays.fit_slots_beside(known, sizes, recipe.max_arrays, recipe.shard_bytes)
    except ValueError as e:
        raise RecipeError(f"recipe: {e}") from e
    total: Counter[tuple[str, tuple[int, ...]]] = Counter()
    own_bytes = 0
    for d, s, n in sizes:
        total[d, slots[d, s]] += n
        own_bytes += n * arrays.bytes_of(d, s)
    wanted = sorted(
        (
            arrays.array_spec(d, slot, n, recipe.shard_bytes, recipe.codec)
            for (d, slot), n in total.items()
        ),
        key=lambda spec: spec.name,
    )
    specs, place = arrays.joined(before, wanted)
    number = {
        (arrays.stored_type(spec), spec.slot): k for spec, k in zip(wanted, place, strict=True)
    }
    of_size = np.array([number[d, slots[d, s]] for d, s in keys], np.int64)
    wasted = sum(spec.slots * spec.slot_bytes for spec in specs) - own_bytes
    return specs, of_size[inverse] if len(keys) else np.empty(0, np.int64), wasted


def _frames(
    per_frame: dict[str, Any], order: NDArray[np.int64], known: dict[str, Any], stacks: Stacks
) -> pa.Table:
    columns = {**{k: pa.array(v) for k, v in known.items()}, **_stack_columns(stacks, order)}
    for name in ("slope", "intercept"):
        columns[name] = pa.array(known[name], from_pandas=True)  # NaN: colour
    taken = pa.array(order)
    for field in FRAMES:
        if field.name in per_frame and field.name not in columns:
            columns[field.name] = take_dictionary(per_frame[field.name], taken)
        elif field.name not in columns:
            columns[field.name] = pa.nulls(len(order), field.type)
    return pa.table([columns[name].cast(FRAMES.field(name).type) for name in FRAMES.names], FRAMES)


def _stack_columns(stacks: Stacks, order: NDArray[np.int64]) -> dict[str, Any]:
    """The columns that say what was assembled, rows in `order`."""
    stack, acquisition = stacks.stack[order], stacks.acquisition[order]
    # Numbered in row order: the number of changes so far.
    number = np.cumsum(np.r_[False, stack[1:] != stack[:-1]]) if len(stack) else stack
    first = np.full(int(acquisition.max(initial=-1)) + 1, len(order))
    np.minimum.at(first, acquisition, number)
    regular, flags = stacks.regular[order], stacks.flags[order]
    kinds, kind = np.unique(flags, return_inverse=True)
    named = [[name for k, name in enumerate(FLAGS) if bits >> k & 1] for bits in kinds.tolist()]
    return {
        "stack": pa.array(number.astype(np.int64)),
        "stack_index": pa.array(stacks.index[order]),
        "stack_regular": pa.array(regular == 1, mask=regular < 0),
        "stack_of": pa.array(first[acquisition]),
        "part": pa.array(stacks.part[order]),
        "stack_flags": pa.array([n or None for n in named], pa.list_(pa.string())).take(
            pa.array(kind)
        ),
        "tilt": pa.array(stacks.tilt[order], from_pandas=True),
    }
