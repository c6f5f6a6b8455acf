"""JPEG XL (ISO/IEC 18181) by libjxl; a JPEG that was packed without loss is unpacked, then decoded.

What the codestream says of itself is read before libjxl makes room for it (18181-1 annex D).
"""

from __future__ import annotations

from dataclasses import dataclass

from dicom2cache.errors import FrameError
from dicom2cache.frames.coded import Coded, Decoded, check_size
from dicom2cache.frames.jpeg import decode_jpeg
from dicom2cache.frames.libraries import label
from dicom2cache.syntaxes import JPEG_XL

_HEAD = 256
_DAMAGED = "; it is damaged, copy the file again"


@dataclass(frozen=True)
class JpegXl:
    """What the header of a JPEG XL codestream says (18181-1 D.2, D.3)."""

    rows: int
    columns: int
    precision: int
    real: bool
    """samples are floating point"""
    xyb: bool
    """colour was changed on the way, with loss"""
    packed: bool
    """it is a JPEG, from which the same bytes can be made again (18181-2)"""


def decode_jpeg_xl(data: bytes, coded: Coded) -> Decoded:
    """A frame of JPEG XL: (H, W) or (H, W, 3), uint8 or uint16, colour as RGB.

    Raises FrameError if it holds another size, floats or turned pixels, which DICOM does not know
    (PS3.5 8.2.15).
    """
    import imagecodecs

    head = parse(data)
    check_size(head.rows, head.columns, coded.samples, coded)
    if head.packed:
        return decode_jpeg(bytes(imagecodecs.jpegxl_decode_jpeg(data, numthreads=1)), coded)
    if head.real:
        raise FrameError(
            "the JPEG XL codestream holds floating point, legal: integers (PS3.5 8.2.15)"
        )
    photometric = coded.photometric if coded.samples == 1 else "RGB"  # libjxl knows no other
    odd = coded.samples == 3 and coded.photometric not in _AS_RGB
    return Decoded(
        imagecodecs.jpegxl_decode(data, numthreads=1),
        photometric,
        label("jpegxl", "libjxl"),
        head.precision,
        ("colour-label-conflict",) if odd else (),
        True if head.xyb else None,
    )


_AS_RGB = ("RGB", "XYB", "YBR_FULL_422")  # PS3.5 table 8.2.15-1


def parse(data: bytes) -> JpegXl:
    """The header of a JPEG XL codestream, bare or in boxes.

    Raises FrameError if there is none.
    """
    stream, packed = (data[:_HEAD], False) if data.startswith(JPEG_XL[0]) else _unboxed(data)
    if not stream.startswith(JPEG_XL[0]):
        raise FrameError(f"the JPEG XL codestream has no signature{_DAMAGED}")
    bits = _Bits(stream[2:])
    rows, columns = bits.size()
    precision, real, xyb = 8, False, True
    if not bits.take(1):  # not all as by default
        if bits.take(1):
            if turned := bits.take(3):
                raise FrameError(
                    f"the JPEG XL codestream has orientation {turned + 1}, legal: 1 (PS3.5 8.2.15)"
                )
            _skip_extra(bits)
        real = bool(bits.take(1))
        precision = bits.choice((8, 0), (10, 0), (12, 0), (1, 6)) if not real else 32
        if not real:
            bits.take(1)  # whether 16 bits suffice to decode
            if bits.choice((0, 0), (1, 0), (2, 4), (1, 12)):
                raise FrameError(
                    "the JPEG XL codestream has channels besides grey or colour, as of opacity; "
                    "legal: none (PS3.5 8.2.15)"
                )
            xyb = bool(bits.take(1))
    return JpegXl(rows, columns, precision, real, xyb, packed)


def _skip_extra(bits: _Bits) -> None:
    """Intrinsic size, preview, animation: of these an image of one frame has at most the first."""
    if bits.take(1):
        bits.size()
    if bits.take(1) or bits.take(1):
        raise FrameError(
            "the JPEG XL codestream holds a preview or an animation, legal: one image for each "
            "frame (PS3.5 8.2.15)"
        )


def _unboxed(data: bytes) -> tuple[bytes, bool]:
    """(the first bytes of the codestream, whether a JPEG can be made of it) of boxes."""
    place, stream, packed = 0, b"", False
    while place + 8 <= len(data):
        length, kind, skip = (
            int.from_bytes(data[place : place + 4], "big"),
            data[place + 4 : place + 8],
            8,
        )
        if length == 1:
            length, skip = int.from_bytes(data[place + 8 : place + 16], "big"), 16
        end = place + length if length else len(data)
        if end < place + skip:
            break
        if kind in (b"jxlc", b"jxlp"):
            start = place + skip + (4 if kind == b"jxlp" else 0)  # a number leads parts
            stream += data[start : min(end, start + _HEAD)]
        packed = packed or kind == b"jbrd"
        place = end
    return stream[:_HEAD], packed


class _Bits:
    """Bits of a header, the lowest of each byte first (18181-1 B.2)."""

    def __init__(self, data: bytes) -> None:
        self._left, self._value = 8 * len(data), int.from_bytes(data, "little")

    def take(self, count: int) -> int:
        """The next `count` bits as a number. Raises FrameError where there are none."""
        if count > self._left:
            raise FrameError(f"the header of the JPEG XL codestream is cut{_DAMAGED}")
        value = self._value & ((1 << count) - 1)
        self._value, self._left = self._value >> count, self._left - count
        return value

    def choice(self, *of: tuple[int, int]) -> int:
        """U32: two bits choose (least, bits that are added to it)."""
        least, more = of[self.take(2)]
        return least + self.take(more)

    def size(self) -> tuple[int, int]:
        """(rows, columns) of a SizeHeader (18181-1 D.2)."""
        small = self.take(1)

        def length() -> int:
            return (
                8 * (1 + self.take(5)) if small else self.choice((1, 9), (1, 13), (1, 18), (1, 30))
            )

        rows = length()
        ratio = self.take(3)
        if ratio:
            over, under = _RATIOS[ratio - 1]
            return rows, rows * over // under
        return rows, length()


_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
