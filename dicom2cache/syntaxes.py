"""The catalogue of transfer syntaxes (PS3.5 section 10): one row each, all else follows from it."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Syntax:
    """What a transfer syntax is to the decoder and to the plan."""

    uid: str
    decoder: str
    """kind of decoder (frames/decoders.py has one for each); `native`: read as it lies"""
    cost: float
    """time to convert a frame, relative to an uncompressed one of the same size; measured on
    512x512 CT of 16 bits: 0.45 ms besides the decoder, which takes 29 ms for JPEG 2000, 4.4
    JPEG-LS, 1.5 JPEG Lossless, 1.1 HTJ2K, 0.4 JPEG and RLE, 3 to inflate"""
    words: bool = False
    """samples are words of BitsAllocated; in codestreams values begin at bit 0"""
    lossy: bool | None = False
    """None: may be either"""
    big: bool = False
    """native words have their greatest byte first"""


IMPLICIT_LE, EXPLICIT_LE = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
DEFLATED, EXPLICIT_BE = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
GE_PRIVATE = "1.2.840.113619.5.2"
"""as implicit little endian, save that the words of the pixels are big-endian"""
RLE = "1.2.840.10008.1.2.5"

# fmt: off
SYNTAXES = {row.uid: row for row in (
    Syntax(IMPLICIT_LE, "native", 1.0, words=True),
    Syntax(EXPLICIT_LE, "native", 1.0, words=True),
    Syntax(DEFLATED, "native", 8.0, words=True),
    Syntax(EXPLICIT_BE, "native", 1.0, words=True, big=True),
    Syntax(GE_PRIVATE, "native", 1.0, words=True, big=True),
    Syntax("1.2.840.10008.1.2.1.98", "uncompressed", 1.0, words=True),  # Encapsulated Uncompressed
    Syntax("1.2.840.10008.1.2.4.50", "jpeg", 1.9, lossy=True),          # JPEG Baseline
    Syntax("1.2.840.10008.1.2.4.51", "jpeg", 1.9, lossy=True),          # JPEG Extended
    Syntax("1.2.840.10008.1.2.4.57", "jpeg", 4.3),                      # JPEG Lossless
    Syntax("1.2.840.10008.1.2.4.70", "jpeg", 4.3),                      # the same, predictor 1
    Syntax("1.2.840.10008.1.2.4.80", "jpeg-ls", 11.0),                  # JPEG-LS Lossless
    Syntax("1.2.840.10008.1.2.4.81", "jpeg-ls", 11.0, lossy=None),      # JPEG-LS Near-lossless
    Syntax("1.2.840.10008.1.2.4.90", "jpeg-2000", 65.0),                # JPEG 2000 Lossless
    Syntax("1.2.840.10008.1.2.4.91", "jpeg-2000", 65.0, lossy=None),    # JPEG 2000
    Syntax("1.2.840.10008.1.2.4.110", "jpeg-xl", 90.0),                 # JPEG XL Lossless
    Syntax("1.2.840.10008.1.2.4.111", "jpeg-xl", 5.0, lossy=True),      # JPEG XL JPEG Recompression
    Syntax("1.2.840.10008.1.2.4.112", "jpeg-xl", 90.0, lossy=None),     # JPEG XL
    Syntax("1.2.840.10008.1.2.4.201", "htj2k", 3.4),                    # HTJ2K Lossless
    Syntax("1.2.840.10008.1.2.4.202", "htj2k", 3.4),                    # HTJ2K Lossless RPCL
    Syntax("1.2.840.10008.1.2.4.203", "htj2k", 3.4, lossy=None),        # HTJ2K
    Syntax(RLE, "rle", 1.9, words=True),                                # RLE Lossless
    Syntax("1.2.840.10008.1.2.8.1", "deflated-frame", 8.0, words=True),  # Deflated Image Frame
)}
# fmt: on

NATIVE = frozenset(uid for uid, row in SYNTAXES.items() if row.decoder == "native")
AS_WRITTEN = frozenset(uid for uid, row in SYNTAXES.items() if row.words)
ALWAYS_LOSSY = frozenset(uid for uid, row in SYNTAXES.items() if row.lossy)
MAY_BE_LOSSY = frozenset(uid for uid, row in SYNTAXES.items() if row.lossy is not False)
BIG_ENDIAN = frozenset(uid for uid, row in SYNTAXES.items() if row.big)
UNMARKED = frozenset(
    uid for uid, row in SYNTAXES.items() if row.decoder in ("uncompressed", "deflated-frame")
)
"""encapsulated, but nothing in a frame's bytes says that it begins"""


def supported(transfer_syntax: str) -> bool:
    """True if frames of this syntax can be decoded."""
    return transfer_syntax in SYNTAXES


def refusal(transfer_syntax: str) -> str:
    """Why a file of an unsupported syntax is not stored, and the remedy."""
    from pydicom.uid import UID_dictionary

    said = f"Transfer Syntax UID (0002,0010) {transfer_syntax}"
    if not re.fullmatch(r"[0-9.]+", transfer_syntax):
        return (
            f"Transfer Syntax UID (0002,0010) is {transfer_syntax!r:.80}, no UID (PS3.5 9.1); the "
            "file is damaged, copy it again"
        )
    known = UID_dictionary.get(transfer_syntax, ("", ""))
    if known[1] == "Transfer Syntax":
        return (
            f"{said} ({known[0]}) is not supported; convert the "
            "file to an uncompressed or JPEG 2000 syntax"
        )
    if known[0]:
        return f"{said} ({known[0]}) is the UID of something else; get the file again"
    return (
        f"{said} (private or unknown) is none of DICOM's, so it is not known how the pixels are "
        "encoded; convert the file with the software that wrote it (another UID in its place "
        "could turn the pixels into others)"
    )


JPEG_XL = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")
"""first bytes of a codestream, bare (ISO/IEC 18181-1) or in boxes (18181-2)"""

_FOREIGN = {
    "JPEG XS": (b"\xff\x10\xff\x50", b"\0\0\0\x0cJXS \r\n\x87\n"),
    "JPEG XR": (b"II\xbc\x01",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "TIFF": (b"II*\0", b"MM\0*"),
    "MPEG video": (b"\0\0\1\xb3", b"\0\0\0\1\x67", b"\0\0\0\1\x09", b"\0\0\1\x67"),
}
"""first bytes of codestreams that no decoder here reads"""


def foreign(data: bytes) -> str | None:
    """What a codestream is that no decoder here reads; None: one that may be read."""
    return next((name for name, starts in _FOREIGN.items() if data.startswith(starts)), None)


def abreast(transfer_syntax: str) -> int:
    """How many frames of it one process is at its best with side by side, by threads.

    All decoders of encapsulated frames let go of the interpreter while they work; the rest of a
    frame, of cost 1, does not. Bytes of native ones are read in one pass, or inflated in order.
    """
    row = SYNTAXES.get(transfer_syntax)
    return 1 if row is None or row.decoder == "native" else max(1, int(row.cost / 2))


def cost_weight(transfer_syntax: str) -> float:
    """Time to convert a frame, relative to an uncompressed one of the same size."""
    row = SYNTAXES.get(transfer_syntax)
    return 1.9 if row is None else row.cost
