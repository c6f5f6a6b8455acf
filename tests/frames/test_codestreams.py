"""Codestreams that are cut, damaged, or contradict the header: refused, or stored and flagged."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from dicom2cache.errors import FrameError
from dicom2cache.frames.codestream import parse_jpeg, parse_jpeg_2000
from tests.support.caches import by_path, failures, run_here
from tests.support.dicom_files import pattern, real, write_dicom

_BASELINE, _LOSSLESS = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.70"
_LS, _J2K, _HTJ2K = (f"1.2.840.10008.1.2.4.{end}" for end in ("80", "90", "201"))

_Y, _X = np.mgrid[:96, :128]
GREY = (1000 + 500 * np.sin(_X / 9) * np.cos(_Y / 7)).astype(np.uint16) + pattern(
    "grain", (96, 128), "uint16", 50
)
EIGHT = (GREY >> 3).astype(np.uint8)
COLOUR = np.stack([EIGHT, EIGHT[::-1], EIGHT[:, ::-1]], -1).copy()

ENCODED: dict[str, tuple[str, Any, Callable[..., Any]]] = {
    "baseline": (_BASELINE, EIGHT, lambda p: imagecodecs.jpeg8_encode(p, level=90)),
    "colour": (_BASELINE, COLOUR, lambda p: imagecodecs.jpeg8_encode(p, level=90)),
    "extended": ("1.2.840.10008.1.2.4.51", GREY,
                 lambda p: imagecodecs.jpeg8_encode(p, bitspersample=12)),
    "lossless": (_LOSSLESS, GREY,
                 lambda p: imagecodecs.jpeg8_encode(p, lossless=True, bitspersample=16)),
    "jpegls": (_LS, GREY, imagecodecs.jpegls_encode),
    "jpeg2k": (_J2K, GREY,
               lambda p: imagecodecs.jpeg2k_encode(p, level=0, codecformat="J2K")),
    "htj2k": (_HTJ2K, GREY, imagecodecs.htj2k_encode),
}  # fmt: skip
WHOLE = {name: bytes(encode(pixels)) for name, (_, pixels, encode) in ENCODED.items()}


def _write(path: Path, name: str, stream: bytes, **elements: Any) -> Path:
    syntax, pixels, _ = ENCODED[name]
    if pixels.ndim == 3:
        elements["PhotometricInterpretation"] = "YBR_FULL_422"
    return write_dicom(path, pixels, syntax=syntax, encoded=[stream], **elements)


def _decoded(name: str) -> Any:
    """The pixels of the whole codestream: those that were encoded, or what libjpeg makes of it."""
    pixels = ENCODED[name][1]
    if name in ("baseline", "colour", "extended"):
        return imagecodecs.jpeg8_decode(WHOLE[name])
    return pixels


@pytest.fixture(scope="module")
def cuts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of every codestream whole, without its end marker, and cut in several places."""
    folder = tmp_path_factory.mktemp("cuts")
    for name, stream in WHOLE.items():
        assert stream.endswith(b"\xff\xd9")
        _write(folder / "in" / f"{name}.dcm", name, stream)
        _write(folder / "in" / f"{name}-padded.dcm", name, stream + bytes(6))
        _write(folder / "in" / f"{name}-open.dcm", name, stream[:-2])
        _write(folder / "in" / f"{name}-half.dcm", name, stream[:-1])
        for number, size in enumerate((len(stream) - 4, len(stream) * 19 // 20, len(stream) // 2)):
            _write(folder / "in" / f"{name}-cut{number}.dcm", name, stream[:size])
    assert run_here("build", folder / "in", folder / "cache", "-j1").returncode == 1
    return folder / "cache"


@pytest.mark.parametrize("name", WHOLE)
def test_a_codestream_that_is_cut_is_refused(cuts: Path, name: str) -> None:
    failed = failures(cuts)
    for number in range(3):
        _, reason = failed[f"{name}-cut{number}.dcm", 0]
        assert "the codestream is cut" in reason


@pytest.mark.parametrize("name", WHOLE)
def test_a_codestream_without_its_end_marker(cuts: Path, name: str) -> None:
    found = by_path(cuts)
    for path in (f"{name}.dcm", f"{name}-padded.dcm"):
        row, pixels = found[path, 0]
        assert np.array_equal(pixels, _decoded(name))
        assert row["flags"] is None
    for path in (f"{name}-open.dcm", f"{name}-half.dcm"):
        if name == "jpegls":  # CharLS cannot tell
            assert "without an end marker" in failures(cuts)[path, 0][1]
        elif name in ("jpeg2k", "htj2k") and path == f"{name}-half.dcm":
            assert "no end marker" in failures(cuts)[path, 0][1]
        else:  # all pixels are there
            row, pixels = found[path, 0]
            assert np.array_equal(pixels, _decoded(name))
            assert row["flags"] == ["unterminated"]


def test_scans_and_tiles_that_are_missing(tmp_path: Path) -> None:
    """A stream that is cut where an interval, a scan or a tile ends lacks no bits, but pixels."""
    file = io.BytesIO()
    Image.fromarray(EIGHT).save(file, "JPEG", restart_marker_rows=1)
    intervals = file.getvalue()
    assert b"\xff\xdd" in intervals
    _write(tmp_path / "in" / "interval.dcm", "baseline", intervals[: intervals.rfind(b"\xff\xd2")])
    file = io.BytesIO()
    Image.fromarray(COLOUR).save(file, "JPEG", progressive=True)
    scans = file.getvalue()
    _write(tmp_path / "in" / "scan.dcm", "colour", scans[: scans.rfind(b"\xff\xda")])
    tiles = bytes(imagecodecs.htj2k_encode(GREY, tile=(64, 48)))
    assert tiles.count(b"\xff\x90\0\x0a") == 4
    cut = tiles[: tiles.rfind(b"\xff\x90\0\x0a")] + b"\xff\xd9"
    for name in ("jpeg2k", "htj2k"):  # OpenJPEG reads both
        _write(tmp_path / "in" / f"tile-{name}.dcm", name, cut)
        _write(tmp_path / "in" / f"tiles-{name}.dcm", name, tiles)
    assert run_here("build", tmp_path / "in", tmp_path / "cache", "-j1").returncode == 1
    reasons = {path: why for (path, _), (_, why) in failures(tmp_path / "cache").items()}
    for path in ("interval.dcm", "scan.dcm", "tile-jpeg2k.dcm", "tile-htj2k.dcm"):
        assert "the codestream is cut" in reasons.pop(path)
    assert not reasons
    for _, pixels in by_path(tmp_path / "cache").values():
        assert np.array_equal(pixels, GREY)


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_what_openjph_can_only_report_is_a_failure(
    tmp_path: Path, backend: str, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = WHOLE["htj2k"]
    middle = len(whole) // 2
    damaged = whole[:middle] + b"\x55" * 512 + whole[middle + 512 :]
    for k in range(6):
        _write(tmp_path / "in" / f"{k}.dcm", "htj2k", whole if k % 2 else damaged)
    jobs = ["--jobs", "2" if backend == "threading" else "1", "--shard-mib", "1"]
    ran = run_here("build", tmp_path / "in", tmp_path / "cache", "--backend", backend, *jobs)
    assert ran.returncode == 1
    assert "ojph" not in capfd.readouterr().err
    failed = failures(tmp_path / "cache")
    for k in (0, 2, 4):
        assert "is damaged: OpenJPH cannot decode it" in failed[f"{k}.dcm", 0][1]
    found = by_path(tmp_path / "cache")
    assert sorted(found) == [("1.dcm", 0), ("3.dcm", 0), ("5.dcm", 0)]
    assert all(np.array_equal(pixels, GREY) for _, pixels in found.values())


def _claiming(name: str, side: int) -> bytes:
    """A codestream whose header claims `side` rows and columns."""
    stream, size = WHOLE[name], side.to_bytes(2, "big") * 2
    for marker in (b"\xff\xc0", b"\xff\xc1", b"\xff\xc3", b"\xff\xf7"):
        if (at := stream.find(marker)) > 0:
            return stream[: at + 5] + size + stream[at + 9 :]
    return stream[:8] + side.to_bytes(4, "big") * 2 + stream[16:]  # Xsiz, Ysiz


@pytest.mark.parametrize("name", WHOLE)
def test_a_size_that_is_not_the_headers_is_refused_before_memory_is_taken(
    tmp_path: Path, name: str
) -> None:
    import resource

    source = _write(tmp_path / "a.dcm", name, _claiming(name, 60000))
    beside = write_dicom(tmp_path / "b" / "b.dcm", GREY)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert run_here("build", source, beside.parent, tmp_path / "cache", "-j1").returncode == 1
    ((_, (_, reason)),) = failures(tmp_path / "cache").items()
    colours = ", 3" if name == "colour" else ""
    assert f"holds (60000, 60000{colours}), the header says (96, 128{colours})" in reason
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 << 10  # KiB


@pytest.mark.parametrize("name", ["lossless", "jpegls", "jpeg2k", "htj2k"])
def test_a_stream_wider_than_bits_allocated(tmp_path: Path, name: str) -> None:
    syntax, pixels, encode = ENCODED[name]
    low = pixels & 0xFF
    write_dicom(tmp_path / "in" / "fits.dcm", low.astype(np.uint8), syntax=syntax,
                encoded=[bytes(encode(low))])  # fmt: skip
    write_dicom(tmp_path / "in" / "wide.dcm", low.astype(np.uint8), syntax=syntax,
                encoded=[WHOLE[name]])  # fmt: skip
    assert run_here("build", tmp_path / "in", tmp_path / "cache", "-j1").returncode == 1
    _, reason = failures(tmp_path / "cache")["wide.dcm", 0]
    said = f"16 bits and values from {pixels.min()} to {pixels.max()}, Bits Allocated (0028,0100)"
    assert said in reason
    row, found = by_path(tmp_path / "cache")["fits.dcm", 0]
    assert np.array_equal(found, low)
    assert row["flags"] == ["precision-conflict"]


@pytest.mark.parametrize("name", ["baseline", "lossless", "jpegls", "jpeg2k", "htj2k"])
def test_signed_values_narrower_than_bits_stored(tmp_path: Path, name: str) -> None:
    """8 bits in the stream, 16 in a signed header: two's complement of the stream's bits."""
    syntax, _, encode = ENCODED[name]
    if name == "lossless":
        encode = lambda p: imagecodecs.jpeg8_encode(p, lossless=True)  # noqa: E731
    for path, pixels in (("low.dcm", EIGHT // 2), ("high.dcm", EIGHT)):
        header = pixels.astype(np.int16)
        write_dicom(tmp_path / "in" / path, header, syntax=syntax, encoded=[bytes(encode(pixels))])
    assert run_here("build", tmp_path / "in", tmp_path / "cache", "-j1").returncode == 0
    row, found = by_path(tmp_path / "cache")["high.dcm", 0]
    assert row["flags"] == ["precision-conflict"]
    if name == "jpeg2k":
        assert np.array_equal(found, dcmread(tmp_path / "in" / "high.dcm").pixel_array)
    if name == "baseline":
        assert (found < 0).any()
        assert np.array_equal(found, imagecodecs.jpeg8_decode(encode(EIGHT)).view(np.int8))
    else:
        values = EIGHT.astype(np.int64)
        assert np.array_equal(found, np.where(values > 127, values - 256, values))
    row, found = by_path(tmp_path / "cache")["low.dcm", 0]
    assert row["flags"] is None
    assert found.min() >= 0


def test_one_frame_that_is_more(tmp_path: Path) -> None:
    """Codestreams beyond the only frame of the header are flagged, as native bytes are."""
    for name in ("baseline", "jpegls", "jpeg2k"):
        syntax, pixels, _ = ENCODED[name]
        write_dicom(tmp_path / "in" / f"{name}.dcm", pixels, syntax=syntax,
                    encoded=[WHOLE[name], WHOLE[name], WHOLE[name]])  # fmt: skip
    rle = dcmread(real("SC_rgb_rle_2frame.dcm"))
    del rle.NumberOfFrames
    rle.save_as(tmp_path / "in" / "rle.dcm")
    assert run_here("build", tmp_path / "in", tmp_path / "cache", "-j1").returncode == 0
    found = by_path(tmp_path / "cache")
    assert len(found) == 4
    assert all(row["flags"] == ["excess-pixel-data"] for row, _ in found.values())
    for name in ("baseline", "jpegls", "jpeg2k"):
        assert np.array_equal(found[f"{name}.dcm", 0][1], _decoded(name))
    both = dcmread(real("SC_rgb_rle_2frame.dcm")).pixel_array
    assert np.array_equal(found["rle.dcm", 0][1], both[0])


def test_frames_before_the_cut_are_stored(tmp_path: Path) -> None:
    """A file that is cut: what a table finds whole is stored, the rest is named."""
    frames = np.stack([np.roll(GREY, k, 0) for k in range(6)])
    path = write_dicom(tmp_path / "cut.dcm", frames, syntax=_LS,
                       encoded=[bytes(imagecodecs.jpegls_encode(f)) for f in frames])  # fmt: skip
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    assert run_here("build", path, tmp_path / "cache", "-j1").returncode == 1
    found, failed = by_path(tmp_path / "cache"), failures(tmp_path / "cache")
    assert sorted([k for _, k in found] + [k or 0 for _, k in failed]) == list(range(6))
    assert len(found) in (3, 4)
    assert all(np.array_equal(pixels, frames[k]) for (_, k), (_, pixels) in found.items())
    assert all("pixel data is truncated" in reason for _, reason in failed.values())


def test_a_frame_header_that_lacks_components_is_none() -> None:
    """Eight components are said, one is there."""
    frame = b"\xff\xc0\x00\x0b\x08\x00\x08\x00\x08\x08\x01\x11\x00"
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"
    with pytest.raises(FrameError, match="no frame header"):
        parse_jpeg(b"\xff\xd8" + frame + scan)


@pytest.mark.parametrize("place", [32, 36, 16, 20])  # XTOsiz, YTOsiz, XOsiz, YOsiz
def test_tiles_that_begin_beyond_the_image(place: int) -> None:
    """OpenJPH went through 2^29 tiles of one such, for a minute."""
    stream = bytearray(WHOLE["htj2k"])
    assert stream[4:8] == b"\x00\x29\x40\x00"
    stream[place : place + 4] = b"\xff\xff\xff\xff"
    with pytest.raises(FrameError, match="that begin beyond"):
        parse_jpeg_2000(bytes(stream))
    parse_jpeg_2000(WHOLE["htj2k"])
