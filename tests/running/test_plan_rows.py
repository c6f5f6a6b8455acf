"""Rows of a plan as mappings: they are what their table says, here and in a child process."""

from __future__ import annotations

import pickle

import pyarrow as pa
import pytest

from dicom2cache.arrow import lazy_rows


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
