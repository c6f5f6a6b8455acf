"""Datasets by their elements: those of real files, edited as a fuzzer chooses, and encoded.

Plain bytes seldom get past the first element; edited elements reach what reads the last one.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element

from dicom2cache.headers.describe import wanted_tags
from tests.fuzz.choices import Choices
from tests.support.dicom_files import DATA_STORE, WHEEL, write_dicom

IMPLICIT, EXPLICIT, BIG, DEFLATED = (f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".2", ".1.99"))
PIXELS = 0x7FE00010
_LONG = frozenset(["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"])
_WORD = {"US": 2, "SS": 2, "OW": 2, "AT": 2, "UL": 4, "SL": 4, "FL": 4, "OF": 4, "FD": 8, "OD": 8}
"""bytes that are swapped where they are big-endian, by VR"""


@dataclass(frozen=True)
class Element:
    """An element as it will lie in the file."""

    tag: int
    vr: str
    value: bytes = b""
    items: tuple[tuple[Element, ...], ...] | None = None
    """of a sequence"""
    length: int | None = None
    """what it says, if that is not so"""
    undefined: bool = False


Elements = tuple[Element, ...]


def encoded(elements: Elements, implicit: bool, big: bool) -> bytes:
    """The elements one after the other."""
    return b"".join(_encoded(e, implicit, big) for e in elements)


def _encoded(e: Element, implicit: bool, big: bool) -> bytes:
    order = ">" if big else "<"
    value = e.value
    if e.items is not None:
        value = b""
        for k, item in enumerate(e.items):
            inner = encoded(item, implicit, big)
            if (len(e.items) + k) % 2:
                value += struct.pack(f"{order}HHL", 0xFFFE, 0xE000, len(inner)) + inner
            else:
                value += struct.pack(f"{order}HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + inner
                value += struct.pack(f"{order}HHL", 0xFFFE, 0xE00D, 0)
        if e.undefined:
            value += struct.pack(f"{order}HHL", 0xFFFE, 0xE0DD, 0)
    elif big and e.vr in _WORD:
        wide = _WORD[e.vr]
        whole = len(value) // wide * wide
        swapped = [value[k : k + wide][::-1] for k in range(0, whole, wide)]
        value = b"".join(swapped) + value[whole:]
    length = len(value) if e.length is None else e.length
    if e.undefined:
        length = 0xFFFFFFFF
    head = struct.pack(f"{order}HH", e.tag >> 16, e.tag & 0xFFFF)
    if implicit:
        return head + struct.pack(f"{order}L", length & 0xFFFFFFFF) + value
    if e.vr in _LONG:
        return head + e.vr.encode() + struct.pack(f"{order}HL", 0, length & 0xFFFFFFFF) + value
    return head + e.vr.encode("latin-1") + struct.pack(f"{order}H", length & 0xFFFF) + value


def part_10(elements: Elements, said: str, real: str | None = None) -> bytes:
    """A file whose transfer syntax is said to be `said`; encoded as `real`, if that differs."""
    real = said if real is None else real
    body = encoded(elements, real == IMPLICIT, real == BIG)
    if real == DEFLATED:
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        body = packer.compress(body) + packer.flush()
    syntax = said.encode()
    meta = encoded((Element(0x00020010, "UI", syntax + bytes(len(syntax) % 2)),), False, False)
    length = Element(0x00020000, "UL", struct.pack("<L", len(meta)))
    return bytes(128) + b"DICM" + encoded((length,), False, False) + meta + body


Bases = tuple[tuple[Elements, str], ...]
"""(elements, transfer syntax) of files"""
_MOST_PIXELS = 2048
_BASES = (
    "CT_small.dcm", "MR_small.dcm", "rtdose.dcm", "liver_1frame.dcm", "ExplVR_BigEnd.dcm",
    "image_dfl.dcm", "JPEG2000.dcm", "SC_rgb_rle.dcm", "examples_palette.dcm", "SC_rgb_jpeg.dcm",
    "examples_overlay.dcm", "mlut_18.dcm", "vlut_04.dcm", "nested_priv_SQ.dcm", "693_UNCR.dcm",
    "OBXXXX1A.dcm", "eCT_Supplemental.dcm", "emri_small.dcm", "rtplan.dcm",
)  # fmt: skip


@cache
def bases() -> Bases:
    """Real files, with few pixels."""
    found = [(made_up(), EXPLICIT)]
    for name in _BASES:
        path = next((p for p in (WHEEL / name, DATA_STORE / name) if p.exists()), None)
        if path is None:
            raise FileNotFoundError(f"{name}: neither pydicom's nor pydicom-data's")
        found.append(_of_file(path))
    return tuple(found)


@cache
def coded_bases() -> Bases:
    """Files of small frames in each compressed syntax, and such as differ by their pixels."""
    from tests.fuzz.frames import streams

    eight = np.arange(64, dtype=np.uint8).reshape(8, 8)
    rle = struct.pack("<16L", 1, 64, *[0] * 14) + b"\x3f" + eight.tobytes()
    found = []
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.dcm")
        more = [("1.2.840.10008.1.2.5", rle, eight),
                ("1.2.840.10008.1.2.1.98", eight.tobytes(), eight)]  # fmt: skip
        for syntax, stream, pixels in (*streams(), *more):
            for frames in (1, 2):
                array = pixels if frames == 1 else np.stack([pixels, pixels])
                write_dicom(path, array, syntax=syntax, encoded=[stream] * frames)
                found.append(_of_file(path))
        for kind in ("f4", "f8"):
            whole = np.linspace(-1, 1, 64).astype(kind)
            keyword = "FloatPixelData" if kind == "f4" else "DoubleFloatPixelData"
            write_dicom(path, whole.reshape(8, 8).view(f"u{kind[1]}").astype("u1"),
                        PixelData=None, BitsAllocated=8 * int(kind[1]),
                        **{keyword: whole.tobytes()},
                        SOPClassUID="1.2.840.10008.5.1.4.1.1.30")  # fmt: skip
            found.append(_of_file(path))
    return tuple(found)


def _of_file(path: Path) -> tuple[Elements, str]:
    ds: Any = dcmread(path, force=True)
    syntax = str(ds.file_meta.get("TransferSyntaxUID", IMPLICIT))
    if "PixelData" in ds and syntax in (IMPLICIT, EXPLICIT, BIG, DEFLATED):
        frames = min(3, int(ds.get("NumberOfFrames", 1)))
        ds.Rows, ds.Columns = 4, 6
        if "NumberOfFrames" in ds:
            ds.NumberOfFrames = frames
        bits = 24 * frames * ds.get("SamplesPerPixel", 1) * ds.get("BitsAllocated", 16)
        ds["PixelData"].value = ds.PixelData[: (bits + 15) // 16 * 2]
        for groups in ("PerFrameFunctionalGroupsSequence",):
            if groups in ds:
                del ds[groups].value[frames:]
    return _elements(ds), syntax


def _elements(ds: Any) -> Elements:
    found = []
    for e in ds:
        tag, vr = int(e.tag), str(e.VR)
        if e.VR == "SQ":
            items = tuple(_elements(item) for item in e.value[:4])
            found.append(Element(tag, "SQ", items=items, undefined=bool(e.is_undefined_length)))
            continue
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, True
        write_data_element(buffer, e)
        value = buffer.getvalue()[8:]
        undefined = bool(e.is_undefined_length) and tag == PIXELS
        value = value[:_MOST_PIXELS] if tag != PIXELS or undefined else value
        found.append(Element(tag, vr, value, undefined=undefined))
    return tuple(found)


def tag_of(keyword: str) -> int:
    """The tag of a keyword of DICOM's dictionary."""
    found = tag_for_keyword(keyword)
    assert found is not None, keyword
    return int(found)


@cache
def made_up() -> Elements:
    """A CT of 4 x 4 pixels."""
    said: dict[str, Any] = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "SOPInstanceUID": "1.2.3", "Modality": "CT",
        "StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.2.1", "Rows": 4, "Columns": 4,
        "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11, "SamplesPerPixel": 1,
        "PixelRepresentation": 0, "PhotometricInterpretation": "MONOCHROME2",
        "RescaleSlope": "1", "RescaleIntercept": "-1024", "WindowCenter": "40",
        "WindowWidth": "400", "ImagePositionPatient": "0\\0\\1.5",
        "ImageOrientationPatient": "1\\0\\0\\0\\1\\0", "PixelSpacing": "0.5\\0.5",
    }  # fmt: skip
    found = []
    for keyword, value in said.items():
        data = struct.pack("<H", value) if isinstance(value, int) else value.encode()
        vr = dictionary_VR(tag_of(keyword))
        found.append(Element(tag_of(keyword), vr, data + b" " * (len(data) % 2)))
    found.append(Element(PIXELS, "OW", bytes(range(32))))
    return tuple(sorted(found, key=lambda e: e.tag))


_WORDS = (
    b"", b" ", b"\0", b"1", b"-1", b"0", b"1\\2", b"1\\2\\3", b"1\\0\\0\\0\\1\\0", b"0\\0\\0",
    b"1e308", b"-1e308", b"1e-320", b"1e400", b"nan", b"inf", b"0x10", b"1_0", b"9" * 30,
    b"\\", b"1\\", b"\\1", b"5.", b".5", b"2147483648", b"-2147483649", b"1E5", b"+1", b"0.0",
    b"CT", b"PT", b"MR", b"NM", b"RTDOSE", b"SEG", b"HU", b"US", b"BQML", b"CNTS", b"YES", b"NO",
    b"MONOCHROME1", b"MONOCHROME2", b"PALETTE COLOR", b"RGB", b"YBR_FULL", b"YBR_FULL_422",
    b"YBR_RCT", b"INVERSE", b"FRACTIONAL", b"BINARY", b"LABELMAP", b"LINEAR", b"SIGMOID",
    b"ORIGINAL\\PRIMARY\\AXIAL\\MOSAIC", b"DERIVED\\SECONDARY\\LOCALIZER", b"ISO_IR 192",
    b"ISO_IR 100", b"\\ISO 2022 IR 87", b"ISO 2022 IR 149", b"none of these", b"caf\xe9",
    b"\xff\xfe\x80", b"\x1b$B8", b"\xed\xa0\x80", b"20200101", b"20209999", b"120000.5",
    b"20200101120000.000000+0100", b"999999", b"034Y", b"0Y", b"12M", b"-12D", b"1.2.3\0",
    b"1.2.840.10008.5.1.4.1.1.2", b"1.2.840.10008.5.1.4.1.1.128",
    b"1.2.840.10008.5.1.4.1.1.481.2", b"1.2.840.10008.5.1.4.1.1.66.4",
    b"1.2.840.10008.5.1.4.1.1.66.7", b"1.2.840.10008.5.1.4.1.1.30",
    b"1.2.840.10008.5.1.4.1.1.77.1.6", b"1.2.840.10008.5.1.4.1.1.4.1", b"1.2..3", b"a.b",
    b"ATTN\\SCAT\\DECY", b"START", b"ADMIN", b"NONE", b"BW", b"SIEMENS MR HEADER",
    b"SIEMENS CSA HEADER", b"Philips PET Private Group", b"GEMS_PARM_01",
)  # fmt: skip
_NUMBERS = (0, 1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 15, 16, 24, 32, 64, 255, 256, 4095, 32767, 32768,
            63536, 65535)  # fmt: skip
_VRS = ("US", "SS", "UL", "SL", "FL", "FD", "DS", "IS", "CS", "LO", "SH", "UI", "UN", "OB", "OW",
        "SQ", "UT", "AT", "DA", "TM", "DT", "PN", "AS", "UV", "OF", "LT", "ZZ", "??")  # fmt: skip
_FORMATS = {"US": "<H", "SS": "<H", "UL": "<L", "SL": "<L", "FL": "<f", "FD": "<d", "UV": "<Q",
            "AT": "<L", "OW": "<H", "OB": "<B"}  # fmt: skip


def _value(c: Choices, vr: str) -> bytes:
    if c.one_in(8):
        return c.take(24)
    if vr in _FORMATS and not c.one_in(8):
        values = [c.pick(_NUMBERS) for _ in range(1 + c.below(4) * c.below(4))]
        wide = _FORMATS[vr]
        if vr in ("FL", "FD"):
            scale = c.pick((1.0, -1.0, 0.1, 1e30, 1e-30, float("inf"), float("nan")))
            return b"".join(struct.pack(wide, v * scale) for v in values)
        most = (1 << 8 * struct.calcsize(wide)) - 1
        return b"".join(struct.pack(wide, min(v, most)) for v in values)
    value = c.pick(_WORDS)
    if c.one_in(4):
        value += b"\\" + c.pick(_WORDS)
    return value + b" " * (len(value) % 2) if not c.one_in(8) else value


@cache
def _tags() -> tuple[int, ...]:
    """What is read, and what is in sequences that are read."""
    inner = (
        "PixelMeasuresSequence", "PlanePositionSequence", "PlaneOrientationSequence",
        "FrameVOILUTSequence", "PixelValueTransformationSequence", "FrameContentSequence",
        "RealWorldValueMappingSequence", "RealWorldValueFirstValueMapped",
        "RealWorldValueLastValueMapped", "RealWorldValueSlope", "RealWorldValueIntercept",
        "RealWorldValueLUTData", "MeasurementUnitsCodeSequence", "LUTDescriptor", "LUTData",
        "MRDiffusionSequence", "DiffusionBValue", "DerivationImageSequence",
        "SourceImageSequence", "SegmentIdentificationSequence", "ReferencedSegmentNumber",
        "SegmentSequence", "SegmentNumber", "TotalPixelMatrixColumns", "DimensionIndexValues",
        "PlanePositionSlideSequence", "RadionuclideTotalDose", "RadionuclideHalfLife",
        "RadiopharmaceuticalStartTime", "RadiopharmaceuticalStartDateTime", "CodeValue",
        "DetectorInformationSequence", "GridFrameOffsetVector", "FrameIncrementPointer",
        "TemporalPositionTimeOffset", "StackID", "InStackPositionNumber", "SmallestImagePixelValue",
        "ExtendedOffsetTable", "ExtendedOffsetTableLengths",
    )  # fmt: skip
    private = (0x00290010, 0x00291010, 0x00291020, 0x00190010, 0x0019100A, 0x0019100C, 0x0019100E,
               0x70530010, 0x70531000, 0x70531009, 0x00430010, 0x00431039, 0x00651050, 0x00650010,
               0x60000010, 0x60000100, 0x60000102, 0x60003000, 0x20010010, 0x20011003)  # fmt: skip
    usual = [t for t in wanted_tags() if not (t >> 16) % 2]
    return (*usual, *(tag_of(k) for k in inner), *private, 0x00080005, 0x7FE00008, 0x7FE00009)


@cache
def _vr(tag: int) -> str:
    try:
        return str(dictionary_VR(tag)).split(" ")[0]
    except KeyError:
        return "LO" if tag & 0xFF00 == 0 else "UN"


def _new(c: Choices, depth: int = 0) -> Element:
    tag = c.pick(_tags())
    vr = c.pick(_VRS) if c.one_in(16) else _vr(tag)
    if vr == "SQ":
        count = c.below(4) if depth < 3 else 0
        items = tuple(
            tuple(_new(c, depth + 1) for _ in range(1 + c.below(3))) for _ in range(count)
        )
        return Element(tag, vr, items=items, undefined=c.one_in(2))
    return Element(tag, vr, _value(c, vr))


def _edited(c: Choices, elements: Elements, depth: int = 0) -> Elements:
    """The elements with one change."""
    some = list(elements)
    how = c.below(16)
    if not some or how < 4:  # a new one, in its place or in that of another
        new = _new(c)
        if not c.one_in(8):
            some = [e for e in some if e.tag != new.tag]
        at = next((k for k, e in enumerate(some) if e.tag >= new.tag), len(some))
        some.insert(c.below(len(some) + 1) if c.one_in(16) else at, new)
        return tuple(some)
    k = c.below(len(some))
    old = some[k]
    if old.items is not None and depth < 4 and how < 14:
        if old.items and how < 11:
            n = c.below(len(old.items))
            items = list(old.items)
            items[n] = _edited(c, items[n], depth + 1)
            some[k] = replace(old, items=tuple(items))
        elif how == 11:
            some[k] = replace(old, items=old.items[: c.below(len(old.items) + 1)])
        elif how == 12:
            some[k] = replace(old, items=old.items * (1 + c.below(3)))
        else:
            some[k] = replace(old, undefined=not old.undefined)
    elif how < 9:
        some[k] = replace(old, value=_value(c, old.vr), items=None)
    elif how == 9 and old.value:
        at = c.below(len(old.value))
        changed = bytearray(old.value)
        changed[at] = c.byte()
        some[k] = replace(old, value=bytes(changed))
    elif how == 10:
        some[k] = replace(old, value=old.value[: c.below(len(old.value) + 1)])
    elif how == 11:
        some[k] = replace(old, vr=c.pick(_VRS), value=old.value)
    elif how == 12:
        lengths = (0, 1, 2, len(old.value) + 1, len(old.value) + 2, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
        some[k] = replace(old, length=c.pick(lengths))
    elif how == 13:
        del some[k]
    elif how == 14:
        some.insert(k, old)
    else:
        wrapped = Element(c.pick(_tags()), "SQ", items=((old,),), undefined=c.one_in(2))
        some[k] = wrapped
    return tuple(some)


def edited(c: Choices, some: Bases | None = None) -> tuple[Elements, str]:
    """(elements of one of `some` files, with some changes, the transfer syntax that it is in)."""
    elements, syntax = c.pick(bases() if some is None else some)
    for _ in range(1 + c.below(6)):
        elements = _edited(c, elements)
    return elements, syntax


def drawn_file(c: Choices) -> bytes:
    """A real file, some of its elements changed; perhaps in another syntax, or a wrong one."""
    elements, real = edited(c)
    said = real
    native = (IMPLICIT, EXPLICIT, BIG, DEFLATED)
    if real in native and c.one_in(4):
        real = said = c.pick(native)
    if c.one_in(12):
        said = c.pick((*native, "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5", "1.2.3", ""))
    if real not in native:
        return part_10(elements, said, EXPLICIT)
    data = part_10(elements, said, real)
    return data[: c.below(65536)] if c.one_in(24) else data
