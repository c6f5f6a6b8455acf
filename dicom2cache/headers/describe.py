"""Dataset to a row of FILES: everything that the plan and the decoder need, and no pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, cast

from dicom2cache import syntaxes
from dicom2cache.errors import FrameError
from dicom2cache.headers.acquisition import (
    acquired_of,
    born_of,
    diffusion_of,
    diffusion_tags,
    person_of,
)
from dicom2cache.headers.dictionary import DICTIONARY
from dicom2cache.headers.groups import functional_groups, referred, segments_of, voi_of_frames
from dicom2cache.headers.luts import lut_item, modality_lut_range, palette_bits
from dicom2cache.headers.meaning import (
    aspect_of,
    kind_of,
    rescale_of,
    spacing_of,
    window_flags,
    windows_of,
)
from dicom2cache.headers.patient import age_in_years
from dicom2cache.headers.pixel_module import (
    INCOMPLETE,
    OVERLAYS,
    check_claim,
    check_length,
    overlays,
    pixel_element,
    pixel_layout,
    plain_bytes,
)
from dicom2cache.headers.positions import planes
from dicom2cache.headers.real_world import real_values
from dicom2cache.headers.really import settle_syntax
from dicom2cache.headers.slide import tiling_of
from dicom2cache.headers.suv import PHILIPS_ACTIVITY, PHILIPS_GROUP, PHILIPS_SUV, suv_of
from dicom2cache.headers.tags import (
    Dataset,
    charset_is_unknown,
    has_content,
    items,
    name,
    number,
    private_tags,
    raw,
    text,
    value,
    vector,
    whole,
)
from dicom2cache.headers.waveform import waveform_of
from dicom2cache.recipes.recipe import WAVEFORM
from dicom2cache.records import Candidate, FrameHeader, Header
from dicom2cache.schema import COLUMNS, FILES, PER_FRAME_FIELDS, Column
from dicom2cache.sources.place import Where, packed_of

_READERS: dict[str, Callable[[Any, str], Any]] = {"text": text, "number": number, "whole": whole}


def _reader(column: Column) -> Callable[[Any, str], Any]:
    if column.read == "vector":
        return partial(vector, length=column.type.list_size)
    return _READERS[column.read]


_READ = tuple((c.name, _reader(c), c.keywords) for c in COLUMNS if c.read)
_PADDING: dict[str, tuple[str, str, Callable[[Any, str], Any]]] = {
    "PixelData": ("PixelPaddingValue", "PixelPaddingRangeLimit", whole),
    "FloatPixelData": ("FloatPixelPaddingValue", "FloatPixelPaddingRangeLimit", number),
    "DoubleFloatPixelData": (
        "DoubleFloatPixelPaddingValue",
        "DoubleFloatPixelPaddingRangeLimit",
        number,
    ),
}
"""value, limit and their reader, by the element that has the pixels (PS3.3 C.7.5.1.1.2)"""

_EMPTY = dict.fromkeys(FILES.names)


@cache
def wanted_tags() -> list[int]:
    """Tags that `describe` reads, so that pydicom need not keep the others."""
    tags = {*DICTIONARY}
    tags |= private_tags(PHILIPS_GROUP, PHILIPS_SUV, PHILIPS_ACTIVITY) | diffusion_tags()
    tags |= {group << 16 | element for group in OVERLAYS for element in (0x0100, 0x0102)}
    return sorted(tags)


def _first(ds: Dataset, read: Callable[[Any, str], Any], keywords: tuple[str, ...]) -> Any:
    """What the first of the elements says that says anything."""
    for keyword in keywords:
        found = read(ds, keyword)
        if found is not None:
            return found
    return None


def describe(ds: Dataset, head: bytes, at: int, candidate: Candidate, path: Where) -> Header:
    """The row of FILES that a dataset without pixels makes, a pydicom Dataset or a Scan.

    `head` has the 12 bytes at offset `at`, where its pixel data element begins.

    Raises NoPixels, FrameError or OSError.
    """
    syntax = _syntax_of(ds)
    keyword, vr, offset, length = pixel_element(ds, head, at, syntax, path)
    frames = whole(ds, "NumberOfFrames") if has_content(ds, "NumberOfFrames") else 1
    if frames is None or frames < 0:
        raise FrameError(
            f"{name('NumberOfFrames')} is {raw(ds, 'NumberOfFrames')}; legal: from 1 to 2^31-1"
        )
    layout = pixel_layout(ds, keyword, syntax)
    flags: list[str] = layout["flags"]
    if not frames:  # 0 is written by some exporters for single-frame files
        frames = 1
        if INCOMPLETE not in flags:
            flags.append(INCOMPLETE)
    said = {
        **_said(ds, candidate, syntax),
        "pixel_keyword": keyword,
        "pixel_vr": vr,
        "pixel_offset": offset,
        "pixel_length": length,
        "frames": frames,
        "kind": kind_of(ds),
        **layout,
        "windows": windows_of(ds),
        "voi_lut": lut_item(ds, "VOILUTSequence") is not None,
        "pixel_aspect": aspect_of(ds),
    }
    row = cast(Header, said)
    if charset_is_unknown(text(ds, "SpecificCharacterSet")):
        flags.append("charset-unknown")
    row["overlay_bits"], has_planes = overlays(ds)
    if has_planes:
        flags.append("overlay")
    row["b_value"], row["gradient"], row["gradient_said"] = diffusion_of(ds)
    row["spacing_y"], row["spacing_x"], row["spacing_tag"] = spacing_of(ds)
    check_claim(row)
    _add_values(row, ds, frames, flags)
    per_frame = row["per_frame"] or []
    row.update(cast(Header, tiling_of(ds, row)))
    windows = row["windows"] or any(frame["windows"] for frame in per_frame)
    row["voi"] = bool(windows or row["voi_lut"])
    settle_syntax(row, plain_bytes(row), path)
    check_length(row)
    return row


def describe_waveform(
    ds: Dataset, groups: Sequence[tuple[Dataset, Any]], candidate: Candidate
) -> Header:
    """The row of FILES of a waveform: the dataset up to its Waveform Sequence, and that one's
    items, each with its raw Waveform Data. Raises FrameError."""
    syntax = _syntax_of(ds)
    end = None if syntax == syntaxes.DEFLATED else candidate.size
    order = "little" if ds.original_encoding[1] else "big"
    made = {**_said(ds, candidate, syntax), "kind": WAVEFORM, **waveform_of(groups, order, end)}
    if charset_is_unknown(text(ds, "SpecificCharacterSet")):
        made["flags"] = [*(made["flags"] or []), "charset-unknown"]
    return cast(Header, made)


def _syntax_of(ds: Dataset) -> str:
    """Transfer Syntax UID; of a file that does not say it, the one that it is in."""
    syntax = str(value(ds.file_meta, "TransferSyntaxUID") or "")
    if syntax:
        return syntax
    implicit, little = ds.original_encoding
    little_syntax = syntaxes.IMPLICIT_LE if implicit else syntaxes.EXPLICIT_LE
    return little_syntax if little else syntaxes.EXPLICIT_BE


def _said(ds: Dataset, candidate: Candidate, syntax: str) -> dict[str, Any]:
    """What is read alike whatever the file holds; None in all other columns of FILES."""
    return {
        **_EMPTY,
        "root": candidate.root,
        "path": candidate.path,
        "size": candidate.size,
        "mtime_ns": candidate.mtime_ns,
        "member": packed_of(candidate),
        "transfer_syntax": syntax,
        **{column: _first(ds, read, keywords) for column, read, keywords in _READ},
        "age": age_in_years(text(ds, "PatientAge")),
        "contrast": text(ds, "ContrastBolusAgent") is not None,
        "lossy": text(ds, "LossyImageCompression") == "01" or syntax in syntaxes.ALWAYS_LOSSY,
        "burned_in": {"YES": True, "NO": False}.get(text(ds, "BurnedInAnnotation") or ""),
        "acquired": acquired_of(ds),
        "person": person_of(ds),
        "born": born_of(ds),
    }


def _add_values(row: Header, ds: Dataset, frames: int, flags: list[str]) -> None:
    """Slope, intercept, unit, palette, padding, and what single frames say."""
    flags += window_flags((ds, *voi_of_frames(ds)))
    value_keyword, limit_keyword, read = _PADDING[row["pixel_keyword"]]
    row["padding_value"] = read(ds, value_keyword)
    row["padding_limit"] = read(ds, limit_keyword)
    if row["samples"] > 1 or row["photometric"] == "PALETTE COLOR":
        if row["photometric"] == "PALETTE COLOR" and row["kind"] != "mask":
            row["palette_bits"] = palette_bits(ds)
        if "ICCProfile" in ds:
            flags.append("icc-profile")
    else:
        _add_grey(row, ds, flags)
    if row["samples"] > 1 or row["palette_bits"] or row["kind"] == "mask":
        row["padding_value"] = row["padding_limit"] = row["inverted"] = None
        row["slope"] = row["intercept"] = row["lut_low"] = row["lut_high"] = row["unit"] = None
    if row["kind"] == "mask":
        row["unit"] = (text(ds, "SegmentationType") or "labelmap").lower()
        row["segments"] = segments_of(ds)
        row["referenced_series"], row["referenced_sop_uid"] = referred(ds)
        if row["unit"] == "fractional":
            row["fractional_max"] = whole(ds, "MaximumFractionalValue")
    _add_functional(row, ds, frames, flags)
    row["flags"] = flags or None


def _add_grey(row: Header, ds: Dataset, flags: list[str]) -> None:
    meant = rescale_of(ds)
    flags += meant.flags
    row["slope"], row["intercept"], row["unit"] = meant.slope, meant.intercept, meant.unit
    if lut := lut_item(ds, "ModalityLUTSequence"):
        if "RescaleSlope" in ds:
            flags.append("lut-and-rescale")  # illegal together (PS3.3 C.11.1): the LUT wins
        row["lut_low"], row["lut_high"] = modality_lut_range(ds)
        row["unit"] = text(lut, "ModalityLUTType") or "US"
    elif items(ds, "ModalityLUTSequence") and "rescale-empty" not in flags:
        flags.append("rescale-empty")
    if row["kind"] == "dose":
        row["dose_type"] = text(ds, "DoseType")
    if suv := suv_of(ds):
        row["suv_factor"], row["suv_refusal"] = suv.factor, suv.refusal
        row["suv_flag"] = suv.flag
    if row["slope"] == 0:
        flags.append("slope-zero")


def _add_functional(row: Header, ds: Dataset, frames: int, flags: list[str]) -> None:
    """What is said of all or of single frames, by functional groups (PS3.3 C.7.6.16) or else."""
    grey = row["slope"] is not None  # colour and masks are not rescaled
    shared, per_frame, found = functional_groups(ds, frames, row["kind"], grey)
    flags += found
    if per_frame is None:
        per_frame = planes(ds, frames, row["kind"])
    if row["kind"] == "map" and grey:
        file = cast(dict[str, Any], row)
        shared, per_frame, found = real_values(ds, file, shared, per_frame, _stored_ends(row))
        flags += found
    if frames > 1:
        row["position"] = None  # that of the first frame, and of no other
    unit = shared.pop("unit", row["unit"])
    units = [frame.pop("unit", unit) for frame in per_frame or ()]
    if row["lut_low"] is None:
        row["unit"] = units[0] if units else unit
        if len(set(units)) > 1:  # the frames say it, and the file no longer
            row["unit"] = None
            flags.append("units-differ")
            for frame, own in zip(per_frame or (), units, strict=True):
                frame["unit"] = own
    row.update(cast(Header, {k: v for k, v in shared.items() if k in _EMPTY}))
    if per_frame:
        row["spacing_tag"] = row["spacing_tag"] or per_frame[0].get("spacing_tag")
        said = [{k: g.get(k) for k in PER_FRAME_FIELDS} for g in per_frame]
        row["per_frame"] = cast(list[FrameHeader], said)


def _stored_ends(row: Header) -> tuple[float, float]:
    """Least and greatest value that the file's pixels can hold as stored."""
    if row["pixel_keyword"] != "PixelData":
        return float("-inf"), float("inf")
    span = float(1 << row["bits_stored"])
    return (-span / 2, span / 2 - 1) if row["signed"] else (0.0, span - 1)
