"""Columns that a user names by their elements: values, types, what is refused, what lies."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydicom.dataelem import DataElement
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom2cache import Recipe
from dicom2cache.errors import RecipeError
from dicom2cache.recipes.columns import own_of
from tests.support.caches import attributes, built, run_here
from tests.support.dicom_files import write_dicom
from trainer_adapter import FrameDataset, open_cache

COLUMNS = [
    "SeriesDescription", "ExposureTime", "PixelBandwidth", "StudyDate", "ImageOrientationPatient",
    '(0019,"SIEMENS MR HEADER",0C)', "(0019,100C) IS", "GEMS_PARM_01 (0043,xx39) IS",
    "PatientComments",
]  # fmt: skip
NAMES = [
    "SeriesDescription", "ExposureTime", "PixelBandwidth", "StudyDate", "ImageOrientationPatient",
    "tag_0019_xx0c_siemens_mr_header", "tag_0019_100c", "tag_0043_xx39_gems_parm_01",
    "PatientComments",
]  # fmt: skip


def _recipe(folder: Path, columns: list[str], identifying: bool = True) -> str:
    path = folder / "own.toml"
    said = "true" if identifying else "false"
    path.write_text(f"columns = {json.dumps(columns)}\nidentifying = {said}\n")
    return str(path)


def _scan(folder: Path, name: str, syntax: str = ExplicitVRLittleEndian, **more: Any) -> None:
    value = int(name[0])
    pixels = np.full((8, 8), value, np.uint8)
    said = {
        "SeriesDescription": "T1 ax", "ExposureTime": "12", "PixelBandwidth": "130.5",
        "StudyDate": "20240229", "ImageOrientationPatient": [1, 0, 0, 0, 0.5, 0],
        "private creator": DataElement((0x0019, 0x0010), "LO", "SIEMENS MR HEADER"),
        "private b": DataElement((0x0019, 0x100C), "IS", str(1000 + value)),
        "private other": DataElement((0x0043, 0x0012), "LO", "GEMS_PARM_01"),
        "private c": DataElement((0x0043, 0x1239), "IS", "7"),
        "PatientComments": "moved", "InstanceNumber": str(value), **more,
    }  # fmt: skip
    said = {name: value for name, value in said.items() if value is not None}
    write_dicom(folder / name, pixels, syntax=syntax, **said)


def _rows(cache: Path, names: list[str] = NAMES) -> list[list[Any]]:
    table = open_cache(cache).frames
    order = np.argsort(table["path"].to_pylist())
    return [[table[name][int(i)].as_py() for name in names] for i in order]


_VALUES = ["T1 ax", 12, 130.5, "20240229", [1, 0, 0, 0, 0.5, 0], 1001, 1001, 7, "moved"]


def test_values_and_types(tmp_path: Path) -> None:
    _scan(tmp_path / "in", "1.dcm")
    _scan(tmp_path / "in", "2.dcm", ImplicitVRLittleEndian)
    _scan(tmp_path / "in", "3.dcm")  # like the first but for what is its own
    cache = built(tmp_path / "in", tmp_path / "cache", "--recipe", _recipe(tmp_path, COLUMNS))
    one, two, three = _rows(cache)
    assert one == _VALUES
    assert two == [*_VALUES[:5], 1002, 1002, 7, "moved"]
    assert three == [*_VALUES[:5], 1003, 1003, 7, "moved"]
    table = open_cache(cache).frames
    reals = pa.list_(pa.float64())
    kinds = [table.schema.field(name).type for name in NAMES[1:8]]
    assert kinds == [pa.int64(), pa.float64(), pa.string(), reals, *[pa.int64()] * 3]
    assert attributes(cache)["recipe"]["columns"] == COLUMNS
    assert attributes(cache)["recipe"]["identifying"] is True
    assert run_here("verify", cache, "--deep", "1").returncode == 0


def test_a_reader_selects_and_labels_by_them(tmp_path: Path) -> None:
    for name, text in (("1.dcm", "T1"), ("2.dcm", "T2"), ("3.dcm", "T1")):
        _scan(tmp_path / "in", name, SeriesDescription=text)
    cache = built(tmp_path / "in", tmp_path / "cache", "--recipe", _recipe(tmp_path, COLUMNS))
    opened = open_cache(cache)
    assert len(opened.select("SeriesDescription == 'T1' and ExposureTime > 11")) == 2
    assert len(opened.select(tag_0019_100c=1002)) == 1
    assert FrameDataset(opened, "SeriesDescription").classes == ["T1", "T2"]


def test_values_that_lie_are_null_and_flagged(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    _scan(folder, "1.dcm", ExposureTime=None, SeriesDescription="")
    _scan(folder, "2.dcm", odd=DataElement((0x0018, 0x0095), "LO", "wide"), PixelBandwidth=None)
    _scan(folder, "3.dcm", odd=DataElement((0x0018, 0x1150), "LO", "3\\4"), ExposureTime=None)
    _scan(folder, "4.dcm", odd=DataElement((0x0018, 0x1150), "LO", "1e30"), ExposureTime=None)
    _scan(folder, "5.dcm", SeriesDescription="x" * 2000)
    cache = built(folder, tmp_path / "cache", "--recipe", _recipe(tmp_path, COLUMNS))
    assert _rows(cache, [*NAMES[:3], "flags"]) == [
        [None, None, 130.5, None],
        ["T1 ax", 12, None, ["own-column-unlike"]],
        ["T1 ax", None, 130.5, ["own-column-unlike"]],
        ["T1 ax", None, 130.5, ["own-column-unlike"]],
        [None, 12, 130.5, ["own-column-unlike"]],
    ]


@pytest.mark.parametrize("charset", [None, "ISO_IR 999"])  # by the scan, and by pydicom
def test_a_date_is_no_number_for_calling_it_one(tmp_path: Path, charset: str | None) -> None:
    """Where the file says what a private element is."""
    for name, vr, value in (("1.dcm", "DA", "19700101"), ("2.dcm", "LO", "4711"),
                            ("3.dcm", "DS", "8"), ("4.dcm", "UN", b"9 ")):  # fmt: skip
        odd = DataElement((0x0019, 0x100C), vr, value)
        more = {"SpecificCharacterSet": charset} if charset else {}
        _scan(tmp_path / "in", name, **{"private b": odd}, **more)
    said = ['(0019,"SIEMENS MR HEADER",0C) IS']
    cache = built(tmp_path / "in", tmp_path / "cache", "--recipe", _recipe(tmp_path, said, False))
    assert _rows(cache, ["tag_0019_xx0c_siemens_mr_header"]) == [[None], [None], [8], [9]]
    flags = [row[0] or [] for row in _rows(cache, ["flags"])]
    assert ["own-column-unlike" in each for each in flags] == [True, True, False, False]


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        (["SeriesDescripton"], "did you mean SeriesDescription"),
        (["SeriesDescription"], "identifying = true"),
        (["PatientName"], "identifying = true"),
        (["StudyInstanceUID"], "identifying = true"),
        (["StudyDate"], "identifying = true"),
        (["PatientWeight"], "identifying = true"),
        (["(0019,100C)"], "identifying = true"),  # nobody knows what it holds
        (["(0019,100C) LO"], "identifying = true"),
        (["(0019,100C) IS"], "identifying = true"),  # a patient's number, perhaps
        (['(0019,"WHO KNOWS",0C) IS'], "identifying = true"),
        (['(0011,"GEMS_PATI_01",10) LO'], "identifying = true"),
        (["(0018,1151) XX"], "no VR"),
        (["PixelData"], "legal: elements of a header"),
        (["ReferencedImageSequence"], "no sequences"),
        (["(0018,FFFE)"], "the standard does not have"),
        (["TransferSyntaxUID"], "legal: elements of a header"),
        (["Rows", "(0028,0010)"], "there is a column Rows already"),
        (["Modality"], "there is a column Modality already"),
        ("Rows", "legal: a list of elements"),
        ([""], "is no element"),
        (["GPSLatitude"], "identifying = true"),  # of (0016,xxxx)
        (["GPSLatitudeRef"], "identifying = true"),
        (["ModifyingDeviceID"], "identifying = true"),
        (["SelectorISValue"], "identifying = true"),
    ],
)
def test_what_is_no_column_is_refused(columns: Any, why: str) -> None:
    with pytest.raises(RecipeError, match="recipe: columns") as refused:
        Recipe(columns=columns)
    assert why in str(refused.value)


def test_what_tells_little_needs_no_consent() -> None:
    said = (
        "ExposureTime",
        "BodyPartThickness",
        "SoftwareVersions",
        '(0019,"SIEMENS MR HEADER",0C)',
    )
    assert Recipe(columns=said).identifying is False
    assert [one.name for one in own_of(said)] == [*said[:3], "tag_0019_xx0c_siemens_mr_header"]


def test_all_of_the_profile_needs_consent() -> None:
    """PS3.15 table E.1-1: what can be a column at all, of its 652 single tags."""
    lines = (
        Path(__file__).parents[1].joinpath("privacy", "table-e-1-1.txt").read_text().splitlines()
    )
    tags = " ".join(line for line in lines if not line.startswith("#")).split()
    columns = []
    for tag in tags:
        with suppress(RecipeError):  # sequences, bytes, what pydicom does not know yet
            columns += own_of((f"({tag[:4]},{tag[4:]})",))
    assert (len(tags), len(columns)) == (652, 541)
    assert [one.keyword for one in columns if not one.identifying] == []


def test_words_of_no_list_need_consent(tmp_path: Path) -> None:
    """A CS element that holds free text (PS3.5 6.2: 16 capitals, digits, blanks, underscores)."""
    said = (["FS", "CG_1"], "Mrs Smith", "SMITH^JANE", "BORN 1970 IN PARIS", "")
    for k, value in enumerate(said):
        odd = DataElement((0x0018, 0x0022), "CS", value)
        _scan(tmp_path / "in", f"{k}.dcm", ScanOptions=odd)
    recipe = _recipe(tmp_path, ["ScanOptions"], identifying=False)
    cache = built(tmp_path / "in", tmp_path / "cache", "--recipe", recipe)
    assert _rows(cache, ["ScanOptions"]) == [["FS\\CG_1"], *[[None]] * 4]
    odd = ["own-column-unlike" in (row[0] or []) for row in _rows(cache, ["flags"])]
    assert odd == [False, True, True, True, False]
    recipe = _recipe(tmp_path, ["ScanOptions"])
    agreed = built(tmp_path / "in", tmp_path / "agreed", "--recipe", recipe)
    assert _rows(agreed, ["ScanOptions"])[1:4] == [[value] for value in said[1:4]]


def test_a_report_tells_of_consent_and_values(tmp_path: Path) -> None:
    _scan(tmp_path / "in", "1.dcm")
    _scan(tmp_path / "in", "2.dcm", ExposureTime=None)
    recipe = _recipe(tmp_path, ["ExposureTime", "SeriesDescription"])
    cache = built(tmp_path / "in", tmp_path / "cache", "--recipe", recipe)
    page = tmp_path / "page.html"
    assert run_here("report", cache, "-o", page, "--pictures", "0").returncode == 0
    text = re.sub(r"(<[^>]+>\s*)+", "|", page.read_text())
    assert "|ExposureTime|ExposureTime|IS: int64|1|not needed|" in text
    assert "|SeriesDescription|LO: string|2|given (identifying)|" in text


def test_an_update_and_a_removal_keep_them(tmp_path: Path) -> None:
    _scan(tmp_path / "a", "1.dcm")
    cache = built(tmp_path / "a", tmp_path / "cache", "--recipe", _recipe(tmp_path, COLUMNS))
    _scan(tmp_path / "b", "2.dcm")
    assert run_here("update", tmp_path / "b", cache, "-j1").returncode == 0
    assert [row[5] for row in _rows(cache)] == [1001, 1002]
    assert run_here("remove", cache, "--where", "tag_0019_100c == 1001").returncode == 0
    assert [row[:2] + row[5:6] for row in _rows(cache)] == [["T1 ax", 12, 1002]]
    other = built(tmp_path / "a", tmp_path / "other")
    ran = run_here("merge", cache, other, tmp_path / "both")
    assert ran.returncode == 2
    assert "columns" in ran.stderr
    same = built(tmp_path / "a", tmp_path / "same", "--recipe", _recipe(tmp_path, COLUMNS))
    third = built(tmp_path / "b", tmp_path / "third", "--recipe", _recipe(tmp_path, COLUMNS))
    assert run_here("merge", same, third, tmp_path / "both").returncode == 0
    assert [row[5] for row in _rows(tmp_path / "both")] == [1001, 1002]
    assert run_here("verify", tmp_path / "both").returncode == 0


def test_no_text_of_theirs_is_in_a_deidentified_cache(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(bytes(range(32)))
    key.chmod(0o600)
    _scan(tmp_path / "in", "1.dcm", SequenceName="Mrs Smith")
    ran = run_here("build", tmp_path / "in", tmp_path / "c", "--deidentify", str(key), "--recipe",
                   _recipe(tmp_path, COLUMNS))  # fmt: skip
    assert ran.returncode == 2
    assert "identifying and --deidentify contradict" in ran.stderr
    recipe = _recipe(tmp_path, ["SequenceName", "ExposureTime"], identifying=False)
    cache = built(tmp_path / "in", tmp_path / "c", "--deidentify", str(key), "--recipe", recipe)
    assert _rows(cache, ["SequenceName", "ExposureTime"]) == [[None, 12]]


def test_a_build_with_other_columns_in_the_same_process_has_its_own(tmp_path: Path) -> None:
    """Rows of a series are remembered."""
    for name in ("1.dcm", "2.dcm"):
        _scan(tmp_path / "in", name)
    for columns in (["ExposureTime", "PixelBandwidth"], ["PixelBandwidth", "ExposureTime"]):
        with_them = tmp_path / columns[0]
        built(tmp_path / "in", with_them, "--recipe", _recipe(tmp_path, columns))
        assert _rows(with_them, ["ExposureTime", "PixelBandwidth"]) == [[12, 130.5]] * 2
