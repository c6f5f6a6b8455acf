"""JPEG by libjpeg, which makes up what it cannot read, and only warns: its warnings count.

imagecodecs drops them, simplejpeg raises them. So simplejpeg decodes what has 8 bits. It knows no
other; but how coefficients and differences are coded does not depend on the precision, so it looks
at other streams once more, as if they had 8 bits, and its pixels are thrown away. Of lossless
streams the decoded pixels say as much in a tenth of the time (lossless.py).
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from dicom2cache.frames import codestream
from dicom2cache.frames.coded import Coded, Decoded, check_size, damaged
from dicom2cache.frames.codestream import END, Jpeg
from dicom2cache.frames.libraries import label, versions
from dicom2cache.frames.lossless import bits_left

_Pixels = NDArray[Any]
_PADDING = b"\0\xff"


class _Warned(Exception):
    """libjpeg warns, or fails: what it says."""


def decode_jpeg(data: bytes, coded: Coded) -> Decoded:
    """A frame of JPEG: baseline, extended, progressive or lossless, of any precision.

    Raises FrameError if libjpeg warns of anything that a pixel may depend on.
    """
    jpeg = codestream.parse_jpeg(data)
    check_size(jpeg.rows, jpeg.columns, len(jpeg.components), coded)
    photometric, ybr = coded.photometric, False
    flags = ("codestream-header-odd",) if jpeg.odd else ()
    if len(jpeg.components) == 3:
        ybr = codestream.jpeg_is_ybr(jpeg, photometric)
        if ybr != photometric.startswith("YBR"):
            flags = (*flags, "colour-label-conflict")
        if jpeg.lossless and ybr:  # libjpeg converts no colours of lossless streams: they are kept
            photometric, ybr = "YBR_FULL", False
        else:
            photometric = "RGB"
    ended = codestream.is_ended(data, jpeg.scan)
    if not ended:
        what = f"{len(data)} bytes without an end marker"
        if not jpeg.single:
            raise codestream.cut(what)
        data = data.rstrip(_PADDING) + END
        flags = (*flags, "unterminated")
    try:
        pixels, decoder, more = _decoded(data, jpeg, ybr, coded)
    except _Warned as e:
        if not ended and "remature end" in str(e):
            raise codestream.cut(f"{what} do not hold all of its pixels") from e
        raise damaged("libjpeg", str(e)) from e
    return Decoded(pixels, photometric, decoder, jpeg.precision, (*flags, *more), not jpeg.lossless)


def _decoded(
    data: bytes, jpeg: Jpeg, ybr: bool, coded: Coded
) -> tuple[_Pixels, str, tuple[str, ...]]:
    """(pixels, what decoded them, flags). Raises _Warned."""
    try:
        return _strictly(data, jpeg, ybr, coded)
    except _Warned as e:
        end = data.rfind(END)
        less = data[:end].rstrip(_PADDING)
        if len(less) == end or "extraneous bytes before marker 0xd9" not in str(e):
            raise
        return *_strictly(less + END, jpeg, ybr, coded)[:2], ("excess-pixel-data",)


def _strictly(
    data: bytes, jpeg: Jpeg, ybr: bool, coded: Coded
) -> tuple[_Pixels, str, tuple[str, ...]]:
    import imagecodecs

    grey, out = len(jpeg.components) == 1, coded.out(jpeg.precision)
    flags: tuple[str, ...] = ()
    stream = codestream.bare(data, jpeg, ybr)
    decoder = f"simplejpeg {versions()['simplejpeg']}"
    looked = jpeg.precision == 8
    if looked:
        try:
            pixels = _simplejpeg(stream, grey, out)
        except _Warned as e:
            if "subsampling" not in str(e):  # all but those that turbojpeg's API has a name for
                raise
            flags, looked = ("codestream-unchecked",), False
    if not looked:
        space, decoder = (
            None if grey else "YCBCR" if ybr else "RGB",
            label("jpeg8", "libjpeg_turbo"),
        )
        try:
            pixels = imagecodecs.jpeg8_decode(
                stream, colorspace=space, outcolorspace=space and "RGB", out=out
            )
        except imagecodecs.Jpeg8Error as e:
            raise _Warned(str(e)) from e
    left = bits_left(stream, jpeg, pixels) if jpeg.lossless else None
    if left is not None:
        flags = (*flags, *_padded(stream, jpeg, left))
    elif not looked and not flags:
        _simplejpeg(codestream.bare(data, jpeg, ybr, 8), grey, None)
    return pixels, decoder, flags


def _padded(stream: bytes, jpeg: Jpeg, left: int) -> tuple[str, ...]:
    """A flag if bytes of padding follow the pixels. Raises _Warned if others do, or some lack."""
    if left < 0:
        raise _Warned(f"premature end, {-left} bits of its pixels are not there")
    if left < 8:
        return ()
    end = stream.find(END, len(jpeg.head))
    if stream[end - left // 8 : end].strip(_PADDING):
        raise _Warned(f"{left // 8} bytes follow its pixels that are not padding")
    return ("excess-pixel-data",)


def _simplejpeg(stream: bytes, grey: bool, out: _Pixels | None) -> _Pixels:
    """(H, W) or (H, W, 3) uint8. Raises _Warned."""
    import simplejpeg

    try:
        pixels: _Pixels = simplejpeg.decode_jpeg(stream, "GRAY" if grey else "RGB", buffer=out)
    except ValueError as e:
        raise _Warned(str(e)) from e
    return pixels[..., 0] if grey else pixels
