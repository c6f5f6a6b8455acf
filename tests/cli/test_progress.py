"""Progress: rates and the time left on literal numbers, and what a run says of itself."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numcodecs import blosc

from dicom2cache import Recipe, pipeline
from dicom2cache.cli.bars import Estimate, Lines, clock, estimate, line
from dicom2cache.errors import RecipeError
from dicom2cache.running import backlog, receipts
from dicom2cache.running.job import scratch
from dicom2cache.running.progress import Work
from dicom2cache.syntaxes import cost_weight
from tests.support.dicom_files import write_series

# 1,000 native frames of half a megabyte, and 100 of JPEG 2000 that cost 65 times as much each.
_TOTAL = Work(1100, 550_000_000, 1000 * 1.0 + 100 * 65.0)


@pytest.mark.parametrize(
    ("done", "seconds", "expected"),
    [
        (Work(), 5.0, Estimate(0.0, 0.0, None)),  # nothing is done that could tell
        (Work(10, 5_000_000, 650.0), 10.0, Estimate(1.0, 500_000.0, 105.384615)),  # 10 slow ones
        (Work(1000, 500_000_000, 1000.0), 10.0, Estimate(100.0, 5e7, 65.0)),  # all fast ones
        (Work(1100, 550_000_000, 7500.0), 75.0, Estimate(14.666667, 7333333.3, 0.0)),
        (Work(1100, 550_000_000, 7501.0), 75.0, Estimate(14.666667, 7333333.3, 0.0)),
        (Work(1, 1, 1.0), 0.0, Estimate(0.0, 0.0, None)),  # no time has passed
    ],
)
def test_estimate(done: Work, seconds: float, expected: Estimate) -> None:
    found = estimate(done, _TOTAL, seconds)
    assert (found.units, found.bytes) == pytest.approx((expected.units, expected.bytes))
    assert found.left == (None if expected.left is None else pytest.approx(expected.left))


@pytest.mark.parametrize(
    ("done", "seconds", "said"),
    [
        (Work(), 2.0, "converting: 0 of 1100 frames"),
        (Work(10, 5_000_000, 650.0), 10.0,
         "converting: 10 of 1100 frames, 1.0/s, 0 MB/s, 1:46 left"),
        (Work(1000, 500_000_000, 1000.0, 3), 10.0,
         "converting: 1000 of 1100 frames, 100/s, 50 MB/s, 3 failed, 1:05 left"),
        (Work(1100, 550_000_000, 7500.0), 75.0, "converting: 1100 of 1100 frames, 15/s, 7 MB/s"),
    ],
)  # fmt: skip
def test_line(done: Work, seconds: float, said: str) -> None:
    assert line("converting", "frames", done, _TOTAL, seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0:00"), (0.2, "0:01"), (59.5, "1:00"), (3599.0, "59:59"), (3600.0, "1:00:00"),
     (360_061.0, "100:01:01")],
)  # fmt: skip
def test_clock(seconds: float, said: str) -> None:
    assert clock(seconds) == said


def test_syntaxes_weigh_what_they_take() -> None:
    """In the order that was measured: JPEG 2000, JPEG-LS, JPEG Lossless, HTJ2K, JPEG, native."""
    order = ["4.90", "4.80", "4.70", "4.201", "4.50", "1"]
    weights = [cost_weight(f"1.2.840.10008.1.2.{end}") for end in order]
    assert weights == sorted(weights, reverse=True)
    assert weights[0] / weights[-1] == 65.0


def test_tasks_that_have_not_ended_count(tmp_path: Path) -> None:
    """By what is written of them: the first shard of JPEG 2000 may take minutes."""
    write_series(tmp_path / "ct", 8, size=64)
    job = pipeline.plan(tmp_path / "ct", tmp_path / "cache", jobs=1)
    assert job is not None
    (task,) = job.tasks
    work = {task.name: backlog.work_of(job, task)}
    assert work == {"0.0": Work(8, 8 * 64 * 64 * 2, 8 * 64 * 64 * 2.0)}
    assert backlog.under_way(job, work) == Work()
    died = """
import sys
from pathlib import Path
from dicom2cache.running import receipts
from dicom2cache.running.job import load_job

job = load_job(Path(sys.argv[1]))
receipts.new_attempt(job, job.tasks[0]).write_bytes(bytes(6 * 64 * 64 * 2))
"""
    subprocess.run([sys.executable, "-c", died, job.cache], check=True)
    assert backlog.under_way(job, work) == Work()
    mine = receipts.new_attempt(job, task)  # which removes that of the process that is no more
    assert list(scratch(job).iterdir()) == []
    mine.write_bytes(bytes(3 * 64 * 64 * 2))
    assert backlog.under_way(job, work) == Work(3, 3 * 64 * 64 * 2, 3 * 64 * 64 * 2.0)
    other = receipts.new_attempt(job, task)
    assert mine.exists()
    other.write_bytes(bytes(1 << 20))  # with its index: not over all
    assert backlog.under_way(job, work) == work["0.0"]


def test_compressed_tasks_count_by_frames(tmp_path: Path) -> None:
    """And not by the bytes that compression leaves of them: masks keep a hundredth."""
    write_series(tmp_path / "ct", 8, size=64)
    job = pipeline.plan(tmp_path / "ct", tmp_path / "cache", Recipe(codec="zstd"), jobs=1)
    assert job is not None
    (task,) = job.tasks
    work = {task.name: backlog.work_of(job, task)}
    flat = np.full((64, 64), 40, np.int16)
    chunk = blosc.compress(flat, b"zstd", 1, blosc.BITSHUFFLE, 1 << 19)
    assert len(chunk) < flat.nbytes / 50
    attempt = receipts.new_attempt(job, task)
    attempt.write_bytes(b"")
    assert backlog.under_way(job, work) == Work()
    attempt.write_bytes(7 * chunk)
    assert backlog.under_way(job, work).units == 7
    attempt.write_bytes(7 * chunk + chunk[:20])  # the eighth is being written
    assert backlog.under_way(job, work).units == 7
    attempt.write_bytes(8 * chunk + bytes(16 * 8 + 4))  # with its index
    assert backlog.under_way(job, work) == work["0.0"]


def test_a_run_that_is_cut_short_does_not_run_back(capsys: pytest.CaptureFixture[str]) -> None:
    """Two frames were under way: no line after `26 of 256` says 24."""
    lines = Lines()
    lines.first = lines.every = 0.01
    lines.begin("converting", Work(256, 256, 256.0), "frames", lambda: Work(2, 2, 2.0))
    lines.advance(Work(24, 24, 24.0))
    text, end = "", time.monotonic() + 30
    while "26 of 256" not in text and time.monotonic() < end:  # another thread says it
        time.sleep(0.01)
        text += capsys.readouterr().err
    lines.end()
    said = (text + capsys.readouterr().err).splitlines()
    told = [line.split(" frames")[0] for line in said]  # the first may come before the 24 do
    assert set(told[told.index("converting: 26 of 256") :]) == {"converting: 26 of 256"}
    assert set(told) <= {"converting: 2 of 256", "converting: 26 of 256"}


def test_lines_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = write_series(tmp_path / "ct", 8, size=64)
    (tmp_path / "ct" / "broken.dcm").write_bytes(b"x" * 500)
    pipeline.build(tmp_path / "ct", tmp_path / "cache", jobs=1, progress=Lines())
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3
    assert said[0] == "listing: 9 entries"
    assert said[1].startswith("reading headers: 9 of 9 files, ")
    assert said[1].endswith("/s, 1 failed")
    assert "MB/s" not in said[1]  # most of a file's bytes are not read for its header
    assert said[2].startswith(f"converting: {len(paths)} of 8 frames, ")


def test_it_is_told_before_the_first_task_ends(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    lines.first = lines.every = 0.01
    shares = [Work(k, k, float(k)) for k in (1, 2, 1)]  # the last: a task ended in between
    lines.begin(
        "converting", Work(4, 4, 4.0), "frames", lambda: shares.pop(0) if shares else Work()
    )
    while shares:
        time.sleep(0.01)
    lines.advance(Work(4, 4, 4.0))
    lines.end()
    counts = [int(text.split()[1]) for text in capsys.readouterr().err.splitlines()]
    assert counts[:3] == [1, 2, 2]
    assert counts == sorted(counts)
    assert counts[-1] == 4


def test_it_is_over_when_a_run_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(tmp_path / "ct", 2, size=64)
    lines = Lines()
    lines.first = lines.every = 0.01
    recipe = Recipe(where="slope == 'x'")
    with pytest.raises(RecipeError):
        pipeline.build(tmp_path / "ct", tmp_path / "cache", recipe, jobs=1, progress=lines)
    said = capsys.readouterr().err
    time.sleep(0.05)
    assert said.endswith("/s\n")
    assert capsys.readouterr().err == ""
