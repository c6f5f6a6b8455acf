"""Plan and results to the rows of frames/ and failures/, pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dicom2cache.arrow import first_of, floats, ints, mask_of
from dicom2cache.planning.masks.shown import segments_shown
from dicom2cache.planning.parts import group_rows
from dicom2cache.planning.select import rejected
from dicom2cache.planning.treatments import holds
from dicom2cache.recipes.columns import Own
from dicom2cache.recipes.recipe import WAVEFORM, Recipe
from dicom2cache.recipes.rois import Rois
from dicom2cache.records import ArraySpec
from dicom2cache.running.own import own_columns, schema_with
from dicom2cache.schema import FRAMES, MEANT, WHOSE

_UNMOVED = {"scale_y": 1.0, "scale_x": 1.0, "offset_y": 0.0, "offset_x": 0.0}
_STATISTICS = ("min", "max", "mean", "std")


def prepared(files: pa.Table, recipe: Recipe) -> pa.Table:
    """The plan's files with the columns of frames/ that follow from them."""
    grey = pc.is_valid(files["slope"])
    inverted = files["inverted"].fill_null(False)
    # windowed values are inverted with the window
    undone = pc.and_(
        pc.equal(files["unit"], "window").fill_null(False),
        pa.array(holds(files, recipe, lambda t: t.monochrome1 == "invert")),
    )
    polarity = pc.if_else(pc.and_not(inverted, undone), "inverted", "normal")
    files = files.append_column("polarity", pc.if_else(grey, polarity, None))
    for name, column in zip(("padding", "padding_end"), _padding(files), strict=True):
        files = files.append_column(name, pa.array(column, from_pandas=True))
    neither = pc.is_in(files["kind"], value_set=pa.array(["mask", WAVEFORM]))
    colour = pc.and_not(pc.invert(grey), neither)
    shares = mask_of(colour) & holds(files, recipe, lambda t: t.graded)
    bits = first_of(files["palette_bits"].cast(pa.int16()), files["bits_stored"])
    scale = np.where(shares, np.inf, 2.0 ** ints(bits, 8) - 1)
    scale = pc.if_else(colour, pa.array(scale), files["fractional_max"].cast(pa.float64()))
    files = files.append_column("full_scale", scale)
    return files


def _padding(files: pa.Table) -> tuple[Any, Any]:
    """The two ends of padding in stored values, in no order; whole ones wrapped into BitsAllocated.

    The second is NaN for a single value, both where none is declared.
    """
    value, limit = floats(files["padding_value"]), floats(files["padding_limit"])
    floating = pc.not_equal(files["pixel_keyword"], "PixelData").to_numpy(zero_copy_only=False)
    span = 2.0 ** ints(files["bits_allocated"], 16)
    signed = files["signed"].to_numpy(zero_copy_only=False).astype(bool)

    def wrap(v: Any) -> Any:
        whole = np.mod(v, span)
        whole = np.where(signed & (whole >= span / 2), whole - span, whole)
        return np.where(floating, v, whole)

    return wrap(value), np.where(np.isnan(value), np.nan, wrap(limit))


_OF_ALL = ("waveforms", "meant", "segments", "tile_channels")
"""columns of FILES that no row of frames/ has whole"""


def frame_rows(
    files: pa.Table,
    frames: pa.Table,
    results: pa.Table,
    arrays: Sequence[ArraySpec],
    rois: Rois = (),
    mine: Sequence[Own] = (),
) -> pa.Table:
    """Rows of frames/ for stored frames of the plan; `results` has a row for each, `rois` and
    `mine`, the user's columns, are the recipe's."""
    # Lists of a file's frames, for each of them: a million million.
    own = files.drop_columns([c for c in _OF_ALL if c in files.column_names]).take(frames["file"])
    columns = {}
    slope, intercept = floats(frames["slope"]), floats(frames["intercept"])
    one, other = (floats(own[c]) * slope + intercept for c in ("padding", "padding_end"))
    padding = pa.array(np.fmin(one, other), from_pandas=True)
    # A slope below 0 turns the range over.
    limit = pa.array(np.where(np.isnan(other), np.nan, np.fmax(one, other)), from_pandas=True)
    zero = pc.if_else(pc.is_valid(padding), 0.0, None)
    # A LUT or a window is no line that slope and intercept could say.
    windowed = pc.equal(own["unit"], "window").fill_null(False)
    lut = pc.or_(pc.is_valid(own["lut_low"]), windowed)
    meant = _meant(files, frames)
    schema = schema_with(mine)
    extra = own_columns(own, mine)
    for field in schema:
        if field.name in extra.column_names:
            column = extra[field.name]
        elif field.name == "padding_value":
            column = pc.if_else(windowed, zero, pc.if_else(lut, None, padding))
        elif field.name == "padding_limit":
            column = pc.if_else(lut, None, limit)
        elif field.name == "full_scale":
            tops = np.array([_top(spec.dtype) for spec in arrays])[ints(frames["array"], 0)]
            column = pc.if_else(pc.is_inf(own["full_scale"]), tops, own["full_scale"])
            whole = pc.equal(frames["unit"], "labelmap").fill_null(False)  # fractional no longer
            column = pc.if_else(whole, None, column)
        elif field.name in ("slope", "intercept"):
            column = pc.if_else(lut, None, frames[field.name])
        elif field.name in ("source_height", "source_width"):
            side = field.name.removeprefix("source_")
            column = first_of(own[f"part_{side}"], own[side])
            column = first_of(frames[f"drawn_{side}"], column)
            column = pc.if_else(pc.equal(own["kind"], WAVEFORM), frames[side], column)
        elif field.name in MEANT.names:
            column = meant[field.name]
        elif field.name == "photometric":
            column = pc.if_else(pc.equal(own["kind"], WAVEFORM), None, own["photometric"])
        elif field.name == "segments":
            column = segments_shown(files, frames, rois)
        elif field.name == "pixel_aspect":
            column = _aspect(own, frames)
        elif field.name in _UNMOVED:
            column = frames[field.name].fill_null(_UNMOVED[field.name])
        elif field.name == "windows":
            column = first_of(frames["windows"], own["windows"])
        elif field.name == "rule":
            column = own["rule"].fill_null(0)
        elif field.name == "flags":
            column = _joined(own["flags"], results["flags"])
        elif field.name in results.schema.names:
            column = results[field.name]
        elif field.name in FRAMES.names:
            column = frames[field.name]
        else:
            column = own[field.name]
        columns[field.name] = column.cast(field.type)
    return pa.table(columns, schema)


def _aspect(own: pa.Table, frames: pa.Table) -> Any:
    """Height over width of a stored pixel: resizing changes it."""
    scale_y, scale_x = (floats(frames[c].fill_null(1.0)) for c in ("scale_y", "scale_x"))
    return pa.array(floats(own["pixel_aspect"]) * scale_x / scale_y, from_pandas=True)


def _meant(files: pa.Table, frames: pa.Table) -> dict[str, Any]:
    """What multiplex groups mean, of each frame; null for images."""
    if files["meant"].null_count == files.num_rows:
        return {field.name: pa.nulls(frames.num_rows, field.type) for field in MEANT}
    file, frame = (ints(frames[name], 0) for name in ("file", "frame"))
    place, mine = group_rows(files["meant"], file.astype(np.int32), frame.astype(np.int32))
    at, known = np.zeros(frames.num_rows, np.int64), np.zeros(frames.num_rows, bool)
    at[mine], known[mine] = place, True
    taken = files["meant"].combine_chunks().flatten().take(pa.array(at, mask=~known))
    return {field.name: pc.struct_field(taken, field.name) for field in MEANT}


def _top(dtype: str) -> float:
    """What the whole of a share is in `dtype`: its greatest value, or 1."""
    return 1.0 if dtype.startswith("float") else float(np.iinfo(dtype).max)


def _joined(first: Any, second: Any) -> Any:
    if first.null_count == len(first) and second.null_count == len(second):
        return pa.nulls(len(first), pa.list_(pa.string()))
    both = zip(first.to_pylist(), second.to_pylist(), strict=True)
    return pa.array([[*(a or []), *(b or [])] or None for a, b in both], pa.list_(pa.string()))


def frame_failures(files: pa.Table, frames: pa.Table, results: pa.Table) -> pa.Table:
    """Rows of failures/ for those frames of the plan that could not be stored."""
    bad = results["reason"].is_valid()
    rows = frames.filter(bad)
    own = files.take(rows["file"])
    return rejected(
        {
            "root": own["root"],
            "path": own["path"],
            "frame": rows["frame"],
            "outcome": pa.array(["failed"] * rows.num_rows, pa.string()),
            "stage": results["stage"].filter(bad),
            "reason": results["reason"].filter(bad),
            **{name: own[name].cast(pa.string()) for name in WHOSE},
        }
    )


def in_order(failures: pa.Table) -> pa.Table:
    """Rows of failures/ in order of root, path and frame; the slices of a mosaic are one frame."""
    order = [("root", "ascending"), ("path", "ascending"), ("frame", "ascending")]
    rows = failures.sort_by(order)
    frame = ints(rows["frame"], -1)
    again = np.zeros(len(frame), bool)
    again[1:] = (frame[1:] == frame[:-1]) & (frame[1:] >= 0)
    for name in ("root", "path"):
        column = rows[name].combine_chunks()
        again[1:] &= np.asarray(pc.equal(column[1:], column[:-1]))
    return rows.filter(pa.array(~again))


@dataclass
class Totals:
    """Pooled statistics of an array, in row order, so that sums do not depend on who converted."""

    frames: int = 0
    count: float = 0.0
    low: float = np.inf
    high: float = -np.inf
    total: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, about: dict[str, Any]) -> Totals:
        """Those that an array of a root's attributes has."""
        said = about["statistics"]
        if not said["count"]:
            return cls(about["frames"])
        mean, std = (np.nan if said[k] is None else said[k] for k in ("mean", "std"))
        count = float(said["count"])
        squares = count * (std**2 + mean**2)
        return cls(about["frames"], count, said["min"], said["max"], count * mean, squares)

    def add(self, table: pa.Table, channels: tuple[int, ...]) -> None:
        """Pool the rows of one array."""
        self.frames += table.num_rows
        pixels = floats(table["height"]) * floats(table["width"]) * (channels or (1,))[0]
        n = np.rint(pixels * (1 - np.nan_to_num(floats(table["padding_fraction"]))))
        low, high, mean, std = (floats(table[c]) for c in _STATISTICS)
        has = ~np.isnan(low)
        if not has.any():
            return
        n, mean, std = n[has], mean[has], std[has]
        self.count += float(n.sum())
        self.low = min(self.low, float(low[has].min()))
        self.high = max(self.high, float(high[has].max()))
        with np.errstate(over="ignore", invalid="ignore"):  # a mean that is null makes all so
            self.total += float((n * mean).sum())
            self.squares += float((n * (std**2 + mean**2)).sum())

    def summary(self) -> dict[str, Any]:
        """The `statistics` of the root metadata."""
        if not self.count:
            return {"count": 0, **dict.fromkeys(_STATISTICS)}
        mean = self.total / self.count
        variance = self.squares / self.count - mean * mean
        return {
            "count": int(self.count),
            "min": self.low,
            "max": self.high,
            "mean": mean if math.isfinite(mean) else None,
            "std": math.sqrt(max(0.0, variance)) if math.isfinite(variance) else None,
        }
