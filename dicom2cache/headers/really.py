"""What pixel data really is, where it is not what the transfer syntax says: looked at, not guessed.

Fragments under an uncompressed syntax are decoded by what their codestream says that it is; plain
pixels under a compressed syntax are read as what they are. Both are flagged.
"""

from __future__ import annotations

from dicom2cache import syntaxes
from dicom2cache.errors import FrameError
from dicom2cache.headers.tags import name
from dicom2cache.records import Header
from dicom2cache.sources.place import BoundedFile, Where

FLAG = "transfer-syntax-conflict"
_ITEM = b"\xfe\xff\x00\xe0"
_HEAD = 1 << 16  # bytes of a codestream: its frame header may come after a profile


def settle_syntax(row: Header, plain: int, path: Where) -> None:
    """Set the row's `transfer_syntax` to that of the data, flagged, if it is another.

    `plain`: bytes of the pixels without compression. Looks into the file only where its length
    tells that something is wrong. Raises FrameError if what is there has no name.
    """
    syntax, length = row["transfer_syntax"], row["pixel_length"]
    if not syntaxes.supported(syntax) or row["pixel_keyword"] != "PixelData":
        return
    native = syntax in syntaxes.NATIVE
    exact = length is not None and length in (plain, plain + plain % 2)
    as_said = exact if native else length is None
    if as_said or syntax == syntaxes.DEFLATED:
        return
    head = _first(path, row["pixel_offset"])
    if native and not head.startswith(_ITEM):
        if length is None:
            raise FrameError(
                f"{row['pixel_keyword']} has undefined length, legal only in a compressed transfer "
                f"syntax, but {name('TransferSyntaxUID')} is {syntax}, and no fragment begins "
                "there; get the file again from where it came"
            )
        return
    if native:
        data = _codestream(path, row["pixel_offset"])
        found, other = _syntax_of(data), syntaxes.foreign(data)
        if found is None:
            what = (
                f"they hold {other}, not supported"
                if other
                else "no known codestream begins in them"
            )
            raise FrameError(
                f"{row['pixel_keyword']} lies in fragments, as compressed pixels do, but "
                f"{name('TransferSyntaxUID')} is {syntax}, an uncompressed one, and {what}; "
                "convert the file with the software that wrote it"
            )
    elif head.startswith(_ITEM):
        return
    elif exact:
        found = syntaxes.EXPLICIT_LE
    else:
        raise FrameError(
            f"{name('TransferSyntaxUID')} is {syntax}, a compressed one, but "
            f"{row['pixel_keyword']} has neither fragments nor the {plain} bytes of uncompressed "
            f"pixels: its length is {length}; get the file again from where it came"
        )
    row["transfer_syntax"] = found
    row["lossy"] = row["lossy"] or found in syntaxes.ALWAYS_LOSSY
    row["flags"] = [*(row["flags"] or []), FLAG]


def _first(path: Where, offset: int) -> bytes:
    with BoundedFile(path) as file:
        file.seek(offset)
        return file.read(8)


def _codestream(path: Where, offset: int) -> bytes:
    """The first bytes of the first fragment that is not empty; the item of a table is none."""
    with BoundedFile(path) as file:
        for number in range(1 << 10):
            file.seek(offset)
            head = file.read(8)
            length = int.from_bytes(head[4:8], "little")
            if head[:4] != _ITEM:
                break
            if length:
                data = file.read(min(length, _HEAD))
                if number or _syntax_of(data) or syntaxes.foreign(data):
                    return data
            offset += 8 + length
    return b""


def _syntax_of(data: bytes) -> str | None:
    """A transfer syntax that the codestream may have; None if it is none of DICOM's.

    The general one of a family, whose frames may be lossless or lossy.
    """
    if data[:4] == b"\xff\x4f\xff\x51" or data[:8] == b"\0\0\0\x0cjP  ":
        siz = data.find(b"\xff\x51")
        after = siz + 2 + int.from_bytes(data[siz + 2 : siz + 4], "big")
        high_throughput = data[after : after + 2] == b"\xff\x50"  # CAP (ITU-T T.814)
        return "1.2.840.10008.1.2.4.203" if high_throughput else "1.2.840.10008.1.2.4.91"
    if data.startswith(syntaxes.JPEG_XL):
        return "1.2.840.10008.1.2.4.112"
    if data[1:8] == b"\0\0\0\x40\0\0\0" and 0 < data[0] < 16:
        return syntaxes.RLE
    place = 2
    while data[:2] == b"\xff\xd8" and data[place : place + 1] == b"\xff" and place + 5 <= len(data):
        marker = data[place + 1]
        if marker == 0xF7:
            return "1.2.840.10008.1.2.4.81"
        if marker == 0xC3:
            return "1.2.840.10008.1.2.4.57"
        if marker in (0xC0, 0xC1, 0xC2):
            return f"1.2.840.10008.1.2.4.{50 if data[place + 4] == 8 else 51}"
        place += 1 if marker == 0xFF else 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None
