"""What a notebook shows of frames: a table, and small pictures."""

from __future__ import annotations

import base64
import html
import struct
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from trainer_adapter.errors import counting

SHOWN = 8
"""pictures, and rows of a table"""
_SIDE = 96
"""pixels of a picture, at most"""


_COLUMNS = ("path", "frame", "kind", "modality", "body_part", "unit", "height", "width")
_SHAPES = 3


def shapes_of(groups: Mapping[tuple[str, tuple[int, ...]], Any]) -> str:
    """How many frames there are of each shape, most first, to follow their number."""
    most = sorted(((len(v), *k) for k, v in groups.items()), key=lambda g: -g[0])
    told = [
        f"{count} of {name.split('_')[0]} {' x '.join(map(str, shape))}"
        for count, name, shape in most[:_SHAPES]
    ]
    more = len(most) - len(told)
    told += [counting(more, "more shape")] if more else []
    return f": {', '.join(told)}" if told else ""


def page_of(cache: Any, title: str = "", first: Iterable[Mapping[str, Any]] = ()) -> str:
    """What a notebook shows of a cache: a few of its frames, evenly from all of them."""
    places = np.unique(np.linspace(0, max(len(cache) - 1, 0), SHOWN).astype(int)).tolist()
    places = places if len(cache) else []
    rows_of = pa.array(places, pa.int64())
    columns = {name: cache.column(name).take(rows_of).to_pylist() for name in _COLUMNS}
    polarity = cache.column("polarity").take(rows_of).to_pylist()
    rows = [{"": k, **{n: columns[n][j] for n in _COLUMNS}} for j, k in enumerate(places)]
    pictures = []
    for j, k in enumerate(places):
        try:
            pictures.append(picture(cache[k], polarity[j] == "inverted", f"frame {k}"))
        except OSError as e:  # a damaged shard: the rest is shown
            pictures.append(f"<span>{html.escape(str(e))}</span>")
    return page(title or repr(cache), [*first], []) * bool(title) + page(
        repr(cache), rows, pictures
    )


def page(title: str, rows: Iterable[Mapping[str, Any]], pictures: Iterable[str]) -> str:
    """HTML of a title, a table of a row for each mapping, and pictures."""
    lines = list(rows)
    names = list(dict.fromkeys(name for row in lines for name in row))
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(_text(row.get(n)))}</td>" for n in names) + "</tr>"
        for row in lines
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if lines else ""
    return f"<div><p>{html.escape(title)}</p>{table}<p>{''.join(pictures)}</p></div>"


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def picture(frame: NDArray[Any], inverted: bool = False, title: str = "") -> str:
    """An <img> of a frame, (H, W) or (H, W, 3): grey from percentile 1 to 99, every n-th pixel."""
    step = max(1, -(-max(frame.shape[:2]) // _SIDE))
    small = frame[::step, ::step]
    if small.ndim == 3 and small.shape[2] != 3:
        small = small[:, :, 0]
    if small.dtype != np.uint8 or small.ndim == 2:
        values = np.nan_to_num(small.astype(np.float64))
        low, high = np.percentile(values, [1, 99])
        small = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
        small = np.rint((1 - small if inverted else small) * 255).astype(np.uint8)
    data = base64.b64encode(_png(small)).decode()
    said = html.escape(title, quote=True)
    return f'<img src="data:image/png;base64,{data}" title="{said}" alt="{said}">'


def _png(image: NDArray[np.uint8]) -> bytes:
    """The bytes of a PNG (RFC 2083) of (H, W) grey or (H, W, 3) colour."""
    height, width = image.shape[:2]
    rows = np.ascontiguousarray(image).reshape(height, -1)
    lines = np.concatenate([np.zeros((height, 1), np.uint8), rows], 1).tobytes()

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    colour = 2 if image.ndim == 3 else 0
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts
