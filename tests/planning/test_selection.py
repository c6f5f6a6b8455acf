"""Copies under one SOP Instance UID, on tables without files; and rows of large tables."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dicom2cache.arrow import rows_of, tally
from dicom2cache.planning import select
from dicom2cache.recipes.recipe import Recipe
from dicom2cache.running import inventory
from tests.support.caches import built, by_path, failures
from tests.support.dicom_files import write_dicom
from tests.support.plans import files, header


def test_repeated_files_are_dropped_and_other_pixels_flagged() -> None:
    table = files(
        [
            header("a.dcm", sop_uid="1"),
            header("b.dcm", sop_uid="2", flags=["slope-zero"]),
            header("c.dcm", sop_uid="1"),
            header("d.dcm", sop_uid=None),
            header("e.dcm", sop_uid="2"),
            header("f.dcm", sop_uid=None),
            header("g.dcm", sop_uid="3"),
            header("h.dcm", sop_uid="2", root=1),
        ]
    )
    table = pa.concat_tables([table.slice(0, 3), table.slice(3)])  # as planning makes it
    rows = select.same_sop(table)
    assert rows.tolist() == [0, 1, 2, 4, 7]
    kept, rejects = select.drop_duplicates(table, rows, ["x", "y", "x", "z", "y"])
    assert list(zip(kept["path"].to_pylist(), kept["flags"].to_pylist(), strict=True)) == [
        ("a.dcm", None),
        ("b.dcm", ["slope-zero", "sop-uid-repeated"]),
        ("d.dcm", None),
        ("e.dcm", ["sop-uid-repeated"]),
        ("f.dcm", None),
        ("g.dcm", None),
    ]
    same = [(r["same_root"], r["same_path"], r["same_frame"]) for r in rejects.to_pylist()]
    assert same == [(0, "a.dcm", 0), (0, "b.dcm", 0)]
    assert [(r["root"], r["path"], r["reason"]) for r in rejects.to_pylist()] == [
        (0, "c.dcm", "duplicate of a.dcm: same SOP Instance UID, same pixels"),
        (1, "h.dcm", "duplicate of b.dcm of source 0: same SOP Instance UID, same pixels"),
    ]


def test_rows_of_a_table_in_pieces() -> None:
    table = pa.concat_tables(
        [pa.table({"n": [0, 1, 2]}), pa.table({"n": [3]}), pa.table({"n": [4]})]
    )
    assert rows_of(table, [1, 2, 4])["n"].to_pylist() == [1, 2, 4]
    assert rows_of(table, []).num_rows == 0


def test_tally() -> None:
    said = tally(pa.chunked_array([["a", "b"], ["a"]]))
    assert (said["a"], said["b"], said["c"]) == (2, 1, 0)


def test_headers_are_objects_a_few_at_a_time() -> None:
    """5,000 of them at once are more than 20 MB."""
    one = files([header("a.dcm")])
    table = pa.concat_tables([one] * 5000).combine_chunks()
    tracemalloc.start()
    try:
        count = sum(1 for _ in inventory._objects(table, np.arange(5000)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 5000
    assert peak < 4 << 20


_CT = {
    "sop_uid": "1", "position": [0.0, 0.0, 5.0], "orientation": [1.0, 0, 0, 0, 1, 0],
    "slope": 1.0, "series_uid": "s", "instance": 3,
}  # fmt: skip


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ({}, True),
        ({"transfer_syntax": "1.2.840.10008.1.2.4.90", "pixel_offset": 700}, True),  # recompressed
        ({"windows": [{"center": 1.0, "width": 2.0, "function": "LINEAR", "explanation": None}]},
         True),  # another look
        ({"sex": "F", "age": 41.0, "lossy": True, "flags": ["slope-zero"]}, True),
        ({"position": [0.0, 0.0, 10.0]}, False),
        ({"orientation": [0.0, 1, 0, 0, 0, -1]}, False),
        ({"spacing_y": 0.5}, False),
        ({"slope": 2.0}, False),
        ({"unit": "HU"}, False),
        ({"echo_time": 80.0}, False),
        ({"instance": 4}, False),
        ({"series_uid": "t"}, False),
        ({"patient": "another"}, False),
        ({"frames": 2, "per_frame": [{"position": [0.0, 0, 1]}, {"position": [0.0, 0, 2]}]}, False),
    ],
)  # fmt: skip
def test_copies_are_equal_in_geometry_and_meaning(other: dict[str, Any], same: bool) -> None:
    table = files([header("a.dcm", **_CT), header("b.dcm", **{**_CT, **other})])
    rows = select.same_sop(table)
    assert rows.tolist() == [0, 1]
    assert select.copies(table, rows, select.meanings(table, rows, Recipe())).tolist() == [
        same,
        same,
    ]


_WINDOW = {"center": 1.0, "width": 2.0, "function": "LINEAR", "explanation": None}


@pytest.mark.parametrize(
    ("other", "window", "same"),
    [
        ({"windows": [_WINDOW]}, ("dicom",), False),  # pixels follow from it
        ({"windows": [_WINDOW]}, ("lung", "dicom"), False),
        ({"voi_lut": True}, ("dicom",), False),
        ({"sex": "F"}, ("dicom",), True),
        ({"windows": [_WINDOW]}, ("lung",), True),
    ],
)
def test_copies_look_equal_where_the_window_is_the_file_s_own(
    other: dict[str, Any], window: tuple[str, ...], same: bool
) -> None:
    table = files([header("a.dcm", **_CT), header("b.dcm", **{**_CT, **other})])
    rows = select.same_sop(table)
    codes = select.meanings(table, rows, Recipe(window=window))
    assert select.copies(table, rows, codes).tolist() == [same, same]


def test_of_two_copies_the_one_with_a_window_is_stored(tmp_path: Path) -> None:
    pixels = np.array([[0, 50], [100, 200]], np.uint8)
    write_dicom(tmp_path / "in" / "a.dcm", pixels, SOPInstanceUID="1.2.3")
    write_dicom(
        tmp_path / "in" / "b.dcm", pixels, SOPInstanceUID="1.2.3", WindowCenter=100.5,
        WindowWidth=101,
    )  # fmt: skip
    cache = built(tmp_path / "in", tmp_path / "cache", "--window", "dicom", status=1)
    ((path, (outcome, reason)),) = failures(cache).items()
    assert (path, outcome) == (("a.dcm", None), "failed")  # foreseen: no frame of it is decoded
    assert "window dicom" in reason
    row, found = by_path(cache)["b.dcm", 0]
    assert found.tolist() == [[0, 0], [128, 255]]  # from 50 to 150
    assert row["flags"] is None  # the only one that is stored


def test_copies_of_multi_frame_files_are_equal_in_every_frame() -> None:
    def of(z: float) -> dict[str, Any]:
        frames = [{"position": [0.0, 0.0, 0.0]}, {"position": [0.0, 0.0, z]}]
        return {**_CT, "frames": 2, "per_frame": frames}

    table = files([header(f"{k}.dcm", **of(z)) for k, z in enumerate((1.0, 1.0, 2.0))])
    rows = select.same_sop(table)
    assert select.copies(table, rows, select.meanings(table, rows, Recipe())).tolist() == [
        True,
        True,
        False,
    ]
    _, rejects = select.drop_duplicates(table, rows, ["x", "x", "y"])
    (row,) = rejects.to_pylist()
    assert (row["same_root"], row["same_path"], row["same_frame"]) == (0, "0.dcm", None)
