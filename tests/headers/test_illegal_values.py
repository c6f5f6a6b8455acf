"""Values that pydicom refuses by errors of its own: absent where they describe, else named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dicom2cache.errors import FrameError
from dicom2cache.headers.read import read_header
from dicom2cache.privacy.keys import PatientKey
from dicom2cache.records import Candidate
from tests.fuzz.datasets import EXPLICIT, IMPLICIT, Element, made_up, part_10, tag_of
from tests.support.headers import is_scanned

_KEY = PatientKey(bytes(16))


def _row(folder: Path, *elements: Element, syntax: str = EXPLICIT) -> dict[str, Any]:
    """The row of a made-up CT with these elements; that by pydicom alone must be the same."""
    new = {e.tag for e in elements}
    whole = sorted([*(e for e in made_up() if e.tag not in new), *elements], key=lambda e: e.tag)
    path = folder / "a.dcm"
    path.write_bytes(part_10(tuple(whole), syntax))
    status = path.stat()
    candidate = Candidate(0, path.name, status.st_size, status.st_mtime_ns)
    found, alone = (read_header([str(folder)], candidate, _KEY, way) for way in (True, False))
    assert found == alone
    return dict(found) | {"scanned": is_scanned(path, candidate)}


def _element(keyword: str, vr: str, value: bytes) -> Element:
    return Element(tag_of(keyword), vr, value)


def test_half_a_number_that_only_describes_is_absent(tmp_path: Path) -> None:
    """BytesLengthException: neither a ValueError nor any other that Python brings."""
    row = _row(
        tmp_path,
        _element("HighBit", "US", b"\x0b"),
        _element("PixelPaddingValue", "US", b"\1\2\3"),
        _element("DiffusionBValue", "FD", b"1234"),
        Element(0x60000100, "US", b"\1\2\3"),  # bits of an overlay
    )
    assert (row["high_bit"], row["padding_value"], row["b_value"]) == (11, None, None)
    assert row["height"] == 4


@pytest.mark.parametrize(
    ("element", "said"),
    [
        (_element("Rows", "US", b"\4"), r"Rows \(0028,0010\) is"),
        (_element("RescaleSlope", "FD", b"1234"), r"RescaleSlope \(0028,1053\) is"),
        (_element("NumberOfFrames", "ZZ", b"1 "), r"NumberOfFrames \(0028,0008\) is"),
        (_element("PixelRepresentation", "UV", b"\0\0"), r"PixelRepresentation \(0028,0103\) is"),
    ],
)
def test_one_that_decoding_hangs_on_is_named(tmp_path: Path, element: Element, said: str) -> None:
    with pytest.raises(FrameError, match=said):
        _row(tmp_path, element)


def test_a_sequence_is_no_text(tmp_path: Path) -> None:
    """What its items hold came to the row as text, a patient's name too."""
    name = Element(tag_of("PatientName"), "PN", b"Canary^Carl ")
    for keyword in ("ImageType", "Manufacturer", "BodyPartExamined", "SOPClassUID"):
        sequence = Element(tag_of(keyword), "SQ", items=((name,),))
        row = _row(tmp_path, sequence)
        assert "Canary" not in repr(row)
    assert row["sop_class_uid"] is None
    assert row["kind"] == "image"
    with pytest.raises(FrameError, match="is a sequence; legal: one finite decimal number") as told:
        _row(tmp_path, Element(tag_of("RescaleSlope"), "SQ", items=((name,),)))
    assert "Canary" not in str(told.value)


def test_a_sequence_whose_items_are_numbers_has_none(tmp_path: Path) -> None:
    row = _row(
        tmp_path,
        _element("SharedFunctionalGroupsSequence", "DS", b"1\\2 "),
        _element("RealWorldValueMappingSequence", "LO", b"a\\b "),
    )
    assert (row["slope"], row["intercept"]) == (1.0, -1024.0)


def test_a_sequence_with_half_an_element_says_nothing(tmp_path: Path) -> None:
    """Items are parsed when they are asked for: pydicom raises OSError for them, without errno."""
    half = Element(tag_of("PixelRepresentation"), "SQ", b"\xfe\xff\0")
    with pytest.raises(FrameError, match=r"PixelRepresentation \(0028,0103\) is"):
        _row(tmp_path, half)


@pytest.mark.parametrize(
    ("date", "time"),
    [(b"202001019999999999999999999999", b"120000"), (b"20200101", "12000²".encode())],
)
def test_a_moment_that_is_none(tmp_path: Path, date: bytes, time: bytes) -> None:
    row = _row(
        tmp_path,
        _element("SpecificCharacterSet", "CS", b"ISO_IR 192"),
        _element("AcquisitionDate", "DA", date),
        _element("AcquisitionTime", "LO", time + b" " * (len(time) % 2)),
    )
    assert row["acquired"] is None


def test_an_age_beyond_all_numbers(tmp_path: Path) -> None:
    assert _row(tmp_path, _element("PatientAge", "AS", b"9" * 399 + b"Y"))["age"] is None
    assert _row(tmp_path, _element("PatientAge", "AS", b"034Y"))["age"] == 34


def test_a_character_set_of_another_vr_is_left_to_pydicom(tmp_path: Path) -> None:
    row = _row(tmp_path, Element(0x00080005, "FD", bytes(8)))
    assert row["flags"] == ["charset-unknown"]
    assert not row["scanned"]
    assert _row(tmp_path, Element(0x00080005, "UN", b"ISO_IR 100"))["scanned"]
    assert _row(tmp_path, syntax=IMPLICIT)["scanned"]


def test_a_table_of_words(tmp_path: Path) -> None:
    table = Element(
        tag_of("ModalityLUTSequence"), "SQ",
        items=((_element("LUTDescriptor", "US", b"\2\0\0\0\x10\0"),
                _element("LUTData", "LO", b"a\\b ")),),
    )  # fmt: skip
    with pytest.raises(FrameError, match=r"LUTData \(0028,3006\) is .*; legal: whole numbers"):
        _row(tmp_path, table)
