"""Waveforms as lines: literal points of small ones, and a real ECG on the page and as PNG."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from dicom2cache.cli.reporting import traces
from tests.support.caches import built, run_here
from tests.support.dicom_files import real


def test_least_and_greatest_of_each_step() -> None:
    values = np.array([[0, 4, 0, -4, 0, 0, 0, 0], [9, 9, 9, 9, 9, 9, 11, 9]], np.float32)
    assert traces.steps(values, 4).tolist() == [
        [[0, 1], [-1, 0], [0, 0], [0, 0]],  # one scale for both channels
        [[0, 0], [0, 0], [0, 0], [0, 0.5]],
    ]
    assert traces.steps(values[:, :3], 100).shape == (2, 3, 2)


def test_a_gap_ends_a_line() -> None:
    values = np.array([[1, 1, np.nan, 1, -1, 1]], np.float64)
    ((first, second),) = traces.lines(traces.steps(values, 6), 6, 100)
    assert [x for x, _ in first] == [0.5, 1.5]
    assert [x for x, _ in second] == [3.5, 4.5, 5.5]
    assert second[1] == (4.5, 98.0)  # 48 of 100 below the middle
    (path,) = traces.paths(traces.steps(values, 6), 6, 100)
    assert path.startswith("M0.5 50.0L1.5 50.0L")
    assert path.count("M") == 2


def test_nothing_recorded_and_no_change() -> None:
    nothing = np.full((2, 5), np.nan)
    assert traces.paths(traces.steps(nothing, 5), 10, 10) == ("", "")
    flat = traces.steps(np.ones((1, 5)), 5)
    assert (flat == 0).all()
    assert traces.steps(np.zeros((40, 9)), 3).shape == (12, 3, 2)
    assert np.isfinite(traces.steps(np.array([[1e308, -1e308, 0]]), 3)).all()


def test_an_ecg(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(real("waveform_ecg.dcm"), tmp_path / "in")
    cache = built(tmp_path / "in", tmp_path / "cache", "--jobs", 1)
    assert run_here("report", cache, "-o", tmp_path / "page.html").returncode == 0
    page = (tmp_path / "page.html").read_text("utf-8")
    # 12 channels of 10 s of rhythm, 12 of 1.2 s of a median beat
    assert len(re.findall(r'<path d="M[^"]+" class="trace"/>', page)) == 24
    assert page.count("<title>A waveform of ECG, 12 channels</title>") == 2
    assert "12 channels, 10\u202f000 samples" in page
    assert "10 s at 1\u202f000 Hz" in page
    ran = run_here("show", cache, 0, "-o", tmp_path / "x.png")
    assert ran.stdout.splitlines()[-1].endswith("-1125 to 1962.5, one scale for all")
    picture = np.asarray(Image.open(tmp_path / "x.png"))
    assert picture.shape == (960, 1200)
    assert (picture.reshape(12, 80, 1200).max(axis=1) == 255).mean() > 0.99
