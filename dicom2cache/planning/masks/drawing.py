"""Rows of the plan for masks that are drawn on their images; pure and columnar.

With `planes` a row for each image and segment of a file, with `labelmap` one for each image and
file. A row says of its place what its image says, and of what is drawn what its file says: so a
mask has the place, the size and the order of its image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dicom2cache.arrow import Codes, combine, floats, ints, mask_of, plain
from dicom2cache.pixels.resize import Placement
from dicom2cache.planning.arrays import MASKS
from dicom2cache.planning.masks.compared import Compared, compared
from dicom2cache.planning.masks.join import Pairs, between, join
from dicom2cache.planning.masks.marked import BY, how, image_columns
from dicom2cache.planning.masks.outlined import SHARE, too_much
from dicom2cache.planning.masks.reach import reaches
from dicom2cache.planning.masks.segments import Segments
from dicom2cache.planning.masks.stored import PLACEMENT
from dicom2cache.planning.masks.unplaced import unplaced
from dicom2cache.recipes.recipe import Recipe
from dicom2cache.schema import FRAMES

Rows = NDArray[np.int64]

_OF_IMAGE = (
    "position", "orientation", "spacing_y", "spacing_x", "matrix_row", "matrix_column", "z_offset",
    "temporal_index", "acquisition", "time", "trigger_time", "echo_time", "b_value", "gradient",
    "thickness",
)  # fmt: skip
"""what a row of a mask says as its image does"""


@dataclass(frozen=True)
class Drawing:
    """All rows of a plan, those of masks drawn."""

    files: pa.Table
    """those that have rows"""
    file: NDArray[np.int32]
    frame: NDArray[np.int32]
    part: NDArray[np.int16]
    said: dict[str, Any]
    """what each row says, as `arrow.expand`, with the columns of a mask"""
    image: Rows
    """row that a mask is drawn on; from the number of rows on those that are stored; -1: no mask"""
    unit: Any
    """of masks; null elsewhere"""
    wide: NDArray[np.bool_]
    """masks that want 16 bits"""
    stored: pa.Table
    rejects: pa.Table
    """REJECTS: what lies on no image, or is of no class"""

    def placed(self, placement: Placement) -> Placement:
        """Masks where their images lie; `placement` of all rows."""
        rows = np.flatnonzero(self.image >= 0)
        parts = {}
        for name in PLACEMENT:
            own = getattr(placement, name)
            moved = own.copy()
            old = np.nan_to_num(floats(self.stored[name])).astype(own.dtype)
            moved[rows] = np.r_[own, old][self.image[rows]]
            parts[name] = moved
        return Placement(**parts)

    def units(self, own: Any) -> Any:
        """The units of all rows; `own` those that files say."""
        return pc.coalesce(self.unit, own.cast(pa.string()))

    def dtypes(self, own: NDArray[Any], stack: Codes) -> NDArray[Any]:
        """Stored types: names of dtypes with those of masks, the same within a stack."""
        wide = np.zeros(int(stack.max(initial=-1)) + 1, bool)
        wide[stack[self.wide]] = True
        masks = np.where(wide[stack], f"{MASKS}uint16", f"{MASKS}uint8")
        return np.where(self.image >= 0, masks, own)


def drawing(
    files: pa.Table,
    file: NDArray[np.int32],
    frame: NDArray[np.int32],
    part: NDArray[np.int16],
    said: dict[str, Any],
    recipe: Recipe,
    stored: pa.Table,
) -> Drawing:
    """`said`, and `stored`: as of `compared`."""
    found = compared(files, file, frame, said, stored)
    other = recipe.mask_grid == "image"
    pairs = join(found.masks, found.images, found.slices, nearest=other)
    usable = pairs.same | (np.isfinite(pairs.lead).all(axis=(1, 2)) & other)
    refused = _too_many(found.masks.file, pairs.mask[usable], recipe)
    usable &= ~np.isin(found.masks.file[pairs.mask], refused)
    on = np.zeros(len(found.masks.file), bool)
    if other:
        on = between(found.masks, found.images, found.slices, pairs.take(usable))
    on[pairs.mask[usable]] = True
    segments = Segments.of(files, file, said, found.mask_rows, recipe)
    drawn = _drawn(files, frame, found, pairs.take(usable), segments, recipe)
    kept = mask_of(pc.not_equal(files["kind"], "mask"))
    kept[found.masks.file[drawn.mask]] = True
    why = too_much(recipe.limits.frames // SHARE, recipe.limits)
    rejects = unplaced(
        files, frame, found, pairs, on, segments, kept, dict.fromkeys(refused.tolist(), why)
    )

    count = len(file)
    others = found.image_rows[found.image_rows < count]
    base = np.r_[others, found.mask_rows[drawn.mask]]
    parts = np.r_[part[others], drawn.part]
    order = np.lexsort((parts, frame[base], file[base]))
    base, parts = base[order], parts[order]
    own = np.r_[np.full(len(others), -1), np.arange(len(drawn.mask))][order]
    source = np.r_[others, found.image_rows[drawn.image]][order]
    now = np.full(count + stored.num_rows, -1, np.int64)
    now[base[own < 0]] = np.flatnonzero(own < 0)
    now[count:] = len(base) + np.arange(stored.num_rows)
    taken, of_image = pa.array(base), pa.array(source)
    made = {name: column.take(taken) for name, column in said.items()}
    for name in _OF_IMAGE:
        if name in said:
            kind = FRAMES.field(name).type if name in FRAMES.names else plain(said[name]).type
            both = [plain(t[name]).cast(kind) for t in (said, stored)]
            made[name] = pa.concat_arrays(both).take(of_image)
    spread = pa.array(own, mask=own < 0)
    for name, column in drawn.columns(found, files, stored, file, frame, part).items():
        mine = column.take(spread)
        before = plain(said[name]).take(taken) if name in said else None
        made[name] = mine if before is None else pc.if_else(pa.array(own < 0), before, mine)
    numbers = np.cumsum(kept) - 1
    return Drawing(
        files=files.filter(pa.array(kept)), file=numbers[file[base]].astype(np.int32),
        frame=frame[base], part=parts.astype(np.int16), said=made,
        image=np.where(own < 0, -1, now[source]), unit=drawn.unit.take(spread),
        wide=np.r_[np.zeros(len(others), bool), drawn.wide][order], stored=stored, rejects=rejects,
    )  # fmt: skip


def _too_many(file: Codes, mask: Rows, recipe: Recipe) -> Rows:
    """Files whose masks lie on so many more images than they have frames that they are refused."""
    frames = np.bincount(file)
    drawn = np.bincount(file[mask], minlength=len(frames))
    return np.flatnonzero(drawn > SHARE * frames + recipe.limits.frames // SHARE)


@dataclass(frozen=True)
class _Drawn:
    """m rows of masks, sorted by file, image and segment."""

    mask: Rows
    """of Masks, the first frame that is in it"""
    image: Rows
    """of the images"""
    part: Rows
    """number among the rows that begin with that frame"""
    by: Rows
    """numbers of BY"""
    drawn: Any
    """lists of DRAWN"""
    unit: Any
    wide: NDArray[np.bool_]
    segment: Any
    label: Any
    reach: Any
    reaches: Any
    """lists, of what is drawn of contours"""

    def columns(
        self,
        found: Compared,
        files: pa.Table,
        stored: pa.Table,
        file: NDArray[np.int32],
        frame: NDArray[np.int32],
        part: NDArray[np.int16],
    ) -> dict[str, Any]:
        """Columns of FRAMES."""
        size = found.images.size[self.image]
        place = pa.array(found.image_rows[self.image])
        return {
            **image_columns(files, file, frame, part, stored, place),
            "image_by": pa.array(BY).take(pa.array(self.by)), "drawn": self.drawn,
            "drawn_height": pa.array(size[:, 1]), "drawn_width": pa.array(size[:, 0]),
            "segment": self.segment, "segment_label": self.label,
            "mask_reach": self.reach, "mask_reaches": self.reaches,
        }  # fmt: skip


def _drawn(
    files: pa.Table,
    frame: NDArray[np.int32],
    found: Compared,
    pairs: Pairs,
    segments: Segments,
    recipe: Recipe,
) -> _Drawn:
    """The rows of masks that pairs make."""
    as_maps = recipe.masks == "labelmap"
    pair, number, value = _entries(pairs, found.masks.file, segments, as_maps and not recipe.rois)
    mask, image = pairs.mask[pair], pairs.image[pair]
    of, at = found.masks.file[mask], frame[found.mask_rows[mask]].astype(np.int64)
    segment = np.where(number >= 0, number, segments.shown[mask])
    key = combine([of, image, np.zeros(len(of), np.int64) if as_maps else segment])
    order = np.lexsort((at, segment, value, key))
    pair, number, value, mask, image, at, segment, key = (
        a[order] for a in (pair, number, value, mask, image, at, segment, key)
    )
    starts = np.flatnonzero(np.r_[True, np.diff(key) != 0][: len(key)])
    first = np.lexsort((at, key))[starts]
    part = _counted(found.masks.file[mask[first]], at[first])
    kinds = files["unit"].combine_chunks().take(pa.array(found.masks.file[mask[first]]))
    deep = (ints(files["bits_allocated"], 8) > 8)[found.masks.file[mask[first]]]
    most = np.maximum.reduceat(value, starts) if len(starts) else value
    if as_maps:
        unit = pa.array(["labelmap"]).take(pa.array(np.zeros(len(first), np.int64)))
        wide = (most > 255) | (deep & (most < 0))
        none = pa.nulls(len(first), pa.int32())
        own, label = none, pa.nulls(len(first), pa.string())
    else:
        fractional = pc.equal(kinds, "fractional")
        unit = pc.if_else(fractional, "fractional", "binary")
        wide = deep & mask_of(fractional)
        own = pa.array(segment[first].astype(np.int32))
        label = _labels(segments, found.masks.file[mask[first]], segment[first])
        value = np.where(number >= 0, 1, -1)
    drawn = pa.ListArray.from_arrays(
        pa.array(np.r_[starts, len(key)].astype(np.int32)),
        pa.StructArray.from_arrays(
            [pa.array(at.astype(np.int32)), _or_null(number), _or_null(value),
             _leads(pairs.take(pair), files, found, segments)],
            fields=list(FRAMES.field("drawn").type.value_type),
        ),
        type=FRAMES.field("drawn").type,
    )  # fmt: skip
    reach = reaches(found.masks, found.images, pairs)
    reach[~pairs.same] = np.nan  # the slices that their planes reach are drawn
    reach = reach[pair]
    least = np.fmin.reduceat(reach, starts) if len(starts) else reach
    return _Drawn(
        mask[first], image[first], part, how(pairs)[pair[first]], drawn, unit.cast(pa.string()),
        wide, own, label, pa.array(least, from_pandas=True),
        _each(reach, (found.masks.step == 0)[mask], starts),
    )  # fmt: skip


def _each(reach: NDArray[np.float64], outlined: NDArray[np.bool_], starts: Rows) -> Any:
    """Lists of reaches of what rows draw, which begin at `starts`; null for those of segments."""
    counts = np.diff(np.r_[starts, len(reach)])
    none = ~outlined[starts]
    offsets = np.r_[0, np.cumsum(np.where(none, 0, counts))].astype(np.int32)
    return pa.ListArray.from_arrays(
        pa.array(offsets), pa.array(reach[outlined], from_pandas=True), mask=pa.array(none)
    )


def _entries(
    pairs: Pairs, file: Codes, segments: Segments, as_they_are: bool
) -> tuple[Rows, Codes, Codes]:
    """(pair, number that counts or -1, value or -1): a segment that is drawn, each.

    `as_they_are`: label maps keep their numbers.
    """
    whole = segments.drawn[pairs.mask] < 0
    plain = np.flatnonzero(segments.drawn[pairs.mask] > 0)
    maps = np.flatnonzero(whole)
    found = [(plain, np.full(len(plain), -1), segments.drawn[pairs.mask[plain]])]
    if as_they_are:
        found.append((maps, np.full(len(maps), -1), np.full(len(maps), -1)))
    else:
        used = np.flatnonzero(segments.value > 0)  # in the order of files
        low, high = (
            np.searchsorted(segments.owner[used], file[pairs.mask[maps]], side=side)
            for side in ("left", "right")
        )
        count = high - low
        one = np.repeat(np.arange(len(maps)), count)
        at = np.arange(len(one)) - np.repeat(np.cumsum(count) - count, count) + low[one]
        found.append((maps[one], segments.number[used][at], segments.value[used][at]))
    pair, number, value = (np.concatenate([f[k] for f in found]) for k in range(3))
    return pair.astype(np.int64), number.astype(np.int64), value.astype(np.int64)


def _counted(file: Codes, frame: Codes) -> Rows:
    """Number of each row among those of the same frame, in their order."""
    order = np.lexsort((np.arange(len(file)), frame, file))
    new = np.r_[True, (np.diff(file[order]) != 0) | (np.diff(frame[order]) != 0)][: len(order)]
    starts = np.flatnonzero(new)
    found = np.empty(len(file), np.int64)
    found[order] = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    return found


def _labels(segments: Segments, file: Codes, number: Codes) -> Any:
    """Labels of segments by file and number."""
    if not len(segments.owner):
        return pa.nulls(len(file), pa.string())
    key = combine([np.r_[file, segments.owner], np.r_[number, segments.number]])
    own, there = key[: len(file)], key[len(file) :]
    order = np.argsort(there, kind="stable")
    at = np.minimum(np.searchsorted(there[order], own), len(there) - 1)
    missing = there[order][at] != own
    return segments.label.take(pa.array(order[at], mask=missing)).cast(pa.string())


def _or_null(numbers: Codes) -> Any:
    return pa.array(numbers.astype(np.int32), mask=numbers < 0)


def _leads(pairs: Pairs, files: pa.Table, found: Compared, segments: Segments) -> Any:
    """Lists of 6 numbers, null where grids are the same; of contours what they are drawn by:
    structure, position, orientation, spacing of rows and columns, mm from image to image."""
    drawn = (found.masks.step == 0)[pairs.mask]
    planes = found.masks.planes.take(pairs.mask)
    by = np.c_[
        segments.shown[pairs.mask], planes.position, planes.axes.reshape(-1, 6),
        planes.spacing[:, ::-1], planes.thickness,
    ]  # fmt: skip
    none = pairs.same & ~drawn
    lengths = np.where(drawn, by.shape[1], np.where(none, 0, 6))
    offsets = np.r_[0, np.cumsum(lengths)]
    flat = np.empty(offsets[-1])
    for mine, lead in ((drawn, by), (~drawn & ~none, pairs.lead.reshape(-1, 6))):
        rows = np.flatnonzero(mine)
        flat[offsets[rows][:, None] + np.arange(lead.shape[1])] = lead[rows]
    return pa.ListArray.from_arrays(
        pa.array(offsets.astype(np.int32)), pa.array(flat), mask=pa.array(none)
    )
