"""Rows of a plan as mappings: they are what their table says, here and in a child process."""

from __future__ import annotations

import pickle
from typing import Any

import pyarrow as pa
import pytest

from dicom2cache.arrow import lazy_rows, objects


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, None, -3], pa.int32()),
        ([1, 2, 1 << 63], pa.uint64()),
        ([1.5, None, -0.0], pa.float64()),
        ([1.5, None], pa.float32()),
        ([True, None, False], pa.bool_()),
        (["a", None, "", "a"], pa.string()),
        (["a", None, "b", "a"], pa.dictionary(pa.int8(), pa.string())),
        ([None, None], pa.dictionary(pa.int8(), pa.string())),
        ([], pa.string()),
        ([None, None], pa.int64()),
        ([[1, None], None, []], pa.list_(pa.int16())),
        ([{"a": 1}, None], pa.struct([("a", pa.int8())])),
    ],
)
def test_objects_are_what_arrow_makes(values: list[Any], kind: pa.DataType) -> None:
    found = objects(pa.array(values, kind))
    assert (found, [*map(type, found)]) == (values, [*map(type, values)])


def test_some_rows_of_several_batches() -> None:
    column = pa.chunked_array([["a", "b"], [], ["c", "d", "e"]])
    table = pa.table({"name": column, "number": pa.chunked_array([[0, 1], [], [2, 3, 4]])})
    rows = lazy_rows(table, [1, 2, 4])
    assert [(row["name"], row["number"]) for row in rows] == [("b", 1), ("c", 2), ("e", 4)]
    assert lazy_rows(table, []) == []


def test_rows_are_their_table_s() -> None:
    table = pa.table({"a": [1, None], "b": [["x"], []], "c": [1.5, 2.5]})
    first, second = lazy_rows(table)
    assert (second["a"], first["b"], second["b"]) == (None, ["x"], [])
    assert {**first, "d": 0} == {"a": 1, "b": ["x"], "c": 1.5, "d": 0}
    assert (list(second), len(second), "c" in second, "d" in second) == (
        ["a", "b", "c"],
        3,
        True,
        0,
    )
    assert (second.get("d"), second.get("c")) == (None, 2.5)
    with pytest.raises(KeyError):
        second["d"]
    sent = pickle.loads(pickle.dumps(second))
    assert type(sent) is dict
    assert sent == {"a": None, "b": [], "c": 2.5}
