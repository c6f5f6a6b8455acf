"""One thing of a cache: a frame, a stack or a file, as a picture and as its row of frames/."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dicom2cache.arrow import ints, rows_of
from dicom2cache.cli.reporting import pictures
from dicom2cache.cli.words import counting
from dicom2cache.errors import Dicom2cacheError, meant
from dicom2cache.pixels.window import Window
from dicom2cache.schema import STORED
from dicom2cache.store.committed import read_table, spec_of
from dicom2cache.store.layout import shard_path

_AT_ONCE = 8
"""columns that are read together: all of a million rows are gigabytes"""
_PIXELS = 1 << 26
_TILES, _TILE, _ACROSS = 64, 192, 8
_WIDE, _BAND = 1200, 80
"""pixels of a waveform, and of each of its channels"""
_NEAR = 3
_FEW = 2000
"""rows whose paths are compared letter by letter"""


@dataclass(frozen=True)
class Asked:
    """Which one: an index, a stack, or a path."""

    index: int | None = None
    stack: int | None = None
    path: str | None = None

    @property
    def name(self) -> str:
        """For a file: frame-12, stack-3, file-IM0001."""
        if self.index is not None:
            return f"frame-{self.index}"
        if self.stack is not None:
            return f"stack-{self.stack}"
        return f"file-{Path(self.path or '').name}"


def is_hash(path: str) -> bool:
    """Whether a path is as those of a de-identified cache are."""
    return re.fullmatch(r"[0-9a-f]{32}", path) is not None


def found(cache: Path, attributes: dict[str, Any], asked: Asked) -> NDArray[np.int64]:
    """(n,) sample indices of what is asked for, in order. Raises Dicom2cacheError if there is none.

    A path is that of frames/, or one of the file itself.
    """
    total = attributes["counts"]["frames_stored"]
    if asked.index is not None:
        if not 0 <= asked.index < total:
            raise Dicom2cacheError(f"{cache}: frame {asked.index}; legal: 0 to {total - 1}")
        return np.array([asked.index])
    if asked.stack is not None:
        stack = read_table(cache, attributes, "frames", ["stack", "stack_index"])
        number = ints(stack["stack"], -1)
        rows = np.flatnonzero(number == asked.stack)
        if not len(rows):
            most = int(number.max(initial=-1))
            raise Dicom2cacheError(f"{cache}: no stack {asked.stack}; the greatest is {most}")
        place = ints(stack["stack_index"], 0)[rows]
        return rows[np.argsort(place, kind="stable")]
    return _of_path(cache, attributes, str(asked.path))


def _of_path(cache: Path, attributes: dict[str, Any], path: str) -> NDArray[np.int64]:
    rows = read_table(cache, attributes, "frames", ["root", "path"])
    where = _named(rows, attributes, path)
    if len(where):
        return where
    failures = read_table(cache, attributes, "failures", ["root", "path", "outcome", "reason"])
    lost = _named(failures, attributes, path)
    if len(lost):
        row = failures.slice(int(lost[-1]), 1).to_pylist()[0]
        raise Dicom2cacheError(f"{path}: not stored: {row['outcome']}: {row['reason']}")
    name = os.path.basename(path)
    alike = pc.or_(pc.equal(rows["path"], name), pc.ends_with(rows["path"], f"/{name}"))
    near = pc.unique(rows["path"].filter(alike)).to_pylist()[:_NEAR] if name else []
    hint = f"; perhaps {', '.join(near)}" if near else ""
    if not near and rows.num_rows <= _FEW:
        hint = meant(path, pc.unique(rows["path"]).to_pylist())
    raise Dicom2cacheError(f"{cache}: no file {path} in frames/{hint}")


def _named(rows: pa.Table, attributes: dict[str, Any], path: str) -> NDArray[np.int64]:
    """Rows of that path below its folder; of a path on this machine, of the folder above it."""
    same = np.asarray(pc.equal(rows["path"], path).fill_null(False))
    full = os.path.abspath(path)
    for source in attributes["sources"]:
        below = os.path.relpath(full, source["path"])
        if not below.startswith(".."):
            mine = pc.and_(pc.equal(rows["root"], source["root"]), pc.equal(rows["path"], below))
            same = same | np.asarray(mine.fill_null(False))
    return np.flatnonzero(same)


def rows_at(cache: Path, attributes: dict[str, Any], where: NDArray[np.int64]) -> list[Any]:
    """All columns of some rows of frames/, in the order of `where`."""
    names, order = [column.name for column in STORED], np.unique(where)
    parts: list[pa.Table] = []
    for start in range(0, len(names), _AT_ONCE):
        part = read_table(cache, attributes, "frames", names[start : start + _AT_ONCE])
        parts.append(rows_of(part, order))
    whole = {name: part[name] for part in parts for name in part.column_names}
    rows = pa.table(whole).to_pylist()
    place = {int(row): k for k, row in enumerate(order)}
    return [rows[place[int(row)]] for row in where]


def drawn(
    cache: Path, attributes: dict[str, Any], rows: list[Any], window: Window | None
) -> tuple[bytes, str]:
    """(a PNG, how its values became grey) of a frame as it is, of several in small.

    Raises as `Reader.frame`.
    """
    reader = pictures.Reader(cache, attributes)
    mine = [row for row in rows if row["array"] == rows[0]["array"]]
    mine = [mine[k] for k in pictures.evenly(len(mine), _TILES)]
    shown, own = pictures.how_shown(mine, reader.specs[mine[0]["array"]])
    if window is not None:
        half = window.width / 2
        shown = pictures.Shown(window.center - half, window.center + half, "by the window")
    use = window or own
    if mine[0].get("kind") == "waveform":
        mine = mine[:1]
        picture = pictures.traced(reader.frame(mine[0]), _WIDE, _BAND)
        shown = pictures.Shown(mine[0]["min"] or 0.0, mine[0]["max"] or 0.0, "one scale for all")
    elif len(mine) == 1:
        picture = pictures.grey(reader.frame(mine[0]), shown, mine[0], use, _PIXELS)
    else:
        tiles = [
            pictures.tile(
                pictures.grey(reader.frame(row), shown, row, use), _TILE, pictures.aspect_of(row)
            )
            for row in mine
        ]
        picture = pictures.mosaic(tiles, min(_ACROSS, int(np.ceil(np.sqrt(len(tiles))))))
    how = "colour" if picture.ndim == 3 else f"{shown.low:g} to {shown.high:g}, {shown.how}"
    some = f", {len(mine)} of {counting(len(rows), 'frame')}" if len(rows) > 1 else ""
    return pictures.png(picture), f"{how}{some}"


def told(
    attributes: dict[str, Any], where: NDArray[np.int64], rows: list[Any], source: str
) -> Iterator[str]:
    """Lines: where it comes from and where it lies, then its row; of several the first one's."""
    first = rows[0]
    array = attributes["arrays"][first["array"]]
    shard, slot = divmod(first["row"], array["frames_per_shard"])
    if len(rows) == 1:
        yield f"frame {where[0]}: {source}, frame {first['frame']}"
    else:
        files = len({(row["root"], row["path"]) for row in rows})
        yield (
            f"{counting(len(rows), 'frame')} of {counting(files, 'file')}, {where.min()} to "
            f"{where.max()}; the first, frame {where[0]}: {source}, frame {first['frame']}"
        )
    yield f"slot {slot} of {shard_path(spec_of(array), shard)}"
    for name, value in first.items():
        if value is not None:
            yield f"{name} = {_plain(value)}"


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        inside = (f"{k} {_plain(v)}" for k, v in value.items() if v is not None)
        return f"({', '.join(inside)})"
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return str(value)
