"""The pictures of docs/ are what their command draws."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.draw_stacks import HERE, PICTURES


@pytest.mark.parametrize("name", PICTURES)
def test_picture_is_current(name: str, tmp_path: Path) -> None:
    assert (HERE / name).read_text() == PICTURES[name](tmp_path), "run python -m docs.draw_stacks"
