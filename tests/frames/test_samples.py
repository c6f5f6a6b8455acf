"""Signs, bits and overshoot of codestreams: every pair of stream and header; values by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest

from tests.frames.pairs import PAIRS, Pair
from tests.support.caches import built, by_path, failures, run_here
from tests.support.dicom_files import pattern, write_dicom

J2K, J2K_LOSSY = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"
HTJ2K_LOSSY = "1.2.840.10008.1.2.4.203"
LS_LOSSY, EXTENDED = "1.2.840.10008.1.2.4.81", "1.2.840.10008.1.2.4.51"


def pair_file(path: Path, pair: Pair) -> Path:
    kind = np.int16 if pair.stream == "signed" else np.uint16
    pixels = np.array([pair.coded] * 32, kind).repeat(16, axis=1)
    narrow = np.dtype(f"{kind().dtype.kind}{1 if pair.precision == 8 else 2}")
    stream = imagecodecs.jpeg2k_encode(
        pixels.astype(narrow), codecformat="J2K", reversible=True, bitspersample=pair.precision
    )
    assert (stream[42] >> 7, (stream[42] & 127) + 1) == (pair.stream == "signed", pair.precision)
    return write_dicom(
        path, pixels, syntax=J2K, encoded=[stream], BitsStored=pair.bits, HighBit=pair.bits - 1,
        PixelRepresentation=int(pair.header == "signed"),
    )  # fmt: skip


@pytest.mark.parametrize("pair", PAIRS, ids=lambda p: f"{p.stream}{p.precision}-{p.header}{p.bits}")
def test_signs_and_bits_of_stream_and_header(tmp_path: Path, pair: Pair) -> None:
    source = pair_file(tmp_path / "in" / "a.dcm", pair)
    write_dicom(tmp_path / "in" / "beside.dcm", np.zeros((1, 1), np.uint8))
    cache = built(source.parent, tmp_path / "cache", status=int(isinstance(pair.stored, str)))
    if isinstance(pair.stored, str):
        _, reason = failures(cache)["a.dcm", 0]
        assert pair.stored in reason
        assert "Pixel Representation (0028,0103) is 0" in reason
        return
    row, pixels = by_path(cache)["a.dcm", 0]
    assert pixels[0, ::16].tolist() == list(pair.stored)
    assert (row["min"], row["max"]) == (min(pair.stored), max(pair.stored))
    assert tuple(row["flags"] or ()) == pair.flags


def test_a_recipe_of_a_signed_dtype_stores_what_the_plan_had_no_place_for(tmp_path: Path) -> None:
    source = pair_file(tmp_path / "a.dcm", PAIRS[-1])
    row, pixels = by_path(built(source, tmp_path / "cache", "--dtype", "int32"))["a.dcm", 0]
    assert (pixels[0, ::16].tolist(), row["flags"]) == ([-1500, 1499], ["sign-conflict"])


_Y, _X = np.mgrid[:128, :128]
WAVES = np.clip(1500 + 1800 * np.sin(_X / 9) * np.cos(_Y / 7) + pattern("grain", (128, 128)) / 40,
                0, 4095).astype(np.uint16)  # fmt: skip
WAVES[40:70, 40:90] = 4095
SIGNED = (WAVES.astype(np.int16) - 2048).astype(np.int16)


def _wavelet(pixels: Any, **options: Any) -> bytes:
    said = {"level": 38, "reversible": False, "bitspersample": 16, **options}
    return bytes(imagecodecs.jpeg2k_encode(pixels, codecformat="J2K", **said))


@dataclass(frozen=True)
class Lossy:
    """12 bits in 16 that a lossy codec drives beyond 12."""

    syntax: str
    pixels: Any
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    """the same library, called directly"""


LOSSY = {
    "jpeg 2000": Lossy(J2K_LOSSY, WAVES, _wavelet, imagecodecs.jpeg2k_decode),
    "jpeg 2000, signed": Lossy(J2K_LOSSY, SIGNED, _wavelet, imagecodecs.jpeg2k_decode),
    "htj2k": Lossy(
        HTJ2K_LOSSY, WAVES,
        lambda p: bytes(imagecodecs.htj2k_encode(p, level=0.02, reversible=False)),
        imagecodecs.htj2k_decode,
    ),
}  # fmt: skip


def lossy_file(path: Path, lossy: Lossy, **elements: Any) -> tuple[Path, Any]:
    pixels = lossy.pixels
    stream = lossy.encode(pixels)
    decoded = lossy.decode(stream)
    said = {"BitsStored": 12, "HighBit": 11, "LossyImageCompression": "01", **elements}
    return write_dicom(path, pixels, syntax=lossy.syntax, encoded=[stream], **said), decoded


@pytest.mark.parametrize("name", ["jpeg 2000", "jpeg 2000, signed", "htj2k"])
def test_overshoot_is_kept(tmp_path: Path, name: str) -> None:
    source, decoded = lossy_file(tmp_path / "a.dcm", LOSSY[name])
    assert int(decoded.max()) > int(LOSSY[name].pixels.max())  # else it shows nothing
    row, pixels = by_path(built(source, tmp_path / "cache"))["a.dcm", 0]
    assert np.array_equal(pixels, decoded)
    assert row["flags"] == ["overshoot"]


def test_overshoot_of_near_lossless_jpeg_ls(tmp_path: Path) -> None:
    pixels = np.full((16, 16), 4090, np.uint16)
    pixels[::2, ::3] = 4095
    stream = bytes(imagecodecs.jpegls_encode(pixels, level=4))
    decoded = imagecodecs.jpegls_decode(stream)
    assert 4095 < decoded.max() <= 4099  # NEAR is 4
    source = write_dicom(
        tmp_path / "a.dcm", pixels, syntax=LS_LOSSY, encoded=[stream], BitsStored=12, HighBit=11
    )
    row, stored = by_path(built(source, tmp_path / "cache"))["a.dcm", 0]
    assert (np.array_equal(stored, decoded), row["flags"]) == (True, ["overshoot"])


def test_a_twelve_bit_jpeg_of_ten_stored_bits(tmp_path: Path) -> None:
    pixels = np.where(_X // 5 % 2, 1023, 0).astype(np.uint16)
    stream = bytes(imagecodecs.jpeg8_encode(pixels, bitspersample=12, level=40))
    decoded = imagecodecs.jpeg8_decode(stream)
    assert decoded.max() > 1023
    source = write_dicom(
        tmp_path / "a.dcm", pixels, syntax=EXTENDED, encoded=[stream], BitsStored=10, HighBit=9
    )
    row, stored = by_path(built(source, tmp_path / "cache"))["a.dcm", 0]
    assert (np.array_equal(stored, decoded), row["flags"]) == (True, ["overshoot"])


@pytest.mark.parametrize(
    ("bits", "allocated", "elements", "dtype"),
    [
        (12, 16, {}, "int16"),
        (15, 16, {}, "uint16"),  # 0 to 65535
        (16, 16, {}, "uint16"),  # no room: the codec clamps
        (8, 16, {}, "int16"),  # 0 to 511
        (8, 8, {}, "uint8"),
        # S - v of the 12 bits, 0 to 4095: from -4096
        (12, 16, {"PhotometricInterpretation": "MONOCHROME1"}, "int16"),
        (16, 16, {"RescaleSlope": 1, "RescaleIntercept": -1024, "RescaleType": "HU"}, "int16"),
    ],
)
def test_the_plan_has_room_for_one_bit_more(
    tmp_path: Path, bits: int, allocated: int, elements: dict[str, Any], dtype: str
) -> None:
    pixels = pattern("p", (16, 16), f"uint{allocated}", 100)
    stream = _wavelet(pixels.astype("uint8") if bits == 8 else pixels, bitspersample=bits)
    source = write_dicom(
        tmp_path / "a.dcm", pixels, syntax=J2K_LOSSY, encoded=[stream], BitsStored=bits,
        HighBit=bits - 1, **elements,
    )  # fmt: skip
    _, stored = by_path(built(source, tmp_path / "cache"))["a.dcm", 0]
    assert stored.dtype == dtype


def test_what_the_dtype_cannot_hold_is_clamped(tmp_path: Path) -> None:
    """HU is int16, and 16 times 4095 - 32768 is its end: what is beyond is the end, too."""
    source, decoded = lossy_file(
        tmp_path / "a.dcm", LOSSY["jpeg 2000"], RescaleSlope=16, RescaleIntercept=-32768,
        RescaleType="HU",
    )  # fmt: skip
    row, pixels = by_path(built(source, tmp_path / "cache"))["a.dcm", 0]
    # 16 * 4095 - 32768 = 32752; 16 * 4096 - 32768 does not fit
    assert pixels.tolist() == (16 * np.minimum(decoded.astype(int), 4095) - 32768).tolist()
    assert row["flags"] == ["overshoot", "overshoot-clamped"]
    assert (row["max"], pixels.dtype) == (32752, np.int16)


def test_lossy_hu_beyond_int16_is_clamped(tmp_path: Path) -> None:
    """All 16 bits are stored, so that nothing is beyond them; but the intercept leads out."""
    pixels = np.full((64, 64), -32768, np.int16)
    pixels[16:48, 16:48] = 1024
    stream = _wavelet(pixels, level=50)
    decoded = imagecodecs.jpeg2k_decode(stream)
    source = write_dicom(
        tmp_path / "a.dcm", pixels, syntax=J2K_LOSSY, encoded=[stream], RescaleSlope=1,
        RescaleIntercept=-1024, RescaleType="HU",
    )  # fmt: skip
    assert int(decoded.min()) - 1024 < -32768
    row, stored = by_path(built(source, tmp_path / "cache"))["a.dcm", 0]
    assert stored.tolist() == np.maximum(decoded.astype(int) - 1024, -32768).tolist()
    assert row["flags"] == ["overshoot-clamped"]


def test_what_bits_allocated_cannot_hold_is_clamped(tmp_path: Path) -> None:
    pixels = (WAVES >> 4).astype(np.uint8)
    stream = _wavelet(pixels.astype(np.uint16), bitspersample=9, level=30)
    decoded = imagecodecs.jpeg2k_decode(stream)
    assert 255 < decoded.max() < 512
    source = write_dicom(tmp_path / "a.dcm", pixels, syntax=J2K_LOSSY, encoded=[stream])
    row, stored = by_path(built(source, tmp_path / "cache"))["a.dcm", 0]
    assert stored.tolist() == np.minimum(decoded, 255).tolist()
    assert row["flags"] == ["overshoot-clamped", "precision-conflict"]


def test_colour_beyond_full_intensity_is_clamped(tmp_path: Path) -> None:
    pixels = np.stack([WAVES, WAVES[::-1], WAVES.T], -1).copy()
    stream = _wavelet(pixels, mct=False)
    decoded = imagecodecs.jpeg2k_decode(stream)
    assert decoded.max() > 4095
    source = write_dicom(
        tmp_path / "a.dcm", pixels, syntax=J2K_LOSSY, encoded=[stream], BitsStored=12, HighBit=11
    )
    row, stored = by_path(built(source, tmp_path / "cache", "--percentiles", "1,99"))["a.dcm", 0]
    share = np.minimum(decoded, 4095) / 4095
    assert np.array_equal(stored, np.floor(share * 255 + 0.5))
    assert row["flags"] == ["overshoot-clamped"]


def test_values_that_do_not_fit_fail_even_beside_overshoot(tmp_path: Path) -> None:
    source, _ = lossy_file(tmp_path / "in" / "a.dcm", LOSSY["jpeg 2000"])
    write_dicom(tmp_path / "in" / "b.dcm", np.zeros((1, 1), np.uint8))
    ran = run_here("build", source.parent, tmp_path / "cache", "--dtype", "uint8")
    assert ran.returncode == 1
    assert "do not fit uint8" in failures(tmp_path / "cache")["a.dcm", 0][1]


def test_high_bits_of_a_lossless_stream_are_no_overshoot(tmp_path: Path) -> None:
    pixels = WAVES | np.uint16(1 << 14)
    stream = _wavelet(pixels, level=0, reversible=True)
    source = write_dicom(
        tmp_path / "a.dcm", pixels, syntax=J2K, encoded=[stream], BitsStored=12, HighBit=11,
        LossyImageCompression="01",  # once, before
    )  # fmt: skip
    row, stored = by_path(built(source, tmp_path / "cache"))["a.dcm", 0]
    assert (np.array_equal(stored, WAVES), row["flags"]) == (True, ["high-bits"])
