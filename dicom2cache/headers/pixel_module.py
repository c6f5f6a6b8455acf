"""The image pixel module: where the pixels of a file lie and how, checked (PS3.3 C.7.6.3)."""

from __future__ import annotations

from typing import Any, Literal

from dicom2cache import syntaxes
from dicom2cache.errors import Dicom2cacheError, FrameError, NoPixels
from dicom2cache.headers.tags import (
    Dataset,
    has_content,
    has_items,
    name,
    numbers,
    raw,
    required,
    text,
    value,
    whole,
)
from dicom2cache.records import Header
from dicom2cache.sources.place import BoundedFile, Where

_PIXELS = {
    0x7FE00010: "PixelData",
    0x7FE00008: "FloatPixelData",
    0x7FE00009: "DoubleFloatPixelData",
}
OVERLAYS = range(0x6000, 0x6020, 2)
"""groups of the repeating overlay module"""
INCOMPLETE = "pixel-module-incomplete"
"""flag: an element of type 1 says nothing, and what nearly all images have was taken"""
_LEAST_FRAGMENT = 10
"""bytes: the header of an item and a value of even length (PS3.5 A.4)"""
_LONG_VRS = {b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"UN"}


def pixel_element(
    ds: Dataset, head: bytes, at: int, syntax: str, path: Where
) -> tuple[str, str, int, int | None]:
    """(keyword, VR, offset of the value, length or None if undefined).

    `head` has the first 12 bytes of the element that ends the header, `at` is its offset: in a
    deflated dataset, as that of the value, in the inflated one.
    """
    implicit, little = ds.original_encoding
    order: Literal["little", "big"] = "little" if little else "big"
    if len(head) < 8:
        cut = None if syntax == syntaxes.DEFLATED else _cut(path)
        raise cut or _without_pixels(ds, syntax)
    tag = int.from_bytes(head[:2], order) << 16 | int.from_bytes(head[2:4], order)
    if tag not in _PIXELS:
        raise _without_pixels(ds, syntax)
    # The header may say one of implicit and explicit where the body is the other.
    if has_vr(head) or (not implicit and head[4:6] in _LONG_VRS):
        vr, length, offset = head[4:6].decode(), int.from_bytes(head[8:12], order), at + 12
    elif implicit or not (head[4:6].isalpha() and head[4:6].isupper()):
        vr, length, offset = "OW", int.from_bytes(head[4:8], order), at + 8
    else:
        raise FrameError(f"pixel data element has VR {head[4:6]!r}; legal: OB, OW, OF, OD")
    return _PIXELS[tag], vr, offset, None if length == 0xFFFFFFFF else length


def has_vr(head: bytes) -> bool:
    """True if the first 8 bytes of a pixel data element have a VR (PS3.5 7.1.2), whatever group 2
    says: as a length those four bytes would be odd, which is illegal."""
    return head[4:6] in _LONG_VRS and head[6:8] == b"\0\0"


def _cut(path: Where) -> FrameError | None:
    """The failure of a file that ends within an element: pydicom reads it without a word."""
    from pydicom import dcmread

    with BoundedFile(path) as file:
        try:
            ds = dcmread(file, force=True)
            last = ds.get_item(max(ds.keys())) if len(ds) else None
        except Exception as e:  # pydicom raises whatever the bytes provoke
            if isinstance(e, MemoryError) or (isinstance(e, OSError) and e.errno is not None):
                raise
            return FrameError(
                f"the header cannot be read: at or before byte {file.tell()} an element is of no "
                "known kind; the file is damaged, copy it again"
            )
        if last is not None:
            # A sequence of undefined length has no length to compare.
            length = getattr(last, "length", 0xFFFFFFFF)
            if length == 0xFFFFFFFF:
                return None
            file.seek(last.value_tell + length)
        rest = file.read(8)
        at_end = file.tell() == file.opened.size
    if last is not None and at_end and not rest.strip(b"\0"):
        return None
    return FrameError("the file is truncated: it ends in the middle of its header; copy it again")


_CONTOURS = "1.2.840.10008.5.1.4.1.1.481.3"  # RT Structure Set Storage
_DESCRIBES_AN_IMAGE = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.481.2",  # RT Dose
        "1.2.840.10008.5.1.4.1.1.30",  # Parametric Map
        "1.2.840.10008.5.1.4.1.1.66.4",  # Segmentation
        "1.2.840.10008.5.1.4.1.1.66.7",  # Label Map Segmentation
    }
)
"""SOP classes that have pixels, though their names are not those of images"""


class OnlyContours(NoPixels):
    """An RT Structure Set."""


def _without_pixels(ds: Dataset, syntax: str) -> Dicom2cacheError:
    """Why a file that is whole has no pixels: it is no image, or it has lost them."""
    sop = value(ds, "SOPClassUID") or value(ds.file_meta, "MediaStorageSOPClassUID")
    sop = None if has_items(sop) else sop
    kind = text(ds, "Modality") or "this dataset"
    if sop is not None:
        known = str(getattr(sop, "name", sop))
        kind = known if known != str(sop) else f"a file of SOP Class UID (0008,0016) {sop!r}"
    if str(sop) == _CONTOURS or (sop is None and text(ds, "Modality") == "RTSTRUCT"):
        return OnlyContours(
            f"contours: {kind} outlines regions of other images and has no pixel data of its own"
        )
    if "Rows" not in ds or "SpectroscopyData" in ds:
        return NoPixels(f"{kind} has no pixel data")
    if not syntaxes.supported(syntax):  # such as JPIP, whose pixels lie on a server
        return FrameError(f"{kind} has no pixel data in the file; {syntaxes.refusal(syntax)}")
    if sop is not None and not _is_image(str(sop), str(kind)):
        return NoPixels(f"{kind} has no pixel data, though it has Rows (0028,0010)")
    return FrameError(
        f"{kind} has Rows (0028,0010) but no pixel data: the pixels were taken out, or the file is "
        "cut before them; get it again from where it came"
    )


def _is_image(sop: str, kind: str) -> bool:
    """True for a SOP class of the standard whose objects always have pixels."""
    if sop in _DESCRIBES_AN_IMAGE:
        return True
    return sop.startswith("1.2.840.10008.") and "Image Storage" in kind and "Non-Image" not in kind


def pixel_layout(ds: Dataset, keyword: str, syntax: str) -> dict[str, Any]:
    """Size and bits of a frame, checked against each other (PS3.3 C.7.6.3, PS3.5 8.1.1).

    `flags` has what had to be presumed. Raises FrameError for what cannot be.
    """
    rows, columns = (required(ds, k, "1 to 65535") for k in ("Rows", "Columns"))
    if not (0 < rows <= 65535 and 0 < columns <= 65535):
        raise FrameError(f"Rows x Columns is {rows} x {columns}; legal: 1 to 65535 each")
    samples = whole(ds, "SamplesPerPixel") or 1
    photometric, flags = text(ds, "PhotometricInterpretation"), list[str]()
    if photometric is None and samples == 1 and "RedPaletteColorLookupTableDescriptor" not in ds:
        # ACR-NEMA had no such element, and no colour.
        photometric, flags = "MONOCHROME2", ["photometric-missing"]
    photometric = photometric or ""
    grey = photometric in ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
    colour = photometric in ("RGB", "XYB") or photometric.startswith("YBR")
    if not (grey and samples == 1) and not (colour and samples == 3):
        raise FrameError(
            f"{name('PhotometricInterpretation')} {photometric!r} with "
            f"{name('SamplesPerPixel')} {samples}; legal: MONOCHROME1, MONOCHROME2 or PALETTE "
            "COLOR with 1, RGB, XYB or YBR with 3"
        )
    allocated = required(ds, "BitsAllocated", "1, 8, 16, 32 or 64")
    layout = {
        "height": rows,
        "width": columns,
        "samples": samples,
        "planar": (whole(ds, "PlanarConfiguration") or 0) & 1,
        "photometric": photometric,
        "bits_allocated": allocated,
        "inverted": photometric == "MONOCHROME1" or text(ds, "PresentationLUTShape") == "INVERSE",
        "flags": flags,
    }
    if keyword != "PixelData":
        need = 32 if keyword == "FloatPixelData" else 64
        if allocated != need:
            raise FrameError(f"{name('BitsAllocated')} {allocated} with {keyword}; legal: {need}")
        return {**layout, "bits_stored": need, "high_bit": need - 1, "signed": True}
    if allocated not in (1, 8, 16, 32):
        raise FrameError(f"{name('BitsAllocated')} {allocated}; legal: 1, 8, 16 or 32")
    stored = whole(ds, "BitsStored") or allocated
    if not whole(ds, "BitsStored") or not has_content(ds, "PixelRepresentation"):
        flags.append(INCOMPLETE)
    high = whole(ds, "HighBit")
    high = stored - 1 if high is None else high
    # Where all bits are stored there is one place for them; codestreams begin at bit 0.
    settled = stored == allocated or syntax not in syntaxes.AS_WRITTEN
    if settled and not stored - 1 <= high < allocated:
        high, layout["flags"] = stored - 1, [*flags, "high-bit"]
    if not (1 <= stored <= allocated and stored - 1 <= high < allocated):
        raise FrameError(
            f"{name('BitsStored')} {stored} and {name('HighBit')} {high} do not fit "
            f"{name('BitsAllocated')} {allocated}; legal: BitsStored - 1 <= HighBit < BitsAllocated"
        )
    return {**layout, "bits_stored": stored, "high_bit": high, "signed": _signed(ds)}


def _signed(ds: Dataset) -> bool:
    """True for two's complement; a Pixel Representation that is absent or empty is unsigned."""
    if not has_content(ds, "PixelRepresentation"):
        return False
    found = numbers(ds, "PixelRepresentation")
    if found not in ([0.0], [1.0]):
        raise FrameError(
            f"{name('PixelRepresentation')} is {raw(ds, 'PixelRepresentation')}; legal: 0, "
            "unsigned, or 1, two's complement (PS3.3 C.7.6.3); correct it"
        )
    return found == [1.0]


def overlays(ds: Dataset) -> tuple[int, bool]:
    """(mask of the bits of a stored pixel that overlays are declared to lie in, True if there are
    overlay planes of their own), PS3.3 C.9.2."""
    mask, planes = 0, False
    for group in OVERLAYS:
        if (group, 0x0100) not in ds:
            continue
        try:
            allocated = int(ds[group, 0x0100].value)
            planes |= allocated == 1
            position = int(ds[group, 0x0102].value)
        except MemoryError:
            raise
        except Exception:  # whatever pydicom raises for an illegal value: nothing is declared
            continue
        if allocated > 1 and 0 <= position < 32:
            mask |= 1 << position
    return mask if mask < 1 << 31 else mask - (1 << 32), planes


def frame_bits(row: Header) -> int:
    """Bits of one native frame (PS3.5 8.2); 4:2:2 halves the chroma (PS3.3 C.7.6.3.1.2)."""
    samples = 2 if row["photometric"] == "YBR_FULL_422" else row["samples"]
    return int(row["height"] * row["width"] * samples * row["bits_allocated"])


def plain_bytes(row: Header) -> int:
    """Bytes of all frames of a file without compression."""
    return (frame_bits(row) * int(row["frames"]) + 7) // 8


_MOST_INFLATED = 1032
"""bytes that one of a deflated stream can come to (RFC 1951)"""


def check_claim(row: Header) -> None:
    """A bit for each frame at least, before anything is made for each frame that is claimed."""
    deflated = row["transfer_syntax"] == syntaxes.DEFLATED
    most = 8 * row["size"] * (_MOST_INFLATED if deflated else 1)
    if row["frames"] > most:
        raise FrameError(
            f"{name('NumberOfFrames')} is {row['frames']}, but the file has {row['size']} bytes; "
            "it is damaged or truncated, copy it again"
        )


def check_length(row: Header) -> None:
    """Native pixel data must be as long as the header says; more is flagged, less refused."""
    if not syntaxes.supported(row["transfer_syntax"]):
        return  # refused by the plan, for that
    if row["transfer_syntax"] not in syntaxes.NATIVE:
        most = (row["size"] - row["pixel_offset"]) // _LEAST_FRAGMENT
        if row["frames"] > max(1, most):
            raise FrameError(
                f"{name('NumberOfFrames')} is {row['frames']}, but the file has room for {most} "
                "at most; it is damaged or truncated, copy it again"
            )
        return
    have, want = row["pixel_length"], plain_bytes(row)
    if have is None:
        raise FrameError(
            f"{row['pixel_keyword']} has undefined length, legal only in a compressed transfer "
            f"syntax, but {name('TransferSyntaxUID')} is {row['transfer_syntax']}"
        )
    if row["transfer_syntax"] != syntaxes.DEFLATED:  # only inflating would tell
        have = min(have, row["size"] - row["pixel_offset"])
    if row["transfer_syntax"] == syntaxes.GE_PRIVATE and row["bits_allocated"] != 16:
        raise FrameError(
            f"{name('TransferSyntaxUID')} is {syntaxes.GE_PRIVATE}, private to GE, with "
            f"{name('BitsAllocated')} {row['bits_allocated']}; legal here: 16, the only words "
            "whose byte order in it is known; convert the file with GE's software"
        )
    if have < want:
        frames = "1 frame of " if row["frames"] == 1 else f"{row['frames']} frames of "
        raise FrameError(
            f"pixel data is truncated: {have} bytes, {want} expected for {frames}"
            f"{row['height']} x {row['width']}; copy the file again"
        )
    full = row["height"] * row["width"] * 3 * row["bits_allocated"] // 8 * row["frames"]
    if row["photometric"] == "YBR_FULL_422" and have >= full:
        raise FrameError(
            f"{name('PhotometricInterpretation')} is YBR_FULL_422 but {have} bytes are there, as "
            "for three full samples; the label or the data is wrong (PS3.3 C.7.6.3.1.2)"
        )
    if have > want + want % 2:
        row["flags"] = [*(row["flags"] or []), "excess-pixel-data"]
