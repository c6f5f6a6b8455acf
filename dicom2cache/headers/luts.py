"""Lookup tables of a file: palette and modality LUT, out of the header, checked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom2cache.errors import FrameError, counting
from dicom2cache.headers.real_world import real_world_table
from dicom2cache.headers.segmented import expanded
from dicom2cache.headers.tags import Dataset, items, name, raw, value, whole
from dicom2cache.pixels.colour import Palette
from dicom2cache.pixels.intensity import ModalityLut
from dicom2cache.pixels.window import VoiLut

_COLOURS = ("Red", "Green", "Blue")


def _descriptor(ds: Dataset, keyword: str) -> tuple[int, int, int]:
    """(number of entries, first mapped value, bits), PS3.3 C.7.6.3.1.5."""
    said = value(ds, keyword)
    try:
        count, first, bits = (int(v) for v in said)
    except (TypeError, ValueError, OverflowError) as e:
        raise FrameError(f"{name(keyword)} is {said!r:.80}; legal: three whole numbers") from e
    return count % 65536 or 65536, first, bits


def _pixels_signed(ds: Dataset) -> bool:
    return whole(ds, "PixelRepresentation") == 1


def _first(first: int, signed: bool) -> int:
    """The first mapped value, 16 bits with or without a sign, whatever VR it was read in."""
    first &= 0xFFFF
    return first - 65536 if signed and first > 32767 else first


def _entries(ds: Dataset, keyword: str, count: int) -> NDArray[np.uint16]:
    data = value(ds, keyword)
    if data is None:
        raise FrameError(f"{name(keyword)} is absent")
    if not isinstance(data, bytes):  # VR US: already numbers
        flat = [data] if isinstance(data, int) else list(data)
        try:
            words = np.array([int(v) & 0xFFFF for v in flat], np.uint16)
        except (TypeError, ValueError, OverflowError) as e:
            raise FrameError(f"{name(keyword)} is {data!r:.80}; legal: whole numbers") from e
    elif len(data) >= 2 * count:
        words = np.frombuffer(data[: 2 * count], _word(ds))
    elif len(data) >= count:  # 8-bit entries packed, perhaps with a pad byte
        return np.frombuffer(data[:count], np.uint8).astype(np.uint16)
    else:
        words = np.empty(0, np.uint16)
    if len(words) < count:
        raise FrameError(
            f"{name(keyword)} has {counting(len(words), 'entry', 'entries')}, "
            f"its descriptor says {count}"
        )
    return words[:count].astype(np.uint16)


def _word(ds: Dataset) -> str:
    return "<u2" if ds.original_encoding[1] is not False else ">u2"


def palette(ds: Dataset) -> Palette:
    """The palette of a PALETTE COLOR image: entries uint8 where 8 bits hold them, else uint16.

    16-bit entries whose low bytes are all 0, or all equal to their high bytes, are 8-bit colours.
    Raises FrameError for a palette that contradicts itself.
    """
    if f"Segmented{_COLOURS[0]}PaletteColorLookupTableData" in ds:
        channels, firsts, depth = [], set(), 16
        for colour in _COLOURS:
            count, first, depth = _descriptor(ds, f"{colour}PaletteColorLookupTableDescriptor")
            keyword = f"Segmented{colour}PaletteColorLookupTableData"
            channels.append(_of_segments(ds, keyword, count, depth))
            firsts.add(first)
    else:
        channels, firsts, depth = [], set(), 16
        for colour in _COLOURS:
            count, first, depth = _descriptor(ds, f"{colour}PaletteColorLookupTableDescriptor")
            keyword = f"{colour}PaletteColorLookupTableData"
            channels.append(_entries(ds, keyword, count))
            firsts.add(first)
    if len({len(c) for c in channels}) != 1 or len(firsts) != 1:
        raise FrameError("red, green and blue palettes differ in length or first mapped value")
    table = np.stack(channels, axis=-1)
    first = _first(firsts.pop(), _pixels_signed(ds))  # C.7.6.3.1.5
    if depth == 8 or not table.max(initial=0) >> 8:
        return Palette(first, table.astype(np.uint8))
    low, high = table & 0xFF, table >> 8
    if not low.any() or (low == high).all():
        return Palette(first, high.astype(np.uint8))
    return Palette(first, table)


def _of_segments(ds: Dataset, keyword: str, count: int, depth: int) -> NDArray[np.uint16]:
    data = value(ds, keyword)
    if not isinstance(data, bytes):
        raise FrameError(f"{name(keyword)} is {raw(ds, keyword)}; legal: segments (PS3.3 C.7.9.2)")
    wide = depth > 8
    words = np.frombuffer(data[: len(data) & ~1] if wide else data, _word(ds) if wide else "u1")
    try:
        entries = expanded(words.tolist(), count, words.itemsize)
    except ValueError as e:
        raise FrameError(f"{name(keyword)} is no table: {e} (PS3.3 C.7.9.2); get it again") from e
    if len(entries) < count:
        raise FrameError(
            f"{name(keyword)} has {counting(len(entries), 'entry', 'entries')}, "
            f"its descriptor says {count}"
        )
    return np.array(entries, np.uint16)


def palette_bits(ds: Dataset) -> int:
    """8 or 16: bits of a sample of the RGB image that the palette yields."""
    return 8 * palette(ds).entries.dtype.itemsize


def lut_item(ds: Dataset, sequence: str) -> Any:
    """The first item of a LUT sequence; None if there is none, or nothing in it."""
    found = items(ds, sequence)[:1]
    parts = ("LUTDescriptor", "LUTData")
    return found[0] if found and any(value(found[0], k) is not None for k in parts) else None


def voi_lut(ds: Dataset, inputs: tuple[float, float] | None, signed: bool) -> VoiLut:
    """The first table of the VOI LUT sequence (PS3.3 C.11.2.1.1).

    `inputs` are the least and the greatest value that may come to it, None if they are not known;
    `signed` is what the standard says of the first value mapped. Writers get its sign wrong, and
    implicit VR leaves it open: where just one of the two readings meets the inputs, it holds.
    """
    item = lut_item(ds, "VOILUTSequence")
    count, first, bits = _descriptor(item, "LUTDescriptor")
    as_said, other = _first(first, signed), _first(first, not signed)
    if inputs is not None and not _meets(as_said, count, inputs) and _meets(other, count, inputs):
        as_said = other
    return VoiLut(as_said, _entries_of(ds, item), bits)


def _meets(first: int, count: int, inputs: tuple[float, float]) -> bool:
    return first <= inputs[1] and first + count - 1 >= inputs[0]


def modality_lut(ds: Dataset) -> ModalityLut:
    """The table of the modality LUT sequence (PS3.3 C.11.1.1.1), or of real world values."""
    item = lut_item(ds, "ModalityLUTSequence")
    if item is None and (table := real_world_table(ds)):
        return ModalityLut(table.first, np.array(table.entries))
    first = _descriptor(item, "LUTDescriptor")[1]
    return ModalityLut(_first(first, _pixels_signed(ds)), _entries_of(ds, item))


def _entries_of(ds: Dataset, item: Dataset) -> NDArray[np.int32]:
    count, _, _ = _descriptor(item, "LUTDescriptor")
    data = value(item, "LUTData")
    if isinstance(data, bytes):
        little = ds.original_encoding[1] is not False
        wide = len(data) >= 2 * count
        kind = ("<u2" if little else ">u2") if wide else "u1"
        entries = np.frombuffer(data[: count * (2 if wide else 1)], kind).astype(np.int32)
    else:
        entries = _entries(item, "LUTData", count).astype(np.int32)
    if len(entries) < count:
        raise FrameError(
            f"{name('LUTData')} has {counting(len(entries), 'entry', 'entries')}, "
            f"its descriptor {count}"
        )
    return entries


def modality_lut_range(ds: Dataset) -> tuple[float, float]:
    """Least and greatest value that the modality LUT yields."""
    entries = modality_lut(ds).entries
    return float(entries.min()), float(entries.max())
