"""Transfer syntax to decoder, pinned to imagecodecs, with versions.

imagecodecs is called directly and not through pydicom's plug-ins: so the result cannot depend on
what else is installed, and each decoder is told which colour space the codestream has, where
pydicom's runner would convert a second time what libjpeg has converted already.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom2cache.errors import FrameError

IMPLICIT_LE, EXPLICIT_LE = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
DEFLATED, EXPLICIT_BE = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
NATIVE = frozenset({IMPLICIT_LE, EXPLICIT_LE, DEFLATED, EXPLICIT_BE})

_JPEG8 = {"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"}
_JPEG_LOSSLESS = {"1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"}
_JPEG_LS = {"1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"}
_JPEG_2000 = {"1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"}
_HTJ2K = {"1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203"}
_RLE = "1.2.840.10008.1.2.5"

ALWAYS_LOSSY = frozenset(_JPEG8)
"""syntaxes that cannot be lossless; .81, .91 and .203 may be either"""


@dataclass(frozen=True)
class Coded:
    """What the header says of one encoded frame."""

    rows: int
    columns: int
    samples: int
    bits_allocated: int
    photometric: str


@dataclass(frozen=True)
class Decoded:
    """One decoded frame, before masking by BitsStored."""

    pixels: NDArray[Any]
    """(H, W) or (H, W, C)"""
    photometric: str
    """of `pixels`: RGB where the decoder has converted"""
    codec: str
    """what decoded it, with its version"""
    precision: int
    """bits of a sample in the codestream; 0: not said there"""
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Jpeg:
    """What the headers of a JPEG codestream say (ITU-T T.81 B.2)."""

    precision: int
    rows: int
    columns: int
    components: tuple[int, ...]
    subsampled: bool
    adobe: int | None
    """transform flag of APP14: 0 RGB, 1 YCbCr; None: no such segment"""
    jfif: bool


def supported(transfer_syntax: str) -> bool:
    """True if frames of this syntax can be decoded."""
    return transfer_syntax in NATIVE or transfer_syntax in _decoders()


def refusal(transfer_syntax: str) -> str:
    """Why a file of an unsupported syntax is not stored, and the remedy."""
    from pydicom.uid import UID

    return (
        f"Transfer Syntax UID (0002,0010) {transfer_syntax} ({UID(transfer_syntax).name}) is not "
        "supported; convert the file to an uncompressed or JPEG 2000 syntax"
    )


def cost_weight(transfer_syntax: str) -> float:
    """Time to decode, relative to reading the same pixels uncompressed (measured on 16-bit CT)."""
    if transfer_syntax in NATIVE:
        return 1.0
    for syntaxes, weight in ((_JPEG_2000, 150.0), (_JPEG_LS, 25.0), (_JPEG_LOSSLESS, 9.0)):
        if transfer_syntax in syntaxes:
            return weight
    return 6.0


@cache
def versions() -> dict[str, str]:
    """Versions of the codec libraries whose output is stored."""
    import imagecodecs

    wanted = ("imagecodecs", "libjpeg_turbo", "charls", "openjpeg", "openjph")
    parts = [part.rpartition("-") for part in imagecodecs.version().split(", ")]
    return {name: version for name, _, version in parts if name in wanted}


def decode(data: bytes, transfer_syntax: str, coded: Coded) -> Decoded:
    """One encoded frame to its pixels, (H, W) or (H, W, C) in the codestream's own dtype.

    Raises FrameError if the syntax is not supported, the codestream is broken, or it contradicts
    the header's size.
    """
    decoder = _decoders().get(transfer_syntax)
    if decoder is None:
        raise FrameError(refusal(transfer_syntax))
    try:
        decoded = decoder(data, coded)
    except FrameError:
        raise
    except MemoryError:
        raise
    except Exception as e:  # imagecodecs has an exception type for each library
        raise FrameError(f"the codestream cannot be decoded: {type(e).__name__}: {e}") from e
    want = (coded.rows, coded.columns) + ((coded.samples,) if coded.samples > 1 else ())
    if decoded.pixels.shape != want:
        raise FrameError(
            f"the codestream holds {decoded.pixels.shape}, the header says {want} "
            "(rows, columns[, samples])"
        )
    return decoded


@cache
def _decoders() -> dict[str, Callable[[bytes, Coded], Decoded]]:
    table: dict[str, Callable[[bytes, Coded], Decoded]] = {_RLE: _rle}
    for syntaxes, decoder in (
        (_JPEG8 | _JPEG_LOSSLESS, _jpeg),
        (_JPEG_LS, _jpeg_ls),
        (_JPEG_2000, _jpeg_2000),
        (_HTJ2K, _htj2k),
    ):
        table.update(dict.fromkeys(syntaxes, decoder))
    return table


def _label(function: str, library: str) -> str:
    v = versions()
    return f"imagecodecs {v['imagecodecs']} {function} ({library} {v.get(library, '?')})"


def parse_jpeg(data: bytes) -> Jpeg:
    """The headers of a JPEG codestream up to its first scan.

    Raises FrameError if there is no frame header.
    """
    place, adobe, jfif = 2, None, False
    while place + 4 <= len(data):
        if data[place] != 0xFF:
            raise FrameError(f"no JPEG marker at byte {place} of the codestream")
        marker = data[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
            continue
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        body = data[place + 4 : place + 2 + length]
        if marker == 0xE0 and body[:5] == b"JFIF\0":
            jfif = True
        elif marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
            adobe = body[11]
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and len(body) >= 6:
            parts = [body[6 + 3 * k : 9 + 3 * k] for k in range(body[5])]
            return Jpeg(
                precision=body[0],
                rows=int.from_bytes(body[1:3], "big"),
                columns=int.from_bytes(body[3:5], "big"),
                components=tuple(p[0] for p in parts),
                subsampled=len({p[1] for p in parts}) > 1,
                adobe=adobe,
                jfif=jfif,
            )
        elif marker == 0xDA:
            break
        place += 2 + length
    raise FrameError("the JPEG codestream has no frame header")


def jpeg_is_ybr(jpeg: Jpeg, photometric: str) -> bool:
    """True if the three components are YCbCr: the codestream where it is explicit, else the header.

    Subsampled chroma proves YCbCr; then APP14, then component ids R G B, then JFIF (T.871).
    """
    if jpeg.subsampled:
        return True
    if jpeg.adobe is not None:
        return jpeg.adobe == 1
    if jpeg.components == (ord("R"), ord("G"), ord("B")):
        return False
    if jpeg.jfif:
        return True
    return photometric.startswith("YBR")


def _jpeg(data: bytes, coded: Coded) -> Decoded:
    import imagecodecs

    jpeg = parse_jpeg(data)
    label = _label("jpeg8", "libjpeg_turbo")
    if len(jpeg.components) != 3:
        return Decoded(imagecodecs.jpeg8_decode(data), coded.photometric, label, jpeg.precision)
    ybr = jpeg_is_ybr(jpeg, coded.photometric)
    flags = () if ybr == coded.photometric.startswith("YBR") else ("colour-label-conflict",)
    pixels = imagecodecs.jpeg8_decode(
        data, colorspace="YCBCR" if ybr else "RGB", outcolorspace="RGB"
    )
    return Decoded(pixels, "RGB", label, jpeg.precision, flags)


def _jpeg_ls(data: bytes, coded: Coded) -> Decoded:
    import imagecodecs

    pixels = imagecodecs.jpegls_decode(data)
    return Decoded(pixels, coded.photometric, _label("jpegls", "charls"), 0)


def parse_jpeg_2000(data: bytes) -> tuple[int, bool, bool]:
    """(precision, signed, multiple component transform) of a JPEG 2000 codestream.

    SIZ and COD of ITU-T T.800 A.5.1 and A.6.1; a JP2 box around it is skipped.
    """
    start = data.find(b"\xff\x4f\xff\x51")
    if start < 0:
        raise FrameError("the JPEG 2000 codestream has no SOC and SIZ marker")
    ssiz = data[start + 42]
    place, mct = start + 2, False
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != 0x90:
        if data[place + 1] == 0x52:
            mct = data[place + 8] == 1
            break
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return (ssiz & 0x7F) + 1, bool(ssiz & 0x80), mct


def _wavelet(data: bytes, coded: Coded, pixels: NDArray[Any], label: str) -> Decoded:
    precision, _, mct = parse_jpeg_2000(data)
    photometric = coded.photometric
    if mct or photometric in ("YBR_RCT", "YBR_ICT"):
        photometric = "RGB"  # the decoder has undone the transform
    return Decoded(pixels, photometric, label, precision)


def _jpeg_2000(data: bytes, coded: Coded) -> Decoded:
    import imagecodecs

    pixels = imagecodecs.jpeg2k_decode(data, numthreads=1)
    return _wavelet(data, coded, pixels, _label("jpeg2k", "openjpeg"))


def _htj2k(data: bytes, coded: Coded) -> Decoded:
    import imagecodecs

    pixels = imagecodecs.htj2k_decode(data)
    return _wavelet(data, coded, pixels, _label("htj2k", "openjph"))


def _rle(data: bytes, coded: Coded) -> Decoded:
    import imagecodecs

    width = coded.bits_allocated // 8
    count = coded.rows * coded.columns * coded.samples
    if count * width > 64 * len(data):  # two bytes make 128 at most: PS3.5 G.3.1
        raise FrameError(
            f"{len(data)} bytes of RLE cannot hold the {coded.rows} x {coded.columns} pixels that "
            "the header says"
        )
    flat = np.empty(count * width, np.uint8)
    plain = imagecodecs.dicomrle_decode(data, np.dtype(f"<u{width}"), out=flat.data)
    pixels = np.frombuffer(plain, f"<u{width}")
    if pixels.size != count:
        raise FrameError(f"the RLE segments hold {pixels.size} samples, the header says {count}")
    if coded.samples > 1:  # always planar in RLE: PS3.5 G.2
        planes = pixels.reshape(coded.samples, coded.rows, coded.columns)
        pixels = np.ascontiguousarray(np.moveaxis(planes, 0, -1))
    else:
        pixels = pixels.reshape(coded.rows, coded.columns)
    return Decoded(pixels, coded.photometric, _label("dicomrle", "imagecodecs"), 0)
