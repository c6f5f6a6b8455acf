"""`where` expressions, against three-valued logic in plain Python.

Recipes and `Cache.select` have each a reader of them, of two packages: both are held to all this.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import dataset

from dicom2cache.errors import RecipeError
from dicom2cache.recipes.where import parse_where
from dicom2cache.schema import FILE_COLUMNS
from trainer_adapter.reading.where import parse_where as parse_text

_COLUMNS = ("modality", "kvp", "instance", "burned_in")
_SCHEMA = pa.schema(
    [("modality", pa.string()), ("kvp", pa.float64()), ("instance", pa.int32()),
     ("burned_in", pa.bool_())]
)  # fmt: skip
_ROWS: list[dict[str, Any]] = [
    {"modality": modality, "kvp": kvp, "instance": instance, "burned_in": burned}
    for modality in (None, "CT", "MR")
    for kvp in (None, 80.0, 120.5)
    for instance in (None, 1, 2)
    for burned in (None, False, True)
]

READERS: tuple[Callable[[str, tuple[str, ...]], Any], ...] = (
    parse_where,
    lambda text, columns: parse_text(text, columns)[0],
)
ERRORS = (RecipeError, (ValueError, KeyError))
"""that the readers raise, and no others"""

Row = dict[str, Any]
Truth = Callable[[Row], bool | None]
_OPERATORS = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def _holds(expression: pc.Expression) -> list[bool]:
    table = pa.Table.from_pylist(_ROWS, _SCHEMA)
    found = dataset.dataset(table).to_table(columns={"holds": expression})["holds"]
    return [value is True for value in found.to_pylist()]  # a null is not true


_LITERALS = {
    "modality": st.sampled_from(["CT", "MR", "PT"]),
    "kvp": st.sampled_from([80.0, 100, 120.5]),
    "instance": st.sampled_from([0, 1, 2]),
}


@st.composite
def _comparison(draw: st.DrawFn) -> tuple[str, Truth]:
    name = draw(st.sampled_from(sorted(_LITERALS)))
    form = draw(st.sampled_from(["plain", "mirrored", "in", "not in", "is", "is not", "chain"]))
    if form in ("is", "is not"):
        return f"{name} {form} None", lambda r: (r[name] is None) == (form == "is")
    if form in ("in", "not in"):
        values = draw(st.lists(_LITERALS[name], min_size=1, max_size=3))
        return (
            f"{name} {form} {values!r}",
            lambda r: None if r[name] is None else (r[name] in values) == (form == "in"),
        )
    sign, value = draw(st.sampled_from(sorted(_OPERATORS))), draw(_LITERALS[name])
    compare = _OPERATORS[sign]
    if form == "plain":
        return (
            f"{name} {sign} {value!r}",
            lambda r: None if r[name] is None else compare(r[name], value),
        )
    if form == "mirrored":
        return (
            f"{value!r} {sign} {name}",
            lambda r: None if r[name] is None else compare(value, r[name]),
        )
    low, high = draw(_LITERALS[name]), draw(_LITERALS[name])
    return (
        f"{low!r} <= {name} < {high!r}",
        lambda r: None if r[name] is None else low <= r[name] < high,
    )


def _not(part: tuple[str, Truth]) -> tuple[str, Truth]:
    text, truth = part

    def opposite(row: Row) -> bool | None:
        value = truth(row)
        return None if value is None else not value

    return f"not ({text})", opposite


def _joined(parts: tuple[tuple[str, Truth], tuple[str, Truth]], word: str) -> tuple[str, Truth]:
    (a, left), (b, right) = parts

    def both(row: Row) -> bool | None:
        values = {left(row), right(row)}
        decisive = word == "or"  # one true makes an `or` true, one false an `and` false
        if decisive in values:
            return decisive
        return None if None in values else not decisive

    return f"({a}) {word} ({b})", both


_EXPRESSIONS: st.SearchStrategy[tuple[str, Truth]] = st.recursive(
    _comparison() | st.just(("burned_in", lambda r: r["burned_in"])),
    lambda inner: (
        inner.map(_not)
        | st.tuples(inner, inner).map(lambda p: _joined(p, "and"))
        | st.tuples(inner, inner).map(lambda p: _joined(p, "or"))
    ),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(_EXPRESSIONS)
def test_same_rows_as_plain_python(expression: tuple[str, Truth]) -> None:
    text, truth = expression
    for reader in READERS:
        assert _holds(reader(text, _COLUMNS)) == [truth(row) is True for row in _ROWS], text


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("modaliti == 'CT'", "did you mean modality"),
        ("xyz == 'CT'", "accession, acquisition, age"),
        ("__import__('os').system('true')", "legal are comparisons"),  # nothing is ever called
        ("modality == open('x')", "expected a value"),
        ("modality.upper() == 'CT'", "a comparison needs a column"),
        ("kvp + 1 > 3", "a comparison needs a column"),
        ("1 < 2", "a comparison needs a column"),
        ("modality = 'CT'", "cannot read"),
        ("modality ==", "cannot read"),
        ("modality == None", "is None"),
        ("modality in 'CT'", "`in` wants a list"),
        ("modality in []", "`in` wants a list"),
        ("modality is 'CT'", "`is` is only for None"),
        ("modality in ['CT', 3]", "where: "),  # a list of two types
        ("lambda: 1", "legal are comparisons"),
        ("(" * 500 + "kvp" + ")" * 500, "where: "),  # deeper than the parser goes
        ("kvp == 1\0", "where: "),
        ("kvp == 1 \udce5", "where: cannot read"),  # no UTF-8
        ("kvp in [1, 2j]", "where: cannot read"),
        ("kvp == 1j", "where: cannot read"),
        ("modality == '\\ud800'", "where: cannot read"),
        ("not " * 5000 + "burned_in", "where: cannot read"),
        ("burned_in or " * 30_000 + "burned_in", "30001 columns and comparisons are too many"),
        ("kvp" + " < kvp" * 30_000, "30002 columns and comparisons are too many"),
    ],
)
def test_what_is_not_legal_is_named(text: str, named: str) -> None:
    for reader, errors in zip(READERS, ERRORS, strict=True):
        with pytest.raises(errors) as caught:
            reader(text, FILE_COLUMNS)
        assert named in str(caught.value)


@settings(max_examples=300, deadline=None)
@given(
    st.text(max_size=30)
    | st.lists(
        st.sampled_from([*_COLUMNS, "==", "<", "in", "not", "and", "or", "is", "None", "'CT'", "1",
                         "(", ")", "[", "]", ",", "{", "}", ":", "*", "1e999", "b'x'", "10**99"]),
        max_size=9,
    ).map(" ".join)
)  # fmt: skip
def test_any_text_gives_an_expression_or_a_recipe_error(text: str) -> None:
    for reader, errors in zip(READERS, ERRORS, strict=True):
        with suppress(errors):  # and no other exception
            assert isinstance(reader(text, _COLUMNS), pc.Expression)


def test_a_long_expression_is_evaluated() -> None:
    """Arrow ends the process over one of 30,000 conditions; this many it bears."""
    rows = dataset.dataset(pa.Table.from_pylist(_ROWS, _SCHEMA))
    for text in (" or ".join(["kvp == 80.0"] * 500), "kvp in [" + "80.0, " * 100_000 + "]"):
        for reader in READERS:
            found = rows.to_table(filter=reader(text, _COLUMNS))
            assert found["kvp"].to_pylist() == [80.0] * sum(row["kvp"] == 80.0 for row in _ROWS)


def test_pixels_and_paths_of_the_plan_are_no_columns() -> None:
    assert {"modality", "kvp", "path", "transfer_syntax", "patient"} <= set(FILE_COLUMNS)
    assert not {"PatientID", "patient_name"} & set(FILE_COLUMNS)
