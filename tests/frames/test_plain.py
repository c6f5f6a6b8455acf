"""Frames that go the short way are what the long way makes of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.encaps import encapsulate

from dicom2cache.errors import FrameError
from dicom2cache.frames import decoders
from dicom2cache.frames.chunk import chunk_of_frame
from dicom2cache.frames.decode import Source
from dicom2cache.frames.plain import Plain, plain_frame
from dicom2cache.pixels import kernel
from dicom2cache.recipes.recipe import Treatment
from dicom2cache.records import ArraySpec
from dicom2cache.syntaxes import EXPLICIT_LE
from tests.support.kernels import bits, both, needed


@pytest.fixture(autouse=True, scope="module")
def best_again() -> Iterator[None]:
    """Some tests use sets of loops of lesser processors."""
    yield
    if kernel.compiled is not None:
        kernel.compiled.use(2)


def header_of(path: Path, raw: NDArray[Any], **more: Any) -> dict[str, Any]:
    status, width = path.stat(), raw.dtype.itemsize * 8
    return {
        "size": status.st_size, "mtime_ns": status.st_mtime_ns, "rule": None, "parts": None,
        "transfer_syntax": EXPLICIT_LE, "pixel_keyword": "PixelData", "bits_allocated": width,
        "samples": 1, "bits_stored": width, "high_bit": width - 1, "signed": False, "kind": "image",
        "palette_bits": None, "photometric": "MONOCHROME2", "lut_low": None, "unit": "US",
        "flags": None, "slope": 1.0, "padding_value": None, "padding_limit": None,
        "overlay_bits": None, "waveforms": None,
        "height": raw.shape[0], "width": raw.shape[1], "pixel_offset": 0, "pixel_vr": "OW",
        "pixel_length": raw.nbytes, "planar": None, "frames": 1, "inverted": False, "lossy": False,
        **more,
    }  # fmt: skip


def outcome(
    path: Path, header: dict[str, Any], row: dict[str, Any], dtype: str,
    treatment: Treatment | None = None, room: bool = True,
) -> Any:  # fmt: skip
    """(bytes, row of RESULTS), or the words of the error, of a frame in an unaligned slot."""
    treatment = treatment or Treatment()
    colours = (3,) if header["samples"] == 3 and treatment.colour == "rgb" else ()
    spec = ArraySpec("one", dtype, (header["height"], header["width"], *colours), 1, 1)
    place = np.zeros(spec.slot_bytes + 1, np.uint8)[1:] if room else None
    try:
        with Source(str(path), header) as source:  # type: ignore[arg-type]
            chunk, result = chunk_of_frame(
                source, row, place, treatments=[treatment], spec=spec, limits=None
            )  # type: ignore[arg-type]
    except (FrameError, OverflowError) as e:  # of an infinite padding value, as of no dtype's plan
        return str(e)
    result = {name: result.get(name) for name in sorted({*result, "window_low", "window_high"})}
    return np.asarray(chunk.data).tobytes(), {name: bits(v) for name, v in result.items()}


_STORED = st.tuples(st.sampled_from([8, 16]), st.integers(1, 16), st.integers(0, 15))


@needed
@settings(max_examples=300, deadline=None)
@given(
    stored=_STORED, signed=st.booleans(), clean=st.booleans(), overlay=st.sampled_from([0, 0x8000]),
    size=st.sampled_from([(1, 1), (7, 9), (65, 63), (130, 129)]), seed=st.integers(0, 1 << 30),
    slope=st.sampled_from([1.0, 1.0, 1.0, -1.0, 2.0, 3.0, 0.5, 0.0, 65537.0, 1e300]),
    intercept=st.sampled_from([0.0, -1024.0, -32768.0, 32767.0, 40000.0, 0.25, -1e300]),
    dtype=st.sampled_from(["int16", "int16", "uint16", "uint8", "int32", "float32"]),
    most=st.integers(0, 2),
    padding=st.sampled_from([None, 0, -2000, 63536, -32768, 65535, 1e9, math.inf]),
    limit=st.sampled_from([None, None, 5, -1000, 70000, 4095]),
)  # fmt: skip
@example((16, 16, 15), True, True, 0, (65, 63), 1, 1.0, 0.0, "int16", 2, -32768, None)
@example((16, 12, 11), False, True, 0, (65, 63), 1, 1.0, -1024.0, "int16", 2, 0, 4095)
@example((16, 12, 11), True, False, 0x8000, (65, 63), 1, 1.0, -1024.0, "int16", 2, 63536, None)
@example((16, 16, 15), False, True, 0, (130, 129), 3, 1.0, -1024.0, "int16", 2, None, None)
def test_a_plain_frame_is_what_the_long_way_makes_of_it(
    tmp_path_factory: pytest.TempPathFactory, stored: tuple[int, int, int], signed: bool,
    clean: bool, overlay: int, size: tuple[int, int], seed: int, slope: float, intercept: float,
    dtype: str, most: int, padding: float | None, limit: float | None,
) -> None:  # fmt: skip
    kernel.compiled.use(most)
    width, bits_stored, high = stored
    bits_stored = min(bits_stored, width)
    high = min(max(high, bits_stored - 1), width - 1)
    random = np.random.default_rng(seed)
    raw = random.integers(0, 1 << width, size).astype(f"u{width // 8}")
    if clean:
        most = min(int(random.integers(1, 1 << bits_stored)), 1 << max(1, bits_stored - 1))
        raw = random.integers(0, most, size).astype(raw.dtype) << (high + 1 - bits_stored)
    path = tmp_path_factory.mktemp("plain") / "frame.raw"
    path.write_bytes(raw.astype(raw.dtype.newbyteorder("<")).tobytes())
    header = header_of(
        path, raw, bits_stored=bits_stored, high_bit=high, signed=signed,
        overlay_bits=overlay or None, padding_value=padding,
        padding_limit=None if padding is None else limit,
    )  # fmt: skip
    row = {"file": 0, "frame": 0, "part_of_frame": 0, "stack": 0, "slope": slope, "unit": "US",
           "intercept": intercept, "windows": None, "mapped_low": None, "mapped_high": None,
           "scale_y": None}  # fmt: skip
    fast, slow = both(lambda: outcome(path, header, row, dtype))
    assert fast == slow


@needed
def test_plain_frames_go_the_short_way(tmp_path: Path) -> None:
    """12 bits of CT in HU, by hand: a value above BitsStored is masked, and flagged."""
    raw = np.array([[0, 4095, 1024], [0x8000 | 24, 1000, 1000]], np.uint16)
    (tmp_path / "frame.raw").write_bytes(raw.tobytes())
    header = header_of(
        tmp_path / "frame.raw", raw, bits_stored=12, high_bit=11, padding_value=1000.0
    )
    row = {"frame": 0, "slope": 1.0, "intercept": -1024.0, "scale_y": None, "mapped_low": None}
    room = np.zeros(raw.nbytes, np.uint8)
    with Source(str(tmp_path / "frame.raw"), header) as source:  # type: ignore[arg-type]
        found = plain_frame(source, row, room, [Treatment()], "int16")  # type: ignore[arg-type]
    assert isinstance(found, Plain)
    assert found.pixels.tolist() == [[-1024, 3071, 0], [-1000, -24, -24]]
    assert np.shares_memory(found.pixels, room)
    assert found.flags == ("high-bits",)
    said = found.statistics
    assert (said.min, said.max, said.mean, said.padding_fraction) == (-1024, 3071, 1047 / 4, 1 / 3)
    assert said.percentiles == (-1024, -1024, 0, 3071, 3071)


ROW = {"file": 0, "frame": 0, "part_of_frame": 0, "stack": 0, "slope": 1.0, "unit": "HU",
       "intercept": -1024.0, "windows": None, "mapped_low": None, "mapped_high": None,
       "scale_y": None}  # fmt: skip
_JPEG = "1.2.840.10008.1.2.4."


def _jpeg(pixels: NDArray[Any], precision: int) -> Any:
    bits = max(precision, 9) if pixels.itemsize == 2 else 8
    return imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=1, bitspersample=bits)


def _wavelet(pixels: NDArray[Any], precision: int) -> Any:
    return imagecodecs.jpeg2k_encode(
        pixels, level=0, codecformat="j2k", reversible=True, bitspersample=precision
    )


CODERS: dict[str, tuple[str, Callable[[NDArray[Any], int], Any]]] = {
    "JPEG": (f"{_JPEG}70", _jpeg),
    "JPEG-LS": (f"{_JPEG}80", lambda p, _: imagecodecs.jpegls_encode(p)),
    "JPEG-LS that may be lossy": (f"{_JPEG}81", lambda p, _: imagecodecs.jpegls_encode(p)),
    "JPEG-LS that is": (f"{_JPEG}80", lambda p, _: imagecodecs.jpegls_encode(p, level=2)),
    "JPEG 2000": (f"{_JPEG}90", _wavelet),
    "HTJ2K": (f"{_JPEG}201", lambda p, _: imagecodecs.htj2k_encode(p, reversible=True)),
    "RLE": ("1.2.840.10008.1.2.5", lambda p, _: _rle(p)),
}


def _rle(pixels: NDArray[Any]) -> bytes:
    """PS3.5 G.3: segments of literal runs, the most significant bytes first."""
    planes = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
    width = pixels.dtype.itemsize
    segments = []
    for k in range(width):
        plane = planes[k::width]
        runs = [plane[i : i + 128] for i in range(0, len(plane), 128)]
        data = b"".join(bytes([len(run) - 1]) + run for run in runs)
        segments.append(data + bytes(len(data) % 2))
    ends = np.cumsum([64, *map(len, segments)])[:-1]
    head = np.array([width, *ends, *[0] * (15 - width)], "<u4").tobytes()
    return head + b"".join(segments)


def _encapsulated(path: Path, stream: bytes) -> None:
    path.write_bytes(encapsulate([stream]) + b"\xfe\xff\xdd\xe0\0\0\0\0")


@needed
@settings(max_examples=200, deadline=None)
@given(
    name=st.sampled_from(sorted(CODERS)), width=st.sampled_from([8, 16, 16]),
    precision=st.integers(2, 16), stored=st.integers(1, 16), signed=st.booleans(),
    own_sign=st.booleans(), overlay=st.sampled_from([0, 0, 0x8000]), seed=st.integers(0, 1 << 30),
    slope=st.sampled_from([1.0, 1.0, -1.0, 2.0, 0.5]), size=st.sampled_from([(1, 1), (19, 33)]),
    dtype=st.sampled_from(["int16", "int16", "uint16", "uint8", "float32"]),
    padding=st.sampled_from([None, 0, -5, 63536]), lossy=st.booleans(), room=st.booleans(),
)  # fmt: skip
@example("JPEG 2000", 16, 12, 12, True, True, 0, 1, 1.0, (19, 33), "int16", None, False, True)
@example("JPEG-LS", 16, 16, 12, False, False, 0, 1, 1.0, (19, 33), "int16", 0, False, True)
@example("JPEG", 16, 16, 16, True, False, 0, 1, 1.0, (19, 33), "int16", None, False, True)
@example("RLE", 16, 12, 12, False, False, 0x8000, 1, 1.0, (19, 33), "int16", 0, False, True)
def test_a_frame_of_a_codestream_is_what_the_long_way_makes_of_it(
    tmp_path_factory: pytest.TempPathFactory, name: str, width: int, precision: int, stored: int,
    signed: bool, own_sign: bool, overlay: int, seed: int, slope: float, size: tuple[int, int],
    dtype: str, padding: float | None, lossy: bool, room: bool,
) -> None:  # fmt: skip
    """Bytes, statistics, flags, codec; or the words of the error."""
    precision, stored = min(precision, width), min(stored, width)
    raw = np.random.default_rng(seed).integers(0, 1 << precision, size).astype(f"u{width // 8}")
    if own_sign and name == "JPEG 2000":
        raw = (raw.astype(np.int64) - (1 << precision - 1)).astype(f"i{width // 8}")
    syntax, encode = CODERS[name]
    path = tmp_path_factory.mktemp("coded") / "frame.raw"
    _encapsulated(path, bytes(encode(raw, precision)))
    header = header_of(
        path, raw, transfer_syntax=syntax, bits_stored=stored, high_bit=stored - 1, signed=signed,
        overlay_bits=overlay or None, padding_value=padding, lossy=lossy,
    )  # fmt: skip
    row = {**ROW, "slope": slope}
    fast, slow = both(lambda: outcome(path, header, row, dtype, room=room))
    assert fast == slow


@needed
@pytest.mark.parametrize(
    ("name", "dtype", "pixels"),
    [
        ("JPEG", "uint16", [[0, 4095], [1024, 24]]),
        ("JPEG-LS", "uint16", [[0, 4095], [1024, 24]]),
        ("JPEG 2000", "uint16", [[0, 4095], [1024, 24]]),
        ("JPEG 2000", "int16", [[0, 2047], [-2048, 24]]),
        ("HTJ2K", "uint16", [[0, 4095], [1024, 24]]),
        ("RLE", "uint16", [[0, 4095], [1024, 24]]),
    ],
)
def test_codestreams_without_loss_go_the_short_way(
    tmp_path: Path, name: str, dtype: str, pixels: list[list[int]]
) -> None:
    raw = np.array(pixels, dtype)
    syntax, encode = CODERS[name]
    _encapsulated(tmp_path / "a", bytes(encode(raw, 12)))
    header = header_of(tmp_path / "a", raw, transfer_syntax=syntax, bits_stored=12, high_bit=11,
                       signed=dtype == "int16")  # fmt: skip
    with Source(str(tmp_path / "a"), header) as source:  # type: ignore[arg-type]
        found = plain_frame(source, ROW, None, [Treatment()], "int16")  # type: ignore[arg-type]
    assert isinstance(found, Plain)
    assert found.pixels.tolist() == (raw.astype(int) - 1024).tolist()
    ends = int(raw.min()) - 1024, int(raw.max()) - 1024
    assert (found.statistics.min, found.statistics.max) == ends


@needed
def test_what_does_not_go_the_short_way_is_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value that int16 has no place for is seen when it is decoded: by then it has taken time."""
    raw = np.array([[0, 60000]], np.uint16)
    _encapsulated(tmp_path / "a", bytes(imagecodecs.jpegls_encode(raw)))
    header = header_of(tmp_path / "a", raw, transfer_syntax=f"{_JPEG}80")
    calls = []
    decode = decoders.decode
    monkeypatch.setattr(decoders, "decode", lambda *given: calls.append(1) or decode(*given))
    said = outcome(tmp_path / "a", header, ROW, "int16")
    assert "values from -1024 to 58976 do not fit int16" in said
    assert calls == [1]


@needed
@settings(max_examples=60, deadline=None)
@given(
    planar=st.sampled_from([None, 0, 0, 1]),
    photometric=st.sampled_from(["RGB", "RGB", "YBR_FULL"]),
    stored=st.sampled_from([8, 8, 7]), signed=st.booleans(), grey=st.booleans(),
    graded=st.booleans(), size=st.sampled_from([(1, 1), (17, 9), (131, 140)]),
    seed=st.integers(0, 1 << 30), dtype=st.sampled_from(["uint8", "uint8", "int16"]),
    most=st.integers(0, 2),
)  # fmt: skip
@example(0, "RGB", 8, False, False, False, (131, 140), 1, "uint8", 2)
def test_a_frame_of_rgb_is_what_the_long_way_makes_of_it(
    tmp_path_factory: pytest.TempPathFactory, planar: int | None, photometric: str, stored: int,
    signed: bool, grey: bool, graded: bool, size: tuple[int, int], seed: int, dtype: str, most: int,
) -> None:  # fmt: skip
    kernel.compiled.use(most)
    raw = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    path = tmp_path_factory.mktemp("rgb") / "frame.raw"
    path.write_bytes(raw.tobytes())
    header = header_of(
        path, raw, samples=3, photometric=photometric, planar=planar, bits_stored=stored,
        high_bit=stored - 1, signed=signed,
    )  # fmt: skip
    treatment = Treatment(
        colour="grey" if grey else "rgb",
        **({"intensity": "window", "window": ("40,400",)} if graded else {}),
    )
    row = {**ROW, "slope": None, "intercept": None, "unit": None}
    fast, slow = both(lambda: outcome(path, header, row, dtype, treatment))
    assert fast == slow


@needed
def test_rgb_goes_the_short_way(tmp_path: Path) -> None:
    raw = np.array([[[1, 2, 3], [255, 0, 9]]], np.uint8)
    (tmp_path / "a").write_bytes(raw.tobytes())
    header = header_of(tmp_path / "a", raw, samples=3, photometric="RGB", planar=0)
    room = np.zeros(raw.nbytes, np.uint8)
    with Source(str(tmp_path / "a"), header) as source:  # type: ignore[arg-type]
        found = plain_frame(source, ROW, room, [Treatment()], "uint8")  # type: ignore[arg-type]
    assert isinstance(found, Plain)
    assert found.pixels.tolist() == raw.tolist()
    assert np.shares_memory(found.pixels, room)
    assert (found.statistics.min, found.statistics.max, found.statistics.mean) == (0, 255, 45)


COLOURS: dict[str, tuple[str, Callable[[NDArray[Any]], Any]]] = {
    "JPEG": (f"{_JPEG}50", lambda p: imagecodecs.jpeg8_encode(
        p, level=90, colorspace="RGB", outcolorspace="YCBCR", subsampling="422")),
    "JPEG of RGB": (f"{_JPEG}50", lambda p: imagecodecs.jpeg8_encode(
        p, level=90, colorspace="RGB", outcolorspace="RGB")),
    "JPEG lossless": (f"{_JPEG}70", lambda p: imagecodecs.jpeg8_encode(
        p, lossless=True, colorspace="RGB", outcolorspace="RGB")),
    "JPEG-LS": (f"{_JPEG}80", imagecodecs.jpegls_encode),
    "JPEG 2000": (f"{_JPEG}91", lambda p: imagecodecs.jpeg2k_encode(
        p, level=40, codecformat="j2k", reversible=False)),
    "HTJ2K": (f"{_JPEG}201", lambda p: imagecodecs.htj2k_encode(p, reversible=True)),
}  # fmt: skip


@needed
@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(COLOURS)),
    photometric=st.sampled_from(["RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT"]),
    stored=st.sampled_from([8, 8, 7]), signed=st.booleans(), grey=st.booleans(),
    size=st.sampled_from([(1, 2), (18, 10), (131, 140)]), seed=st.integers(0, 1 << 30),
    dtype=st.sampled_from(["uint8", "uint8", "int16"]), room=st.booleans(),
)  # fmt: skip
@example("JPEG", "YBR_FULL_422", 8, False, False, (131, 140), 1, "uint8", True)
@example("JPEG lossless", "YBR_FULL", 8, False, False, (18, 10), 1, "uint8", True)
def test_a_codestream_of_colour_is_what_the_long_way_makes_of_it(
    tmp_path_factory: pytest.TempPathFactory, name: str, photometric: str, stored: int,
    signed: bool, grey: bool, size: tuple[int, int], seed: int, dtype: str, room: bool,
) -> None:  # fmt: skip
    raw = np.random.default_rng(seed).integers(90, 154, (*size, 3), np.uint8)
    syntax, encode = COLOURS[name]
    path = tmp_path_factory.mktemp("colour") / "frame.raw"
    _encapsulated(path, bytes(encode(raw)))
    header = header_of(
        path, raw, samples=3, photometric=photometric, planar=0, bits_stored=stored,
        high_bit=stored - 1, signed=signed, transfer_syntax=syntax, lossy=True,
    )  # fmt: skip
    treatment = Treatment(colour="grey" if grey else "rgb")
    row = {**ROW, "slope": None, "intercept": None, "unit": None}
    fast, slow = both(lambda: outcome(path, header, row, dtype, treatment, room=room))
    assert fast == slow


@needed
@pytest.mark.parametrize("name", sorted(COLOURS))
def test_codestreams_of_rgb_go_the_short_way(tmp_path: Path, name: str) -> None:
    raw = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    syntax, encode = COLOURS[name]
    _encapsulated(tmp_path / "a", bytes(encode(raw)))
    header = header_of(tmp_path / "a", raw, samples=3, photometric="RGB", transfer_syntax=syntax)
    room = np.zeros(raw.nbytes, np.uint8)
    with Source(str(tmp_path / "a"), header) as source:  # type: ignore[arg-type]
        found = plain_frame(source, ROW, room, [Treatment()], "uint8")  # type: ignore[arg-type]
    assert isinstance(found, Plain)
    assert np.abs(found.pixels.astype(int) - raw).max() <= 4
    assert found.statistics.mean == found.pixels.mean()
