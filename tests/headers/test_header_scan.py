"""The header scan gives what pydicom gives, or leaves the file to it: real, damaged, made up."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from dicom2cache.errors import NotDicom
from dicom2cache.headers import elements, series, stretches
from dicom2cache.headers import read as headers
from dicom2cache.headers.dictionary import DICTIONARY
from dicom2cache.privacy.keys import PatientKey
from dicom2cache.recipes.limits import Limits
from dicom2cache.records import Candidate
from dicom2cache.running import inventory
from dicom2cache.sources.find import scan
from tests.support.dicom_files import (
    CT_IMAGE,
    DATA_STORE,
    WHEEL,
    pattern,
    uid,
    write_dicom,
    write_series,
)
from tests.support.headers import is_scanned
from tests.support.kernels import by_numpy
from tests.support.share import TIMES

_KEY = PatientKey(bytes(16))
_ITEM, _ITEM_END, _SEQUENCE_END = b"\xfe\xff\0\xe0", b"\xfe\xff\x0d\xe0", b"\xfe\xff\xdd\xe0"
_EXPLICIT, _IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _candidate(path: Path) -> Candidate:
    status = path.stat()
    return Candidate(0, path.name, status.st_size, status.st_mtime_ns)


def _row(path: Path, scanned: bool) -> str:
    """The row of FILES, or the reason that there is none."""
    try:
        return repr(headers.read_header([str(path.parent)], _candidate(path), _KEY, scanned))
    except Exception as e:
        return repr(headers._outcome(e))


def _is_scanned(path: Path) -> bool:
    """True if pydicom was not needed."""
    return is_scanned(path, _candidate(path))


def _all_files() -> list[Path]:
    roots, candidates, _ = scan([WHEEL, DATA_STORE], Path("/nowhere"))
    return [Path(roots[c.root], c.path) for c in candidates]


def test_every_file_of_pydicom() -> None:
    scanned = 0
    for path in _all_files():
        assert _row(path, True) == _row(path, False), path
        scanned += _is_scanned(path)
    assert scanned == 130  # of 159 with an image: the others are big endian, undefined, or worse


def _mutated(data: bytearray, header: int, rng: random.Random) -> str:
    """Damage `data` before offset `header`, in place; how."""
    how = rng.choice(["bit", "byte", "word", "cut", "insert", "drop", "twice", "text", "vr"])
    at = rng.randrange(132, header)
    if how == "bit":
        data[at] ^= 1 << rng.randrange(8)
    elif how == "byte":
        data[at] = rng.choice([0, 1, 2, 4, 8, 0x10, 0x20, 0x28, 0x5C, 0x60, 0x7F, 0xFE, 0xFF])
    elif how == "word":
        data[at & ~1 : at & ~1 + 4] = rng.choice(
            [
                b"\xff\xff\xff\xff",
                b"\xfe\xff\x0d\xe0",
                b"\xfe\xff\xdd\xe0",
                b"\xe0\x7f\x10\0",
                bytes(4),
            ]
        )
    elif how == "cut":
        del data[at:]
    elif how == "insert":
        data[at:at] = rng.randbytes(rng.choice([1, 2, 4, 8]))
    elif how == "drop":
        del data[at : at + rng.choice([1, 2, 4, 8, 12])]
    elif how == "twice":  # the same bytes again: duplicates, and tags out of order
        data[at:at] = data[at : at + rng.choice([8, 10, 12, 16, 24])]
    elif how == "text":
        data[at] = rng.choice(b"0123456789.+-eE \\AYOB\xe9_")
    elif how == "vr":
        found = [k for k in range(max(132, at - 200), at) if bytes(data[k : k + 2]) in _VRS]
        if found:
            k = rng.choice(found)
            data[k : k + 2] = rng.choice(_VRS)
    return how


_VRS = [b"CS", b"DS", b"IS", b"LO", b"SH", b"UI", b"US", b"UN", b"SQ", b"OB", b"OW", b"UT", b"UV",
        b"SS", b"FD", b"AT", b"PN", b"DA", b"TM", b"ZZ"]  # fmt: skip


def _damage(
    folder: Path, count: int, seed: int, in_a_row: bool = False
) -> Counter[tuple[str, bool]]:
    """Compare `count` damaged files; how many of each kind could still be scanned.

    With `in_a_row`, all damaged forms of a file with a long header come one after the other.
    """
    bases = []
    for path in _all_files():
        data = path.read_bytes()
        at = data.find(b"\xe0\x7f\x10\x00")
        if len(data) < 50_000 and data[128:132] == b"DICM" and at > 0:
            bases.append((path, data, at))
    assert len(bases) > 50
    if in_a_row:
        bases = sorted(bases, key=lambda base: (base[2], base[0]))[-12:]
    rng = random.Random(seed)
    seen: Counter[tuple[str, bool]] = Counter()
    for number in range(count):
        place = number * len(bases) // count if in_a_row else number % len(bases)
        path, whole, header = bases[place]
        data = bytearray(whole)
        how = _mutated(data, header, rng)
        damaged = folder / f"damaged{path.suffix}"
        damaged.write_bytes(data)
        if (scanned := _row(damaged, True)) != (expected := _row(damaged, False)):
            raise AssertionError(f"{path}, {how}, mutation {number}:\n{scanned}\n{expected}")
        seen[how, _is_scanned(damaged)] += 1
    return seen


def test_damaged_files_that_are_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of such a header is taken as a stretch that the one before had too."""
    stretches.learned.cache_clear()
    used = 0

    class Counted(stretches.Stretch):
        @property
        def last(self) -> int:
            nonlocal used
            used += 1
            return self[1]

    monkeypatch.setattr(stretches, "Stretch", Counted)
    with by_numpy():
        _damage(tmp_path, 1000 * TIMES, seed=6, in_a_row=True)
    stretches.learned.cache_clear()
    assert used > 500
    _damage(tmp_path, 1000 * TIMES, seed=7, in_a_row=True)


def test_damaged_files(tmp_path: Path) -> None:
    seen = _damage(tmp_path, 1500 * TIMES, seed=5)
    scanned = sum(count for (_, ok), count in seen.items() if ok)
    assert scanned > 375  # else nothing was compared
    assert all(seen[how, True] for how in ("bit", "byte", "text", "vr"))


_numbers = st.one_of(
    st.sampled_from(["1", " 1", "1 ", "-1.5e3", "1e99", "1e400", ".5", "5.", "1_0", "1,5", "1.5\\",
                     "\\1", "1\\2\\3", "0x1", "nan", "inf", "", " ", "\0", "1\0", "+0", "-0", "٣"]),
    st.floats(allow_nan=True, allow_infinity=True).map(str),
    st.integers(-(2**33), 2**33).map(str),
    st.lists(st.integers(-9, 9).map(str), max_size=7).map("\\".join),
)  # fmt: skip
_words = st.one_of(
    st.sampled_from(["CT", "ORIGINAL\\PRIMARY", "YES", "NO", "01", "HU", "1.2.3", "1.2.3\0", "1..2",
                     "20200101", "120000.5", "034Y", "café", "", "  ", "\0", "a\\b", "\\",
                     "INVERSE"]),
    st.text(max_size=12),
)  # fmt: skip
_texts = [
    "SOPInstanceUID", "SOPClassUID", "Modality", "PatientID", "AccessionNumber", "PatientAge",
    "PatientSex", "ImageType", "Laterality", "RescaleType", "AcquisitionTime", "SeriesDate",
    "WindowCenterWidthExplanation", "FrameOfReferenceUID", "PhotometricInterpretation", "StackID",
    "BurnedInAnnotation", "Units", "PresentationLUTShape", "SpecificCharacterSet",
]  # fmt: skip
_decimals = [
    "InstanceNumber", "RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth",
    "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "SliceThickness", "KVP",
    "NumberOfFrames", "AcquisitionNumber", "EchoTime", "TriggerTime", "PatientWeight",
]  # fmt: skip
_shorts = [
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "SamplesPerPixel", "PlanarConfiguration", "PixelPaddingValue", "PixelPaddingRangeLimit",
]  # fmt: skip
_OTHER_VRS = ["LO", "UN", "CS", "DS", "IS", "US", "UI", "OB", "UT"]


def _encoded(tag: int, vr: str, value: bytes, implicit: bool, undefined: bool = False) -> bytes:
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    length = 0xFFFFFFFF if undefined else len(value)
    if implicit:
        return head + struct.pack("<L", length) + value
    if vr in ("OB", "OW", "SQ", "UN", "UT"):
        return head + vr.encode() + struct.pack("<HL", 0, length) + value
    return head + vr.encode() + struct.pack("<H", length) + value


@st.composite
def _sequences(draw: st.DrawFn, implicit: bool, depth: int = 0) -> bytes:
    """The value of a sequence of undefined length, well formed or nearly."""
    parts = []
    for _ in range(draw(st.integers(0, 2))):
        inner = b"".join(
            _encoded(0x00080060, "CS", draw(st.sampled_from([b"CT", b"", b"MR"])), implicit)
            for _ in range(draw(st.integers(0, 2)))
        )
        if depth < 2 and draw(st.booleans()):
            nested = draw(_sequences(implicit, depth + 1))
            inner += _encoded(0x00081140, "SQ", nested, implicit, undefined=True)
        length = len(inner) + draw(st.sampled_from([0, 0, 0, 0, 2, -2]))
        if draw(st.booleans()):
            parts.append(
                b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + inner + b"\xfe\xff\x0d\xe0" + bytes(4)
            )
        else:
            parts.append(_ITEM + struct.pack("<L", max(0, length)) + inner)
    return b"".join(parts) + _SEQUENCE_END + bytes(4)


@st.composite
def _files(draw: st.DrawFn) -> bytes:
    """A Part 10 file of drawn elements in the order of their tags, around a legal image."""
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    implicit = draw(st.booleans())
    legal = {
        "SOPClassUID": CT_IMAGE, "SOPInstanceUID": "1.2.3", "Modality": "CT", "Rows": 4,
        "Columns": 4, "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11, "SamplesPerPixel": 1,
        "PixelRepresentation": 0, "PhotometricInterpretation": "MONOCHROME2",
    }  # fmt: skip
    said: dict[str, Any] = dict(legal)
    for name in draw(st.lists(st.sampled_from(_texts), max_size=4)):
        said[name] = draw(_words)
    for name in draw(st.lists(st.sampled_from(_decimals), max_size=5)):
        said[name] = draw(_numbers)
    for name in draw(st.lists(st.sampled_from(_shorts), max_size=2)):
        said[name] = draw(st.sampled_from([0, 1, 8, 12, 16, 32, 65535, 63536]))
    if "SpecificCharacterSet" in said:
        said["SpecificCharacterSet"] = draw(
            st.sampled_from(["ISO_IR 192", "ISO_IR 100", "ISO_IR 13", "", "\\ISO 2022 IR 87", "no"])
        )
    elements: list[tuple[int, bytes]] = []
    for name, value in said.items():
        tag = int(tag_for_keyword(name) or 0)
        vr = dictionary_VR(tag).split(" ")[0]
        if not implicit and draw(st.integers(0, 30)) == 0:
            vr = draw(st.sampled_from(_OTHER_VRS))
        if isinstance(value, int):
            data = struct.pack("<H", value)
        else:
            data = value.encode("utf-8", "replace")
            if draw(st.integers(0, 9)):
                data += b" " * (len(data) % 2)
        elements.append((tag, _encoded(tag, vr, data, implicit)))
    for group in draw(st.lists(st.sampled_from([0x6000, 0x6002, 0x601E]), unique=True)):
        for element in draw(st.sampled_from([(0x100, 0x102), (0x102,), (0x100,)])):
            data = struct.pack("<H", draw(st.sampled_from([1, 12, 16])))
            tag = group << 16 | element
            elements.append((tag, _encoded(tag, "US", data, implicit)))
    if draw(st.booleans()):
        sequence = draw(_sequences(implicit))
        elements.append((0x00081115, _encoded(0x00081115, "SQ", sequence, implicit, True)))
    elements.sort()
    if draw(st.integers(0, 19)) == 0:
        elements[-1], elements[-2] = elements[-2], elements[-1]
    syntax = (_IMPLICIT if implicit else _EXPLICIT).encode()
    meta = _encoded(0x00020010, "UI", syntax + bytes(len(syntax) % 2), False)
    meta = _encoded(0x00020000, "UL", struct.pack("<L", len(meta)), False) + meta
    pixels = _encoded(0x7FE00010, "OW", bytes(32), implicit)
    return bytes(128) + b"DICM" + meta + b"".join(data for _, data in elements) + pixels


_made: Counter[bool] = Counter()


@settings(max_examples=800, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(data=_files())
def _test_made_up(folder: Path, data: bytes) -> None:
    path = folder / "made.dcm"
    path.write_bytes(data)
    assert _row(path, True) == _row(path, False)
    _made[_is_scanned(path)] += 1


def test_made_up_headers(tmp_path: Path) -> None:
    _made.clear()
    _test_made_up(tmp_path)
    assert _made[True] > 50
    assert _made[False] > 50


_SQ = [Dataset()]
_SQ[0].Modality = "CT"


@pytest.mark.parametrize(
    ("elements", "scanned"),
    [
        ({}, True),
        ({"InstanceNumber": "7", "ImagePositionPatient": [0.1, -2e-3, 3]}, True),
        ({"SpecificCharacterSet": "ISO_IR 192", "Manufacturer": "Größe 東芝"}, True),
        ({"SpecificCharacterSet": "ISO_IR 100", "Manufacturer": "Größe"}, True),
        ({"PixelPaddingValue": 63536}, True),
        (
            {
                f"{group:x}{e:04x}": DataElement(group << 16 | e, "US", 12 + e % 2)
                for group in (0x6000, 0x6004)
                for e in (0x100, 0x102)
            },
            True,
        ),  # overlays in the pixels
        ({"ReferencedImageSequence": _SQ}, True),  # not wanted: passed over by its length
        ({"InstanceNumber": DataElement("InstanceNumber", "UN", b"7 ")}, True),
        ({"syntax": "1.2.840.10008.1.2.2"}, False),  # big endian
        ({"syntax": "1.2.840.10008.1.2.1.99"}, False),  # deflated
        ({"Rows": None}, False),  # refused, and that in the words of pydicom's values
    ],
)
def test_what_is_scanned(tmp_path: Path, elements: dict[str, Any], scanned: bool) -> None:
    path = write_dicom(tmp_path / "a.dcm", pattern("a", (8, 8)), **elements)
    assert _row(path, True) == _row(path, False)
    assert _is_scanned(path) is scanned


_OF_A_SERIES = [
    {}, {"InstanceNumber": 3}, {"SOPInstanceUID": "1.2.9"}, {"AcquisitionNumber": "4"},
    {"ImagePositionPatient": [1, 2, 3.5]}, {"AcquisitionTime": "101010.5"},
    {"ImagePositionPatient": [1, 2]}, {"InstanceNumber": None}, {"RescaleSlope": 2},
    {"AcquisitionTime": "no time"}, {"SeriesDate": "20200102"}, {"PatientID": "other"},
    {"Modality": "PT", "Units": "BQML"}, {"Modality": "PT", "AcquisitionTime": "090000"},
    {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.2", "DoseGridScaling": "0.5"},
    {"InstanceNumber": DataElement("InstanceNumber", "UN", b"8 ")},
    {"NumberOfFrames": 2, "ImagePositionPatient": [0, 0, 9]}, {"PixelData": bytes(200)},
]  # fmt: skip


def test_files_that_are_alike_have_rows_of_their_own(tmp_path: Path) -> None:
    """Each after each: what one file left behind must not show in another."""
    shared = Dataset()
    shared.PlanePositionSequence = [Dataset()]
    shared.PlanePositionSequence[0].ImagePositionPatient = [7, 8, 9]
    common: dict[str, Any] = {
        "InstanceNumber": 1, "AcquisitionNumber": 1, "AcquisitionTime": "100000",
        "ImagePositionPatient": [0.0, 0.0, 1.0], "RescaleSlope": 1, "RescaleIntercept": 0,
        "SeriesDate": "20200101", "SOPClassUID": CT_IMAGE, "Modality": "CT",
    }  # fmt: skip
    every = [*_OF_A_SERIES, {"SharedFunctionalGroupsSequence": [shared]}]
    paths = [
        write_dicom(
            tmp_path / f"{k}.dcm",
            pattern(f"{k}", (8, 8)),
            **{name: v for name, v in {**common, **said}.items() if v is not None},
        )
        for k, said in enumerate(every)
    ]
    expected = [_row(path, False) for path in paths]
    assert len(set(expected)) == len(paths)
    for first in range(len(paths)):
        series._known.clear()
        order = [*range(first, len(paths)), *range(first)]
        assert [_row(paths[k], True) for k in order] == [expected[k] for k in order]
    assert len(series._known) == 4  # the series; another slope, date and patient


def test_a_header_beyond_the_first_read(tmp_path: Path) -> None:
    """Large private elements, before and after wanted ones: read on at the offset behind them."""
    for place in (0x00090010, 0x00291010):
        for size in (16_200, 16_384, 70_000, 300_001):
            path = write_dicom(tmp_path / "a.dcm", pattern("a", (8, 8)))
            ds = dcmread(path)
            ds.add_new(place, "OB", bytes(size))
            ds.save_as(path)
            assert _row(path, True) == _row(path, False)
            assert _is_scanned(path)


def test_a_scan_opens_each_file_once_and_reads_no_pixels(tmp_path: Path) -> None:
    path = write_series(tmp_path, 1)[0]
    read: list[int] = []
    pread = os.pread
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pread", lambda *a: read.append(a[1]) or pread(*a))
        patch.setattr(headers, "by_pydicom", None)
        assert uid(path.name) in _row(path, True)
    assert read == [16384]


def test_not_dicom_is_still_said(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no image\n")
    with pytest.raises(NotDicom):
        headers.read_header(
            [str(tmp_path)], Candidate(0, path.name, 9, path.stat().st_mtime_ns), _KEY
        )


def test_files_are_read_folder_by_folder_and_by_inode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("b/1.dcm", "b/2.dcm", "a/1.dcm", "a/2.dcm", "c.dcm"):
        write_dicom(tmp_path / name, pattern(name, (8, 8)), SOPInstanceUID=uid(name))
    roots, candidates, _ = scan([tmp_path], Path("/nowhere"))
    assert all(c.inode == (tmp_path / c.path).stat().st_ino for c in candidates)
    backwards = [replace(c, inode=-k) for k, c in enumerate(candidates)]
    read: list[str] = []
    original = headers._read

    def told(path: str, candidate: Candidate, *rest: Any, **options: Any) -> Any:
        read.append(candidate.path)
        return original(path, candidate, *rest, **options)

    monkeypatch.setattr(headers, "_read", told)
    files, *_ = inventory.read_all_headers(
        roots, backwards, _KEY, Limits(), 1, "loky", lambda _: None, lambda _: None
    )
    assert read == ["c.dcm", "a/2.dcm", "a/1.dcm", "b/2.dcm", "b/1.dcm"]
    assert files["path"].to_pylist() == ["a/1.dcm", "a/2.dcm", "b/1.dcm", "b/2.dcm", "c.dcm"]


def test_a_header_that_leaves_the_window_at_once_after_one_that_did_not(tmp_path: Path) -> None:
    """What was learned of the one before changes nothing, even where nothing can be compared."""
    stretches.learned.cache_clear()
    usual = DATA_STORE / "693_UNCR.dcm"
    data = usual.read_bytes()
    start = data.index(b"\x08\0\0\0UL")  # the first element after group 0002, of 12 bytes
    large = b"\x08\0\x01\0UN\0\0" + (20_000).to_bytes(4, "little") + bytes(20_000)
    other = tmp_path / "other.dcm"
    other.write_bytes(data[:start] + large + data[start + 12 :])
    assert _is_scanned(usual)
    assert _row(other, True) == _row(other, False)
    assert _is_scanned(other)
    stretches.learned.cache_clear()


_CHARSETS = [
    None, b"ISO_IR 100", b"ISO_IR 192 ", b"ISO_IR 13", b"GB18030", b"ISO 2022 IR 87",
    b"\\ISO 2022 IR 87", b"ISO_IR 6", b"ISO 2022 IR 6", b"ISO_IR 144", b"NONE",
]  # fmt: skip
_OF_VR = {
    vr: [tag for tag, (said, _) in DICTIONARY.items() if vr in said.split(" or ")]
    for vr in elements._QUICK
}


@settings(max_examples=300 * TIMES, deadline=None, database=None)
@given(
    vr=st.sampled_from(sorted(vr for vr, tags in _OF_VR.items() if tags and vr != "PN")),
    value=st.one_of(
        st.text("0123456789.+-eE \\\0", max_size=12).map(str.encode),
        st.text("AZ az=^\\\0\x1b\xe9", max_size=8).map(lambda text: text.encode("latin-1")),
        st.binary(max_size=9),
    ),
    charset=st.sampled_from(_CHARSETS),
    implicit=st.booleans(),
    pick=st.integers(0, 99),
)
def test_a_quick_value_is_the_one_of_pydicom(
    vr: str, value: bytes, charset: bytes | None, implicit: bool, pick: int
) -> None:
    tag = [tag for tag in _OF_VR[vr] if tag != elements.CHARSET][pick % len(_OF_VR[vr]) - 1]
    found: dict[int, Any] = {tag: (None if implicit else vr.encode(), value)}
    if charset is not None:
        found[elements.CHARSET] = (b"CS", charset)
    name, _, quick, empty = elements._about(tag, found[tag][0])
    if quick is None or (value and quick(value) is None):
        return  # pydicom is asked
    want = elements._dataset(found, implicit)[tag].value
    made = quick(value) if value else empty
    if vr in ("DS", "IS") and want is not None:
        kind = int if vr == "IS" else float
        want = kind(want) if isinstance(made, float | int) else [kind(one) for one in want]
    assert repr(list(want) if isinstance(made, list) else want).strip("'") == repr(made).strip("'")
    assert name == keyword_for_tag(tag)


def test_a_plain_header_is_read_without_pydicom(tmp_path: Path) -> None:
    write_series(tmp_path, 1, 16)
    code = (
        "import sys; from dicom2cache.headers import read; from dicom2cache.records import *\n"
        "from dicom2cache.privacy.keys import PatientKey\n"
        "import os; path = sys.argv[1]\n"
        "s = os.stat(path); c = Candidate(0, path, s.st_size, s.st_mtime_ns)\n"
        "row = read.read_header([''], c, PatientKey(b'k'))\n"
        "print(row['modality'], 'pydicom' in sys.modules)"
    )
    (path,) = tmp_path.rglob("*.dcm")
    ran = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert ran.stdout == "CT False\n", ran.stderr
