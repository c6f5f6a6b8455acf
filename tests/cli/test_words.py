"""Names with control characters cannot move the cursor, nor forge a line of a log."""

from __future__ import annotations

import warnings
from pathlib import Path

import pyarrow as pa
import pytest

from dicom2cache.cli import report, words
from dicom2cache.cli.words import lines, one_line
from dicom2cache.running.compare import Difference
from dicom2cache.running.errata import Concerned
from tests.support.caches import run_cli


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, größe 3 µm", "plain, größe 3 µm"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),  # clears a terminal
        ("a\nb", "a\\x0ab"),
        ("a\rb\tc", "a\\x0db\\x09c"),
        ("gpj.\u202egnp", "gpj.\\u202egnp"),  # shows backwards
        ("a\x9b31mb", "a\\x9b31mb"),  # a control sequence in one character
        ("\udcff", "\\udcff"),
        ("a\u2028b", "a\\u2028b"),
    ],
)
def test_one_line(text: str, shown: str) -> None:
    assert one_line(text) == shown


def test_lines_after_the_first_are_set_in() -> None:
    assert lines("one\n  two\nthree") == "one\n  two\n  three"


def test_a_file_name_forges_no_line(tmp_path: Path) -> None:
    source = tmp_path / "scans"
    source.mkdir()
    (source / "a\ndicom2cache: all is well\x1b[31m.dcm").write_bytes(b"no DICOM")
    ran = run_cli("build", source, tmp_path / "cache")
    assert ran.returncode == 2
    said = ran.stdout + ran.stderr
    assert "\x1b" not in said
    assert not any(line.startswith("dicom2cache: all is well") for line in said.splitlines())
    assert "\\x1b[31m.dcm" in said


def test_names_in_lists_of_frames_move_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    """What `compare` and `info` list of a cache that came from elsewhere."""
    rows = pa.table({"root": [0], "path": ["a\nb\x1b[2J.dcm"], "frame": [0]})
    found = [Concerned("unit", "what may be wrong", rows)]
    about = {"sources": [{"root": 0, "path": "/scans"}], "software": {"dicom2cache": "0.1.0"}}
    report.print_frames(found, about)
    report.print_errata(found, about)
    report.print_differences([Difference("a\nb\x1b[2J.dcm", 0, 0, {"unit": "US and HU"})])
    said = capsys.readouterr().out
    assert said.count("a\\x0ab\\x1b[2J.dcm") == 3
    assert "\x1b" not in said


def test_joblib_does_not_say_what_an_interrupt_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        words.plain_warnings()
        unused = "2 tasks have been successfully executed  but not used."
        warnings.warn_explicit(unused, UserWarning, "parallel.py", 1912, module="joblib.parallel")
        warnings.warn_explicit("ours", UserWarning, "x.py", 1, module="dicom2cache.x")
    assert [str(warning.message) for warning in seen] == ["ours"]
