"""Waveform files for tests, sample by sample."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from tests.support.dicom_files import write_dicom

ECG = "1.2.840.10008.5.1.4.1.1.9.1.1"
BITS = {"SB": 8, "UB": 8, "MB": 8, "AB": 8, "SS": 16, "US": 16, "SL": 32, "UL": 32, "SV": 64,
        "UV": 64}  # fmt: skip


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """An item of a code sequence."""
    ds = Dataset()
    ds.CodeValue, ds.CodingSchemeDesignator, ds.CodeMeaning = value, scheme, meaning
    return ds


def channel(
    label: str | None = None,
    sensitivity: Any = None,
    unit: str | None = "uV",
    source: tuple[str, str, str] = ("2:1", "MDC", "Lead I"),
    **elements: Any,
) -> Dataset:
    """A channel; `elements` by keyword replace what it has, None removes."""
    ds = Dataset()
    ds.ChannelSourceSequence = [code(*source)]
    ds.ChannelSampleSkew = "0"
    if label is not None:
        ds.ChannelLabel = label
    if sensitivity is not None:
        ds.ChannelSensitivity, ds.ChannelBaseline = sensitivity, "0"
        ds.ChannelSensitivityCorrectionFactor = "1"
        if unit is not None:
            ds.ChannelSensitivityUnitsSequence = [code(unit, "UCUM", unit)]
    _set(ds, elements)
    return ds


def group(
    data: bytes | NDArray[Any],
    channels: Sequence[Dataset],
    interpretation: str = "SS",
    rate: float = 500,
    vr: str = "OW",
    **elements: Any,
) -> Dataset:
    """A multiplex group of `data`: (samples, channels), or its bytes."""
    bits = BITS[interpretation]
    raw = data if isinstance(data, bytes) else np.ascontiguousarray(data).tobytes()
    ds = Dataset()
    ds.WaveformOriginality = "ORIGINAL"
    ds.NumberOfWaveformChannels = len(channels)
    ds.NumberOfWaveformSamples = len(raw) * 8 // bits // len(channels)
    ds.SamplingFrequency = rate
    ds.WaveformBitsAllocated = bits
    ds.WaveformSampleInterpretation = interpretation
    for one in channels:
        if "WaveformBitsStored" not in one:
            one.WaveformBitsStored = bits
    ds.ChannelDefinitionSequence = list(channels)
    ds.add_new("WaveformData", vr, raw + bytes(len(raw) % 2))
    _set(ds, elements)
    return ds


def _set(ds: Dataset, elements: dict[str, Any]) -> None:
    for keyword, value in elements.items():
        if value is None:
            delattr(ds, keyword)
        elif isinstance(value, tuple):  # (VR, value)
            ds.add_new(keyword, *value)
        else:
            setattr(ds, keyword, value)


def write_waveform(
    path: Path,
    groups: Sequence[Dataset],
    undefined: bool = False,
    syntax: str = "1.2.840.10008.1.2.1",
    **elements: Any,
) -> Path:
    """A waveform file; `undefined`: its sequences and items have undefined length."""
    sequence = Items(groups)
    if undefined:
        for item in groups:
            item.is_undefined_length_sequence_item = True
            item["ChannelDefinitionSequence"].is_undefined_length = True
    said = {"SOPClassUID": ECG, "Modality": "ECG", **elements}
    ds = Dataset()
    ds.WaveformSequence = sequence
    ds["WaveformSequence"].is_undefined_length = undefined
    return write_dicom(path, syntax=syntax, WaveformSequence=ds["WaveformSequence"], **said)
