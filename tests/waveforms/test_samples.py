"""Samples of waveforms to what they mean: literal bytes, literal values."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.caches import attributes, built, by_path
from tests.support.waveforms import channel, group, write_waveform

Found = dict[tuple[str, int], tuple[dict[str, Any], NDArray[Any]]]
_SYNTAXES = {
    "implicit": "1.2.840.10008.1.2",
    "explicit": "1.2.840.10008.1.2.1",
    "big": "1.2.840.10008.1.2.2",
    "deflated": "1.2.840.10008.1.2.1.99",
}
_SAMPLES: dict[str, tuple[str, list[int], list[float]]] = {
    # interpretation: (letter of struct, samples as they are encoded, values)
    "SB": ("B", [0x80, 0xFF, 0x00, 0x7F], [-128, -1, 0, 127]),
    "UB": ("B", [0x80, 0xFF, 0x00, 0x7F], [128, 255, 0, 127]),
    "MB": ("B", [0x00, 0x80, 0x7F, 0xFE], [-32124, 32124, 0, 8]),  # ITU-T G.711, table 2a and 2b
    "AB": ("B", [0x2A, 0xAA, 0x55, 0xD5], [-32256, 32256, -8, 8]),  # table 1a and 1b
    "SS": ("H", [0x8000, 0xFFFF, 0x0102, 0x7FFF], [-32768, -1, 258, 32767]),
    "US": ("H", [0x8000, 0xFFFF, 0x0102, 0x7FFF], [32768, 65535, 258, 32767]),
    "SL": ("I", [0x80000000, 0xFFFFFFFF, 0x00010203, 1], [-(2.0**31), -1, 66051, 1]),
    "UL": ("I", [0x80000000, 0xFFFFFFFE, 0x00010203, 1], [2.0**31, 2.0**32, 66051, 1]),
    "SV": ("Q", [1 << 63, (1 << 64) - 1, 0x010203, 1], [-(2.0**63), -1, 66051, 1]),
    "UV": ("Q", [1 << 63, (1 << 64) - 1, 0x010203, 1], [2.0**63, 2.0**64, 66051, 1]),
}  # fmt: skip


def _words(values: list[int], size: str, big: bool) -> bytes:
    return struct.pack(f"{'>' if big else '<'}{len(values)}{size}", *values)


def _two(**elements: Any) -> list[Any]:
    return [channel("A", **elements), channel("B", **elements)]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """A cache of all files of this module, built once."""
    folder = tmp_path_factory.mktemp("waveforms")
    sources = folder / "in"
    for name, syntax in _SYNTAXES.items():
        for interpretation, (size, samples, _) in _SAMPLES.items():
            data = _words(samples, size, name == "big")
            vr = "OB" if size == "B" and name != "implicit" else "OW"
            groups = [group(data, _two(), interpretation, vr=vr)]
            write_waveform(sources / f"{name}-{interpretation}", groups, syntax=syntax)
    # 8 bits in big-endian words: each word swapped
    swapped = bytes([2, 1, 4, 3, 0, 5])
    big = [group(swapped, [channel()], "SB", vr="OW", NumberOfWaveformSamples=5)]
    write_waveform(sources / "big-words", big, syntax=_SYNTAXES["big"])
    for name, groups in _odd().items():
        write_waveform(sources / name, groups)
    for name, syntax in _SYNTAXES.items():
        groups = [_line_group(name == "big"), _line_group(name == "big", rate=250)]
        write_waveform(sources / f"undefined-{name}", groups, True, syntax)
    return by_path(built("--jobs", "1", sources, folder / "cache"))


def _line_group(big: bool = False, **elements: Any) -> Any:
    """Samples 1, -2 / padding, 4 / 5, padding of two channels, -999 being padding."""
    data = _words([1, 0xFFFE, 0xFC19, 4, 5, 0xFC19], "H", big)
    padding = "OW", _words([0xFC19], "H", big)
    channels = [
        channel(
            "I", "2.5", ChannelSensitivityCorrectionFactor="2", ChannelBaseline="10",
            FilterLowFrequency="0.05", FilterHighFrequency="150", NotchFilterFrequency="50",
        ),
        channel(
            "II", "0.001", unit="mV", source=("5.6.3-9-2", "SCPECG", "Lead II"),
            ChannelSampleSkew=None, ChannelTimeSkew="0.002", ChannelOffset="0.1",
        ),
    ]  # fmt: skip
    return group(data, channels, WaveformPaddingValue=padding, **elements)


def _odd() -> dict[str, list[Any]]:
    same = [channel("A", "2"), channel("B", "4")]
    no_unit = [channel("A", "2", unit=None), channel("B", "4", unit=None)]
    twelve = [channel("A", WaveformBitsStored=12), channel("B", WaveformBitsStored=12)]
    again = [channel("A", WaveformBitsStored=12), channel("B", WaveformBitsStored=12)]
    stored = np.array([[1, 2], [3, 4]], "<i2")
    return {
        "one-unit": [group(stored, same)],
        "no-unit": [group(stored, no_unit)],
        "no-definitions": [group(stored, _two(), ChannelDefinitionSequence=None)],
        # -1 and -2048 in 12 bits, whose sign is not extended; 0x8000 is padding, no sample
        "bits": [
            group(
                _words([0x0FFF, 0x0800, 0x8000, 0x07FF], "H", False), twelve,
                WaveformPaddingValue=("OW", b"\0\x80"),
            )
        ],
        "bits-extended": [group(_words([0xFFFF, 0xF800, 1, 2], "H", False), again)],
        "excess": [group(stored, same, NumberOfWaveformSamples=1)],
        "offset": [
            group(stored, same, MultiplexGroupTimeOffset="20", MultiplexGroupLabel="RHYTHM"),
            group(
                np.array([[7, 8]], "<i2"), [channel("A", "2"), channel("B", "4", unit="mV")],
                WaveformOriginality="DERIVED", MultiplexGroupLabel="MEDIAN",
            ),
        ],
    }  # fmt: skip


@pytest.mark.parametrize("syntax", _SYNTAXES)
@pytest.mark.parametrize("interpretation", _SAMPLES)
def test_each_interpretation_in_each_syntax(found: Found, syntax: str, interpretation: str) -> None:
    row, values = found[f"{syntax}-{interpretation}", 0]
    expected = np.array(_SAMPLES[interpretation][2], np.float32).reshape(2, 2).T
    np.testing.assert_array_equal(values, expected)
    assert (row["kind"], row["unit"], row["sampling_rate"]) == ("waveform", "stored", 500)
    assert (row["height"], row["width"]) == (2, 2)
    assert "sensitivity-missing" in row["flags"]
    assert row["codec"] == ("G.711" if interpretation in ("MB", "AB") else "native")


def test_bytes_in_big_endian_words(found: Found) -> None:
    np.testing.assert_array_equal(found["big-words", 0][1], [[1, 2, 3, 4, 5]])


@pytest.mark.parametrize("syntax", _SYNTAXES)
@pytest.mark.parametrize("frame", [0, 1])
def test_sensitivity_padding_and_what_channels_say(found: Found, syntax: str, frame: int) -> None:
    row, values = found[f"undefined-{syntax}", frame]
    expected = [[15, np.nan, 35], [-0.002, 0.004, np.nan]]  # 1 * 2.5 * 2 + 10
    np.testing.assert_array_equal(values, np.array(expected, np.float32))
    one, other = row["channels"]
    assert one == {
        "label": "I", "source": "MDC:2:1", "source_meaning": "Lead I", "modifiers": None,
        "unit": "uV", "sensitivity": 5.0, "baseline": 10.0, "bits_stored": 16, "filter_low": 0.05,
        "filter_high": 150.0, "notch": 50.0, "time_skew": None, "sample_skew": 0.0, "offset": None,
    }  # fmt: skip
    assert (other["source"], other["unit"]) == ("SCPECG:5.6.3-9-2", "mV")
    assert (other["time_skew"], other["sample_skew"], other["offset"]) == (0.002, None, 0.1)
    assert (row["unit"], row["sampling_rate"]) == ("mixed", [500.0, 250.0][frame])
    assert row["padding_fraction"] == np.float32(2 / 6)
    assert (row["min"], row["max"]) == (float(np.float32(-0.002)), 35.0)
    assert row["mean"] == pytest.approx((15 + 35 - 0.002 + 0.004) / 4)


def test_one_unit_of_all_channels(found: Found) -> None:
    row, values = found["one-unit", 0]
    np.testing.assert_array_equal(values, [[2, 6], [8, 16]])
    assert (row["unit"], row["flags"]) == ("uV", None)
    assert (row["slope"], row["photometric"], row["polarity"]) == (None, None, None)
    assert row["full_scale"] is None
    assert row["padding_fraction"] is None


def test_a_sensitivity_without_a_unit(found: Found) -> None:
    row, values = found["no-unit", 0]
    np.testing.assert_array_equal(values, [[2, 6], [8, 16]])
    assert (row["unit"], row["flags"]) == ("US", ["sensitivity-unit-missing"])


def test_channels_that_are_not_described(found: Found) -> None:
    row, values = found["no-definitions", 0]
    np.testing.assert_array_equal(values, [[1, 3], [2, 4]])
    assert [c["unit"] for c in row["channels"]] == ["stored", "stored"]
    assert (row["unit"], row["flags"]) == ("stored", ["sensitivity-missing"])


def test_bits_stored_are_what_counts(found: Found) -> None:
    row, values = found["bits", 0]
    np.testing.assert_array_equal(values, [[-1, np.nan], [-2048, 2047]])
    assert "high-bits" in row["flags"]
    assert row["bits_stored"] == 12
    row, values = found["bits-extended", 0]
    np.testing.assert_array_equal(values, [[-1, 1], [-2048, 2]])
    assert "high-bits" not in row["flags"]


def test_more_data_than_samples(found: Found) -> None:
    row, values = found["excess", 0]
    np.testing.assert_array_equal(values, [[2], [8]])
    assert row["flags"] == ["excess-waveform-data"]


def test_groups_of_one_file_are_rows_of_their_own(found: Found) -> None:
    (one, values), (other, more) = (found["offset", frame] for frame in (0, 1))
    np.testing.assert_array_equal(values, [[2, 6], [8, 16]])
    np.testing.assert_array_equal(more, [[14], [32]])
    assert (one["time_offset"], other["time_offset"]) == (20.0, None)
    assert (one["group_label"], other["group_label"]) == ("RHYTHM", "MEDIAN")
    assert (one["originality"], other["originality"]) == ("ORIGINAL", "DERIVED")
    assert (one["unit"], other["unit"]) == ("uV", "mixed")
    assert (one["width"], other["width"]) == (2, 1)
    assert (one["source_width"], other["source_width"]) == (2, 1)
    assert one["stack"] != other["stack"]
    assert one["stack_index"] == other["stack_index"] == 0
    assert one["sop_uid"] == other["sop_uid"]


def test_waveforms_have_arrays_of_their_own(found: Found, tmp_path: Path) -> None:
    del found
    write_waveform(tmp_path / "in" / "a", [group(np.zeros((4, 3), "<i2"), [channel()] * 3)])
    cache = built("--jobs", "1", tmp_path / "in", tmp_path / "cache")
    (array,) = attributes(cache)["arrays"]
    assert (array["name"], array["dtype"]) == ("waveform_float32_3x4", "float32")
    assert array["slot"] == [3, 4]
