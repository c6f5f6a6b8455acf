"""Damaged JPEG: what libjpeg only warns of is a failure, and sound frames are what they were."""

from __future__ import annotations

import io
import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from dicom2cache.errors import FrameError
from dicom2cache.frames import decoders
from dicom2cache.frames.coded import Coded, Decoded
from tests.frames.test_codestreams import COLOUR, EIGHT, GREY, WHOLE
from tests.support.mutants import mutants

_EXTENDED, _LOSSLESS, _DEFLATED = (
    "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.8.1",
)  # fmt: skip


def _decode(stream: bytes, pixels: Any, photometric: str = "", syntax: str = _LOSSLESS) -> Decoded:
    samples = 3 if pixels.ndim == 3 else 1
    photometric = photometric or ("MONOCHROME2" if samples == 1 else "YBR_FULL_422")
    rows, columns = pixels.shape[:2]
    coded = Coded(rows, columns, samples, pixels.itemsize * 8, photometric)
    return decoders.decode(stream, syntax, coded)


def _by_pillow(pixels: Any, **how: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90, **how)
    return file.getvalue()


@contextmanager
def _heard() -> Iterator[list[str]]:
    """What imagecodecs logs meanwhile."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("imagecodecs")
    logger.addHandler(handler)
    try:
        yield said
    finally:
        logger.removeHandler(handler)


def _libtiff_is_content(stream: bytes, rows: int, columns: int) -> bool:
    """Whether libtiff, which passes on what libjpeg says, reads a grey JPEG without a word."""
    values = {256: columns, 257: rows, 258: 8, 259: 7, 262: 1, 277: 1, 278: rows}
    values |= {273: 8 + 2 + 9 * 12 + 4, 279: len(stream)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, values[tag]) for tag in sorted(values))
    file = b"II*\0\x08\0\0\0\x09\0" + entries + bytes(4) + stream
    with _heard() as said:
        try:
            imagecodecs.tiff_decode(file, verbose=True)
        except imagecodecs.TiffError:
            return False
    return not said


@pytest.mark.parametrize("restarts", [0, 1])
def test_what_libjpeg_warns_of_through_libtiff_is_refused_or_flagged(restarts: int) -> None:
    whole = _by_pillow(EIGHT, restart_marker_rows=restarts)
    assert _libtiff_is_content(whole, *EIGHT.shape)
    assert _decode(whole, EIGHT).flags == ()
    warned = 0
    for kind, stream in mutants(whole, 420, 1 + restarts):
        if _libtiff_is_content(stream, *EIGHT.shape):
            continue
        warned += 1
        with suppress(FrameError):
            assert _decode(stream, EIGHT).flags, kind
    assert warned > 200


def test_damage_is_said_in_libjpegs_words() -> None:
    for name, pixels in (("baseline", EIGHT), ("colour", COLOUR), ("extended", GREY)):
        stream = WHOLE[name]
        middle = len(stream) // 2
        with pytest.raises(FrameError, match=r"is damaged: libjpeg cannot decode it \(.*orrupt"):
            _decode(stream[:middle] + stream[middle:][:90] * 2 + stream[middle + 90 :], pixels)


def test_lost_and_doubled_bytes_of_lossless_frames_are_seen() -> None:
    """But for one in 160 whose bits are as many as its pixels take."""
    seen = silent = 0
    for kind, stream in mutants(WHOLE["lossless"], 560, 3):
        if kind in ("lost", "doubled"):
            try:
                silent += not _decode(stream, GREY).flags
            except FrameError:
                seen += 1
    assert (seen, silent) == (159, 1)


def test_a_lossless_frame_has_as_many_bits_as_its_pixels_take() -> None:
    whole = WHOLE["lossless"]
    assert _decode(whole, GREY).flags == ()
    padded = _decode(whole[:-2] + bytes(3) + whole[-2:], GREY)
    assert padded.flags == ("excess-pixel-data",)
    assert np.array_equal(padded.pixels, GREY)
    assert _decode(whole[:-2] + b"\xff\xff" + whole[-2:], GREY).flags == ()  # fill bytes
    with pytest.raises(FrameError, match="2 bytes follow its pixels that are not padding"):
        _decode(whole[:-2] + b"\x12\x34" + whole[-2:], GREY)
    with pytest.raises(FrameError, match=r"premature end, [0-9]+ bits of its pixels are not there"):
        _decode(whole[:-4] + whole[-2:], GREY)


def test_steps_of_half_the_range_are_no_reason_to_look_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As from air to bone in CT of 12 bits: a second look takes longer than the first."""
    pixels = (np.indices((40, 50)).sum(0) % 2 * 4095 ^ 5).astype(np.uint16)
    whole = bytes(imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=1, bitspersample=12))
    with pytest.raises(FrameError, match="libjpeg cannot decode it"):
        _decode(whole[:300] + whole[310:], pixels)
    looks = []
    monkeypatch.setattr("dicom2cache.frames.jpeg._simplejpeg", lambda *_: looks.append(1))
    found = _decode(whole, pixels)
    assert (found.flags, looks) == ((), [])
    assert np.array_equal(found.pixels, pixels)


@pytest.mark.parametrize("predictor", range(1, 8))
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_every_predictor_is_taken_and_its_damage_seen(predictor: int, bits: int) -> None:
    pixels = EIGHT if bits == 8 else GREY
    whole = bytes(imagecodecs.jpeg8_encode(
        pixels, lossless=True, predictor=predictor, bitspersample=bits))  # fmt: skip
    decoded = _decode(whole, pixels)
    assert np.array_equal(decoded.pixels, pixels)
    assert decoded.flags == ()
    middle = len(whole) // 2
    with pytest.raises(FrameError, match="libjpeg cannot decode it"):
        _decode(whole[:middle] + whole[middle + 64 :], pixels)


def test_padding_before_the_end_is_flagged() -> None:
    for name, pixels in (("baseline", EIGHT), ("colour", COLOUR), ("extended", GREY)):
        whole = WHOLE[name]
        padded = _decode(whole[:-2] + bytes(20) + whole[-2:], pixels)
        assert padded.flags == ("excess-pixel-data",)
        assert np.array_equal(padded.pixels, _decode(whole, pixels).pixels)


def test_what_no_pixel_depends_on_is_flagged() -> None:
    jfif, rest = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0", WHOLE["colour"][20:]
    assert WHOLE["colour"] == b"\xff\xd8" + jfif + rest
    right = _decode(WHOLE["colour"], COLOUR).pixels
    scan = WHOLE["baseline"].find(b"\xff\xda")
    for odd, pixels in (
        (b"\xff\xd8" + jfif[:9] + b"\x2a" + jfif[10:] + rest, right),
        (b"\xff\xd8\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\x07" + rest, right),
        (WHOLE["baseline"][: scan + 8] + b"\x3e" + WHOLE["baseline"][scan + 9 :],
         _decode(WHOLE["baseline"], EIGHT).pixels),
    ):  # fmt: skip
        found = _decode(odd, pixels)
        assert found.flags == ("codestream-header-odd",)
        assert np.array_equal(found.pixels, pixels)


@pytest.mark.parametrize("subsampling", ["444", "422", "420", "440", "411"])
@pytest.mark.parametrize("said", ["RGB", "YBR_FULL_422"])
def test_colours_are_what_imagecodecs_makes_of_them(subsampling: str, said: str) -> None:
    stream = bytes(imagecodecs.jpeg8_encode(COLOUR, level=90, subsampling=subsampling))
    space = "RGB" if said == "RGB" and subsampling == "444" else "YCBCR"
    for jfif in (True, False):  # without it the header decides, where nothing is subsampled
        bare = stream if jfif else b"\xff\xd8" + stream[20:]
        expected = "YCBCR" if jfif else space
        found = _decode(bare, COLOUR, said)
        right = imagecodecs.jpeg8_decode(bare, colorspace=expected, outcolorspace="RGB")
        assert np.array_equal(found.pixels, right)
        assert found.photometric == "RGB"


def test_a_subsampling_that_is_not_looked_at_is_flagged() -> None:
    """Three luma blocks side by side to one of chroma: turbojpeg's API has no name for it."""
    flat = (
        b"\xff\xd8\xff\xdb\0\x43\0" + bytes([1] * 64)
        + b"\xff\xc0\0\x11\x08\0\x08\0\x18\x03\x01\x31\0\x02\x11\0\x03\x11\0"
        + b"\xff\xc4\0\x14\0\1" + bytes(15) + b"\0"  # a difference of 0 is the bit 0
        + b"\xff\xc4\0\x14\x10\1" + bytes(15) + b"\0"  # and so is the end of a block
        + b"\xff\xda\0\x0c\x03\1\0\2\0\3\0\0\x3f\0" + b"\0\x3f" + b"\xff\xd9"
    )  # fmt: skip
    grey = np.full((8, 24, 3), 128, np.uint8)
    found = _decode(flat, grey)
    assert found.flags == ("codestream-unchecked",)
    assert np.array_equal(found.pixels, grey)
    named = flat.replace(b"\x01\x31\0", b"\x01\x11\0").replace(
        b"\0\x3f\xff\xd9", b"\0\0\x3f\xff\xd9"
    )
    assert _decode(named, grey).flags == ()  # three blocks each, 18 bits


def test_lossless_colour_is_never_converted_by_libjpeg() -> None:
    stream = bytes(imagecodecs.jpeg8_encode(
        COLOUR, lossless=True, colorspace="RGB", outcolorspace="RGB"))  # fmt: skip
    assert stream[2:4] == b"\xff\xee"
    unmarked = b"\xff\xd8" + stream[18:]
    unmarked = unmarked.replace(b"R\x11\0G\x11\0B\x11\0", b"\1\x11\0\2\x11\0\3\x11\0")
    scan = unmarked.find(b"\xff\xda")
    unmarked = unmarked[: scan + 5] + b"\1\0\2\0\3\0" + unmarked[scan + 11 :]
    for said in ("RGB", "YBR_FULL"):
        found = _decode(unmarked, COLOUR, said)
        assert (found.photometric, found.flags) == (said, ())
        assert np.array_equal(found.pixels, COLOUR)


@pytest.mark.parametrize("marker", [0x01, 0xD3, 0xD8, 0xD9])
def test_a_marker_without_a_length_hides_no_segment(marker: int) -> None:
    whole = WHOLE["baseline"]
    table = whole.find(b"\xff\xdb")
    with pytest.raises(FrameError, match=f"marker FF{marker:02X} at byte {table} of the JPEG"):
        _decode(whole[: table + 1] + bytes([marker]) + whole[table + 2 :], EIGHT)


def test_a_deflated_frame_that_goes_on_or_does_not_end_is_flagged() -> None:
    import zlib

    def packed(data: bytes) -> bytes:
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return packer.compress(data) + packer.flush()

    plain = GREY.tobytes()
    for stream, flags in (
        (packed(plain), ()),
        (packed(plain) + b"\0", ()),
        (packed(plain + b"\1\2"), ("excess-pixel-data",)),
        (packed(plain)[:-1], ("unterminated",)),
    ):
        found = _decode(stream, GREY, syntax=_DEFLATED)
        assert np.array_equal(found.pixels, GREY)
        assert found.flags == flags
