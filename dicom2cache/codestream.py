"""What a codestream says of itself: headers of JPEG and JPEG 2000, pure."""

from __future__ import annotations

from dataclasses import dataclass

from dicom2cache.errors import FrameError


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
    lossless: bool


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
                lossless=marker in (0xC3, 0xC7, 0xCB, 0xCF),
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
    if jpeg.jfif and not jpeg.lossless:  # T.871 knows lossy JPEG only
        return True
    return photometric.startswith("YBR")


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
