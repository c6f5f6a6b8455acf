"""Multiplex groups of a waveform to a row of FILES (PS3.3 C.10.9). Pure, items to values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

from dicom2cache.errors import FrameError, counting
from dicom2cache.headers.tags import (
    Dataset,
    decimal,
    has_content,
    items,
    name,
    number,
    raw,
    required,
    text,
    whole,
)
from dicom2cache.recipes.limits import Limits
from dicom2cache.records import Channel, Line, Meant, Multiplex

STORED, UNSPECIFIED, MIXED = "stored", "US", "mixed"
"""units: the file's own samples; a sensitivity without a unit; channels of several units"""
NO_SENSITIVITY, NO_UNIT = "sensitivity-missing", "sensitivity-unit-missing"
EXCESS = "excess-waveform-data"
_BITS = {
    "SB": 8, "UB": 8, "MB": 8, "AB": 8, "SS": 16, "US": 16, "SL": 32, "UL": 32, "SV": 64, "UV": 64,
}  # fmt: skip
"""Waveform Sample Interpretation (PS3.3 C.10.9.1.5) and its bits"""
_LONGEST_CODE = 64
_GREATEST = 3.4e38
"""of float32"""


_AS_ITEMS = 64
"""items that a channel counts as: described or not, all that is known of it becomes an object"""


def check_channels(groups: Sequence[tuple[Dataset, Any]], limits: Limits) -> None:
    """Raises FrameError for more channels, of all groups together, than the limits allow."""
    count = sum(max(0, whole(item, "NumberOfWaveformChannels") or 0) for item, _ in groups)
    if count * _AS_ITEMS > limits.header_items:
        raise FrameError(
            f"its {len(groups)} multiplex groups have {counting(count, 'channel')}, each of which "
            f"counts as {_AS_ITEMS} items; limits.header_items is {limits.header_items}: "
            "if the file is right, give --limits header_items=NUMBER"
        )


def waveform_of(
    groups: Sequence[tuple[Dataset, Any]], order: str, end: int | None
) -> dict[str, Any]:
    """What FILES has of a file of multiplex groups, each an item and its raw Waveform Data.

    `order`: `little` or `big`; `end`: bytes of the file, None where that is not known. Raises
    FrameError for what contradicts itself, naming the group.
    """
    found: list[tuple[Multiplex, Meant]] = []
    flags: list[str] = []
    for number_, (item, data) in enumerate(groups, 1):
        try:
            found.append(_group(item, data, order, end, flags))
        except FrameError as e:
            where = f"multiplex group {number_}: " if len(groups) > 1 else ""
            raise FrameError(f"{where}{e}") from e
    lies, meant = [one for one, _ in found], [other for _, other in found]
    units = [_shared_unit(group["channels"]) for group in meant]
    one = units[0] if len(set(units)) == 1 else None
    if one is None:
        flags.append("units-differ")
    first = min(group["offset"] for group in lies)
    last = max(group["offset"] + group["length"] for group in lies)
    largest = max(lies, key=lambda group: group["channels"] * group["samples"])
    return {
        "pixel_keyword": "WaveformData",
        "pixel_vr": lies[0]["vr"],
        "pixel_offset": first,
        "pixel_length": last - first,
        "frames": len(lies),
        "height": largest["channels"],
        "width": largest["samples"],
        "samples": 1,
        "planar": 0,
        "photometric": "",  # null in frames/
        "bits_allocated": 32,  # what they are decoded to
        "bits_stored": max(line["bits"] for group in lies for line in group["lines"]),
        "high_bit": 31,
        "overlay_bits": 0,
        "signed": True,
        "voi_lut": False,
        "voi": False,
        "windows": None,
        "unit": one,
        "per_frame": None if one is not None else [{"unit": unit} for unit in units],
        "waveforms": lies,
        "meant": meant,
        "flags": list(dict.fromkeys(flags)) or None,
    }


def _shared_unit(channels: Sequence[Channel]) -> str:
    """The unit of all channels, or that there are several."""
    units = {str(channel["unit"]) for channel in channels}
    return units.pop() if len(units) == 1 else MIXED


def _group(
    item: Dataset, data: Any, order: str, end: int | None, flags: list[str]
) -> tuple[Multiplex, Meant]:
    channels = required(item, "NumberOfWaveformChannels", "1 to 65535")
    samples = required(item, "NumberOfWaveformSamples", "1 to 2147483647")
    for keyword, count, most in (
        ("NumberOfWaveformChannels", channels, 65535),
        ("NumberOfWaveformSamples", samples, 2**31 - 1),
    ):
        if not 1 <= count <= most:
            raise FrameError(f"{name(keyword)} is {count}; legal: 1 to {most}")
    bits, interpretation = _samples(item)
    vr, offset, length = _data(item, data, channels, samples, bits, end)
    if length > channels * samples * (bits // 8) + 1:
        flags.append(EXCESS)
    defined = items(item, "ChannelDefinitionSequence")
    if defined and len(defined) != channels:
        raise FrameError(
            f"{name('ChannelDefinitionSequence')} has {counting(len(defined), 'item')}, but "
            f"{name('NumberOfWaveformChannels')} is {channels}: which channel is which is not known"
        )
    made = [_channel(one, bits, interpretation, flags) for one in defined]
    if not defined:
        flags.append(NO_SENSITIVITY)
        made = [_unknown(bits)] * channels
    rate = number(item, "SamplingFrequency")
    lies: Multiplex = {
        "channels": channels, "samples": samples, "bits": bits, "interpretation": interpretation,
        "vr": vr, "offset": offset, "length": length,
        "padding": _padding(item, bits, order, vr), "lines": [line for line, _ in made],
    }  # fmt: skip
    meant: Meant = {
        "channels": [channel for _, channel in made],
        "sampling_rate": rate if rate is not None and rate > 0 else None,
        "time_offset": number(item, "MultiplexGroupTimeOffset"),
        "originality": text(item, "WaveformOriginality"),
        "group_label": text(item, "MultiplexGroupLabel"),
    }
    return lies, meant


def _samples(item: Dataset) -> tuple[int, str]:
    """(bits of a sample, what they are), which must agree."""
    bits = required(item, "WaveformBitsAllocated", "8, 16, 32 or 64")
    interpretation = (text(item, "WaveformSampleInterpretation") or "").upper()
    if interpretation not in _BITS:
        raise FrameError(
            f"{name('WaveformSampleInterpretation')} is "
            f"{raw(item, 'WaveformSampleInterpretation')}; legal: {', '.join(_BITS)}"
        )
    if _BITS[interpretation] != bits:
        raise FrameError(
            f"{name('WaveformBitsAllocated')} is {bits}, but "
            f"{name('WaveformSampleInterpretation')} is {interpretation}, of "
            f"{_BITS[interpretation]} bits; one of them is wrong"
        )
    return bits, interpretation


def _data(
    item: Dataset, data: Any, channels: int, samples: int, bits: int, end: int | None
) -> tuple[str, int, int]:
    """(VR, offset, bytes) of the samples, which are as many as the header says."""
    if data is None:
        raise FrameError(f"{name('WaveformData')} is absent; get the file again")
    length, want = data.length, channels * samples * (bits // 8)
    if length == 0xFFFFFFFF:
        raise FrameError(f"{name('WaveformData')} has undefined length; legal: a length in bytes")
    have = length if end is None else max(0, min(length, end - data.value_tell))
    if have < want:
        raise FrameError(
            f"{name('WaveformData')} is truncated: {have} bytes, {want} expected for "
            f"{name('NumberOfWaveformChannels')} {channels} x {name('NumberOfWaveformSamples')} "
            f"{samples} of {name('WaveformBitsAllocated')} {bits} bits; copy the file again"
        )
    return str(data.VR or "OW"), data.value_tell, length


def _padding(item: Dataset, bits: int, order: str, vr: str) -> int | None:
    """Waveform Padding Value (5400,100A) as the word that it is, without a sign; int64's bits.

    It is encoded as the samples are.
    """
    if "WaveformPaddingValue" not in item:
        return None
    element = cast(Any, item).get_item("WaveformPaddingValue")
    said, size = element.value, bits // 8
    if not said:
        return None
    if not isinstance(said, bytes) or len(said) not in (size, size + size % 2):
        raise FrameError(
            f"{name('WaveformPaddingValue')} is {raw(item, 'WaveformPaddingValue')}; legal: one "
            f"sample of {bits} bits"
        )
    word = said[:size]
    if bits == 8 and order == "big" and vr == "OW" and len(said) == 2:
        word = said[1:]  # the lower byte of a word
    found = int.from_bytes(word, "big" if order == "big" else "little")
    return found - (1 << 64) if found >= 1 << 63 else found


def _unknown(bits: int) -> tuple[Line, Channel]:
    line: Line = {"sensitivity": 1.0, "correction": 1.0, "baseline": 0.0, "bits": bits}
    channel = cast(Channel, dict.fromkeys(Channel.__annotations__))
    return line, {**channel, "unit": STORED, "bits_stored": bits}


def _channel(
    item: Dataset, bits: int, interpretation: str, flags: list[str]
) -> tuple[Line, Channel]:
    line, _ = _unknown(bits)
    unit = STORED
    sensitivity = decimal(item, "ChannelSensitivity")
    if sensitivity is None:
        flags.append(NO_SENSITIVITY)
    else:
        correction = decimal(item, "ChannelSensitivityCorrectionFactor")
        line["sensitivity"] = sensitivity
        line["correction"] = 1.0 if correction is None else correction
        line["baseline"] = decimal(item, "ChannelBaseline") or 0.0
        if line["sensitivity"] * line["correction"] == 0:
            flags.append("slope-zero")
        unit = _code(item, "ChannelSensitivityUnitsSequence", plain="UCUM") or UNSPECIFIED
        if unit == UNSPECIFIED:
            flags.append(NO_UNIT)
    stored = whole(item, "WaveformBitsStored")
    if has_content(item, "WaveformBitsStored") and not 1 <= (stored or 0) <= bits:
        raise FrameError(
            f"{name('WaveformBitsStored')} is {raw(item, 'WaveformBitsStored')}; legal: 1 to "
            f"{name('WaveformBitsAllocated')} {bits}"
        )
    # Companded samples are bytes of a code, whatever is said of their bits.
    line["bits"] = bits if stored is None or interpretation in ("MB", "AB") else stored
    step = line["sensitivity"] * line["correction"]
    if abs(step) * 2.0 ** (line["bits"] - 1) + abs(line["baseline"]) > _GREATEST:
        raise FrameError(
            f"{name('ChannelSensitivity')} is {raw(item, 'ChannelSensitivity')}, and "
            f"{name('ChannelBaseline')} {raw(item, 'ChannelBaseline')}: values are beyond float32; "
            "get the file again"
        )
    channel: Channel = {
        "label": text(item, "ChannelLabel"),
        "source": _code(item, "ChannelSourceSequence"),
        "source_meaning": _meaning(item, "ChannelSourceSequence"),
        "modifiers": _modifiers(item),
        "unit": unit,
        "sensitivity": None if sensitivity is None or not math.isfinite(step) else step,
        "baseline": None if sensitivity is None else line["baseline"],
        "bits_stored": line["bits"],
        "filter_low": number(item, "FilterLowFrequency"),
        "filter_high": number(item, "FilterHighFrequency"),
        "notch": number(item, "NotchFilterFrequency"),
        "time_skew": number(item, "ChannelTimeSkew"),
        "sample_skew": number(item, "ChannelSampleSkew"),
        "offset": number(item, "ChannelOffset"),
    }
    return line, channel


def _code(item: Dataset, keyword: str, plain: str | None = None) -> str | None:
    """SCHEME:CODE of a sequence's first item; of the scheme `plain` the code alone."""
    for code in items(item, keyword)[:1]:
        return _said(code, plain)
    return None


def _said(code: Dataset, plain: str | None = None) -> str | None:
    for keyword in ("CodeValue", "LongCodeValue", "URNCodeValue"):
        said, scheme = text(code, keyword), text(code, "CodingSchemeDesignator")
        if said is None or len(said) > _LONGEST_CODE:
            continue
        if scheme is None or scheme == plain:
            return said
        return f"{scheme}:{said}"
    return None


def _meaning(item: Dataset, keyword: str) -> str | None:
    for code in items(item, keyword)[:1]:
        return text(code, "CodeMeaning")
    return None


def _modifiers(item: Dataset) -> str | None:
    found = [_said(code) for code in items(item, "ChannelSourceModifiersSequence")]
    return " ".join(code for code in found if code) or None
