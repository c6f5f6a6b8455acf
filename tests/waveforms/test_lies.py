"""Headers of waveforms that lie: the file fails by name, and costs itself only."""

from __future__ import annotations

import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.caches import attributes, built, by_path, failures
from tests.support.dicom_files import write_dicom
from tests.support.waveforms import channel, group, write_waveform

_DATA = np.arange(24, dtype="<i2").reshape(12, 2)


def _group(**elements: Any) -> Any:
    return group(_DATA, [channel("A"), channel("B")], **elements)


def _bad() -> dict[str, tuple[list[Any], str]]:
    return {
        "samples": (
            [_group(NumberOfWaveformSamples=1 << 30)],
            "WaveformData (5400,1010) is truncated: 48 bytes, 4294967296 expected for "
            "NumberOfWaveformChannels (003A,0005) 2 x NumberOfWaveformSamples (003A,0010) "
            "1073741824 of WaveformBitsAllocated (5400,1004) 16 bits; copy the file again",
        ),
        "no-samples": (
            [_group(NumberOfWaveformSamples=0)],
            "NumberOfWaveformSamples (003A,0010) is 0; legal: 1 to 2147483647",
        ),
        "many-samples": (
            [_group(NumberOfWaveformSamples=0xFFFFFFFF)],
            "NumberOfWaveformSamples (003A,0010) is 4294967295; legal: 1 to 2147483647",
        ),
        "channels": (
            [_group(NumberOfWaveformChannels=1)],
            "ChannelDefinitionSequence (003A,0200) has 2 items, but NumberOfWaveformChannels "
            "(003A,0005) is 1: which channel is which is not known",
        ),
        "second": (
            [_group(), _group(NumberOfWaveformSamples=13)],
            "multiplex group 2: WaveformData (5400,1010) is truncated: 48 bytes, 52 expected for",
        ),
        "beyond-float32": (
            [group(_DATA, [channel("A", "1e40"), channel("B", "1")])],
            "ChannelSensitivity (003A,0210) is '1e40', and ChannelBaseline (003A,0213) '0': values "
            "are beyond float32",
        ),
        "baseline-beyond-float32": (
            [group(_DATA, [channel("A", "1"), channel("B", "1", ChannelBaseline="-1e39")])],
            "ChannelSensitivity (003A,0210) is '1', and ChannelBaseline (003A,0213) '-1e39': "
            "values are beyond float32",
        ),
        "bits": (
            [_group(WaveformBitsAllocated=32)],
            "WaveformBitsAllocated (5400,1004) is 32, but WaveformSampleInterpretation "
            "(5400,1006) is SS, of 16 bits; one of them is wrong",
        ),
        "interpretation": (
            [_group(WaveformSampleInterpretation="XX")],
            "WaveformSampleInterpretation (5400,1006) is 'XX'; legal: SB, UB, MB, AB, SS, US, SL, "
            "UL, SV, UV",
        ),
        "no-interpretation": (
            [_group(WaveformSampleInterpretation=None)],
            "WaveformSampleInterpretation (5400,1006) is absent; legal: SB,",
        ),
        "no-data": ([_group(WaveformData=None)], "WaveformData (5400,1010) is absent"),
        "bits-stored": (
            [group(_DATA, [channel(WaveformBitsStored=17), channel()])],
            "WaveformBitsStored (003A,021A) is 17; legal: 1 to WaveformBitsAllocated (5400,1004) "
            "16",
        ),
        "padding": (
            [_group(WaveformPaddingValue=("OW", b"\1\2\3\4"))],
            "WaveformPaddingValue (5400,100A) is '\\x01\\x02\\x03\\x04'; legal: one sample of 16 "
            "bits",
        ),
        "empty": ([], "WaveformSequence (5400,0100) has no item; legal: 1 or more"),
    }  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lies")
    sources = folder / "in"
    for name, (groups, _) in _bad().items():
        write_waveform(sources / f"{name}.dcm", groups)
    write_waveform(sources / "good.dcm", [_group()])
    write_waveform(sources / "cut.dcm", [_group()])
    whole = (sources / "good.dcm").read_bytes()
    (sources / "cut.dcm").write_bytes(whole[:-10])
    (sources / "cut-early.dcm").write_bytes(whole[: whole.index(b"MDC") + 3])
    number = whole.replace(b"\x3a\0\x15\2DS\2\x000 ", b"\x3a\0\x10\2DS\2\0x ", 1)
    assert number != whole
    (sources / "sensitivity.dcm").write_bytes(number)
    return built("--jobs", "1", sources, folder / "cache", status=1)


@pytest.mark.parametrize("name", _bad())
def test_it_fails_by_tag_and_value(cache: Path, name: str) -> None:
    outcome, reason = failures(cache)[f"{name}.dcm", None]
    assert outcome == "failed"
    assert reason.startswith(_bad()[name][1])


def test_a_file_that_ends_early(cache: Path) -> None:
    found = failures(cache)
    assert "truncated" in found["cut.dcm", None][1]
    assert "copy it again" in found["cut-early.dcm", None][1]


def test_a_sensitivity_that_is_no_number(cache: Path) -> None:
    outcome, reason = failures(cache)["sensitivity.dcm", None]
    assert outcome == "failed"
    assert reason.startswith("ChannelSensitivity (003A,0210) is 'x'; legal: one finite decimal")


def test_the_others_are_stored(cache: Path) -> None:
    found = by_path(cache)
    assert list(found) == [("good.dcm", 0)]
    np.testing.assert_array_equal(found["good.dcm", 0][1], _DATA.T)
    assert attributes(cache)["counts"]["files_failed"] == len(_bad()) + 3


def test_values_are_weighed_before_they_are_allocated(tmp_path: Path) -> None:
    write_waveform(tmp_path / "in" / "a", [_group()])
    write_waveform(tmp_path / "in" / "b", [_group(NumberOfWaveformSamples=11)])
    limit = ("--limits", "waveform_values=23")
    cache = built("--jobs", "1", *limit, tmp_path / "in", tmp_path / "cache", status=1)
    assert failures(cache)["a", None] == (
        "failed",
        "NumberOfWaveformChannels (003A,0005) x NumberOfWaveformSamples (003A,0010) is 24; "
        "limits.waveform_values is 23: if the file is right, give --limits waveform_values=NUMBER",
    )


def test_channels_are_weighed_whether_they_are_described_or_not(tmp_path: Path) -> None:
    """Each becomes an object, and 65535 of them take as many bytes of a file."""
    bare = group(bytes(60), [channel(f"{k}") for k in range(30)])
    del bare.ChannelDefinitionSequence
    write_waveform(tmp_path / "in" / "a", [bare] * 2)
    write_waveform(tmp_path / "in" / "b", [bare])
    limit = ("--limits", "header_items=2000")
    cache = built("--jobs", "1", *limit, tmp_path / "in", tmp_path / "cache", status=1)
    assert failures(cache)["a", None] == (
        "failed",
        "its 2 multiplex groups have 60 channels, each of which counts as 64 items; "
        "limits.header_items is 2000: if the file is right, give --limits header_items=NUMBER",
    )
    assert list(by_path(cache)) == [("b", 0)]


def test_a_deflated_bomb(tmp_path: Path) -> None:
    """64 MiB of zeros in 64 KiB are not inflated further than they may."""
    write_waveform(tmp_path / "in" / "b", [_group()])
    path = write_waveform(
        tmp_path / "in" / "a", [group(bytes(2000), [channel()])], True, "1.2.840.10008.1.2.1.99"
    )
    raw, count = path.read_bytes(), 64 << 20
    at = 144 + int.from_bytes(raw[140:144], "little")
    body = zlib.decompress(raw[at:], -15)
    for before, value in (
        (b"\0\x54\x10\x10OW\0\0", count), (b"\x3a\0\x10\0UL\4\0", count // 2)
    ):  # fmt: skip
        k = body.index(before) + len(before)
        body = body[:k] + value.to_bytes(4, "little") + body[k + 4 :]
    start = body.index(b"\0\x54\x10\x10OW\0\0") + 12
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = deflater.compress(body[:start] + bytes(count) + body[start + 2000 :])
    path.write_bytes(raw[:at] + packed + deflater.flush())
    limit = ("--limits", "inflate_mib=16")
    cache = built("--jobs", "1", *limit, tmp_path / "in", tmp_path / "cache", status=1)
    assert failures(cache)["a", None] == (
        "failed",
        "the dataset inflates to more than 16 MiB; if the file is right, give --limits "
        "inflate_mib=NUMBER",
    )


def test_pixels_beside_a_waveform_are_an_image(tmp_path: Path) -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    from pydicom.sequence import Sequence

    write_dicom(tmp_path / "in" / "a", pixels, WaveformSequence=Sequence([_group()]))
    ((row, stored),) = by_path(built("--jobs", "1", tmp_path / "in", tmp_path / "c")).values()
    assert (row["kind"], row["channels"]) == ("image", None)
    np.testing.assert_array_equal(stored, pixels)


_DAY = 24 * 60 * 60 * 128
"""samples of a day at 128 Hz"""
_CONVERTED = """
import os, re, sys
import numpy as np
from dicom2cache.frames.decode import Source
from dicom2cache.headers.read import read_header
from dicom2cache.pixels.statistics import of_waveform
from dicom2cache.planning.arrays import array_spec
from dicom2cache.privacy.keys import PatientKey
from dicom2cache.records import Candidate
from dicom2cache.store.shards import chunk_of

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])

path = sys.argv[1]
status = os.stat(path)
candidate = Candidate(0, os.path.basename(path), status.st_size, status.st_mtime_ns)
before = peak()
header = read_header([os.path.dirname(path)], candidate, PatientKey(b""))
read = peak()
with Source(path, header) as source:
    values = source.read(0).pixels
found = of_waveform(values)
chunk_of(values, array_spec("waveform_float32", values.shape, 1, 1 << 26))
np.save(sys.argv[2], values[:, -1000:])
print(values.shape[1], found.min, found.max, found.mean, read - before, peak() - read)
"""


def test_a_day_takes_little_more_than_its_own_memory(tmp_path: Path) -> None:
    """Three channels of a day: 66 MB of samples in one element, 133 MB as they are stored."""
    data = np.tile(np.arange(-500, 500, dtype="<i2"), 3 * _DAY // 1000 + 1)[: 3 * _DAY]
    channels = [channel(name, "2") for name in "ABC"]
    path = write_waveform(tmp_path / "a", [group(data, channels, rate=128)], undefined=True)
    done = subprocess.run(
        [sys.executable, "-c", _CONVERTED, path, tmp_path / "end.npy"],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert not done.returncode, done.stderr
    samples, low, high, mean, header, frame = map(float, done.stdout.split())
    assert (samples, low, high) == (_DAY, -1000, 998)
    assert mean == pytest.approx(2.0 * data.mean(dtype=np.float64), rel=1e-9)
    expected = 2.0 * data.reshape(-1, 3)[-1000:].T
    np.testing.assert_array_equal(np.load(tmp_path / "end.npy"), expected)
    assert header < 20 << 10  # KiB: no sample was read
    assert frame < 230 << 10
