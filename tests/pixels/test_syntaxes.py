"""Every transfer syntax of the standard: read, with the case that shows it, or refused by name."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import generate_frames
from pydicom.uid import UID_dictionary

from dicom2cache.syntaxes import supported
from tests.pixels.tables import LATER_SYNTAXES, SHOWN_BY, syntaxes
from tests.support.caches import by_path, failures, run_here
from tests.support.dicom_files import WHEEL, pattern, real, uid, write_dicom

GREY = pattern("syntaxes", (20, 24), "uint16", 4096)
COLOUR = pattern("syntaxes in colour", (20, 24, 3), "uint8", 256)


def _deflate(pixels: Any) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(pixels.tobytes()) + packer.flush()


def _jpeg2k(pixels: Any) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(pixels, codecformat="J2K", reversible=True, mct=False))


def _htj2k(pixels: Any) -> bytes:
    stream = bytes(imagecodecs.htj2k_encode(pixels))
    # OpenJPEG reads what OpenJPH wrote: the oracle of a format without a file at hand.
    assert np.array_equal(imagecodecs.jpeg2k_decode(stream), pixels)
    return stream


def _jpeg_xl(pixels: Any) -> bytes:
    return bytes(imagecodecs.jpegxl_encode(pixels, lossless=True, effort=1))


LOSSLESS: dict[str, Callable[[Any], bytes] | None] = {
    "1.2.840.10008.1.2": None,
    "1.2.840.10008.1.2.1": None,
    "1.2.840.10008.1.2.1.98": lambda pixels: bytes(pixels.tobytes()),
    "1.2.840.10008.1.2.1.99": None,
    "1.2.840.10008.1.2.2": None,
    "1.2.840.10008.1.2.4.57": lambda p: bytes(imagecodecs.jpeg8_encode(p, lossless=True)),
    "1.2.840.10008.1.2.4.70": lambda p: bytes(imagecodecs.jpeg8_encode(p, lossless=True)),
    "1.2.840.10008.1.2.4.80": lambda p: bytes(imagecodecs.jpegls_encode(p)),
    "1.2.840.10008.1.2.4.81": lambda p: bytes(imagecodecs.jpegls_encode(p)),
    "1.2.840.10008.1.2.4.90": _jpeg2k,
    "1.2.840.10008.1.2.4.91": _jpeg2k,
    "1.2.840.10008.1.2.4.110": _jpeg_xl,
    "1.2.840.10008.1.2.4.112": _jpeg_xl,
    "1.2.840.10008.1.2.4.201": _htj2k,
    "1.2.840.10008.1.2.4.202": _htj2k,
    "1.2.840.10008.1.2.4.203": _htj2k,
    "1.2.840.10008.1.2.8.1": _deflate,
}
REAL = {
    "1.2.840.10008.1.2.4.50": "SC_rgb_jpeg_dcmtk.dcm",
    "1.2.840.10008.1.2.4.51": "JPGExtended.dcm",
    "1.2.840.10008.1.2.5": "MR_small_RLE.dcm",
}


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize("what", ["grey", "colour"])
def test_lossless_frames_come_back(tmp_path: Path, syntax: str, what: str) -> None:
    pixels, encode = (GREY if what == "grey" else COLOUR), LOSSLESS[syntax]
    bits = {"BitsStored": 12, "HighBit": 11} if what == "grey" else {}
    if syntax == "1.2.840.10008.1.2.2" and what == "grey":
        bits["PixelData"] = pixels.astype(">u2").tobytes()  # type: ignore[assignment]
    source = write_dicom(
        tmp_path / "a.dcm", pixels, syntax=syntax, encoded=encode and [encode(pixels)], **bits
    )
    ran = run_here("build", source, tmp_path / "cache")
    assert ran.returncode == 0, ran.stderr
    row, found = by_path(tmp_path / "cache")["a.dcm", 0]
    assert np.array_equal(found, pixels)
    assert row["transfer_syntax"] == syntax
    assert (row["codec"] == "native") == (encode is None or syntax.endswith(".98"))


@pytest.mark.parametrize("syntax", REAL)
def test_real_files(tmp_path: Path, syntax: str) -> None:
    source = real(REAL[syntax])
    assert dcmread(source).file_meta.TransferSyntaxUID == syntax
    assert run_here("build", source, tmp_path / "cache").returncode == 0
    row, pixels = by_path(tmp_path / "cache")[source.name, 0]
    assert row["transfer_syntax"] == syntax
    if syntax.endswith(".5"):  # the same image in another syntax
        native = dcmread(WHEEL / "MR_small.dcm").pixel_array
        assert np.array_equal(pixels, native)


BASELINE, RECOMPRESSED = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.111"


def test_a_recompressed_jpeg_is_that_jpeg(tmp_path: Path) -> None:
    """The pixels of real codestreams of JPEG, byte for byte, as JPEG XL packs them."""
    names = (
        "SC_rgb_jpeg_dcmtk.dcm",
        "SC_rgb_dcmtk_+eb+cy+s4.dcm",
        "SC_jpeg_no_color_transform.dcm",
    )
    for name in names:
        ds = dcmread(real(name))
        [jpeg] = generate_frames(ds.PixelData, number_of_frames=1)
        packed = bytes(imagecodecs.jpegxl_encode_jpeg(jpeg))
        for syntax, stream in ((BASELINE, jpeg), (RECOMPRESSED, packed)):
            shape = np.zeros((ds.Rows, ds.Columns, 3), np.uint8)
            write_dicom(tmp_path / "in" / syntax / name, shape, syntax=syntax, encoded=[stream],
                        SOPInstanceUID=uid(syntax + name),
                        PhotometricInterpretation=ds.PhotometricInterpretation)  # fmt: skip
    ran = run_here("build", tmp_path / "in", tmp_path / "cache")
    assert ran.returncode == 0, ran.stderr
    found = by_path(tmp_path / "cache")
    for name in names:
        row, pixels = found[f"{RECOMPRESSED}/{name}", 0]
        was, jpeg = found[f"{BASELINE}/{name}", 0]
        assert np.array_equal(pixels, jpeg)
        assert np.ptp(pixels) > 100
        assert row["crc32c"] == was["crc32c"]
        assert (row["lossy"], row["flags"]) == (True, was["flags"])


@pytest.mark.parametrize("syntax", [s for s in syntaxes() if not supported(s)])
def test_others_are_refused_by_name(tmp_path: Path, syntax: str) -> None:
    source = write_dicom(
        tmp_path / "a.dcm", COLOUR, syntax=syntax, encoded=[b"\0\0\1\xb3 not a frame "],
        SOPInstanceUID=uid(syntax),
    )  # fmt: skip
    write_dicom(tmp_path / "beside" / "b.dcm", GREY)
    ran = run_here("build", source, tmp_path / "beside", tmp_path / "cache")
    assert ran.returncode == 1, ran.stderr
    outcome, reason = failures(tmp_path / "cache")["a.dcm", None]
    assert outcome == "failed"
    assert f"Transfer Syntax UID (0002,0010) {syntax} (" in reason


def test_all_syntaxes_of_the_standard_are_here() -> None:
    """pydicom's dictionary is PS3.6's table A-1 of its day; later ones are added by hand."""
    known = {uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax"}
    assert set(syntaxes()) == known | set(LATER_SYNTAXES)
    decoded = {s for s in syntaxes() if supported(s)}
    assert decoded == set(LOSSLESS) | set(REAL) | {RECOMPRESSED} == set(SHOWN_BY)
