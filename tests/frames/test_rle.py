"""RLE that is odd: more bytes than pixels, pixels of one bit, segments that are not there."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from tests.support.caches import by_path, failures, run_here
from tests.support.dicom_files import pattern, write_dicom

_RLE = "1.2.840.10008.1.2.5"


def packets(data: bytes) -> bytes:
    """A segment of literal packets alone (PS3.5 G.3)."""
    parts = (data[k : k + 128] for k in range(0, len(data), 128))
    return b"".join(bytes([len(part) - 1]) + part for part in parts)


def codestream(*segments: bytes, number: int | None = None) -> bytes:
    """A frame of these segments, each of even length."""
    padded = [s + bytes(len(s) % 2) for s in segments]
    offsets = [64 + sum(map(len, padded[:k])) for k in range(len(padded))]
    header = [len(padded) if number is None else number, *offsets, *[0] * (15 - len(padded))]
    return struct.pack("<16I", *header) + b"".join(padded)


GREY = pattern("rle", (7, 11))  # 12 bits
HIGH, LOW = (GREY >> 8).astype(np.uint8).tobytes(), (GREY & 255).astype(np.uint8).tobytes()
COLOUR = pattern("rle colour", (7, 11, 3), "uint8", 256)
WIDE = pattern("rle wide", (7, 11), "uint32", 1 << 31)


@pytest.mark.parametrize("surplus", [b"\0", b"\7", b"\1\2\3\4\5", b"\0" * 100])
@pytest.mark.parametrize("which", ["all", "last"])
def test_surplus_bytes_are_left_out(tmp_path: Path, surplus: bytes, which: str) -> None:
    first = surplus if which == "all" else b""
    red, green, blue = (COLOUR[..., k].tobytes() for k in range(3))
    four = [(WIDE >> shift & 255).astype(np.uint8).tobytes() for shift in (24, 16, 8, 0)]
    segments = {
        "grey": (GREY, [HIGH + first, LOW + surplus]),
        "colour": (COLOUR, [red + first, green + first, blue + surplus]),
        "wide": (WIDE, [*(part + first for part in four[:3]), four[3] + surplus]),
    }
    for name, (pixels, parts) in segments.items():
        stream = codestream(*map(packets, parts))
        write_dicom(tmp_path / "in" / f"{name}.dcm", pixels, syntax=_RLE, encoded=[stream])
    assert run_here("build", tmp_path / "in", tmp_path / "cache", "-j1").returncode == 0
    found = by_path(tmp_path / "cache")
    for name, (pixels, _) in segments.items():
        row, stored = found[f"{name}.dcm", 0]
        assert np.array_equal(stored, pixels)
        assert row["flags"] == ["excess-pixel-data"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of what it leaves out
            assert np.array_equal(dcmread(tmp_path / "in" / f"{name}.dcm").pixel_array, stored)


@pytest.mark.parametrize(
    ("end", "flags"),
    [
        (b"", None),
        (b"\x80\x80", None),  # no operation, twice
        (b"\0\0", ["excess-pixel-data"]),  # one pixel more
    ],
)
def test_padding_is_no_surplus(tmp_path: Path, end: bytes, flags: list[str] | None) -> None:
    stream = codestream(packets(HIGH) + end, packets(LOW) + end)
    write_dicom(tmp_path / "a.dcm", GREY, syntax=_RLE, encoded=[stream])
    assert run_here("build", tmp_path / "a.dcm", tmp_path / "cache", "-j1").returncode == 0
    row, stored = by_path(tmp_path / "cache")["a.dcm", 0]
    assert np.array_equal(stored, GREY)
    assert row["flags"] == flags


@pytest.mark.parametrize("way", ["a byte each", "packed"])
def test_pixels_of_one_bit(tmp_path: Path, way: str) -> None:
    masks = pattern("bits", (3, 7, 11), "uint8", 2)
    streams = []
    for mask in masks:
        data = mask.tobytes()
        if way == "packed":  # the first pixel is the least bit (PS3.5 8.1.1)
            data = np.packbits(mask.ravel(), bitorder="little").tobytes()
        streams.append(codestream(packets(data)))
    one = {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}
    write_dicom(tmp_path / "a.dcm", masks, syntax=_RLE, encoded=streams, **one)
    assert run_here("build", tmp_path / "a.dcm", tmp_path / "cache", "-j1").returncode == 0
    found = by_path(tmp_path / "cache")
    for k, mask in enumerate(masks):
        row, stored = found["a.dcm", k]
        assert np.array_equal(stored, mask)
        assert row["flags"] is None


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (codestream(packets(HIGH[:-3]), packets(LOW)), "segment 1 of 2 holds 74 of 77 bytes"),
        (codestream(packets(HIGH), packets(LOW)[:-9]), "segment 2 of 2 holds 69 of 77 bytes"),
        (codestream(packets(HIGH + LOW)), "says 1 segment, but samples of 16 bits need 2"),
        (codestream(packets(HIGH), packets(LOW), number=0), "says 0 segments"),
        (codestream(packets(HIGH), packets(LOW), number=9), "says 9 segments"),
        (codestream(packets(HIGH), packets(LOW))[:70],
         "says segments at bytes"),
        (codestream(packets(HIGH), packets(LOW))[:60], "60 bytes are no RLE codestream"),
        (codestream(packets(HIGH + HIGH[:11]), packets(LOW + LOW[:11])),
         "each RLE segment holds 88 bytes, but Rows x Columns is 7 x 11: 77"),
        (struct.pack("<16I", 2, 64, 40, *[0] * 13) + packets(HIGH) + packets(LOW),
         "says segments at bytes [64, 40]"),
        (struct.pack("<16I", 2, 64, 1 << 31, *[0] * 13) + packets(HIGH), "says segments at bytes"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(tmp_path: Path, stream: bytes, reason: str) -> None:
    write_dicom(tmp_path / "in" / "a.dcm", GREY, syntax=_RLE, encoded=[stream])
    write_dicom(tmp_path / "in" / "beside.dcm", GREY)
    assert run_here("build", tmp_path / "in", tmp_path / "cache", "-j1").returncode == 1
    (((path, _), (_, said)),) = failures(tmp_path / "cache").items()
    assert path == "a.dcm"
    assert reason in said


def test_more_pixels_than_the_bytes_can_make(tmp_path: Path) -> None:
    stream = codestream(packets(HIGH), packets(LOW))
    size = {"Rows": 600, "Columns": 600}
    write_dicom(tmp_path / "in" / "a.dcm", GREY, syntax=_RLE, encoded=[stream], **size)
    write_dicom(tmp_path / "in" / "beside.dcm", GREY)
    assert run_here("build", tmp_path / "in", tmp_path / "cache", "-j1").returncode == 1
    ((_, (_, said)),) = failures(tmp_path / "cache").items()
    assert "248 bytes of RLE cannot hold the 720000 that the header says" in said
