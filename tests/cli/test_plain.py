"""Values of flags are those that Typer makes, and what is wrong is said in its words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
from typer import core

from dicom2cache.cli import app, plain

_WAS_THERE = hasattr(core, "build_runtime_param")


def _parsed(words: list[str]) -> Any:
    """What a build would be called with, or what is said instead."""
    build = typer.main.get_command(app.app_of(["build"])).commands["build"]  # type: ignore[attr-defined]
    try:
        return build.make_context("build", [*words]).params
    except Exception as e:
        return type(e).__name__, str(getattr(e, "message", e))


@pytest.mark.skipif(not _WAS_THERE, reason="this Typer makes values without pydantic")
@pytest.mark.parametrize(
    "words",
    [
        ["a", "b"],
        ["a", "b", "c", "--jobs", "3", "--overwrite", "--deidentify", "none", "--window", "1,2"],
        ["a", "b", "--exclude", "x", "--exclude", "y", "--where", "", "--shard-mib", " 7 "],
        ["a", "b", "--jobs", "0"],
        ["a", "b", "--jobs", "x"],
        ["a", "b", "--jobs", "99999999999999999999"],
        ["a", "b", "--shard-mib", "1.5"],
        ["a"],
        [],
    ],
)
def test_values_are_typers(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    app.app_of(["build"])
    ours = _parsed(words)
    made: Any = getattr(core, "build_runtime_param")  # noqa: B009
    monkeypatch.setattr(plain, "without_pydantic", lambda: None)
    monkeypatch.setattr(app, "without_pydantic", lambda: None)
    monkeypatch.setattr(core, "build_runtime_param", made._build)
    assert ours == _parsed(words)


@pytest.mark.skipif(not _WAS_THERE, reason="this Typer makes values without pydantic")
def test_a_path_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    path = tmp_path / "closed"
    path.touch()
    assert "not readable" in _parsed(["a", "b", "--deidentify", str(path)])[1]
