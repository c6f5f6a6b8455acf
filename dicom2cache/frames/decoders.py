"""Transfer syntax to decoder, pinned to imagecodecs and simplejpeg.

They are called directly and not through pydicom's plug-ins: so the result cannot depend on
what else is installed, and each decoder is told which colour space the codestream has, where
pydicom's runner would convert a second time what libjpeg has converted already.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from dicom2cache.errors import FrameError
from dicom2cache.frames import codestream, rle
from dicom2cache.frames.coded import Coded, Decoded, check_shape, check_size, damaged
from dicom2cache.frames.jpeg import decode_jpeg
from dicom2cache.frames.jpeg_xl import decode_jpeg_xl
from dicom2cache.frames.libraries import label
from dicom2cache.frames.unraisable import raising
from dicom2cache.syntaxes import SYNTAXES, UNMARKED, Syntax, foreign, refusal


def decode(data: bytes, transfer_syntax: str, coded: Coded) -> Decoded:
    """One encoded frame to its pixels, (H, W) or (H, W, C) in the codestream's own dtype.

    Raises FrameError if the syntax is not supported, the codestream is broken, or it contradicts
    the header's size.
    """
    row = SYNTAXES.get(transfer_syntax)
    if row is None:
        raise FrameError(refusal(transfer_syntax))
    decoder = _by_stream(data, row)
    try:
        decoded = _DECODERS[decoder](data, coded)
    except (FrameError, MemoryError):
        raise
    except Exception as e:  # imagecodecs has an exception type for each library
        raise damaged(_LIBRARIES[decoder]) from e
    check_shape(decoded.pixels.shape, coded)
    if decoder != row.decoder:
        decoded = replace(decoded, flags=(*decoded.flags, SYNTAX_CONFLICT))
    return decoded


SYNTAX_CONFLICT = "transfer-syntax-conflict"


def _by_stream(data: bytes, row: Syntax) -> str:
    """The kind of decoder: what the codestream says of itself wins over the header.

    Raises FrameError for one that is read by other rules: RLE has words of BitsAllocated.
    """
    kind = row.decoder
    if row.uid in UNMARKED:
        return kind
    if (other := foreign(data)) is not None:
        raise FrameError(
            f"the frame holds {other}, which is not supported, but Transfer Syntax UID (0002,0010) "
            f"{row.uid} says {_NAMES[kind]}; convert it to that with the software that wrote it"
        )
    found = codestream.kind_of(data) or kind
    if found == kind or (found, kind) == ("htj2k", "jpeg-2000"):  # OpenJPEG reads both
        return kind
    if "rle" in (found, kind):
        raise FrameError(
            f"the frame holds {_NAMES[found]}, but Transfer Syntax UID (0002,0010) {row.uid} says "
            f"{_NAMES[kind]}; get the file again, or correct the UID"
        )
    return found


def _frame_bytes(coded: Coded) -> int:
    bits = coded.rows * coded.columns * coded.samples * coded.bits_allocated
    return (bits + 7) // 8  # each frame of its own, not packed across frames


def _uncompressed(data: bytes, coded: Coded, codec: str = "native") -> Decoded:
    """A frame as it would be in a native syntax, little endian (PS3.5 A.4.11)."""
    size = _frame_bytes(coded)
    if len(data) < size:
        raise FrameError(f"the frame holds {len(data)} bytes, the header says {size}")
    if coded.photometric == "YBR_FULL_422":
        raise FrameError("YBR_FULL_422 is legal only in native and in JPEG syntaxes here")
    shape = (coded.rows, coded.columns)
    if coded.bits_allocated == 1:
        bits = np.unpackbits(np.frombuffer(data[:size], np.uint8), bitorder="little")
        return Decoded(bits[: shape[0] * shape[1]].reshape(shape), coded.photometric, codec, 0)
    flat = np.frombuffer(data[:size], f"<u{coded.bits_allocated // 8}")
    if coded.samples == 1:
        return Decoded(flat.reshape(shape), coded.photometric, codec, 0)
    if coded.planar:
        planes = flat.reshape(coded.samples, *shape)
        return Decoded(
            np.ascontiguousarray(np.moveaxis(planes, 0, -1)), coded.photometric, codec, 0
        )
    return Decoded(flat.reshape(*shape, coded.samples), coded.photometric, codec, 0)


def _deflated_frame(data: bytes, coded: Coded) -> Decoded:
    """Deflated Image Frame Compression: RFC 1951, not inflated beyond a frame."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    plain = inflater.decompress(data, _frame_bytes(coded))
    decoded = _uncompressed(plain, coded, f"zlib {zlib.ZLIB_RUNTIME_VERSION}")
    if inflater.decompress(inflater.unconsumed_tail, 1):
        return replace(decoded, flags=("excess-pixel-data",))
    return decoded if inflater.eof else replace(decoded, flags=("unterminated",))


def _jpeg_ls(data: bytes, coded: Coded) -> Decoded:
    import imagecodecs

    jpeg = codestream.parse_jpeg(data)
    check_size(jpeg.rows, jpeg.columns, len(jpeg.components), coded)
    if not codestream.is_ended(data, jpeg.scan):  # CharLS would look for bits for seconds
        raise codestream.cut(f"{len(data)} bytes without an end marker")
    # Of samples in planes (interleave mode none) CharLS makes pixels in memory of its own only.
    out = coded.out(jpeg.precision) if jpeg.interleaved else None
    pixels = imagecodecs.jpegls_decode(data, out=out)  # refuses most damage
    return Decoded(
        pixels, coded.photometric, label("jpegls", "charls"), jpeg.precision, (), not jpeg.lossless
    )


def _wavelet(data: bytes, coded: Coded, decode: Callable[[bytes, Any], Any], label: str) -> Decoded:
    """JPEG 2000 of either part: the codestream's own transform is undone by the decoder.

    A header that says otherwise contradicts it (PS3.5 8.2.4): the codestream wins.
    """
    data = data[max(0, data.find(b"\xff\x4f\xff\x51")) :]  # a JP2 box could convert the colours
    main = codestream.parse_jpeg_2000(data)
    check_size(main.rows, main.columns, main.components, coded)
    said = photometric = coded.photometric
    flags: tuple[str, ...] = ()
    labelled = said in ("YBR_RCT", "YBR_ICT")
    if coded.samples == 3 and main.transform != labelled:
        flags = ("colour-label-conflict",)
    if main.transform or labelled:
        photometric = "RGB"
    if (end := codestream.end_of_tiles(data, main)) is not None:
        data, flags = data[:end] + codestream.END, (*flags, "unterminated")
    lossy = None if main.reversible else True
    out = None if main.signed else coded.out(main.precision)
    return Decoded(decode(data, out), photometric, label, main.precision, flags, lossy)


def _jpeg_2000(data: bytes, coded: Coded) -> Decoded:
    import imagecodecs

    def decode(stream: bytes, out: Any) -> Any:
        return imagecodecs.jpeg2k_decode(stream, numthreads=1, out=out)

    return _wavelet(data, coded, decode, label("jpeg2k", "openjpeg"))


def _htj2k(data: bytes, coded: Coded) -> Decoded:
    import imagecodecs

    def decode(stream: bytes, out: Any) -> Any:
        return raising("imagecodecs", partial(imagecodecs.htj2k_decode, out=out), stream)

    return _wavelet(data, coded, decode, label("htj2k", "openjph"))


def _rle(data: bytes, coded: Coded) -> Decoded:
    import imagecodecs

    shape, bits = (coded.rows, coded.columns), coded.bits_allocated
    count, width = math.prod(shape) * coded.samples, max(1, bits // 8)
    if count * min(bits, 8) // 8 * width > 64 * len(data):  # two bytes make 128 at most: G.3.1
        raise FrameError(
            f"{len(data)} bytes of RLE cannot hold the {coded.rows} x {coded.columns} pixels that "
            "the header says; it is wrong, or the codestream is cut"
        )
    decoder, kind = label("dicomrle", "imagecodecs"), np.dtype(f"<u{width}")
    flags: tuple[str, ...] = ()
    planes = None
    if bits > 1:
        flat = np.empty(count * width, np.uint8)
        try:
            pixels = np.frombuffer(imagecodecs.dicomrle_decode(data, kind, out=flat.data), kind)
            planes = pixels.reshape(coded.samples, *shape)
        except (ValueError, RuntimeError):
            pass  # it is odd, or damaged
    if planes is None:
        apart, more = rle.unpacked(data, *shape, coded.samples, bits)
        planes = np.ascontiguousarray(np.moveaxis(apart, 1, -1)).view(kind)
        planes = planes.reshape(coded.samples, *shape)
        flags = ("excess-pixel-data",) if more else ()
    # Always planar in RLE: PS3.5 G.2.
    pixels = planes[0] if coded.samples == 1 else np.ascontiguousarray(np.moveaxis(planes, 0, -1))
    return Decoded(pixels, coded.photometric, decoder, 0, flags)


_DECODERS: dict[str, Callable[[bytes, Coded], Decoded]] = {
    "uncompressed": _uncompressed,
    "deflated-frame": _deflated_frame,
    "jpeg": decode_jpeg,
    "jpeg-ls": _jpeg_ls,
    "jpeg-2000": _jpeg_2000,
    "htj2k": _htj2k,
    "jpeg-xl": decode_jpeg_xl,
    "rle": _rle,
}
"""for each kind of decoder in the catalogue of transfer syntaxes"""

_NAMES = {
    "jpeg": "JPEG", "jpeg-ls": "JPEG-LS", "jpeg-2000": "JPEG 2000", "htj2k": "HTJ2K",
    "jpeg-xl": "JPEG XL", "rle": "RLE",
}  # fmt: skip
_LIBRARIES = {
    "uncompressed": "NumPy", "deflated-frame": "zlib", "jpeg": "libjpeg",
    "jpeg-ls": "CharLS", "jpeg-2000": "OpenJPEG", "htj2k": "OpenJPH", "jpeg-xl": "libjxl",
    "rle": "imagecodecs",
}  # fmt: skip
