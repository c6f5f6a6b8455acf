"""Files that are legal and hostile, drawn by hypothesis, against a reference in plain Python.

The reference never decodes: it draws the values that the pixels should have, and writes them down
as the standard says (PS3.5 8.1.1, 8.2, A.4, G; PS3.3 C.7.6.3) with integers, one by one.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from pydicom.encaps import encapsulate, encapsulate_extended

from dicom2cache import Recipe, build
from tests.support.caches import stored
from tests.support.dicom_files import write_dicom
from tests.support.share import TIMES

IMPLICIT, EXPLICIT, DEFLATED, BIG = (f"1.2.840.10008.1.2{e}" for e in ("", ".1", ".1.99", ".2"))
LOOSE, RLE = "1.2.840.10008.1.2.1.98", "1.2.840.10008.1.2.5"
JPEG_LS, JPEG_2000 = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"


@dataclass
class Legal:
    """A file, and what it means."""

    syntax: str
    rows: int
    columns: int
    frames: int
    samples: int
    allocated: int
    stored: int
    high: int
    signed: bool
    planar: int
    photometric: str
    slope: str | None
    intercept: str | None
    values: list[int]
    """stored values, frame by frame, row by row, samples of a pixel together"""
    junk: int
    """bits around BitsStored, set in every pixel"""

    def words(self) -> list[int]:
        """Each sample as the unsigned BitsAllocated bits that are written (PS3.5 8.1.1)."""
        low = self.high + 1 - self.stored
        field = ((1 << self.stored) - 1) << low
        junk = self.junk & ~field & ((1 << self.allocated) - 1)
        return [(v % (1 << self.stored)) << low | junk for v in self.values]

    def frame_words(self, frame: int) -> list[int]:
        """The words of one frame, in the order of Planar Configuration."""
        size = self.rows * self.columns * self.samples
        words = self.words()[frame * size : (frame + 1) * size]
        if self.samples > 1 and self.planar:
            return [words[k] for c in range(self.samples) for k in range(c, size, self.samples)]
        return words

    def native(self, words: list[int]) -> bytes:
        """Words to bytes, 1-bit pixels packed from the least significant bit on (PS3.5 8.1.1)."""
        if self.allocated == 1:
            packed = bytearray((len(words) + 7) // 8)
            for k, word in enumerate(words):
                packed[k // 8] |= word << (k % 8)
            return bytes(packed)
        order = "big" if self.syntax == BIG else "little"
        return b"".join(w.to_bytes(self.allocated // 8, order) for w in words)

    def rle(self, frame: int) -> bytes:
        """Segments of literal runs, most significant byte first, colour by plane (PS3.5 G)."""
        size = self.rows * self.columns
        words = self.words()[frame * size * self.samples :][: size * self.samples]
        segments = []
        for c in range(self.samples):
            for byte in reversed(range(self.allocated // 8)):
                plane = bytes(w >> (8 * byte) & 0xFF for w in words[c :: self.samples])
                runs = b"".join(
                    bytes([len(part) - 1]) + part
                    for part in (plane[k : k + 128] for k in range(0, size, 128))
                )
                segments.append(runs + bytes(len(runs) % 2))
        offsets, at = [], 64
        for segment in segments:
            offsets.append(at)
            at += len(segment)
        header = [len(segments), *offsets, *[0] * (15 - len(offsets))]
        return b"".join(n.to_bytes(4, "little") for n in header) + b"".join(segments)

    def coded(self, frame: int) -> bytes:
        """A codestream; JPEG-LS and JPEG 2000 hold the stored values themselves."""
        if self.syntax == RLE:
            return self.rle(frame)
        if self.syntax == LOOSE:
            return self.native(self.frame_words(frame))
        size = self.rows * self.columns * self.samples
        kind = f"{'i' if self.signed else 'u'}{self.allocated // 8}"
        shape = (self.rows, self.columns) + ((3,) if self.samples == 3 else ())
        values = np.array(self.values[frame * size : (frame + 1) * size], kind).reshape(shape)
        if self.syntax == JPEG_LS:
            bits = values.view(f"u{self.allocated // 8}") & ((1 << self.stored) - 1)
            return bytes(imagecodecs.jpegls_encode(bits))
        return bytes(
            imagecodecs.jpeg2k_encode(
                values, codecformat="J2K", reversible=True, mct=False, bitspersample=self.stored
            )
        )

    def expected(self) -> list[Any]:
        """The values after the modality LUT; RGB as written, YBR_FULL by C.7.6.3.1.2."""
        if self.photometric == "YBR_FULL":
            rgb = []
            for y, cb, cr in zip(*(self.values[c::3] for c in range(3)), strict=True):
                b, r = cb - 128, cr - 128
                both = Fraction("0.202008") * b + Fraction("0.419198") * r  # .114 * 1.772, ...
                green = both / Fraction("0.587")
                for exact in (y + Fraction("1.402") * r, y - green, y + Fraction("1.772") * b):
                    rgb.append(min(255, max(0, (2 * exact + 1) // 2)))
            return rgb
        if self.samples == 3:
            return self.values
        m, b = Fraction(self.slope or "1"), Fraction(self.intercept or "0")
        if self.slope is None and self.intercept is None and self.photometric == "MONOCHROME1":
            low = -(1 << (self.stored - 1)) if self.signed else 0
            total = 2 * low + (1 << self.stored) - 1
            return [total - v for v in self.values]
        if self.photometric == "MONOCHROME1":
            low = -(1 << (self.stored - 1)) if self.signed else 0
            return [m * (2 * low + (1 << self.stored) - 1 - v) + b for v in self.values]
        return [m * v + b for v in self.values]


@st.composite
def legal_files(draw: st.DrawFn) -> Legal:
    """Any legal layout, small."""
    colour = draw(st.booleans())
    syntax = draw(
        st.sampled_from([IMPLICIT, EXPLICIT, DEFLATED, BIG, LOOSE, RLE, JPEG_LS, JPEG_2000])
    )
    plain = syntax in (IMPLICIT, EXPLICIT, DEFLATED, BIG, LOOSE)
    widths = [8, 16, 32] if syntax in (EXPLICIT, IMPLICIT, DEFLATED, BIG, LOOSE, RLE) else [8, 16]
    allocated = draw(st.sampled_from(widths + ([1] if plain and not colour else [])))
    photometric = draw(st.sampled_from(["RGB", "YBR_FULL"] if colour
                                       else ["MONOCHROME1", "MONOCHROME2"]))  # fmt: skip
    if photometric == "YBR_FULL":
        allocated = 8
    bits = allocated if colour else draw(st.integers(1, allocated))
    shifted = plain or syntax == RLE
    if not shifted:
        bits = max(2, bits)  # the least that JPEG-LS knows
    high = draw(st.integers(bits - 1, allocated - 1)) if shifted else bits - 1
    signed = not colour and allocated > 1 and draw(st.booleans())
    rows, columns = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    frames, samples = draw(st.integers(1, 3)), 3 if colour else 1
    low = -(1 << (bits - 1)) if signed else 0
    value = st.integers(low, low + (1 << bits) - 1)
    count = rows * columns * samples * frames
    seed = draw(st.lists(value, min_size=1, max_size=40))
    decimals = st.sampled_from([None, "1", "2", "-1", "0.5", "1E-3", "-1024", "0.1"])
    return Legal(
        syntax=syntax, rows=rows, columns=columns, frames=frames, samples=samples,
        allocated=allocated, stored=bits, high=high, signed=signed,
        planar=draw(st.integers(0, 1)) if colour and plain else 0, photometric=photometric,
        slope=None if colour or allocated > 16 else draw(decimals),
        intercept=None if colour or allocated > 16 else draw(st.sampled_from([None, "0", "-1024",
                                                                             "0.25"])),
        values=(seed * count)[:count], junk=draw(st.integers(0, (1 << allocated) - 1)),
    )  # fmt: skip


@settings(max_examples=75 * TIMES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(legal=legal_files(), said=st.sampled_from(["absent", "right"]), table=st.integers(0, 2))
def test_legal_files_become_what_they_mean(legal: Legal, said: str, table: int) -> None:
    elements: dict[str, Any] = {
        "Rows": legal.rows, "Columns": legal.columns, "SamplesPerPixel": legal.samples,
        "BitsAllocated": legal.allocated, "BitsStored": legal.stored, "HighBit": legal.high,
        "PixelRepresentation": int(legal.signed), "PhotometricInterpretation": legal.photometric,
        "NumberOfFrames": legal.frames,
    }  # fmt: skip
    if legal.frames == 1 and said == "absent":
        elements["NumberOfFrames"] = ""
    if legal.samples == 3:
        elements["PlanarConfiguration"] = legal.planar
    for keyword, value in (("RescaleSlope", legal.slope), ("RescaleIntercept", legal.intercept)):
        if value is not None:
            elements[keyword] = value
    encapsulated = legal.syntax in (LOOSE, RLE, JPEG_LS, JPEG_2000)
    if encapsulated:
        streams = [legal.coded(k) for k in range(legal.frames)]
        if table == 2:
            data, offsets, lengths = encapsulate_extended(streams)
            elements["ExtendedOffsetTable"] = offsets
            elements["ExtendedOffsetTableLengths"] = lengths
        else:
            data = encapsulate(streams, has_bot=bool(table))
        elements["PixelData"] = data
    else:
        words = [w for k in range(legal.frames) for w in legal.frame_words(k)]
        data = legal.native(words)
        elements["PixelData"] = data + bytes(len(data) % 2)
    note(f"{legal}")
    with tempfile.TemporaryDirectory() as folder:
        path = write_dicom(
            Path(folder, "a.dcm"), np.zeros((1, 1), np.uint8), syntax=legal.syntax,
            encoded=[b"\0\0"] if encapsulated else None, **elements,
        )  # fmt: skip
        cache = Path(folder, "cache")
        counts = build(path, cache, Recipe(), jobs=1)
        found = sorted(stored(cache), key=lambda s: s[0]["frame"])
    assert (counts["frames_stored"], counts["frames_failed"]) == (legal.frames, 0)
    expected = legal.expected()
    flat = np.concatenate([pixels.reshape(-1) for _, pixels in found])
    if flat.dtype == np.float32:  # rounded once
        wanted = np.array([float(v) for v in expected], np.float64)
        assert np.abs(flat - wanted).max() <= np.abs(wanted).max() * 2.0**-23
    else:
        assert flat.tolist() == expected
