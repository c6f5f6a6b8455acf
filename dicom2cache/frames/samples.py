"""A codestream's samples as stored values, pure: whose sign and whose bits hold (PS3.5 8.1.1, 8.2).

A codestream of JPEG 2000 says its sign, and it wins. The others have none: the header's holds, of
the codestream's bits where these are fewer than BitsStored. What lies beyond BitsStored is no part
of the value in a lossless stream, an overlay perhaps, and is dropped; in a lossy one it is
overshoot, and is kept. docs/pixels.md has the table of all pairs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom2cache.errors import FrameError
from dicom2cache.frames.coded import Decoded
from dicom2cache.pixels.intensity import has_other_bits, mask_stored
from dicom2cache.records import Header
from dicom2cache.syntaxes import MAY_BE_LOSSY

Samples = tuple[NDArray[Any], tuple[str, ...], tuple[int, int] | None]
"""(pixels, flags, (least, greatest) where they are known)"""
OVERSHOOT, CLAMPED = "overshoot", "overshoot-clamped"


def stored_samples(decoded: Decoded, header: Header) -> Samples:
    """The pixels of a codestream that says its precision, as stored values in BitsAllocated.

    Raises FrameError for values that BitsAllocated cannot hold.
    """
    values, precision, bits = decoded.pixels, decoded.precision, header["bits_stored"]
    if values.dtype.kind not in "iu":
        raise FrameError(f"the codestream holds {values.dtype}, legal: integers")
    lossy, flags = is_lossy(decoded, header), list(decoded.flags)
    signed = bool(header["signed"])
    # Two's complement without a sign of its own: bits above it would be taken for the value.
    unsaid = signed and values.dtype.kind == "u"
    if unsaid and (precision < bits or lossy):
        if precision < bits and int(values.max()) >> (precision - 1):
            flags.append("precision-conflict")
        values, unsaid = mask_stored(values, precision, precision - 1, True), False
    least, most = _range(bits, signed)
    width = max(header["bits_allocated"], 8)
    unsigned = values.dtype.kind == "u" and not signed
    if unsigned and 8 * values.itemsize == bits == width >= precision:
        return values, tuple(flags), None  # there are no others
    low, high = int(values.min()), int(values.max())
    if not signed and low < 0:
        flags.append("sign-conflict")
    first, last = _range(width, values.dtype.kind == "i")
    if low < first or high > last:
        if not (lossy and low >= 2 * least and high <= 2 * most + 1):
            raise FrameError(
                f"the codestream has {precision} bits and values from {low} to {high}, Bits "
                f"Allocated (0028,0100) is {header['bits_allocated']}"
            )
        values, low, high = np.clip(values, first, last), max(low, first), min(high, last)
        flags.append(CLAMPED)
    if precision > header["bits_allocated"]:
        flags.append("precision-conflict")
    pixels = values.astype(f"{values.dtype.kind}{width // 8}", copy=False)
    if unsaid:
        return *_dropped(pixels, header, flags), None
    if low >= least and high <= most:
        pixels = pixels.view(f"{'i' if signed else 'u'}{width // 8}")
        return pixels, tuple(flags), (low, high)
    if lossy and pixels.ndim == 3:  # no colour is beyond full intensity
        return np.clip(pixels, least, most), (*flags, CLAMPED), None
    if lossy:
        return pixels, (*flags, OVERSHOOT), (low, high)
    if "sign-conflict" in flags:
        return pixels, tuple(flags), (low, high)
    if signed and not header["overlay_bits"]:  # the stream says its sign: these are its values
        return pixels, (*flags, "precision-conflict"), (low, high)
    return *_dropped(pixels, header, flags), None


def _range(bits: int, signed: bool) -> tuple[int, int]:
    half = 1 << (bits - 1)
    return (-half, half - 1) if signed else (0, 2 * half - 1)


def _dropped(
    pixels: NDArray[Any], header: Header, flags: list[str]
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """The lowest BitsStored bits; flagged if what is dropped is neither sign nor overlay."""
    raw, bits = pixels.view(f"u{pixels.dtype.itemsize}"), header["bits_stored"]
    masked = mask_stored(raw, bits, bits - 1, bool(header["signed"]))
    if has_other_bits(raw, masked, bits, bits - 1, header["overlay_bits"] or 0):
        flags = [*flags, "high-bits"]
    return masked, tuple(flags)


def is_lossy(decoded: Decoded, header: Header) -> bool:
    """True if the samples may overshoot: the stream has lost something, as far as can be known.

    A reversible wavelet may have been cut short to save bytes; then the header says that it is
    lossy. Declared overlays lie in bits that loss would have ruined.
    """
    if header["overlay_bits"]:
        return False
    if decoded.lossy is None:
        return bool(header["lossy"]) and header["transfer_syntax"] in MAY_BE_LOSSY
    return decoded.lossy
