"""What a codestream says of itself: headers of JPEG, JPEG-LS and JPEG 2000, pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from dicom2cache.errors import FrameError, counting
from dicom2cache.syntaxes import JPEG_XL


@dataclass(frozen=True)
class Jpeg:
    """What the headers of a JPEG or JPEG-LS codestream say (ITU-T T.81 B.2, T.87 C.2)."""

    precision: int
    rows: int
    columns: int
    components: tuple[int, ...]
    subsampled: bool
    adobe: int | None
    """transform flag of APP14: 0 RGB, 1 YCbCr; None: no such segment, or no such transform"""
    jfif: bool
    lossless: bool
    """of JPEG-LS: NEAR is 0 (T.87 C.2.3)"""
    scan: int
    """offset of the first scan header"""
    single: bool
    """one Huffman-coded scan of all components without restart markers"""
    interleaved: bool
    """the first scan has all components"""
    restarts: bool
    sequential: bool
    head: bytes
    """SOI and the segments before the first scan that decoding needs"""
    frame: int
    """offset in `head` of what the frame header says"""
    odd: bool
    """a segment that decoding does not need says what no decoder knows: a revision of JFIF or a
    transform of APP14; or the first scan of a sequential process says which coefficients it has"""


END = b"\xff\xd9"
"""the marker that closes a codestream: EOI of JPEG and JPEG-LS, EOC of JPEG 2000"""
_DAMAGED = "; it is damaged, copy the file again"
_CUT = "the codestream is cut: {}; copy the file again"


def parse_jpeg(data: bytes) -> Jpeg:
    """The headers of a JPEG or JPEG-LS codestream up to its first scan.

    Raises FrameError if there is no frame header, no scan, or a marker that begins no segment.
    """
    place, adobe, jfif, restarts, odd = 2, None, False, False, False
    frame, kind, at, head = b"", 0, 0, b"\xff\xd8"
    while place + 4 <= len(data):
        if data[place] != 0xFF:
            raise FrameError(f"no JPEG marker at byte {place} of the codestream{_DAMAGED}")
        marker = data[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
            continue
        if marker < 0xC0 or marker in _LONE:
            raise FrameError(
                f"marker FF{marker:02X} at byte {place} of the JPEG codestream belongs to no "
                f"header{_DAMAGED}"
            )
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        body = data[place + 4 : place + 2 + length]
        if marker not in _ASIDE and marker != 0xDA:
            head += data[place : place + 2 + length]
        if marker == 0xE0 and body[:5] == b"JFIF\0":
            jfif, odd = True, odd or body[5:6] != b"\1"
        elif marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
            known = body[11] in (0, 1)
            adobe, odd = (body[11], odd) if known else (None, True)
        elif marker == 0xDD:
            restarts = any(body)
        elif marker in _FRAMES and len(body) >= 6 and len(body) >= 6 + 3 * body[5]:
            frame, kind, at = body, marker, len(head) - len(body)
        elif marker == 0xDA and frame and body:
            parts = [frame[6 + 3 * k : 9 + 3 * k] for k in range(frame[5])]
            return Jpeg(
                precision=frame[0],
                rows=int.from_bytes(frame[1:3], "big"),
                columns=int.from_bytes(frame[3:5], "big"),
                components=tuple(p[0] for p in parts),
                subsampled=len({p[1] for p in parts}) > 1,
                adobe=adobe,
                jfif=jfif,
                lossless=_near(body) == 0 if kind == 0xF7 else kind in (0xC3, 0xC7, 0xCB, 0xCF),
                scan=place,
                single=body[0] == len(parts) and not restarts and kind in (0xC0, 0xC1, 0xC3),
                interleaved=body[0] == len(parts),
                restarts=restarts,
                sequential=kind in (0xC0, 0xC1),
                head=head,
                frame=at,
                odd=odd or (kind in (0xC0, 0xC1) and body[-3:] != _ALL),
            )
        elif marker == 0xDA:
            break
        place += 2 + length
    if frame:
        raise FrameError(_CUT.format("its headers are all that is there"))
    raise FrameError(f"the JPEG codestream has no frame header{_DAMAGED}")


def _near(scan: bytes) -> int:
    """The greatest error that a JPEG-LS scan allows, of its header (T.87 C.2.3)."""
    return scan[1 + 2 * scan[0]] if len(scan) > 1 + 2 * scan[0] else 0


_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15, and JPEG-LS's SOF55
_LONE = frozenset(range(0xD0, 0xDA))  # RST0 to RST7, SOI, EOI: no length follows (T.81 B.1.1.3)
_ASIDE = {*range(0xE0, 0xF0), 0xFE}  # APP0 to APP15, COM
_ALL = b"\0\x3f\0"  # coefficients 0 to 63, of which no bit comes later (T.81 table B.3)
_ADOBE = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0"


def bare(data: bytes, jpeg: Jpeg, ybr: bool, precision: int | None = None) -> bytes:
    """The JPEG codestream `data` with those segments only that decoding needs.

    Of three components one more (APP14) says whether they are YCbCr: so no other segment decides.
    With `precision` in place of its own it is for a look at the coded bits, whose code is the same.
    """
    head, place = jpeg.head, jpeg.scan
    if precision is not None:
        head = head[: jpeg.frame] + bytes([precision]) + head[jpeg.frame + 1 :]
    colours = _ADOBE + bytes([ybr]) if len(jpeg.components) == 3 else b""
    end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    scan = data[place : end - 3] + _ALL if jpeg.sequential else data[place:end]
    return b"".join((head, colours, scan, data[end:]))


def kind_of(data: bytes) -> str | None:
    """What kind of decoder a codestream is for (syntaxes.py); None: unknown."""
    if data.startswith(JPEG_XL):
        return "jpeg-xl"
    if data[:4] == b"\xff\x4f\xff\x51" or data[:8] == b"\0\0\0\x0cjP  ":
        siz = data.find(b"\xff\x51") + 2
        after = siz + int.from_bytes(data[siz : siz + 2], "big")
        return "htj2k" if data[after : after + 2] == b"\xff\x50" else "jpeg-2000"  # CAP: T.814
    if data[1:8] == b"\0\0\0\x40\0\0\0" and 0 < data[0] < 16:
        return "rle"
    place = 2
    while data[:2] == b"\xff\xd8" and data[place : place + 1] == b"\xff" and place + 4 <= len(data):
        marker = data[place + 1]
        if marker in _FRAMES:
            return "jpeg-ls" if marker == 0xF7 else "jpeg"
        place += 1 if marker == 0xFF else 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None


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


def is_ended(data: bytes, scan: int) -> bool:
    """True if the end marker follows the scan header at `scan`: no coded byte looks like it."""
    return data.rfind(END) > scan


def cut(what: str) -> FrameError:
    """The failure of a codestream that ends before its pixels do."""
    return FrameError(_CUT.format(what))


@dataclass(frozen=True)
class Jpeg2000:
    """What the main header of a JPEG 2000 codestream says (ITU-T T.800 A.5.1, A.6.1)."""

    precision: int
    signed: bool
    rows: int
    columns: int
    components: int
    transform: bool
    """multiple component transform"""
    reversible: bool
    """by the 5-3 wavelet (T.800 A.6.1)"""
    tiles: int
    body: int
    """offset of the first tile-part"""


def parse_jpeg_2000(data: bytes) -> Jpeg2000:
    """SIZ and COD of a JPEG 2000 codestream that begins with SOC.

    Raises FrameError if they are not there.
    """
    if data[:4] != b"\xff\x4f\xff\x51" or len(data) < 45:
        raise FrameError(f"the JPEG 2000 codestream has no SOC and SIZ marker{_DAMAGED}")
    x1, y1, x0, y0, tile_x, tile_y, first_x, first_y = struct.unpack(">8I", data[8:40])
    step_x, step_y = data[43], data[44]
    if not (tile_x and tile_y and step_x and step_y):
        raise FrameError("the SIZ marker of the JPEG 2000 codestream has a tile or step of 0")
    # T.800 A.5.1, B.3: else the first tile has no pixel. OpenJPH would look for billions of them.
    inside = first_x <= x0 < x1 and first_y <= y0 < y1
    if not inside or first_x + tile_x <= x0 or first_y + tile_y <= y0:
        raise FrameError(
            "the SIZ marker of the JPEG 2000 codestream has an image or tiles that begin beyond "
            f"what they shall hold{_DAMAGED}"
        )
    place, transform, reversible = 2, False, False
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != 0x90:
        if data[place + 1] == 0x52:
            transform = data[place + 8 : place + 9] == b"\1"
            reversible = data[place + 13 : place + 14] == b"\1"
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return Jpeg2000(
        precision=(data[42] & 0x7F) + 1,
        signed=bool(data[42] & 0x80),
        rows=-(-y1 // step_y) - -(-y0 // step_y),
        columns=-(-x1 // step_x) - -(-x0 // step_x),
        components=int.from_bytes(data[40:42], "big"),
        transform=transform,
        reversible=reversible,
        tiles=-((first_x - x1) // tile_x) * -((first_y - y1) // tile_y),
        body=place,
    )


def end_of_tiles(data: bytes, main: Jpeg2000) -> int | None:
    """Where the tile-parts end if the end marker is missing there; None if all is there.

    Tile-parts say how long they are (SOT, ITU-T T.800 A.4.2). Raises FrameError if one of them is
    missing or cut.
    """
    place, parts, said = main.body, dict[int, int](), dict[int, int]()
    length = 1
    while length and data[place : place + 2] == b"\xff\x90" and place + 12 <= len(data):
        tile, length, _, count = struct.unpack(">HIBB", data[place + 4 : place + 12])
        parts[tile] = parts.get(tile, 0) + 1
        said[tile] = count or said.get(tile, 0)
        place += length
    if place > len(data):
        raise cut(f"{len(data)} bytes, a tile-part goes on to byte {place}")
    if len(parts) < main.tiles or any(said[tile] > parts[tile] for tile in parts):
        raise cut(
            f"it has {len(parts)} of {counting(main.tiles, 'tile')}, or not all parts of a tile"
        )
    if data.rfind(END) >= place:
        return None
    if not length or data[place:].strip(b"\0"):
        raise cut("it has no end marker")
    return place
