"""The compiled walk over a header against the one in Python, and rows of files that are alike."""

from __future__ import annotations

import pickle
import random
import struct
from array import array
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom2cache.headers import rows, series
from dicom2cache.headers.elements import CHARSET, dictionary_vr
from dicom2cache.headers.plain import plain_values
from dicom2cache.headers.read import read_header, read_headers
from dicom2cache.headers.scan import scan
from dicom2cache.headers.series import Alike, asked_by
from dicom2cache.headers.split import LONGEST, SET, Split, split
from dicom2cache.pixels import kernel
from dicom2cache.privacy.keys import PatientKey
from dicom2cache.recipes.columns import Reading, own_of
from dicom2cache.recipes.limits import Limits
from dicom2cache.records import Candidate
from dicom2cache.schema import FILES
from dicom2cache.sources.place import Opened
from tests.support.dicom_files import CT_IMAGE, DATA_STORE, WHEEL, pattern, uid, write_dicom
from tests.support.kernels import by_numpy, needed
from tests.support.share import TIMES

_KEY = PatientKey(bytes(16))
_TAGS = asked_by(Limits()).tags
_WIDE = 1 << 20
_ITEM, _ITEM_END, _SEQUENCE_END = b"\xfe\xff\0\xe0", b"\xfe\xff\x0d\xe0", b"\xfe\xff\xdd\xe0"


def _header(path: Path, first: int = 16384, then: int = 65536) -> Any:
    """What the compiled walk finds with such windows; what Python does, with one for all of it."""
    with Opened(path) as file:
        file.at_once = first, then
        found = split(file, _TAGS)
        file.at_once = _WIDE, _WIDE
        expected = scan(file, _TAGS)
    whole = None if found is None else found.whole()
    assert whole == expected, path
    return found


def _real() -> list[Path]:
    every = [p for folder in (WHEEL, DATA_STORE) for p in folder.rglob("*") if p.is_file()]
    return sorted(p for p in every if p.stat().st_size > 132)


@needed
def test_every_file_of_pydicom() -> None:
    walked = sum(_header(path) is not None for path in _real())
    assert walked > 120


@needed
def test_windows_that_end_anywhere(tmp_path: Path) -> None:
    """Within a tag, a length, a value that is wanted, a sequence; or before the file's end."""
    rng = random.Random(3)
    some = [p for p in _real() if p.stat().st_size < 50_000]
    for number in range(1000 * TIMES):
        first = rng.choice([800, 1000, 4096])
        found = _header(some[number % len(some)], first, rng.choice([16, 40, 100, 300, 5000]))
        assert found is None or found.raw is None or len(found.raw) < 50_000


@needed
def test_damaged_files(tmp_path: Path) -> None:
    from tests.headers.test_header_scan import _mutated

    rng = random.Random(9)
    bases = [p.read_bytes() for p in _real() if p.stat().st_size < 50_000]
    bases = [b for b in bases if b[128:132] == b"DICM" and b.find(b"\xe0\x7f\x10\0") > 132]
    path, walked = tmp_path / "damaged", 0
    for number in range(3000 * TIMES):
        data = bytearray(bases[number % len(bases)])
        _mutated(data, data.find(b"\xe0\x7f\x10\0"), rng)
        path.write_bytes(data)
        walked += _header(path, rng.choice([1000, 16384])) is not None
    assert walked > 500 * TIMES


def _walk(data: bytes, at: int = 0, last: int = 0, implicit: bool = False) -> Any:
    tags = array("I", sorted(_TAGS)).tobytes()
    return kernel.compiled.scan_walk(data, at, last, implicit, tags, b"", 1024, dictionary_vr)


def _explicit(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    length = len(value) if length is None else length
    wide = vr in (b"OB", b"OW", b"SQ", b"UN", b"UT")
    return head + (struct.pack("<xxI", length) if wide else struct.pack("<H", length)) + value


_PIXELS = _explicit(0x7FE00010, b"OW", bytes(8))


def _nested(depth: int) -> bytes:
    inner = b""
    for _ in range(depth):
        inner = _explicit(0x00081111, b"SQ", _ITEM + b"\xff" * 4 + inner, 0xFFFFFFFF)
        inner += _ITEM_END + bytes(4) + _SEQUENCE_END + bytes(4)
    return inner


@needed
def test_sequences_in_each_other_and_how_deep() -> None:
    for depth in range(1, 40):
        found = _walk(_nested(depth) + _PIXELS)
        assert (found is None) is (depth > 16), depth
        assert found is None or (found[2], found[4]) == (len(_nested(depth)), True)


@needed
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", (0, False)),
        (_PIXELS, (0, True)),
        (_explicit(0x00081111, b"SQ", b"", 0xFFFFFFFE) + _PIXELS, (12 + 0xFFFFFFFE, False)),
        (_explicit(0x00280010, b"US", b"\1\0", 0xFFFF) + _PIXELS, (0, False)),  # wanted: not there
        (_explicit(0x00080001, b"ZZ", b"ab") + _PIXELS, None),
        (_explicit(0x00280010, b"US", b"\1\0") * 2 + _PIXELS, None),
        (_explicit(0x00081111, b"UN", b"", 0xFFFFFFFF) + _PIXELS, None),
        (_explicit(0x00081111, b"SQ", _ITEM + b"\xfe\xff\xff\xff", 0xFFFFFFFF), (0, False)),
        (_explicit(0x00081111, b"SQ", _ITEM_END + bytes(4), 0xFFFFFFFF) + _PIXELS, None),
        (_ITEM + bytes(20), None),
    ],
)  # fmt: skip
def test_lengths_that_lead_anywhere(data: bytes, expected: tuple[int, bool] | None) -> None:
    """At: where an element begins whose end is not here; a place beyond is only said."""
    found = _walk(data)
    assert (found if found is None else (found[2], found[4])) == expected


@needed
def test_what_a_caller_may_get_wrong() -> None:
    assert _walk(_PIXELS, 1 << 63)[2] == 1 << 63
    assert _walk(_PIXELS, (1 << 64) - 1)[4] is False
    walk = kernel.compiled.scan_walk
    assert walk(_PIXELS, 0, 0, False, b"\1\2\3", b"\1" * 7, 0, dictionary_vr)[4]
    undefined = struct.pack("<HHI", 0x0008, 0x1115, 0xFFFFFFFF) + _ITEM + bytes(12)
    for vr_of, raised in ((lambda tag: 1 // 0, ZeroDivisionError), (None, TypeError)):
        with pytest.raises(raised):
            walk(undefined, 0, 0, True, b"", b"", 0, vr_of)
    for said, implicit in ((b"\0" * 9, True), (b"\x08\0\x05\0CS\xff\0", False), (b"abcd", True)):
        with pytest.raises(ValueError, match="no whole elements"):
            kernel.compiled.scan_parts(said, implicit)
    for data in (b"", bytes(140), bytes(132) + b"\2\0\0\0UL\xff\xff", b"\2" * 300):
        assert kernel.compiled.scan_meta(data) is None
    odd: list[Any] = [None, (b"IS",), ("IS", b"1"), (b"IS", "1"), (None, None)]
    for own in ([], {"a": (b"IS", b"1")}, *({0x00200013: raw} for raw in odd)):
        with pytest.raises(TypeError):
            kernel.compiled.scan_values(own)
    assert kernel.compiled.scan_values({}) == (None,) * 9
    with pytest.raises(TypeError):
        walk(_PIXELS, 0, 0, False, b"", b"", 0)


@needed
@settings(max_examples=300 * TIMES, deadline=None, database=None)
@given(data=st.binary(max_size=200), at=st.integers(0, 220), implicit=st.booleans())
def test_any_bytes(data: bytes, at: int, implicit: bool) -> None:
    """Under `make test-kernel` each read beyond them would be seen."""
    found = _walk(data, at, 0, implicit)
    assert found is None or len(found[0]) <= len(data)
    kernel.compiled.scan_meta(bytes(132) + data)


_values = st.one_of(
    st.sampled_from([b"20200101", b"101010.5", b"1.2.3\0", b"7 ", b"-1\\2.5\\3e1", b""]),
    st.text("0123456789.+-eE \\\0", max_size=24).map(str.encode),
    st.lists(st.integers(-999, 999).map(str), min_size=2, max_size=4).map(
        lambda parts: "\\".join(parts).encode()
    ),
    st.from_regex(rb"[0-9]{2,8}(\.[0-9]{1,7})? ?", fullmatch=True),
    st.binary(max_size=6),
)
_vrs = st.sampled_from([None, b"DS", b"IS", b"UI", b"DA", b"TM", b"DT", b"UN", b"LO"])
_usual = {0x00080018: b"UI", 0x00080022: b"DA", 0x00080032: b"TM", 0x0008002A: b"DT",
          0x00200012: b"IS", 0x00200013: b"IS"}  # fmt: skip
_good = {b"UI": b"1.2.3\0", b"DA": b"20200101", b"TM": b"101010.5", b"DT": b"", b"IS": b"7 ",
         b"DS": b"2.5"}  # fmt: skip
_raws = st.tuples(_vrs, st.integers(0, 9).map(lambda k: not k), st.one_of(st.none(), _values))
_seen = [0, 0]


@settings(max_examples=600 * TIMES, deadline=None, database=None)
@given(st.dictionaries(st.sampled_from(sorted(SET)), _raws, max_size=3))
def _test_plain_values(drawn: dict[int, tuple[bytes | None, bool, bytes | None]]) -> None:
    own = {}
    for tag, (vr, odd, value) in sorted(drawn.items()):
        usual = _usual.get(tag, b"DS")
        good = b"1\\-2.5\\3e1" if tag == 0x00200032 else _good[usual]
        own[tag] = vr if odd else usual, good if value is None else value
    plain = plain_values(own)
    with by_numpy():
        assert repr(plain_values(own)) == repr(plain)
    _seen[plain is not None] += 1
    if plain is not None:
        whole = Split(None, own, False, "1.2.840.10008.1.2.1", 0, b"", b"", None)
        assert repr(plain) == repr(series._values(whole))


def test_plain_values_are_those_of_all_others() -> None:
    _seen[:] = 0, 0
    _test_plain_values()
    assert min(_seen) > 60


def _candidate(path: Path) -> Candidate:
    status = path.stat()
    return Candidate(0, path.name, status.st_size, status.st_mtime_ns)


def _series(folder: Path, name: str, count: int, **said: Any) -> list[Path]:
    return [
        write_dicom(
            folder / f"{name}{k}.dcm", pattern(f"{name}{k}", (8, 8)), SOPClassUID=CT_IMAGE,
            Modality="CT", InstanceNumber=k, ImagePositionPatient=[0.5, -1, 2.5 * k],
            AcquisitionTime=f"10101{k}.5", SeriesDescription=name, RescaleSlope=1,
            RescaleIntercept=-1024, SOPInstanceUID=uid(f"{name}{k}"), PatientID=name, **said,
        )
        for k in range(count)
    ]  # fmt: skip


@pytest.fixture(params=["compiled", "python"])
def either(request: pytest.FixtureRequest) -> Iterator[None]:
    """Both ways to walk a header."""
    if request.param == "compiled" and kernel.compiled is None:
        pytest.skip("no C compiler: nothing is compiled")
    series._known.clear()
    with nullcontext() if request.param == "compiled" else by_numpy():
        yield
    series._known.clear()


def test_a_table_of_files_that_are_alike(
    tmp_path: Path, either: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One series after the other, mixed, and with files that are like no other; each as alone."""
    first, second = _series(tmp_path, "a", 5), _series(tmp_path, "b", 4, WindowCenter=40)
    odd = _series(tmp_path, "c", 1, SliceThickness=3)
    expected = {
        path: read_header([str(tmp_path)], _candidate(path), _KEY, scanned=False)
        for path in (*first, *second, *odd)
    }
    alike: list[int] = []
    counted = rows.table_of
    monkeypatch.setattr(
        "dicom2cache.headers.read.table_of",
        lambda some: alike.append(sum(isinstance(one, Alike) for one in some)) or counted(some),
    )
    mixed = [path for pair in zip(first, second, strict=False) for path in pair] + odd
    for paths in (first, first, first[:2], second, first, mixed, mixed[::-1], odd):
        found = read_headers([str(tmp_path)], map(_candidate, paths), _KEY).files
        found.validate(full=True)
        assert found.equals(pa.Table.from_pylist([expected[path] for path in paths], FILES))
    assert alike == [4, 5, 2, 3, 5, 8, 9, 1]


def test_headers_that_come_from_a_worker(tmp_path: Path, either: None) -> None:
    paths = _series(tmp_path, "a", 3)
    (tmp_path / "none.txt").write_text("no image\n")
    some = [*paths, tmp_path / "none.txt"]
    found = read_headers([str(tmp_path)], map(_candidate, some), _KEY)
    found = found._replace(contours=(found.files, found.rejects))
    there = pickle.loads(pickle.dumps(found))
    assert type(there) is type(found)
    assert there == found
    assert (there.files.num_rows, there.rejects.num_rows) == (3, 1)


def test_a_file_that_is_cut_off_within_a_series(tmp_path: Path, either: None) -> None:
    paths = _series(tmp_path, "a", 4)
    with open(paths[2], "r+b") as file:
        file.truncate(paths[2].stat().st_size - 40)
    found = read_headers([str(tmp_path)], map(_candidate, paths), _KEY)
    assert found.files["path"].to_pylist() == ["a0.dcm", "a1.dcm", "a3.dcm"]
    (reject,) = found.rejects.to_pylist()
    assert reject["path"] == "a2.dcm"
    assert "pixel data is truncated: 88 bytes, 128 expected" in reject["reason"]


def test_a_flag_for_a_column_of_one_s_own_is_each_file_s(tmp_path: Path, either: None) -> None:
    """What the first of a series has that is odd is not said of the others."""
    limits = Reading(own=own_of(("AcquisitionNumber", "TriggerTime")), agreed=False)
    paths = _series(tmp_path, "a", 3, TriggerTime="12.5")
    data = paths[0].read_bytes()
    paths[0].write_bytes(data.replace(b"12.5", b"no! "))
    for order in (paths, paths[::-1]):
        series._known.clear()
        said = read_headers([str(tmp_path)], map(_candidate, order), _KEY, limits=limits).files
        flags = dict(zip(said["path"].to_pylist(), said["flags"].to_pylist(), strict=True))
        own = dict(zip(said["path"].to_pylist(), said["own"].to_pylist(), strict=True))
        assert {path for path, some in flags.items() if "own-column-unlike" in (some or ())} == {
            "a0.dcm"
        }
        assert own == {
            "a0.dcm": [None, None],
            "a1.dcm": [None, ["12.5"]],
            "a2.dcm": [None, ["12.5"]],
        }


def test_long_values_are_not_thought_to_be_shared(tmp_path: Path, either: None) -> None:
    _series(tmp_path, "a", 2, ImageComments="x" * (LONGEST + 2))
    _series(tmp_path, "b", 2, LossyImageCompressionRatio=["1.5"] * 300)
    found = read_headers([str(tmp_path)], map(_candidate, sorted(tmp_path.iterdir())), _KEY)
    assert found.files.num_rows == 4
    assert CHARSET not in SET
