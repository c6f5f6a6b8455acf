"""The tables in docs/ are current, and name tests that exist."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.pixels.cases import CASES
from tests.pixels.tables import DOCS, PAGES, ROWS, SHOWN_BY

HERE = Path(__file__).parents[2]


@pytest.mark.parametrize("name", PAGES)
def test_page_is_current(name: str) -> None:
    assert (DOCS / name).read_text() == PAGES[name](), "run python -m tests.pixels.tables"


def test_all_rows_are_there_and_shown() -> None:
    assert list(ROWS) == sorted(ROWS)
    assert set(range(1, 43)) <= set(ROWS)
    with_cases = {case.row for case in CASES}
    for number, row in ROWS.items():
        assert row.tests or number in with_cases, number
    assert with_cases | {7} == set(range(1, 19))  # a series is no single file for that loader


def test_named_tests_exist() -> None:
    named = {test for row in ROWS.values() for test in row.tests} | set(SHOWN_BY.values())
    for test in named:
        path, function = test.split("::")
        tree = ast.parse((HERE / path).read_text())
        assert function in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}, test


def test_code_of_later_rows_exists() -> None:
    for number, row in ROWS.items():
        if number > 30:
            path, function = row.code.split("::")
            tree = ast.parse((HERE / "dicom2cache" / path).read_text())
            assert function in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}, number
