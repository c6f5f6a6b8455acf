"""Frames: fragments, codestreams and RLE, and small files by way of the plan to their chunks."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import Any

import imagecodecs
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dicom2cache import syntaxes
from dicom2cache.errors import Dicom2cacheError, FrameError, RecipeError
from dicom2cache.frames import codestream, decoders, fragments, rle
from dicom2cache.frames.chunk import Limits, chunk_of_frame
from dicom2cache.frames.coded import Coded
from dicom2cache.frames.decode import Source
from dicom2cache.frames.samples import stored_samples
from dicom2cache.headers import really
from dicom2cache.planning.plan import make_plan
from dicom2cache.planning.select import select_files
from dicom2cache.recipes.recipe import Recipe
from dicom2cache.records import Header
from dicom2cache.schema import FILES, REJECTS
from dicom2cache.sources.place import Opened
from tests.fuzz.choices import Choices
from tests.fuzz.datasets import coded_bases, drawn_file, edited, part_10
from tests.fuzz.headers import header_of, place
from tests.support.plans import header

_ITEM, _END = b"\xfe\xff\0\xe0", b"\xfe\xff\xdd\xe0"
_BEGINNINGS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ", b"\1\0\0\0\x40\0\0\0", b"")
_ENDINGS = (b"\xff\xd9", b"\xff\xd9\0", b"", b"\0\0")


def _items(c: Choices, frames: int) -> tuple[bytes, int]:
    """(pixel data in fragments, as they should be or nearly; what precedes its first item)."""
    values, firsts = list[bytes](), list[int]()
    place = 0
    for _ in range(c.below(2 * frames + 2)):
        begin = c.pick(_BEGINNINGS)
        value = begin + c.take(6) + c.pick(_ENDINGS)
        values.append(value)
        if begin or c.one_in(2):
            firsts.append(place)
        place += 8 + len(value)
    table = struct.pack(f"<{len(firsts)}L", *firsts)
    how = c.below(6)
    before = b""
    if how == 0:
        table = b""
    elif how == 1:
        table = c.take(4 * frames + 1)
    elif how == 2:  # extended
        wide = struct.pack(f"<{len(firsts)}Q", *firsts)
        head = b"OV\0\0" + len(wide).to_bytes(4, "little")
        before = b"".join(b"\xe0\x7f" + e + b"\0" + head + wide for e in (b"\1", b"\2"))
        before, table = before + bytes(12), b""
    data = b"".join(_ITEM + len(v).to_bytes(4, "little") + v for v in (table, *values))
    if not c.one_in(4):
        data += _END + bytes(4)
    if c.one_in(4):
        changed, at = bytearray(data), c.below(len(data) or 1)
        if changed:
            changed[at] = c.byte()
        data = bytes(changed)
    return before + (data[: c.below(len(data) + 1)] if c.one_in(8) else data), len(before)


def _read(descriptor: Opened, start: int, size: int, frames: int, marked: bool, turn: int) -> Any:
    """{frame: its bytes, or why not}, read in order or in reverse."""
    fragments._remembered.cache_clear()  # the file is another one, though nothing tells
    try:
        found = fragments.find_frames(descriptor, start, size, frames, marked)
    except FrameError as e:
        return str(e)
    said: dict[int, Any] = {}
    for frame in range(frames)[::turn]:
        try:
            said[frame] = found.read(descriptor, frame)
        except FrameError as e:
            said[frame] = str(e)
    return dict(sorted(said.items())), found.flags


def fragments_found(data: bytes) -> None:
    """What frames there are depends on the file alone, and on no order of reading."""
    c = Choices(data)
    frames, marked = 1 + c.below(6), not c.one_in(4)
    content, start = (c.rest(), 0) if c.one_in(3) else _items(c, frames)
    size = place().write(content).size
    descriptor = Opened(place().path)
    try:
        forth, back = (_read(descriptor, start, size, frames, marked, way) for way in (1, -1))
        assert forth == back, f"{forth}\n{back}"
    finally:
        descriptor.close()


def fragment_seeds() -> Iterator[bytes]:
    """Choices of which some make whole pixel data."""
    for frames in range(4):
        for begin in range(5):
            fragment = bytes([begin, 2, 7, 7, 0, 1])
            yield bytes([frames, 0, 0, frames + 1]) + (frames + 1) * fragment + bytes([3, 0, 0])


def codestream_headers(data: bytes) -> None:
    """What a codestream says of itself is read, or refused in words."""
    codestream.kind_of(data)
    really._syntax_of(data)
    with suppress(FrameError):
        jpeg = codestream.parse_jpeg(data)
        codestream.jpeg_is_ybr(jpeg, "YBR_FULL")
        codestream.is_ended(data, jpeg.scan)
    with suppress(FrameError):
        codestream.end_of_tiles(data, codestream.parse_jpeg_2000(data))


_GREY = np.arange(64, dtype=np.uint16).reshape(8, 8) * 60
_BYTES = _GREY.astype(np.uint8)
_COLOUR = np.stack([_BYTES, _BYTES.T, _BYTES[::-1]], axis=-1)


@cache
def streams() -> tuple[tuple[str, bytes, NDArray[Any]], ...]:
    """(transfer syntax, codestream, pixels) of small frames."""
    end = "1.2.840.10008.1.2.4."
    made = [
        (f"{end}50", imagecodecs.jpeg8_encode(_BYTES, level=90), _BYTES),
        (f"{end}50", imagecodecs.jpeg8_encode(_COLOUR, level=90), _COLOUR),
        (f"{end}51", imagecodecs.jpeg8_encode(_GREY, bitspersample=12), _GREY),
        (f"{end}70", imagecodecs.jpeg8_encode(_GREY, lossless=True, bitspersample=16), _GREY),
        (f"{end}80", imagecodecs.jpegls_encode(_GREY), _GREY),
        (f"{end}81", imagecodecs.jpegls_encode(_BYTES, level=2), _BYTES),
        (f"{end}90", imagecodecs.jpeg2k_encode(_GREY, level=0, codecformat="J2K"), _GREY),
        (f"{end}91", imagecodecs.jpeg2k_encode(_COLOUR, level=30, codecformat="J2K"), _COLOUR),
        (f"{end}201", imagecodecs.htj2k_encode(_GREY), _GREY),
    ]
    return tuple((syntax, bytes(stream), pixels) for syntax, stream, pixels in made)


def codestream_seeds() -> Iterator[bytes]:
    """Whole codestreams."""
    for _, stream, _ in streams():
        yield stream


def codestreams_decoded(data: bytes) -> None:
    """The first byte chooses what the header says, the others are the codestream."""
    if not data:
        return
    known = streams()
    k = data[0] % len(known)
    syntax, _, pixels = known[k]
    samples, bits = 3 if pixels.ndim == 3 else 1, 8 * pixels.dtype.itemsize
    said = "RGB" if samples == 3 else "MONOCHROME2"
    coded = Coded(8, 8, samples, bits, said)
    row = header("a", transfer_syntax=syntax, bits_allocated=bits, bits_stored=bits,
                 high_bit=bits - 1, samples=samples, photometric=said,
                 signed=bool(data[0] & 0x80), lossy=True)  # fmt: skip
    with suppress(FrameError):
        decoded = decoders.decode(data[1:], syntax, coded)
        assert decoded.pixels.shape == pixels.shape
        if decoded.precision:
            stored_samples(decoded, _as_header(row))


def coded_seeds() -> Iterator[bytes]:
    """Whole codestreams, each under its own header."""
    for k, (_, stream, _) in enumerate(streams()):
        yield bytes([k]) + stream


def _as_header(row: dict[str, Any]) -> Header:
    return row  # type: ignore[return-value]


def rle_unpacked(data: bytes) -> None:
    """Segment by segment as the quick decoder has them, where that takes them."""
    c = Choices(data)
    rows, columns, samples, bits = 1 + c.below(9), 1 + c.below(9), c.pick((1, 3)), c.pick(_BITS)
    stream = c.rest()
    if c.one_in(1) and len(stream) < 64:
        stream = struct.pack("<16L", samples * max(1, bits // 8), *[64] * 15) + stream
    coded = Coded(rows, columns, samples, bits, "RGB" if samples == 3 else "MONOCHROME2")
    try:
        quick = decoders.decode(stream, syntaxes.RLE, coded).pixels
    except FrameError:
        quick = None
    try:
        slow, more = rle.unpacked(stream, rows, columns, samples, bits)
    except FrameError:
        return
    if quick is None or more:
        return
    shape = samples, rows, columns
    words = np.ascontiguousarray(np.moveaxis(slow, 1, -1)).view(f"<u{max(1, bits // 8)}")
    planes = words.reshape(shape)
    same = planes[0] if samples == 1 else np.moveaxis(planes, 0, -1)
    assert np.array_equal(quick, same), f"{quick.tolist()}\n{same.tolist()}"


_BITS = (8, 16, 32, 1)


def rle_seeds() -> Iterator[bytes]:
    """Whole codestreams of 2 x 3 pixels."""
    for k, bits in enumerate(_BITS):
        for sample, samples in enumerate((1, 3)):
            parts = [
                b"\5abcdef" if n % 2 else b"\xfbz\0" for n in range(samples * max(1, bits // 8))
            ]
            starts = [64 + sum(map(len, parts[:n])) for n in range(len(parts))]
            heads = [len(parts), *starts, *[0] * (15 - len(parts))]
            yield bytes([1, 2, sample, k]) + struct.pack("<16L", *heads) + b"".join(parts)


@cache
def _recipes() -> tuple[Recipe, ...]:
    return tuple(
        Recipe(**said)
        for said in (
            {}, {"intensity": "stored"}, {"window": ["dicom"]}, {"window": ["40,400", "dicom"]},
            {"intensity": "percentiles"}, {"intensity": "suv"}, {"dtype": "uint8"},
            {"dtype": "float32"}, {"dtype": "int16", "intensity": "stored"}, {"colour": "grey"},
            {"size": (5, 7)}, {"size": (5, 7), "fit": "crop"}, {"size": 3, "fit": "stretch"},
            {"spacing": 0.7}, {"spacing": 0.7, "size": 8, "window": ["40,400"]},
            {"monochrome1": "keep", "codec": "zstd"}, {"exclude": ["derived", "localizer"]},
        )
    )  # fmt: skip


_MOST_PIXELS, _MOST_FRAMES = 1 << 16, 3


def chunks_made(data: bytes) -> None:
    """`data` chooses a recipe and a file: through header and plan to chunks and results."""
    c = Choices(data)
    recipe = c.pick(_recipes())
    if c.one_in(2):
        elements, syntax = edited(c, coded_bases())
        content = part_10(elements, syntax, "1.2.840.10008.1.2.1")
    else:
        content = drawn_file(c)
    found = header_of(content)
    if isinstance(found, str) or found["height"] * found["width"] > _MOST_PIXELS:
        return
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        files, rejects = select_files(pa.Table.from_pylist([found], FILES), recipe)
        assert files.num_rows + rejects.num_rows == 1
        if files.num_rows and found["frames"] <= 64:
            try:
                plan = make_plan(files, REJECTS.empty_table(), recipe)
            except RecipeError:
                return
            _converted(plan, recipe)


def _converted(plan: Any, recipe: Recipe) -> None:
    fragments._remembered.cache_clear()
    own = plan.files.to_pylist()[0]
    limits = Limits((0.0, 100.0), None) if recipe.intensity == "percentiles" else None
    with Source(str(place().path), own) as source:
        for row in plan.frames.slice(0, _MOST_FRAMES).to_pylist():
            spec = plan.arrays[row["array"]]
            assert row["height"] <= spec.slot[0]
            if spec.slot_bytes > 1 << 24:
                return
            try:
                with np.errstate(over="raise", invalid="ignore", divide="ignore"):
                    chunk, result = chunk_of_frame(
                        source, row, None, treatments=recipe.treatments, spec=spec, limits=limits
                    )
            except (Dicom2cacheError, FloatingPointError):  # foreseen: failures of this frame
                continue
            assert chunk.crc32c == result["crc32c"]


def chunk_seeds() -> Iterator[bytes]:
    """Each recipe, with real files and with codestreams."""
    for recipe in range(17):
        for way in (0, 1):
            for base in range(20):
                yield bytes([recipe, way, base, 1, *range(base, base + 12)])
