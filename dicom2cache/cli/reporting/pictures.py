"""Frames as a person sees them: read from shards, windowed, in small; mosaics of stacks as PNG."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dicom2cache.arrow import rows_of
from dicom2cache.cli.reporting import traces
from dicom2cache.errors import CacheError
from dicom2cache.pixels.window import FUNCTIONS, Window, apply_window, limits_of
from dicom2cache.records import ArraySpec
from dicom2cache.store import names
from dicom2cache.store.committed import spec_of
from dicom2cache.store.layout import MISSING, shard_path
from dicom2cache.store.shards import crc32c, read_index, read_slot

Grey = NDArray[np.uint8]
COLUMNS = [
    "array", "row", "height", "width", "kind", "unit", "windows", "polarity", "full_scale",
    "spacing_y", "spacing_x", "pixel_aspect", "min", "max", "p0_5", "p99_5", "crc32c", "modality",
    "thickness", "stack", "stack_flags", "body_part", "sop_uid", "frame", "part_of_frame",
    "image_sop_uid", "image_frame", "image_part", "sampling_rate",
]  # fmt: skip
"""what is read of frames/; any but the first four may be missing"""
_PIXELS = 1 << 22
"""of a frame that are windowed at most; a larger one is thinned out first"""
_LABELS = np.array(
    [(0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178),
     (213, 94, 0), (204, 121, 167), (148, 103, 189), (140, 200, 90), (255, 255, 255)], np.uint8,
)  # fmt: skip
"""colours of labels 0, 1, ..., from the sixth on again from the first: Okabe and Ito's, and more"""


@dataclass(frozen=True)
class Shown:
    """How a frame's values became grey."""

    low: float
    high: float
    how: str
    """such as `by its window`"""


class Reader:
    """Frames of a committed cache, each held to its CRC-32C."""

    def __init__(self, cache: Path, attributes: dict[str, Any]) -> None:
        self.cache = cache
        self.specs = [spec_of(about) for about in attributes["arrays"]]

    def frame(self, row: dict[str, Any]) -> NDArray[Any]:
        """The frame of a row of frames/, (H, W[, C]) in its array's dtype.

        Raises CacheError, naming the shard, for one that is not as it was stored; OSError.
        """
        spec = self.specs[row["array"]]
        shard, slot = divmod(row["row"], spec.frames_per_shard)
        path = shard_path(spec, shard)
        with names.open_below(self.cache, path, "shards/") as file:
            try:
                index, _, whole = read_index(file, spec)
                if not whole or int(index[slot][0]) == MISSING:
                    raise ValueError("its index is damaged, or has no such frame")
                pixels = read_slot(file, spec, index[slot])
            except ValueError as e:
                raise self._damaged(path, str(e)) from e
        if row.get("crc32c") is not None and crc32c(pixels) != row["crc32c"]:
            raise self._damaged(path, f"the CRC-32C of slot {slot} does not match")
        return pixels[: row["height"], : row["width"]]

    def _damaged(self, path: str, why: str) -> CacheError:
        return CacheError(f"{self.cache / path}: {why}; run `dicom2cache repair {self.cache}`")

    def slot_bytes(self, array: int) -> int:
        """Size of a slot of an array."""
        return self.specs[array].slot_bytes


def grey(
    pixels: NDArray[Any],
    shown: Shown,
    row: dict[str, Any],
    window: Window | None,
    most: int = _PIXELS,
) -> Grey:
    """A frame as (H, W) or (H, W, 3) uint8, thinned out above so many pixels.

    Masks of labels are coloured.
    """  # fmt: skip
    step = max(1, math.ceil(math.sqrt(pixels.shape[0] * pixels.shape[1] / most)))
    pixels = pixels[::step, ::step]
    if row.get("unit") == "labelmap":
        labels = pixels.astype(np.int64)
        coloured: Grey = _LABELS[np.where(labels > 0, (labels - 1) % (len(_LABELS) - 1) + 1, 0)]
        return coloured
    if window is not None and pixels.ndim == 2:
        unit = apply_window(pixels, window)
    else:
        span = shown.high - shown.low
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = (pixels.astype(np.float64) - shown.low) / (span if span > 0 else 1.0)
        unit = np.clip(np.nan_to_num(scaled), 0, 1)
    if row.get("polarity") == "inverted":
        unit = 1 - unit
    return np.rint(unit * 255).astype(np.uint8)


def how_shown(rows: Sequence[dict[str, Any]], spec: ArraySpec) -> tuple[Shown, Window | None]:
    """What the frames of a stack are shown by, all alike: their own window, if it fits the values.

    Else their percentiles 0.5 and 99.5; colour and what the recipe windowed by its whole range.
    """
    first, dtype = rows[0], np.dtype(spec.dtype)
    full = first.get("full_scale") or (float(np.iinfo(dtype).max) if dtype.kind in "iu" else 1.0)
    if len(spec.slot) == 3 or first.get("unit") in ("window", "fractional"):
        return Shown(0.0, float(full), "all values"), None
    if first.get("kind") == "mask":
        return Shown(0.0, max([1.0, *_known(rows, "max")]), "all values"), None
    low, high = _known(rows, "p0_5", "min"), _known(rows, "p99_5", "max")
    ends = (min(low), max(high)) if low and high else (0.0, 1.0)
    for said in first.get("windows") or ():
        window = _window(said)
        if window is None:
            continue
        half = window.width / 2
        limits = limits_of(window) or (window.center - half, window.center + half)
        if limits[0] < ends[1] and limits[1] > ends[0]:
            return Shown(*limits, "by its window"), window
    return Shown(*ends, "by percentiles"), None


def _known(rows: Sequence[dict[str, Any]], *names: str) -> list[float]:
    """The values of the first of the columns that has some."""
    for name in names:
        found = [float(r[name]) for r in rows if r.get(name) is not None]
        if found:
            return found
    return []


def _window(said: dict[str, Any]) -> Window | None:
    center, width = said.get("center"), said.get("width")
    function = said.get("function") or "LINEAR"
    if center is None or width is None or not math.isfinite(center + width):
        return None
    if function not in FUNCTIONS or width <= 0 or (function == "LINEAR" and width < 1):
        return None
    return Window(center, width, function)


def tile(picture: Grey, side: int, aspect: float) -> Grey:
    """A picture (h, w[, 3]), whole in a square of `side`; `aspect`: of a pixel, height by width."""
    from PIL import Image

    height, width = picture.shape[0] * aspect, float(picture.shape[1])
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    ways = Image.Resampling
    enlarged = size[0] > picture.shape[1]
    image = Image.fromarray(np.ascontiguousarray(picture))
    small = np.asarray(image.resize(size, ways.NEAREST if enlarged else ways.BOX))
    square = np.zeros((side, side, *picture.shape[2:]), np.uint8)
    top, left = (side - size[1]) // 2, (side - size[0]) // 2
    square[top : top + size[1], left : left + size[0]] = small
    return square


def aspect_of(row: dict[str, Any]) -> float:
    """Height of a pixel over its width, 1 where nobody says it; at most 8."""
    y, x = row.get("spacing_y"), row.get("spacing_x")
    said = y / x if y and x and x > 0 else row.get("pixel_aspect")
    return min(max(float(said), 1 / 8), 8.0) if said and math.isfinite(said) else 1.0


def traced(values: NDArray[Any], width: int, band: int) -> Grey:
    """Channels of a waveform (channels, samples) as white lines on black, each `band` high."""
    from PIL import Image, ImageDraw

    found = traces.steps(values, width)
    sheet = Image.new("L", (width, band * len(found)))
    draw = ImageDraw.Draw(sheet)
    for of_channel in traces.lines(found, sheet.width, sheet.height):
        for line in of_channel:
            draw.line(line if len(line) > 1 else line * 2, fill=255)
    return np.asarray(sheet)


def mosaic(tiles: Sequence[Grey], columns: int) -> Grey:
    """Tiles of one size side by side, row after row."""
    side, rows = tiles[0].shape[0], -(-len(tiles) // columns)
    sheet = np.zeros((rows * side, columns * side, *tiles[0].shape[2:]), np.uint8)
    for k, one in enumerate(tiles):
        y, x = k // columns * side, k % columns * side
        sheet[y : y + side, x : x + side] = one
    return sheet


def png(picture: Grey, colours: int | None = None) -> bytes:
    """A PNG of (h, w[, 3]) uint8; colour with so many colours at most, if that is said."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    about = PngInfo()
    about.add_text("Software", "dicom2cache")
    image = Image.fromarray(np.ascontiguousarray(picture))
    if colours and picture.ndim == 3:
        image = image.quantize(colours, method=Image.Quantize.MEDIANCUT)
    data = io.BytesIO()
    image.save(data, "PNG", optimize=True, pnginfo=about)
    return data.getvalue()


SIGNED = b"tEXtSoftware\0dicom2cache"
"""what a PNG of ours has near its begin"""


def evenly(count: int, most: int) -> NDArray[np.int64]:
    """At most so many of `count` places, evenly, the middle one if it is one."""
    if count <= most:
        return np.arange(count)
    return ((np.arange(most) + 0.5) * count / most).astype(np.int64)


def picture_of(
    reader: Reader,
    rows: Sequence[dict[str, Any]],
    side: int,
    columns: int,
    images: Sequence[dict[str, Any] | None] = (),
) -> tuple[Grey, Shown]:
    """A mosaic of frames of one stack; masks on their `images`, a row or None for each.

    Raises as `Reader.frame`.
    """
    shown, window = how_shown(rows, reader.specs[rows[0]["array"]])
    below = [image for image in images if image is not None]
    if below:
        how, of_images = how_shown(below, reader.specs[below[0]["array"]])
    made = []
    for k, row in enumerate(rows):
        picture = grey(reader.frame(row), shown, row, window)
        image = images[k] if images else None
        if image is not None:
            under = grey(reader.frame(image), how, image, of_images)
            picture = on_image(picture, under)
        elif below and picture.ndim == 2:
            picture = np.repeat(picture[..., None], 3, axis=2)
        made.append(tile(picture, side, aspect_of(row)))
    return mosaic(made, columns), shown


def on_image(mask: Grey, image: Grey) -> Grey:
    """A mask, grey or coloured, half transparent on its image: (h, w, 3); of the same grid only."""
    if mask.shape[:2] != image.shape[:2]:
        return mask if mask.ndim == 3 else np.repeat(mask[..., None], 3, axis=2)
    under = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    if mask.ndim == 3:
        colour, share = mask.astype(np.float64), (mask.max(axis=2) > 0) * 0.5
    else:
        colour, share = np.broadcast_to(_LABELS[1].astype(np.float64), under.shape), mask / 510
    mixed = under * (1 - share[..., None]) + colour * share[..., None]
    found: Grey = np.rint(mixed).astype(np.uint8)
    return found


def some_rows(table: pa.Table, rows: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Rows of a table as objects, in the order asked for."""
    ascending = np.unique(rows)
    found: list[dict[str, Any]] = rows_of(table, ascending).to_pylist()
    place = {int(r): k for k, r in enumerate(ascending)}
    return [found[place[int(r)]] for r in rows]
