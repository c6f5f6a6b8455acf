"""Structure sets to rows of contours/: what they say, and what they say wrongly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicom2cache.errors import FrameError, NoPixels
from dicom2cache.headers.structures import read_structures
from dicom2cache.pixels.outlines import structures_in
from dicom2cache.recipes.limits import Limits
from dicom2cache.records import Candidate
from tests.support.dicom_files import real, uid
from tests.support.structures import XOR, box, circle, contour, write_structures


def read(path: Path, limits: Limits | None = None) -> pa.Table:
    about = path.stat()
    candidate = Candidate(0, path.name, about.st_size, about.st_mtime_ns)
    return read_structures(str(path), candidate, limits or Limits())


def one(tmp_path: Path, *contours: Dataset, **elements: Any) -> pa.Table:
    return read(write_structures(tmp_path / "rt.dcm", [("liver", contours)], **elements))


def test_a_real_file() -> None:
    rows = read(real("rtstruct.dcm")).to_pylist()
    said = [(r["structure"], r["name"], r["type"], r["contour"], r["geometry"]) for r in rows]
    assert said == [
        (1, "patient", "EXTERNAL", 0, "CLOSED_PLANAR"),
        (1, "patient", "EXTERNAL", 1, "CLOSED_PLANAR"),
        (1, "patient", "EXTERNAL", 2, "CLOSED_PLANAR"),
        (2, "Isocenter 1", "ISOCENTER", 0, "POINT"),
        (3, "Isocenter 2", "ISOCENTER", 0, "POINT"),
    ]
    assert rows[0]["points"][:6] == [-200, 150, -200, -200, -150, -200]
    assert (rows[0]["colour"], rows[0]["algorithm"]) == ([220, 160, 120], "MANUAL")
    assert rows[0]["referenced_series_uid"] == "1.2.826.0.1.3680043.8.498.2010020400001.2.1.1"
    assert rows[0]["frame_of_reference_uid"] == "1.2.826.0.1.3680043.8.498.2010020400001.2"
    assert rows[0]["patient"] == "tPhantom30sep"


SYNTAXES = [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: str(uid.name))
def test_a_contour_is_kept_as_it_is(tmp_path: Path, syntax: str) -> None:
    image = Dataset()
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = "1.2.3", "1.2.3.4"
    image.ReferencedFrameNumber = 7
    drawn = contour(
        [(1.5, -2.25, 3), (4, 5e-3, 3), (0, 9, 3)], ContourImageSequence=[image],
        ContourSlabThickness="2.5", ContourOffsetVector=[0, 0, 1.25],
    )  # fmt: skip
    row = one(tmp_path, drawn, syntax=syntax).to_pylist()[0]
    assert row["points"] == [1.5, -2.25, 3, 4, 0.005, 3, 0, 9, 3]
    assert (row["referenced_sop_uid"], row["referenced_frame"]) == ("1.2.3.4", 7)
    assert (row["slab_thickness"], row["slab_offset"]) == (2.5, [0, 0, 1.25])
    assert (row["name"], row["structure"], row["colour"]) == ("liver", 1, [255, 0, 1])
    assert (row["sop_uid"], row["flags"]) == (uid("rt.dcm"), None)


@pytest.mark.filterwarnings("ignore:.*exceeds the size of 64 kByte")
def test_a_contour_of_more_than_64_kib(tmp_path: Path) -> None:
    points = circle(0, 0, 0, 100, 5000)
    found = one(tmp_path, contour(points))["points"][0].as_py()
    assert np.allclose(np.reshape(found, (-1, 3)), points, atol=1e-7)


OPEN = box(1, 1, 5, 5)


def test_structures_to_fill_by_number(tmp_path: Path) -> None:
    thick = contour(box(3, 3, 4, 4), XOR, ContourSlabThickness="5")
    path = write_structures(
        tmp_path / "rt.dcm",
        [
            ("liver", [contour(box(1, 1, 5, 5)), contour([(1, 1, 1)], "POINT")]),
            ("line", [contour(OPEN, "OPEN_PLANAR"), contour(OPEN, "OPEN_NONPLANAR")]),
            ("empty", []),
            ("ring", [contour(box(2, 2, 8, 8), XOR), thick]),
        ],
    )
    table = read(path)
    assert table["name"].to_pylist() == ["liver"] * 2 + ["line"] * 2 + ["ring"] * 2 + ["empty"]
    assert table["contour"].to_pylist() == [0, 1, 0, 1, 0, 1, None]
    assert table["points"][6].as_py() is None
    found = structures_in(table)
    assert {number: len(outlines) for number, outlines in found.items()} == {1: 1, 4: 2}
    assert found[1].points.tolist() == box(1, 1, 5, 5).tolist()
    assert found[4].points.tolist() == [*box(2, 2, 8, 8).tolist(), *box(3, 3, 4, 4).tolist()]
    assert (found[1].xor.tolist(), found[4].xor.tolist()) == ([False], [True, True])
    assert np.array_equal(found[4].slab, [np.nan, 5.0], equal_nan=True)


def test_less_than_three_points_are_not_drawn_nor_a_plane(tmp_path: Path) -> None:
    line = contour([(1, 1, 1), (2, 2, 1)])
    path = write_structures(
        tmp_path / "rt.dcm", [("a", [line, contour(box(1, 1, 5, 5))]), ("line", [line])]
    )
    found = structures_in(read(path))
    assert {number: len(outlines) for number, outlines in found.items()} == {1: 1}
    assert found[1].points.tolist() == box(1, 1, 5, 5).tolist()


def test_less_than_three_points_have_no_area(tmp_path: Path) -> None:
    table = one(tmp_path, contour([(1, 1, 1)]), contour([(1, 1, 1), (2, 2, 1)]))
    assert table["flags"].to_pylist() == [["no-area"], ["no-area"]]


def test_a_structure_that_is_not_listed_keeps_its_contours(tmp_path: Path) -> None:
    table = one(tmp_path, contour(box(1, 1, 5, 5)), StructureSetROISequence=[])
    row = table.to_pylist()[0]
    assert (row["structure"], row["name"], row["flags"]) == (1, None, ["structure-unknown"])


GOOD = contour(box(1, 1, 5, 5))
BAD = {
    "count": (
        contour(box(1, 1, 5, 5), NumberOfContourPoints=5),
        "structure 1, contour 2: NumberOfContourPoints (3006,0046) is '5', and ContourData "
        "(3006,0050) has 4 points",
    ),
    "two values for a point": (
        contour(box(1, 1, 5, 5), ContourData=["1", "2", "3", "4"], NumberOfContourPoints=None),
        "ContourData (3006,0050) has 4 numbers; legal: three for each point",
    ),
    "kind": (contour(box(1, 1, 5, 5), "CLOSED"), "ContourGeometricType (3006,0042) is 'CLOSED'"),
    "no kind": (contour(box(1, 1, 5, 5), ContourGeometricType=None), "is absent"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_contour_that_contradicts_itself_costs_the_file(tmp_path: Path, name: str) -> None:
    bad, words = BAD[name]
    with pytest.raises(FrameError) as said:
        one(tmp_path, GOOD, bad)
    assert words in str(said.value)


NO_NUMBERS = [b"nan", b"inf", b"-", b"1e5e", b"0x1p", b"1 2 ", b"1_00", b"    ", b"9e99"]


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_what_is_no_number_costs_the_file(tmp_path: Path, text: bytes) -> None:
    path = write_structures(
        tmp_path / "rt.dcm", [("liver", [GOOD, contour([(1, 2, 3), (4, 7654, 6), (7, 8, 9)])])]
    )
    data = path.read_bytes()
    assert data.count(b"\\7654\\") == 1
    path.write_bytes(data.replace(b"\\7654\\", b"\\" + text.ljust(4)[:4] + b"\\"))
    with pytest.raises(FrameError) as said:
        read(path)
    assert "structure 1, contour 2: ContourData (3006,0050) holds" in str(said.value)
    assert repr(text.decode().ljust(4)[:4]) in str(said.value)


def test_padding_of_numbers_is_legal(tmp_path: Path) -> None:
    path = write_structures(tmp_path / "rt.dcm", [("liver", [contour([(1, 2, 3), (4, 7654, 6)])])])
    path.write_bytes(path.read_bytes().replace(b"\\7654\\", b"\\ +5 \\"))
    assert read(path)["points"].to_pylist() == [[1, 2, 3, 4, 5, 6]]


def test_two_structures_of_one_number_cost_the_file(tmp_path: Path) -> None:
    path = write_structures(tmp_path / "rt.dcm", [("liver", [GOOD]), ("spleen", [])])
    ds = dcmread(path)
    ds.StructureSetROISequence[1].ROINumber = 1
    ds.save_as(path)
    with pytest.raises(FrameError, match=r"ROINumber .3006,0022. 1, so that nobody knows"):
        read(path)


def test_a_number_that_is_none_costs_the_file(tmp_path: Path) -> None:
    path = write_structures(tmp_path / "rt.dcm", [("liver", [GOOD])])
    ds = dcmread(path)
    del ds.ROIContourSequence[0].ReferencedROINumber
    ds.save_as(path)
    with pytest.raises(FrameError, match=r"ReferencedROINumber .3006,0084. .* is absent"):
        read(path)


def test_no_contours_are_no_fault(tmp_path: Path) -> None:
    with pytest.raises(NoPixels, match=r"no contours"):
        one(tmp_path)


def test_more_items_than_the_limit_cost_the_file(tmp_path: Path) -> None:
    path = write_structures(tmp_path / "rt.dcm", [("liver", [GOOD] * 60)])
    assert read(path).num_rows == 60
    with pytest.raises(FrameError, match=r"limits.header_items=50"):
        read(path, Limits(header_items=50))
